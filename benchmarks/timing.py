"""How all measurements are taken: CPU time of this process, all clients in turn in each round, the least of all rounds.

CPU time leaves out what other programs do, nearly: they still take caches and half of a core from this one. The least
of several rounds is the round that was disturbed least, and turns make sure that all had the same chances.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any


def least(ways: Mapping[str, Callable[[], Any]], rounds: int, each: int) -> dict[str, float]:
    """Microseconds of CPU for each of the `each` things that a way does."""
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.process_time()
            way()
            best[name] = min(best[name], (time.process_time() - started) / each * 1e6)
    return best
