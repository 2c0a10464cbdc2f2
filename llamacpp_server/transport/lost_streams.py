"""Finds streams that nobody can read any more, while they still hold slots.

A web framework leaves a blocking iterator when its client goes, but does not close it. What keeps it alive is garbage
in a cycle: the exception that ended the response, whose traceback refers to its frames (Starlette 1.10, anyio 4.16).
Python's collector finds it, but it comes after a number of allocations, and an app whose slots are all held by such
streams allocates nothing. So a helper thread runs the collector when a stream is not read for a while.

A stream that survives may pause for twice as long before it is looked at again, so a slow reader costs a collection
or two. After a collection that freed nothing, the thread rests for twice as long as it took.

Where the program has switched the collector off, it stays off.
"""

from __future__ import annotations

import gc
import os
import time
from typing import Final

from .gate import Place
from .helper_thread import HelperThread

# Seconds between two looks, and of a stream's first pause that counts.
_LOOK: Final = 0.1
_FIRST_PAUSE: Final = 0.15
_REST: Final = 2


class _Watched:
    """How long a stream may pause, in seconds, until it is looked at."""

    __slots__ = ("patience",)

    def __init__(self) -> None:
        self.patience = _FIRST_PAUSE


_WATCHED: Final[dict[Place, _Watched]] = {}


def watch(place: Place) -> None:
    """Have the stream of a place collected soon after it was lost."""
    _WATCHED[place] = _Watched()
    _THREAD.start()


def unwatch(place: Place) -> None:
    """End that; does nothing for what was not watched. Safe in finalisers."""
    _WATCHED.pop(place, None)


def _look() -> None:
    time.sleep(_LOOK)
    now = time.monotonic()
    # A copy in one step: others come and go meanwhile.
    paused = {place: watched for place, watched in _WATCHED.copy().items() if _has_paused(place, watched, now)}
    if not paused or not gc.isenabled():
        return
    gc.collect()
    took = time.monotonic() - now
    for watched in paused.values():
        watched.patience *= 2
    if all(place in _WATCHED for place in paused):
        time.sleep(_REST * took)


def _has_paused(place: Place, watched: _Watched, now: float) -> bool:
    since = place.paused
    return since is not None and now - since >= watched.patience


_THREAD: Final = HelperThread(lambda: _WATCHED, _look)


def _after_fork() -> None:
    _WATCHED.clear()
    _THREAD.after_fork()


os.register_at_fork(after_in_child=_after_fork)
