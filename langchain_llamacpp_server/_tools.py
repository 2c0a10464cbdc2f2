"""Tools in all the forms that LangChain's users write, and the mark on streamed calls that are not whole. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from langchain_core.messages.tool import ToolCallChunk, tool_call_chunk
from langchain_core.utils.function_calling import convert_to_openai_tool
from langchain_core.utils.json import parse_partial_json

from llamacpp_server import BadRequestError
from llamacpp_server.integration import list_of
from llamacpp_server.wire import ToolDict

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool  # dear to import

    ToolLike = dict[str, Any] | type | Callable[..., Any] | BaseTool

_INCOMPLETE: Final = "<not whole>"
# For an object or a list, or a text in one of them, that was left open.
_MARKS: Final = tuple(f"{quote}{_INCOMPLETE}{brace}" for quote in (" ", '"', '\\"') for brace in "]}")


def wire_tools(tools: Sequence[ToolLike], strict: bool | None = None) -> list[ToolDict]:
    """Tools in the server's shape.

    Raises:
        BadRequestError: For a tool that only another provider's servers have.
    """
    return [_wire_tool(tool, strict) for tool in list_of(tools, "tools")]


def _wire_tool(tool: ToolLike, strict: bool | None) -> ToolDict:
    wire = tool
    own = _own_schema(tool)
    if not (isinstance(tool, dict) and tool.get("type") == "function" and "function" in tool and strict is None):
        wire = convert_to_openai_tool(cast(Any, tool), strict=strict)
    if not (isinstance(wire, dict) and wire.get("type") == "function" and "function" in wire):
        kind = wire.get("type") if isinstance(wire, dict) else type(wire).__name__
        raise BadRequestError(f"llama-server does not support built-in tools of type {kind!r}")
    if own is not None:
        wire = {**wire, "function": {**wire["function"], "parameters": own}}
    return cast(ToolDict, wire)


def _own_schema(tool: Any) -> dict[str, Any] | None:
    """The schema of a pydantic class with references, which LangChain writes out: a recursive one ends in `{}` then."""
    schema_of = getattr(tool, "tool_call_schema", tool) if not isinstance(tool, Mapping) else None
    if not (isinstance(schema_of, type) and hasattr(schema_of, "model_json_schema")):
        return None
    schema = schema_of.model_json_schema()
    return schema if "$defs" in schema else None


def marks(calls: Mapping[int, str]) -> list[ToolCallChunk]:
    """What makes streamed calls invalid whose arguments are no JSON object; put behind their last pieces.

    LangChain reads the arguments of streamed calls as JSON that may be incomplete, at the end of the stream as well: a
    call that was cut off would be carried out with half of its arguments. Behind a brace that closes nothing it reads
    no more, so the call is among the `invalid_tool_calls`, as it is with `invoke`.

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
    try:
        return isinstance(json.loads(text, strict=False), dict)
    except ValueError:
        return False


def _mark(arguments: str) -> str:
    """The first mark with which LangChain makes no object of the arguments."""
    for mark in _MARKS:
        try:
            if not isinstance(parse_partial_json(arguments + mark), dict):
                return mark
        except ValueError:
            return mark
    return ""
