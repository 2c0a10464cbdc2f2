"""Joins special tokens that were broken up in the request where the model repeats them."""

from __future__ import annotations

from dataclasses import replace

from .._history import (
    JOINER,
    joined_again,
)
from ..chat import ChatChoice, ChatDelta, ChatReply, ToolCallFragment
from ..errors import LlamaServerError
from .filters import DeltaFilter


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
