"""How long a reply's first token took, as its caller saw it: the server does not know of waits and queues before it."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Generic, TypeVar, cast

from ..chat import ChatDelta, CompletionDelta
from ..errors import LlamaServerError
from .stream import StreamDecoder

D = TypeVar("D")


class Stopwatch(Generic[D]):
    """A decoder that adds `first_token_ms` to the timings of its deltas.

    Args:
        decoder: Of what the server sends.
        started: When the request was made, on the monotonic clock.
    """

    def __init__(self, decoder: StreamDecoder[D], started: float) -> None:
        self._inner = decoder
        self._started = started
        self._first: float | None = None

    def feed(self, data: bytes) -> list[D]:
        """Deltas that `data` completes."""
        deltas = self._inner.feed(data)
        if self._first is None:
            if not any(_speaks(delta) for delta in deltas):
                return deltas
            self._first = round((time.monotonic() - self._started) * 1000, 3)
        # On every token's path: most have no timings.
        for delta in cast(list[ChatDelta], deltas):
            if delta.timings is not None:
                return self._timed(deltas)
        return deltas

    def close(self) -> list[D]:
        """Deltas that were left; raises when the stream is not at its end."""
        return self._timed(self._inner.close())

    def with_partial(self, error: LlamaServerError) -> LlamaServerError:
        """`error`, with what had arrived attached."""
        return self._inner.with_partial(error)

    def _timed(self, deltas: list[D]) -> list[D]:
        if self._first is None:  # such as a router's events, which have no timings either
            return deltas
        for at, delta in enumerate(cast(list[ChatDelta], deltas)):
            if delta.timings is not None:
                timed = delta._replace(timings=replace(delta.timings, first_token_ms=self._first))
                deltas[at] = cast(D, timed)
        return deltas


def _speaks(delta: object) -> bool:
    if isinstance(delta, CompletionDelta):
        return bool(delta.text or delta.tokens)
    return isinstance(delta, ChatDelta) and bool(delta.content or delta.reasoning_content or delta.tool_calls)
