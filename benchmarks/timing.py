"""Measuring: CPU time of this process, with all clients taking turns in each round; the minimum of all rounds.

CPU time excludes most of the effect of other programs, but they still compete for caches and cores. The minimum is the
least disturbed round, and taking turns gives all clients the same chances.
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
