"""Convert LlamaIndex tools to the server's, and the calls of a reply to `ToolSelection`s."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, cast

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, ToolCallBlock
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.tools.types import BaseTool, ToolMetadata
from pydantic import BaseModel
from pydantic_core import from_json, to_json

from llamacpp_server import BadRequestError, ToolCall
from llamacpp_server.integration import list_of, strict_tool
from llamacpp_server.wire import ToolDict

from ._errors import UnusableReplyError, why_it_ended

__all__ = [
    "call_dict",
    "invalid_calls",
    "selections",
    "tool_dict",
    "with_user_message",
]

# Two names, because the core passes a single argument by position to a tool with a single parameter.
INVALID_ARGUMENTS: Final = ("invalid_json_arguments", "parse_error")

# What these classes of arguments say in JSON, beside the core schema that it was made from.
_schemas: Final[dict[type[BaseModel], tuple[object, bytes]]] = {}
_MOST_SCHEMAS: Final = 512
_MODEL_JSON_SCHEMA: Final = cast(Any, BaseModel.model_json_schema).__func__
_GET_JSON_SCHEMA: Final = cast(Any, BaseModel.__get_pydantic_json_schema__).__func__


def tool_dict(tool: BaseTool | Mapping[str, Any], *, strict: bool = False) -> ToolDict:
    """A tool in the server's format. The name is unchanged: `tool_by_name` lookups of the core use it.

    Args:
        tool: In either form.
        strict: Require every property of its arguments.
    """
    if isinstance(tool, Mapping):
        wire = dict(tool)
    elif isinstance(tool, BaseTool):
        wire = _described(tool.metadata)
    else:
        raise BadRequestError(f"a tool must be a BaseTool or an object, not {type(tool).__name__}")
    return cast(ToolDict, strict_tool(wire, strict) if strict and isinstance(wire.get("function"), Mapping) else wire)


def _described(metadata: ToolMetadata) -> dict[str, Any]:
    """What `to_openai_tool` gives, with the name as it is. Pydantic's part of that is 90 % of an agent's request."""
    if type(metadata) is not ToolMetadata:
        wire = metadata.to_openai_tool(skip_length_check=True)
        wire["function"]["name"] = metadata.get_name()
        return wire
    function = {"name": metadata.get_name(), "description": metadata.description, "parameters": _parameters(metadata)}
    return {"type": "function", "function": function}


def _parameters(metadata: ToolMetadata) -> dict[str, Any]:
    """The schema of a tool's arguments, a new object each time; made once for each class as it is now."""
    cls = metadata.fn_schema
    core = getattr(cls, "__pydantic_core_schema__", None)
    if cls is not None and core is not None and (kept := _schemas.get(cls)) is not None and kept[0] is core:
        return cast(dict[str, Any], from_json(kept[1]))
    parameters = metadata.get_parameters_dict()
    if cls is not None and _is_lasting(cls):
        _keep(cls, parameters)
    return parameters


def _keep(cls: type[BaseModel], parameters: dict[str, Any]) -> None:
    """Keep a schema that JSON can hold, for as long as there are not too many."""
    try:
        text = to_json(parameters)
    except ValueError:
        return
    if from_json(text) == parameters:
        if len(_schemas) >= _MOST_SCHEMAS:
            _schemas.clear()
        _schemas[cls] = cls.__pydantic_core_schema__, text


def _is_lasting(cls: type[BaseModel]) -> bool:
    """Whether the class's JSON schema depends on nothing but its core schema, which `model_rebuild` replaces."""
    return (
        getattr(cls.model_json_schema, "__func__", None) is _MODEL_JSON_SCHEMA
        and getattr(cls.__get_pydantic_json_schema__, "__func__", None) is _GET_JSON_SCHEMA
        and "json_schema_extra" not in cls.model_config
    )


def with_user_message(
    user_msg: str | ChatMessage | None, chat_history: Sequence[ChatMessage] | None
) -> list[ChatMessage]:
    """The history and the new message, in a new list."""
    messages = list_of(chat_history or [], "chat_history", ChatMessage)
    if isinstance(user_msg, str):
        messages.append(ChatMessage(role="user", content=user_msg))
    elif user_msg is not None:
        messages.append(user_msg)
    return messages


def call_dict(call: ToolCall) -> dict[str, Any]:
    """A call as plain data, for `additional_kwargs`."""
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def invalid_calls(calls: Iterable[ToolCall]) -> list[dict[str, str]]:
    """The calls of a complete reply whose arguments are not a JSON object."""
    found = []
    for call in calls:
        _, error = _arguments(call.arguments)
        if error is not None:
            found.append({"id": call.id, "name": call.name, "arguments": call.arguments, "error": error})
    return found


def selections(response: ChatResponse, *, error_on_no_tool_call: bool) -> list[ToolSelection]:
    """The calls of a response, streamed or complete.

    Incomplete arguments are parsed as far as possible. Complete ones that are not a JSON object reach the tool as
    `invalid_json_arguments` and `parse_error`: it fails, and the agent shows the failure to the model.

    Raises:
        UnusableReplyError: When there are no calls and `error_on_no_tool_call`.
    """
    calls = _calls(response.message)
    finish = response.additional_kwargs.get("finish_reason")
    if not calls and error_on_no_tool_call:
        raise UnusableReplyError(
            f"expected at least one tool call, but got none: {why_it_ended(finish)}; "
            f"the text is {(response.message.content or '')[:500]!r}"
        )
    ended = "finish_reason" in response.additional_kwargs
    return [
        ToolSelection(tool_id=call_id, tool_name=name, tool_kwargs=_usable(arguments, ended=ended))
        for call_id, name, arguments in calls
    ]


def _calls(message: ChatMessage) -> list[tuple[str, str, Any]]:
    blocks = [block for block in message.blocks if isinstance(block, ToolCallBlock)]
    if blocks:
        return [
            (block.tool_call_id or f"call_{position}", block.tool_name, block.tool_kwargs)
            for position, block in enumerate(blocks)
        ]
    legacy = message.additional_kwargs.get("tool_calls") or ()
    return [
        (call.get("id") or f"call_{position}", call["function"]["name"], call["function"].get("arguments") or "")
        for position, call in enumerate(legacy)
        if isinstance(call, Mapping)
    ]


def _usable(arguments: str | dict[str, Any], *, ended: bool) -> dict[str, Any]:
    if isinstance(arguments, dict):
        return arguments
    if ended:
        full, error = _arguments(arguments)
        return full if error is None else dict(zip(INVALID_ARGUMENTS, (arguments, error), strict=True))
    try:
        partial = from_json(arguments, allow_partial="trailing-strings")
    except ValueError:
        return {}
    return partial if isinstance(partial, dict) else {}


def _arguments(text: str) -> tuple[dict[str, Any], str | None]:
    """The arguments, and their error; a call without arguments is valid."""
    if not text:
        return {}, None
    try:
        parsed = from_json(text)
    except ValueError as error:
        return {}, str(error)
    return (parsed, None) if isinstance(parsed, dict) else ({}, f"expected a JSON object, got {text[:80]!r}")
