"""A thread that runs only while there is work, and that is started without a lock."""

from __future__ import annotations

import _thread
from collections import deque
from collections.abc import Callable


class HelperThread:
    """Starts when there is work, and ends when there is none left. Safe to start in finalisers and signal handlers.

    Args:
        has_work: Whether there is something to do.
        work: Does some of it; must not raise.
    """

    __slots__ = ("_has_work", "_turn", "_work")

    def __init__(self, has_work: Callable[[], object], work: Callable[[], None]) -> None:
        self._has_work, self._work = has_work, work
        # Whoever pops this starts the thread; it is put back when the thread ends.
        self._turn = deque[None]([None])

    def start(self) -> None:
        """Start the thread, unless it runs or there is no work."""
        if not self._has_work() or not self._is_my_turn():
            return
        try:
            # Not a `threading.Thread`, whose start takes locks.
            _thread.start_new_thread(self._run, ())
        except RuntimeError:  # the interpreter ends, or there are too many threads: the next time
            self._turn.append(None)

    def after_fork(self) -> None:
        """Forget the parent's thread, which a forked child does not have."""
        self._turn.clear()
        self._turn.append(None)

    def _is_my_turn(self) -> bool:
        try:
            self._turn.pop()
        except IndexError:
            return False
        return True

    def _run(self) -> None:
        while True:
            try:
                while self._has_work():
                    self._work()
            finally:
                self._turn.append(None)
            # What came after the last look found the turn taken.
            if not self._has_work() or not self._is_my_turn():
                return
