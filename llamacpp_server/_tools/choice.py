"""Which tool has to be called, in every form that people write it. Pure.

llama-server knows the words `auto`, `none` and `required` only: any other word is a 400, and OpenAI's object is read as
`auto` without a word (b11434). One tool is forced by sending no other one, and `required`.

Tools and a schema for the answer in one request are a choice too, which the server can't hold together. With a
`response_format` or `json_schema`, its grammar allows nothing but the answer: tools are never called, without a word
(b11434). An agent with both would never act. So the schema becomes one more tool, some call is required, and the call
of that tool is the answer: its arguments are the text of the reply.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

from .._printable import did_you_mean
from .._replies import (
    DeltaFilter,
)
from .._values import KeyedList
from ..errors import BadRequestError, LlamaServerError
from ..replies import ChatChoice, ChatDelta, ChatReply, Repair
from ..requests import ChatRequest
from ..wire import ToolDict

_WORDS: Final = {"any": "required", "required": "required", "auto": "auto", "none": "none"}


__all__ = ["AnswerFilter", "ToolChoice", "resolve_tool_choice", "tool_for_answer", "with_answer_tool"]


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
        """The required call: a tool's name, or `required` for any of `tools`; None if no call is required."""
        if self.word != "required":
            return None
        names = {tool["function"]["name"] for tool in self.tools}
        return next(iter(names)) if len(names) == 1 else self.word


def resolve_tool_choice(tools: Sequence[ToolDict], choice: Any) -> ToolChoice:
    """Return the tools and the `tool_choice` to send.

    Args:
        tools: The tools to choose from.
        choice: A word, a tool's name, True (any tool), False or None (no choice), or an object of OpenAI (`{"type":
            "function", "function": {"name": ...}}`, `allowed_tools`) or Anthropic (`{"type": "tool", "name": ...}`,
            `{"type": "any"}`). A tool with the name of a keyword takes precedence.

    Raises:
        BadRequestError: For an unknown tool name, a required call without tools, or an invalid value.
    """
    if choice is None:
        return ToolChoice(_listed(tools), None, False)
    one_call = isinstance(choice, Mapping) and choice.get("disable_parallel_tool_use") is True
    if isinstance(choice, Mapping) and choice.get("type") == "allowed_tools":
        tools, choice = _allowed(tools, choice)
    name = _name(choice)
    if name is None:
        return ToolChoice(_listed(tools), None, one_call)
    names = [tool["function"]["name"] for tool in tools]
    if name in names:
        return ToolChoice([tool for tool in tools if tool["function"]["name"] == name], "required", one_call)
    named = isinstance(choice, Mapping) and choice.get("type") in ("function", "tool")
    word = None if named else _WORDS.get(name)
    if not tools and word in (None, "required"):
        raise BadRequestError(f"tool_choice={name!r} without tools")
    if word is None:
        raise _unknown(name, names)
    return ToolChoice(_listed(tools), word if tools else None, one_call)


def _listed(tools: Sequence[ToolDict]) -> list[ToolDict]:
    """All tools, in a list that nobody else changes."""
    return tools if type(tools) is KeyedList else list(tools)


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
    return BadRequestError(
        f"tool_choice={name!r} does not match any tool (available: {', '.join(map(repr, names)) or 'none'})",
        remedy=did_you_mean(name, [*names, *_WORDS]) or None,
    )


_FORMS: Final = ("response_format", "json_schema")


