"""Stops an answer under a schema that repeats itself without end.

A grammar keeps a model from ending an answer before its last brace. A small model then writes the same entry, digit or
white space over and over, and without `max_tokens` the server lets it, to the end of the context.
"""

from __future__ import annotations

from typing import Final

from ..chat import ChatDelta
from ..errors import UnfitAnswerError
from .filters import DeltaFilter

_EACH: Final = 64
# A unit longer than this is text of its own; entries of a list that differ in one word are not a loop.
_LONGEST_UNIT: Final = 400
_LEAST_TIMES: Final = 8
_SHOWN: Final = 200


class LoopFilter(DeltaFilter[ChatDelta]):
    """Raises when the last tokens of an answer's text are one unit, again and again.

    Args:
        limit: How many tokens have to be. The server sends about one event for each token.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pieces: dict[int, list[str]] = {}
        self._loop = ""

    def add(self, deltas: list[ChatDelta]) -> list[ChatDelta]:
        """The deltas as they are.

        Raises:
            UnfitAnswerError: When the text before them was a loop; that text was passed on.
        """
        if self._loop:
            raise UnfitAnswerError(
                f"stopped a repetitive answer: it repeated {self._loop!r} for {self._limit} tokens",
                reason="cut_off",
                text="".join(self._pieces.get(0, ())),
                remedy="set max_tokens or repeat_penalty, or change the prompt or model; loop_limit=None disables this",
            )
        for delta in deltas:
            if not delta.content:
                continue
            pieces = self._pieces.setdefault(delta.choice, [])
            pieces.append(delta.content)
            if len(pieces) >= self._limit and len(pieces) % _EACH == 0:
                self._loop = self._loop or repeated_unit("".join(pieces[-self._limit :]))[:_SHOWN]
        return deltas


def repeated_unit(text: str) -> str:
    """The unit that a text consists of, again and again; "" where it is no such text."""
    end = text[-_LONGEST_UNIT:]
    for size in range(1, min(_LONGEST_UNIT, len(text) // _LEAST_TIMES) + 1):
        if end[-size:] * 2 != text[-2 * size :]:
            continue
        unit = end[-size:]
        repeated = unit * (len(text) // size + 2)
        if repeated.endswith(text):
            return unit
    return ""
