"""Reports about a server: its prompt cache, and a check of its setup."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy

if TYPE_CHECKING:
    from .cache_changes import compare
    from .cache_report import CacheReport, CacheTurn
    from .checks import CAPABILITIES, Finding, preflight

__all__ = [
    "CAPABILITIES",
    "CacheReport",
    "CacheTurn",
    "Finding",
    "compare",
    "preflight",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "cache_changes": ("compare",),
        "cache_report": ("CacheReport", "CacheTurn"),
        "checks": ("CAPABILITIES", "Finding", "preflight"),
    },
)
