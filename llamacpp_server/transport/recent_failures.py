"""Which requests a layer above us repeats, so that its retries and ours add up; and which servers went away."""

from __future__ import annotations

import threading
import time
from typing import Final

from .._notices import warn_once


class Repeats:
    """Requests that our repeats could not help, for a while: if one comes again, a layer above repeats it.

    Frameworks have retries of their own (`with_retry`, retry policies, tenacity). Three attempts of theirs with three
    of ours in each would be nine requests to a server in trouble; so they are five: three, one and one.
    """

    _SECONDS, _MOST = 60.0, 1000

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until: dict[int, float] = {}

    def note(self, url: str, content: bytes | None) -> None:
        """Remembers a request that was given up."""
        with self._lock:
            self._until.pop(hash((url, content)), None)
            self._until[hash((url, content))] = time.monotonic() + self._SECONDS
            if len(self._until) > self._MOST:
                del self._until[next(iter(self._until))]

    def known(self, url: str, content: bytes | None) -> bool:
        """Whether a request was given up a short while ago."""
        found = self._until.get(hash((url, content)), 0.0) > time.monotonic() if self._until else False
        if found:
            warn_once("an abandoned request was sent again by a higher layer: retries are disabled for it")
        return found

    def forget(self, url: str, content: bytes | None) -> None:
        """Takes note that a request was answered."""
        if self._until:
            with self._lock:
                self._until.pop(hash((url, content)), None)


class Refusals:
    """When a connection to a server was refused last: what was known of it may not hold any more."""

    _MOST = 1000

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: dict[str, float] = {}

    def note(self, base_url: str) -> None:
        """Remember that a connection was refused just now."""
        with self._lock:
            self._last.pop(base_url, None)
            self._last[base_url] = time.monotonic()
            if len(self._last) > self._MOST:
                del self._last[next(iter(self._last))]

    def last(self, base_url: str) -> float:
        """Time on the monotonic clock of the last refusal; 0 where none is known."""
        return self._last.get(base_url, 0.0)


_REFUSALS: Final = Refusals()
note_refusal, refused_at = _REFUSALS.note, _REFUSALS.last
