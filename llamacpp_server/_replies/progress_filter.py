"""Tells whoever listens of waits, and how far a prompt is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from ..chat import ChatDelta, CompletionDelta
from ..errors import LlamaServerError
from ..progress import Progress
from .stream import StreamDecoder

D = TypeVar("D", ChatDelta, CompletionDelta)


class ToldDecoder(Generic[D]):
    """A decoder whose progress is told, and kept out of the deltas where it was asked for on that account only.

    Args:
        inner: Makes the decoder that does the work.
        tell: Called for each step.
        keep: Whether deltas hold the progress as well.
    """

    def __init__(self, inner: Callable[[], StreamDecoder[D]], tell: Callable[[Progress], None], *, keep: bool) -> None:
        self._inner: StreamDecoder[D] = inner()
        self._tell = tell
        self._keep = keep

    def feed(self, data: bytes) -> list[D]:
        """Deltas that `data` completes."""
        return self._told(self._inner.feed(data))

    def close(self) -> list[D]:
        """Deltas that were left."""
        return self._told(self._inner.close())

    def with_partial(self, error: LlamaServerError) -> LlamaServerError:
        """`error`, with what had arrived attached."""
        return self._inner.with_partial(error)

    def _told(self, deltas: list[D]) -> list[D]:
        if not any(delta.progress for delta in deltas):
            return deltas
        kept: list[D] = []
        for delta in deltas:
            if delta.progress is not None:
                self._tell(Progress.of_prompt(delta.progress))
            rest = delta if self._keep or delta.progress is None else delta._replace(progress=None)
            if rest != type(delta)():
                kept.append(rest)
        return kept