def with_answer_tool(request: ChatRequest) -> tuple[ChatRequest, ToolChoice, tuple[Repair, ...]]:
    """A request with tools as it can be sent, its tool choice, and what was rewritten.

    With `tool_choice: "none"` nothing is: the server then holds the answer to its form, and shows the tools only. Where
    a call is required the form is left out: the answer comes in a later turn.

    Args:
        request: Has tools.

    Raises:
        BadRequestError: For a tool choice that can't be sent.
    """
    choice = resolve_tool_choice(request.tools, request.tool_choice)
    form = next((name for name in _FORMS if request.params.get(name)), None)
    if form is None or choice.word == "none":
        return request, choice, ()
    tool = tool_for_answer(form, request.params[form], choice.tools)
    if tool is None:
        return request, choice, ()
    params = {name: value for name, value in request.params.items() if name not in _FORMS}
    if choice.word == "required":
        what = "dropped: a tool call is required, and the server can enforce only one of the two"
        return replace(request, params=params), choice, (Repair("answer_tool", form, what),)
    choice = choice._replace(tools=[*choice.tools, tool], word="required", answer=tool["function"]["name"])
    what = "sent as an extra tool whose call is the answer, because the server never calls tools with this field"
    sent = replace(request, tools=choice.tools, tool_choice="required", params=params)
    return sent, choice, (Repair("answer_tool", form, what),)


def tool_for_answer(form: str, given: Any, tools: Sequence[ToolDict]) -> ToolDict | None:
    """The tool that stands for a form of the answer; None for one that asks for plain text.

    Args:
        form: The parameter that asks for it.
        given: Its value.
        tools: The others, whose names are taken.
    """
    if not isinstance(given, Mapping):
        return None
    inner: Mapping[str, Any] = {"schema": given}
    if form == "response_format":
        if given.get("type") not in ("json_schema", "json_object"):
            return None
        inner = given.get("json_schema") or given
    schema = inner.get("schema") or {"type": "object"}
    taken = {tool["function"]["name"] for tool in tools}
    name = re.sub(r"\W", "_", inner.get("name") or schema.get("title") or "answer")
    while name in taken:
        name += "_answer"
    description = schema.get("description") or "The final answer."
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


class AnswerFilter(DeltaFilter[ChatDelta]):
    """Turns the call of the answer's tool into text.

    What the model says before it calls is held back until the end: in front of the answer it would spoil the JSON.

    Args:
        name: Of the answer's tool.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._answers: set[tuple[int, int]] = set()
        self._with_answer: set[int] = set()
        self._acted: set[int] = set()
        self._said: dict[int, str] = {}

    def add(self, deltas: list[ChatDelta]) -> list[ChatDelta]:
        """The deltas, with the answer in place of its call."""
        return [made for delta in deltas if (made := self._convert(delta)) != ChatDelta(choice=delta.choice)]

    def end(self) -> list[ChatDelta]:
        """Return text that was generated instead of an answer, without a finish reason."""
        return [ChatDelta(said, choice=at) for at, said in self._said.items() if said and at not in self._with_answer]

    def with_partial(self, error: LlamaServerError) -> LlamaServerError:
        """`error`, with the answer in place of its call in the partial reply."""
        if isinstance(error.partial, ChatReply):
            choices = tuple(_with_answer(choice, self._name) for choice in error.partial.choices)
            error.partial = replace(error.partial, choices=choices)
        return error

    def _convert(self, delta: ChatDelta) -> ChatDelta:
        at = delta.choice
        if delta.content:
            self._said[at] = self._said.get(at, "") + delta.content
        text, calls = "", []
        for fragment in delta.tool_calls:
            if fragment.name == self._name:
                self._answers.add((at, fragment.call_index))
                self._with_answer.add(at)
            if (at, fragment.call_index) in self._answers:
                text += fragment.arguments
            else:
                self._acted.add(at)
                calls.append(fragment)
        reason = delta.finish_reason
        if reason is not None:
            text += "" if at in self._with_answer else self._said.pop(at, "")
            if reason == "tool_calls" and at in self._with_answer and at not in self._acted:
                reason = "stop"
        return delta._replace(content=text, tool_calls=tuple(calls), finish_reason=reason)


def _with_answer(choice: ChatChoice, name: str) -> ChatChoice:
    answers = [call.arguments for call in choice.tool_calls if call.name == name]
    if not answers:
        return choice
    others = tuple(call for call in choice.tool_calls if call.name != name)
    return replace(choice, content=answers[0], tool_calls=others)
