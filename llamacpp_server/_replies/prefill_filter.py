"""The begun answer that a whole reply repeats. A stream leaves it out where `echo` is false; a whole reply can't."""

from __future__ import annotations

from ..chat import ChatDelta
from .filters import DeltaFilter


class WithoutPrefill(DeltaFilter[ChatDelta]):
    """Removes the text that was to be continued from the head of each answer.

    Args:
        begun: That text.
    """

    def __init__(self, begun: str) -> None:
        self._begun = begun
        self._done: set[int] = set()

    def add(self, deltas: list[ChatDelta]) -> list[ChatDelta]:
        """The deltas of a whole reply, of which the first with a text has all of it."""
        return [self._cut(delta) for delta in deltas]

    def _cut(self, delta: ChatDelta) -> ChatDelta:
        if not delta.content or delta.choice in self._done:
            return delta
        self._done.add(delta.choice)
        return delta._replace(content=delta.content.removeprefix(self._begun))
