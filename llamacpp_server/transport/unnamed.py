"""Where a server is when nobody named its address: at the port of older builds, or at that of newer ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .._notices import warn_once
from ..settings import ServerSettings, UnnamedAddress

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
