"""Watches the thinking of a reply while it comes, and has it ended when it takes too long or somebody asks for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from ..controls import ThinkingControl
from ..replies import ChatDelta
from ..transport import (
    Program,
)


class ThinkingWatch:
    """Called with the deltas of one reply as they come; gives what has to be done before they are passed on.

    Args:
        seconds: How long the model may think, from its first thought on; None sets no limit.
        control: Ends it when asked to; None where nobody can ask.
        end: What ends the thinking of the reply with an id.
    """

    def __init__(
        self, seconds: float | None, control: ThinkingControl | None, end: Callable[[str], Program[None]]
    ) -> None:
        self._seconds = seconds
        self._control = control
        self._end = end
        self._id = ""
        self._began: float | None = None
        self._over = False

    def __call__(self, deltas: Sequence[ChatDelta]) -> Program[None] | None:
        """Callable that ends the reasoning once; None if nothing is to be done."""
        if self._over:
            return None
        for delta in deltas:
            if delta.start is not None:
                self._id = delta.start.id
            if delta.reasoning_content and self._began is None:
                self._began = time.monotonic()
            if delta.content or delta.tool_calls:
                self._finish()
        if self._over or self._began is None or not self._is_enough(time.monotonic() - self._began):
            return None
        self._finish()
        return self._end(self._id)

    def _finish(self) -> None:
        self._over = True
        if self._control is not None:
            self._control.over = True

    def _is_enough(self, elapsed: float) -> bool:
        asked = self._control is not None and self._control.ended
        return asked or (self._seconds is not None and elapsed >= self._seconds)
