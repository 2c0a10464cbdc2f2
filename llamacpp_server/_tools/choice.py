"""Which tool has to be called, in every form that people write it. Pure.

llama-server knows the words `auto`, `none` and `required` only: any other word is a 400, and OpenAI's object is read as
`auto` without a word (b11434). One tool is forced by sending no other one, and `required`.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from ..errors import BadRequestError
from ..wire import ToolDict

_WORDS: Final = {"any": "required", "required": "required", "auto": "auto", "none": "none"}


__all__ = ["ToolChoice", "resolve_tool_choice"]


class ToolChoice(NamedTuple):
    """A choice as it is sent.

    Attributes:
        tools: The tools to send.
        word: The `tool_choice` to send with them; None sends none.
        one_call: Whether the choice itself says that one call is enough (Anthropic's `disable_parallel_tool_use`).
        answer: The one of `tools` whose call is the answer itself; None where the answer is text.
    """

    tools: list[ToolDict]
    word: str | None
    one_call: bool = False
    answer: str | None = None

    @property
    def forced(self) -> str | None:
        """What has to be called: a tool's name, or `required` for any of `tools`; None when nothing has to be."""
        if self.word != "required":
            return None
        names = {tool["function"]["name"] for tool in self.tools}
        return next(iter(names)) if len(names) == 1 else self.word


def resolve_tool_choice(tools: Sequence[ToolDict], choice: Any) -> ToolChoice:
    """The tools to send and the `tool_choice` to send with them.

    Args:
        tools: The tools to choose from.
        choice: A word, a tool's name, True (any tool), False or None (no choice), or an object of OpenAI
            (`{"type": "function", "function": {"name": ...}}`, `allowed_tools`) or Anthropic (`{"type": "tool",
            "name": ...}`, `{"type": "any"}`). A tool that is called like a word wins over the word.

    Raises:
        BadRequestError: For a name that no tool has, a choice that demands a call without tools, and for what is none
            of these.
    """
    one_call = isinstance(choice, Mapping) and choice.get("disable_parallel_tool_use") is True
    if isinstance(choice, Mapping) and choice.get("type") == "allowed_tools":
        tools, choice = _allowed(tools, choice)
    name = _name(choice)
    if name is None:
        return ToolChoice(list(tools), None, one_call)
    names = [tool["function"]["name"] for tool in tools]
    if name in names:
        return ToolChoice([tool for tool in tools if tool["function"]["name"] == name], "required", one_call)
    named = isinstance(choice, Mapping) and choice.get("type") in ("function", "tool")
    word = None if named else _WORDS.get(name)
    if not tools and word in (None, "required"):
        raise BadRequestError(f"tool_choice={name!r} without tools")
    if word is None:
        raise _unknown(name, names)
    return ToolChoice(list(tools), word if tools else None, one_call)


def _name(choice: Any) -> str | None:
    """A word or a tool's name; None for no choice."""
    if choice is None or choice is False:
        return None
    name = "required" if choice is True else _name_in(choice) if isinstance(choice, Mapping) else choice
    if not isinstance(name, str):
        raise BadRequestError(f"tool_choice must be a string, a tool name, a bool or an object, not {choice!r}")
    return name


def _name_in(choice: Mapping[str, Any]) -> Any:
    function = choice.get("function")
    if isinstance(function, Mapping):
        return function.get("name")
    return choice.get("name") or (None if choice.get("type") in ("function", "tool") else choice.get("type"))


def _allowed(tools: Sequence[ToolDict], choice: Mapping[str, Any]) -> tuple[list[ToolDict], str]:
    """OpenAI's choice among some of the tools."""
    allowed = choice.get("allowed_tools") or choice
    wanted = [_name_in(tool) for tool in allowed.get("tools") or ()]
    names = [tool["function"]["name"] for tool in tools]
    for name in wanted:
        if name not in names:
            raise _unknown(name, names)
    return [tool for tool in tools if tool["function"]["name"] in wanted], allowed.get("mode") or "auto"


def _unknown(name: object, names: Sequence[str]) -> BadRequestError:
    near = difflib.get_close_matches(str(name), [*names, *_WORDS], n=1)
    return BadRequestError(
        f"tool_choice={name!r} does not match any tool (available: {', '.join(map(repr, names)) or 'none'})",
        remedy=f"did you mean {near[0]!r}?" if near else None,
    )
