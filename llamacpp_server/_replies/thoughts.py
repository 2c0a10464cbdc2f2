"""Separate reasoning from the answer if a server leaves it in the text, between `<think>` tags.

Older builds do so in streams, servers started with `--reasoning-format none` always, and so does any server whose
template says nothing of thinking. Only a thought that opens the answer is one: later tags are text.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Literal

from ..errors import LlamaServerError
from ..replies import ChatDelta, ChatReply
from .filters import DeltaFilter

_OPEN: Final = "<think>"
_CLOSE: Final = "</think>"


class ThoughtSplitter:
    """`feed` the text of one answer as it comes, and get what is thinking and what is text; `end` gives the rest.

    Attributes:
        settled: Whether all that is still to come is text.
    """

    __slots__ = ("_held", "_place", "settled")

    def __init__(self) -> None:
        self._held = ""
        self._place: Literal["before", "inside", "behind"] = "before"
        self.settled = False

    def feed(self, text: str) -> tuple[str, str]:
        """(thinking, text) that are certain by now. What may be a part of a tag is held back."""
        if self.settled:
            return "", text
        self._held += text
        if self._place == "before":
            opening = self._held.lstrip()
            if not opening.startswith(_OPEN):
                return ("", "") if _OPEN.startswith(opening) else self.end()
            self._place, self._held = "inside", opening.removeprefix(_OPEN)
        thinking = self._thought() if self._place == "inside" else ""
        if self._place == "behind":
            # The white space behind the tag is the template's.
            self._held = self._held.lstrip()
        return thinking, self._settle() if self._place == "behind" and self._held else ""

    def end(self) -> tuple[str, str]:
        """(thinking, text) that were held back."""
        rest = self._settle()
        return (rest, "") if self._place == "inside" else ("", rest)

    def _thought(self) -> str:
        thought, closed, behind = self._held.partition(_CLOSE)
        if closed:
            self._place, self._held = "behind", behind
            return thought
        kept = next(n for n in range(len(_CLOSE), -1, -1) if thought.endswith(_CLOSE[:n]))
        cut = len(thought) - kept
        self._held = thought[cut:]
        return thought[:cut]

    def _settle(self) -> str:
        rest, self._held, self.settled = self._held, "", True
        return rest


class ThinkTagFilter(DeltaFilter[ChatDelta]):
    """Separates the thinking that is in the text from the text.

    Args:
        answers: How many answers there are.
    """

    def __init__(self, answers: int = 1) -> None:
        self._answers = answers
        self._splitters: dict[int, ThoughtSplitter] = {}
        self._settled = 0

    def add(self, deltas: list[ChatDelta]) -> list[ChatDelta]:
        """The deltas, with thinking where it belongs; what may be a part of a tag is held back."""
        return deltas if self.ignores_pieces else self._split(deltas)

    def end(self) -> list[ChatDelta]:
        """Return the deltas that were held back."""
        return [
            piece
            for choice, splitter in self._splitters.items()
            for piece in _pieces(ChatDelta(choice=choice), *splitter.end())
        ]

    def with_partial(self, error: LlamaServerError) -> LlamaServerError:
        """`error`, with the thinking of its partial reply where it belongs."""
        if isinstance(error.partial, ChatReply):
            error.partial = _reply_apart(error.partial)
        return error

    def _split(self, deltas: list[ChatDelta]) -> list[ChatDelta]:
        apart: list[ChatDelta] = []
        for delta in deltas:
            splitter = self._splitters.setdefault(delta.choice, ThoughtSplitter())
            if splitter.settled:
                apart.append(delta)
                continue
            thinking, text = splitter.feed(delta.content) if delta.content else ("", "")
            if delta.reasoning_content or delta.tool_calls or delta.finish_reason:
                # The server tells them apart itself, or no more will come.
                more, rest = splitter.end()
                thinking, text = thinking + more, text + rest
            self._settled += splitter.settled
            self.ignores_pieces = self._settled >= self._answers
            apart += _pieces(delta, thinking, text)
        return apart


class ThinkingAsText(DeltaFilter[ChatDelta]):
    """Takes everything as the answer, as a grammar ruled all that was written.

    Where the template opens a thought, the server takes an answer under a `grammar` for thinking (b11434).
    """

    def add(self, deltas: list[ChatDelta]) -> list[ChatDelta]:
        """The deltas, with their thinking as text."""
        return [_as_answer(delta) for delta in deltas]

    def with_partial(self, error: LlamaServerError) -> LlamaServerError:
        """`error`, with the thinking of its partial reply as text."""
        if isinstance(error.partial, ChatReply):
            choices = tuple(
                replace(choice, content=choice.reasoning_content + choice.content, reasoning_content="")
                for choice in error.partial.choices
            )
            error.partial = replace(error.partial, choices=choices)
        return error


def _as_answer(delta: ChatDelta) -> ChatDelta:
    if not delta.reasoning_content:
        return delta
    return delta._replace(content=delta.reasoning_content + delta.content, reasoning_content="")


def _pieces(delta: ChatDelta, thinking: str, text: str) -> list[ChatDelta]:
    """`delta` with other text: nothing, one delta, or one that thinks and one that speaks."""
    if not thinking and text == delta.content and (text or delta.start is not None):
        return [delta]
    thinking += delta.reasoning_content
    first = [ChatDelta(reasoning_content=thinking, choice=delta.choice, start=delta.start)] if thinking and text else []
    if first:
        delta, thinking = delta._replace(start=None), ""
    rest = delta._replace(content=text, reasoning_content=thinking)
    return first if rest == ChatDelta(choice=delta.choice) else [*first, rest]


def _reply_apart(reply: ChatReply) -> ChatReply:
    choices = []
    for choice in reply.choices:
        splitter = ThoughtSplitter()
        (thought, text), (more, rest) = splitter.feed(choice.content), splitter.end()
        choices.append(
            replace(choice, content=text + rest, reasoning_content=choice.reasoning_content + thought + more)
        )
    return replace(reply, choices=tuple(choices))
