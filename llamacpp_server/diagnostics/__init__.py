"""Reports about a server and its programs: prompt cache, setup checks, and causes of slowness.

The input is a client or a recording of a program's calls; the output is values that print as tables. Nothing here
changes a request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy

if TYPE_CHECKING:
    from .cache_changes import compare
    from .cache_report import CacheReport, CacheTurn
    from .cache_sessions import CacheSessions as CacheSessions
    from .checks import CAPABILITIES, Finding, preflight
    from .doctor import Cost, Replay, diagnose, replay
    from .doctor_page import doctor_html
    from .recording import Recorded, Recording, read_recording, recording_of
    from .recording import with_thinking as with_thinking

__all__ = [
    "CAPABILITIES",
    "CacheReport",
    "CacheTurn",
    "Cost",
    "Finding",
    "Recorded",
    "Recording",
    "Replay",
    "compare",
    "diagnose",
    "doctor_html",
    "preflight",
    "read_recording",
    "recording_of",
    "replay",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "cache_changes": ("compare",),
        "cache_report": ("CacheReport", "CacheTurn"),
        "cache_sessions": ("CacheSessions",),
        "checks": ("CAPABILITIES", "Finding", "preflight"),
        "doctor": ("Cost", "Replay", "diagnose", "replay"),
        "doctor_page": ("doctor_html",),
        "recording": ("Recorded", "Recording", "read_recording", "recording_of", "with_thinking"),
    },
)
