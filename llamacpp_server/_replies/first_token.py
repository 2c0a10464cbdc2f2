"""How long a reply's first token took, as its caller saw it: the server does not know of waits and queues before it."""

from __future__ import annotations

import time
from dataclasses import replace
from operator import attrgetter
from typing import Any, Final, TypeVar, cast

from ..chat import ChatDelta, CompletionDelta
from .filters import DeltaFilter

D = TypeVar("D")


class FirstTokenTimer(DeltaFilter[D]):
    """Adds `first_token_ms` to the timings of the deltas.

    Args:
        started: When the request was made, on the monotonic clock.
    """

    def __init__(self, started: float) -> None:
        self._started = started
        self._first: float | None = None

    def add(self, deltas: list[D]) -> list[D]:
        """The deltas; those with timings have that of the first token, too."""
        if self._first is None:
            if not any(map(has_token, deltas)):
                return deltas
            self._first = round((time.monotonic() - self._started) * 1000, 3)
        # On every token's path: most have no timings.
        for delta in deltas:
            if getattr(delta, "timings", None) is not None:
                return [self._timed(one) for one in deltas]
        return deltas

    def _timed(self, delta: D) -> D:
        timings = getattr(delta, "timings", None)
        if timings is None:
            return delta
        timings = replace(timings, first_token_ms=self._first)
        if isinstance(delta, ChatDelta | CompletionDelta):
            return cast(D, delta._replace(timings=timings))
        event = cast(Any, delta)  # of another API; its last one has the whole reply
        reply = getattr(event, "reply", None)
        return cast(D, replace(event, timings=timings, **({"reply": replace(reply, timings=timings)} if reply else {})))


_SPOKEN: Final = attrgetter("content", "reasoning_content", "tool_calls")
# Of completions, and of the typed events of other APIs.
_SPOKEN_ELSEWHERE: Final = ("text", "tokens", "reasoning", "thinking", "arguments")


def has_token(delta: object) -> bool:
    """Whether a delta holds something that the model wrote."""
    if isinstance(delta, ChatDelta):
        return any(_SPOKEN(delta))
    return any(getattr(delta, name, None) for name in _SPOKEN_ELSEWHERE)
