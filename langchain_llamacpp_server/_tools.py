"""Tools and the choice among them, in all the forms that LangChain's users write. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from llamacpp_server import BadRequestError
from llamacpp_server.wire import ToolDict

ToolLike = dict[str, Any] | type | Callable[..., Any] | BaseTool

_WORDS: Final = {"any": "required", "required": "required", "auto": "auto", "none": "none"}


def wire_tools(tools: Sequence[ToolLike], strict: bool | None = None) -> list[ToolDict]:
    """Tools in the server's shape.

    Raises:
        BadRequestError: For a tool that only another provider's servers have.
    """
    return [_wire_tool(tool, strict) for tool in tools]


def _wire_tool(tool: ToolLike, strict: bool | None) -> ToolDict:
    wire = tool
    if not (isinstance(tool, dict) and tool.get("type") == "function" and "function" in tool and strict is None):
        wire = convert_to_openai_tool(cast(Any, tool), strict=strict)
    if not (isinstance(wire, dict) and wire.get("type") == "function" and "function" in wire):
        kind = wire.get("type") if isinstance(wire, dict) else type(wire).__name__
        raise BadRequestError(f"llama-server has no tools of its own, so none of type {kind!r}")
    return cast(ToolDict, wire)


def wire_tool_choice(choice: Any, tools: Sequence[ToolDict]) -> str | None:
    """`auto`, `none`, `required` or a tool's name; None leaves it to the server.

    Args:
        choice: A word, a tool's name, True (any tool), False or None (no choice), or OpenAI's or Anthropic's object.
        tools: The tools to choose from.

    Raises:
        BadRequestError: For a name that no tool has, and for what is none of these.
    """
    if choice is None or choice is False:
        return None
    if choice is True:
        return "required"
    name = _choice_name(choice) if isinstance(choice, dict) else choice
    if not isinstance(name, str):
        raise BadRequestError(f"tool_choice must be a word, a tool's name, a bool or an object, not {choice!r}")
    names = [tool["function"]["name"] for tool in tools]
    if name in names:
        return name
    if name in _WORDS and not (isinstance(choice, dict) and choice.get("type") in ("function", "tool")):
        return _WORDS[name]
    near = difflib.get_close_matches(name, [*names, *_WORDS], n=1)
    raise BadRequestError(
        f"tool_choice={name!r} names none of the tools {', '.join(map(repr, names)) or '(none given)'}",
        remedy=f"did you mean {near[0]!r}?" if near else None,
    )


def _choice_name(choice: dict[str, Any]) -> Any:
    function = choice.get("function")
    if isinstance(function, dict):
        return function.get("name")
    return choice.get("name") or choice.get("type")
