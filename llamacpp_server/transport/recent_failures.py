"""Memory of earlier requests: repetitions by a layer above, servers that went away, and the port in use."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Final

from .._notices import warn_once
from ..settings import ServerSettings, UnnamedAddress


class RecentFailures:
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


# llama-server's port where none is named, of builds since autumn 2026; it was 8080 before.
NEW_PORT: Final = 9931


@dataclass(slots=True)
class _Found:
    """Whether the server was found at the newer port. Set by plain stores, so that no signal or fork can hurt."""

    at_new_port: bool = False


_FOUND: Final = _Found()


def address_in_use(settings: ServerSettings) -> str:
    """The server's root as it is asked: `base_url`, unless nobody named it and a server was found at the newer port."""
    unnamed = isinstance(settings.base_url, UnnamedAddress)
    return _new_root() if unnamed and _FOUND.at_new_port else str(settings.base_url)


def other_address(url: str, settings: ServerSettings) -> str | None:
    """A request's address at the other port; None where somebody named the server."""
    if not isinstance(settings.base_url, UnnamedAddress):
        return None
    old, new = str(settings.base_url), _new_root()
    return new + url.removeprefix(old) if url.startswith(old) else old + url.removeprefix(new)


def note_answer(url: str, settings: ServerSettings) -> None:
    """Remember at which port a server answered that nobody named."""
    if not isinstance(settings.base_url, UnnamedAddress):
        return
    _FOUND.at_new_port = url.startswith(_new_root())
    if _FOUND.at_new_port:
        warn_once(f"no address was given, and nothing listens at {settings.base_url}: using {_new_root()}")


def _new_root() -> str:
    return f"http://localhost:{NEW_PORT}"
