"""Joins special tokens that were broken up in the request where the model repeats them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Generic, TypeVar

from .._history import (
    JOINER,
    joined_again,
)
from ..errors import LlamaServerError
from ..messages import MessagesEvent
from ..replies import ChatChoice, ChatDelta, ChatReply, Repair, ToolCallFragment
from ..responses import ResponsesEvent
from .filters import DeltaFilter

E = TypeVar("E", ResponsesEvent, MessagesEvent)


class BrokenTokenFilter(DeltaFilter[ChatDelta]):
    """Takes out the joiners of broken tokens: in the text, the thinking and the arguments of calls."""

    def __init__(self) -> None:
        # The last character of each text, as the joiner may be the first of the next delta.
        self._ends: dict[tuple[int, str | int], str] = {}

    def add(self, deltas: list[ChatDelta]) -> list[ChatDelta]:
        """The deltas, with tokens as they were."""
        return [joined for delta in deltas if (joined := self._joined(delta)) is not None]

    def with_partial(self, error: LlamaServerError) -> LlamaServerError:
        """`error`, with its partial reply joined in the same way."""
        if isinstance(error.partial, ChatReply):
            choices = tuple(_restored(choice) for choice in error.partial.choices)
            error.partial = replace(error.partial, choices=choices)
        return error

    def _joined(self, delta: ChatDelta) -> ChatDelta | None:
        """The delta, or nothing for one that held a joiner alone."""
        content = self._text(delta.choice, "content", delta.content)
        thinking = self._text(delta.choice, "reasoning_content", delta.reasoning_content)
        calls = tuple(self._fragment(delta.choice, call) for call in delta.tool_calls)
        if content == delta.content and thinking == delta.reasoning_content and calls == delta.tool_calls:
            return delta
        joined = delta._replace(content=content, reasoning_content=thinking, tool_calls=calls)
        return None if joined == ChatDelta(choice=delta.choice) else joined

    def _fragment(self, choice: int, call: ToolCallFragment) -> ToolCallFragment:
        return call._replace(arguments=self._text(choice, call.call_index, call.arguments))

    def _text(self, choice: int, which: str | int, text: str) -> str:
        if not text:
            return text
        before = self._ends.get((choice, which), "")
        self._ends[choice, which] = text[-1]
        return joined_again(text, before) if JOINER in text else text


def _restored(choice: ChatChoice) -> ChatChoice:
    calls = tuple(replace(call, arguments=joined_again(call.arguments)) for call in choice.tool_calls)
    thinking = joined_again(choice.reasoning_content)
    return replace(choice, content=joined_again(choice.content), reasoning_content=thinking, tool_calls=calls)


class BrokenTokenReader(Generic[E]):
    """Reads the events of the Responses and Messages APIs: without joiners, and the first one with the repairs.

    Args:
        read: What an event says.
        repairs: What was rewritten in the request.
    """

    def __init__(self, read: Callable[[Mapping[str, Any]], E], repairs: tuple[Repair, ...]) -> None:
        self._read: Callable[[Mapping[str, Any]], E] = read
        self._repairs = repairs
        self._is_first = True
        # As in `BrokenTokenFilter`, by the place of a text in the reply.
        self._ends: dict[tuple[str, ...], str] = {}

    def __call__(self, wire: Mapping[str, Any]) -> E:
        """The event."""
        event: E = self._read(self._joined(wire))
        if isinstance(event, ResponsesEvent) and event.reply is not None:
            event = replace(event, reply=replace(event.reply, repairs=self._repairs))
        if self._is_first:
            self._is_first = False
            event = replace(event, repairs=self._repairs)
        return event

    def _joined(self, wire: Mapping[str, Any]) -> Mapping[str, Any]:
        delta = wire.get("delta")
        place: tuple[str, ...] = tuple(str(wire.get(name)) for name in ("type", "item_id", "index"))
        if isinstance(delta, str):
            return {**wire, "delta": self._text(place, delta)}
        if isinstance(delta, Mapping):
            texts = {key: self._text((*place, key), text) for key, text in delta.items() if isinstance(text, str)}
            return {**wire, "delta": {**delta, **texts}}
        return {key: _without_joiners(value) for key, value in wire.items()}

    def _text(self, place: tuple[str, ...], text: str) -> str:
        before = self._ends.get(place, "")
        self._ends[place] = text[-1:] or before
        return joined_again(text, before)


def _without_joiners(value: Any) -> Any:
    if isinstance(value, str):
        return joined_again(value)
    if isinstance(value, Mapping):
        return {_without_joiners(key): _without_joiners(inner) for key, inner in value.items()}
    return [_without_joiners(inner) for inner in value] if isinstance(value, list) else value
