"""Convert tools in all of LangChain's formats, and mark incomplete streamed calls. Pure."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, cast

from langchain_core.messages.tool import ToolCallChunk, tool_call_chunk
from langchain_core.utils.function_calling import convert_to_openai_tool
from langchain_core.utils.json import parse_partial_json
from pydantic import PydanticUserError, TypeAdapter
from pydantic_core import from_json

from llamacpp_server import BadRequestError
from llamacpp_server.integration import list_of, strict_tool
from llamacpp_server.wire import ToolDict

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool  # dear to import

    ToolLike = dict[str, Any] | type | Callable[..., Any] | BaseTool

_INCOMPLETE: Final = "<not whole>"
# For an object or a list, or a text in one of them, that was left open.
_MARKS: Final = tuple(f"{quote}{_INCOMPLETE}{brace}" for quote in (" ", '"', '\\"') for brace in "]}")


def wire_tools(tools: Sequence[ToolLike], strict: bool | None = None) -> list[ToolDict]:
    """Tools in the server's shape.

    Args:
        tools: In any of LangChain's forms.
        strict: True requires every property; passed on.

    Raises:
        BadRequestError: For a built-in tool of another provider.
    """
    return [_wire_tool(tool, strict) for tool in list_of(tools, "tools")]


def _wire_tool(tool: ToolLike, strict: bool | None) -> ToolDict:
    wire: Any = tool
    if not (isinstance(tool, dict) and tool.get("type") == "function" and "function" in tool):
        if not (isinstance(tool, dict | type) or callable(tool) or hasattr(tool, "args_schema")):
            what = type(tool).__name__
            raise BadRequestError(f"a tool must be a function, a class, a LangChain tool or a dict, not {what}")
        wire = _converted(tool)
    if not (isinstance(wire, dict) and wire.get("type") == "function" and "function" in wire):
        kind = wire.get("type") if isinstance(wire, dict) else type(wire).__name__
        raise BadRequestError(f"llama-server does not support built-in tools of type {kind!r}")
    return cast(ToolDict, wire if strict is None else strict_tool(wire, strict))


def _converted(tool: Any) -> Any:
    if _is_typed_dict(tool):
        return _of_typed_dict(tool)
    wire, own = convert_to_openai_tool(tool), _own_schema(tool)
    return wire if own is None else {**wire, "function": {**wire["function"], "parameters": own}}


def _own_schema(tool: Any) -> dict[str, Any] | None:
    """The schema of a tool with references, which LangChain writes out: a recursive one ends in `{}` then.

    None where it has no references, or where LangChain leaves them.
    """
    if isinstance(tool, Mapping):
        schema = tool if "title" in tool and "properties" not in tool else {}
    else:
        schema = _schema_of(tool)
    # The function has its name and its description.
    own = {key: value for key, value in schema.items() if key not in ("title", "description")}
    return own if "$defs" in own or "definitions" in own else None


def _schema_of(tool: Any) -> Mapping[str, Any]:
    typed = getattr(tool, "tool_call_schema", tool)
    if isinstance(typed, Mapping):
        return typed  # of a tool whose `args_schema` is a JSON schema, such as MCP's
    if not isinstance(typed, type):
        from langchain_core.tools.base import create_schema_from_function  # dear to import

        typed = create_schema_from_function(
            getattr(tool, "__name__", ""),
            tool,
            filter_args=(),
            parse_docstring=True,
            error_on_invalid_docstring=False,
            include_injected=False,
        )
    write = getattr(typed, "model_json_schema", None) or getattr(typed, "schema", None)  # the second is pydantic v1's
    return cast(Mapping[str, Any], write()) if callable(write) else {}


def _is_typed_dict(tool: Any) -> bool:
    """Also of `typing_extensions`, which `typing.is_typeddict` does not know before Python 3.12."""
    return isinstance(tool, type) and issubclass(tool, dict) and hasattr(tool, "__total__")


def _of_typed_dict(tool: Any) -> dict[str, Any]:
    """A TypedDict. LangChain can't describe one that holds itself, nor one that holds a pydantic class.

    Raises:
        BadRequestError: For a recursive one that pydantic can't describe either.
    """
    try:
        wire = convert_to_openai_tool(tool)
    except RuntimeError:  # a RecursionError is one
        wire = {"type": "function", "function": {"name": tool.__name__, "description": inspect.getdoc(tool) or ""}}
    function = wire["function"]
    try:
        own = TypeAdapter(tool).json_schema()
    except PydanticUserError as error:
        if "parameters" in function:
            return wire
        raise BadRequestError(f"{tool.__name__}: {error.message}") from error
    if "parameters" in function:
        return wire  # which has the descriptions and defaults of `Annotated`
    own = {key: value for key, value in own.items() if key not in ("title", "description")}
    return {**wire, "function": {**function, "parameters": own}}


def marks(calls: Mapping[int, str]) -> list[ToolCallChunk]:
    """Suffix that invalidates streamed calls whose arguments are not a JSON object, appended to their last piece.

    LangChain parses the arguments of streamed calls as incomplete JSON, even at the end of the stream, so a truncated
    call would run with half of its arguments. It stops parsing at an unmatched brace, so the call becomes one of the
    `invalid_tool_calls`, as with `invoke`.

    Args:
        calls: The arguments of each call, by its index.
    """
    return [
        tool_call_chunk(name=None, args=_mark(text), id=None, index=index)
        for index, text in calls.items()
        if text and not _is_object(text)
    ]


def unmarked(arguments: str) -> str:
    """Arguments as the model wrote them."""
    return re.sub(rf'( |\\?"){_INCOMPLETE}[\]}}]\Z', "", arguments)


def _is_object(text: str) -> bool:
    with suppress(ValueError):
        return isinstance(from_json(text), dict)
    try:  # as LangChain reads it: in ten times the time, and with control characters in texts
        return isinstance(json.loads(text, strict=False), dict)
    except ValueError:
        return False


def _mark(arguments: str) -> str:
    """The first mark with which LangChain does not parse the arguments into an object."""
    for mark in _MARKS:
        try:
            if not isinstance(parse_partial_json(arguments + mark), dict):
                return mark
        except ValueError:
            return mark
    return ""
