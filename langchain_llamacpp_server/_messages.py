"""Convert LangChain's messages to the server's. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)

from llamacpp_server import BadRequestError
from llamacpp_server.integration import as_json
from llamacpp_server.wire import MessageDict

from ._content import STRUCTURAL, Part, part, result_part, text_part
from ._tools import unmarked

_NO_MEDIA = STRUCTURAL | {"text", "text-plain", "tool_result"}


def to_wire(messages: Sequence[BaseMessage]) -> list[MessageDict]:
    """The conversation in the server's shape.

    Raises:
        BadRequestError: For a message or a content block that can't be sent.
    """
    wire: list[dict[str, Any]] = []
    for message in messages:
        kind, content = type(message), message.content
        if kind is HumanMessage and type(content) is str and not message.name:
            wire.append({"role": "user", "content": content})
        elif isinstance(message, AIMessage):
            wire.append(_assistant(message))
        elif kind is ToolMessage and type(content) is str and not message.name:
            result = cast(ToolMessage, message)
            wire.append({"role": "tool", "content": content, "tool_call_id": result.tool_call_id})
        elif isinstance(message, ToolMessage):
            wire.append(_named({"role": "tool", **_content(message), "tool_call_id": message.tool_call_id}, message))
        else:
            wire += _message_of_role(message)
    return cast(list[MessageDict], wire)


def holds_media(messages: Sequence[BaseMessage]) -> bool:
    """Whether any message may contain more than text; cheap, and may be true too often."""
    return any(
        isinstance(block, dict) and block.get("type") not in _NO_MEDIA
        for message in messages
        if isinstance(message.content, list)
        for block in message.content
    )


def _message_of_role(message: BaseMessage) -> Iterator[dict[str, Any]]:
    if isinstance(message, HumanMessage) and isinstance(message.content, list):
        results, rest = _split_results(message.content)
        if results:
            yield from results
            if not rest:
                return
            message = message.model_copy(update={"content": rest})
    yield _named({"role": _role(message), **_content(message)}, message)


def _role(message: BaseMessage) -> str:
    if isinstance(message, ChatMessage):
        return message.role
    if isinstance(message, HumanMessage):
        return "user"
    if isinstance(message, SystemMessage):
        return str(message.additional_kwargs.get("__openai_role__", "system"))
    if isinstance(message, FunctionMessage):
        return "function"
    if isinstance(message, RemoveMessage):
        raise BadRequestError("a RemoveMessage can't be sent to a model; it is an instruction for a graph's state")
    raise BadRequestError(f"messages of class {type(message).__name__} can't be sent; use ChatMessage for other roles")


def _named(wire: dict[str, Any], message: BaseMessage) -> dict[str, Any]:
    if message.name:
        wire["name"] = message.name
    return wire


def _content(message: BaseMessage) -> dict[str, Any]:
    if isinstance(message.content, str):
        return {"content": message.content}
    read = result_part if isinstance(message, ToolMessage | FunctionMessage) else part
    return {"content": _joined([p for block in message.content if (p := read(block)) is not None])}


def _joined(parts: list[Part]) -> str | list[Part]:
    """One text as a string, which every template takes; anything else as parts."""
    if not parts:
        return ""
    return parts[0]["text"] if len(parts) == 1 and parts[0].get("type") == "text" else parts


def _assistant(message: AIMessage) -> dict[str, Any]:
    said: Any = message.content
    plain = type(said) is str
    wire: dict[str, Any] = {"role": "assistant", "content": said if plain else _assistant_content(message)}
    if (message.additional_kwargs or not plain) and (thinking := reasoning(message)):
        wire["reasoning_content"] = thinking
    if message.tool_calls or message.invalid_tool_calls or not isinstance(message.content, str):
        calls = _calls(message)
        if message.invalid_tool_calls:
            calls += _invalid_calls(message)
        if calls:
            wire["tool_calls"] = calls
    return _named(wire, message) if message.name else wire


def _assistant_content(message: AIMessage) -> str | list[Part]:
    """Text and reasoning of the model. Its texts are pieces of one answer, so they are joined without a separator."""
    if isinstance(message.content, str):
        return message.content
    parts = [p for block in message.content if (p := part(block)) is not None]
    if all(p.get("type") == "text" for p in parts):
        return "".join(p["text"] for p in parts)
    return parts


def reasoning(message: AIMessage) -> str:
    """The reasoning of a message, from either of LangChain's places for it."""
    thinking = message.additional_kwargs.get("reasoning_content")
    if isinstance(thinking, str) and thinking:
        return thinking
    if isinstance(message.content, str):
        return ""
    return "".join(_reasoning_texts(block for block in message.content if isinstance(block, dict)))


def _reasoning_texts(blocks: Iterable[dict[str, Any]]) -> Iterator[str]:
    for block in blocks:
        kind = block.get("type")
        if kind == "reasoning":
            yield block.get("reasoning") or "".join(s.get("text") or "" for s in block.get("summary") or ())
        elif kind == "thinking":
            yield block.get("thinking") or ""


def _calls(message: AIMessage) -> list[dict[str, Any]]:
    calls = [_call(call["id"], call["name"], call["args"]) for call in message.tool_calls]
    if isinstance(message.content, str):
        return calls
    known = {call["id"] for call in message.tool_calls}
    for block in message.content:
        if isinstance(block, dict) and block.get("type") in ("tool_use", "tool_call") and block.get("id") not in known:
            args = block.get("input") if block["type"] == "tool_use" else block.get("args")
            calls.append(_call(block.get("id"), block.get("name") or "", args or {}))
    return calls


def _call(call_id: str | None, name: str, args: Any) -> dict[str, Any]:
    arguments = args if isinstance(args, str) else as_json(args, f"the arguments of a call of {name}")
    call: dict[str, Any] = {"type": "function", "function": {"name": name, "arguments": arguments}}
    if call_id:
        call["id"] = call_id
    return call


def _invalid_calls(message: AIMessage) -> Iterator[dict[str, Any]]:
    """Calls whose arguments were not valid JSON, as the model wrote them; the client makes them ones to be sent."""
    for call in message.invalid_tool_calls:
        function = {"name": call["name"] or "", "arguments": unmarked(call["args"] or "")}
        yield {"id": call["id"], "type": "function", "function": function}


def _split_results(content: list[Any]) -> tuple[list[dict[str, Any]], list[Any]]:
    """Split Anthropic's tool results from a user's message; return them as messages, and the rest."""
    results, rest = [], []
    for block in content:
        if isinstance(block, dict) and block.get("type") == "tool_result":
            inner = block.get("content") or ""
            parts = [text_part(inner)] if isinstance(inner, str) else [p for b in inner if (p := result_part(b))]
            results.append({"role": "tool", "content": _joined(parts), "tool_call_id": block.get("tool_use_id")})
        else:
            rest.append(block)
    return results, rest
