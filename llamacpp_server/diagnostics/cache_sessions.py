"""The sessions that turns belong to, and the cached tokens that each turn processed again."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from ..replies import Timings, Usage
from ..requests import ChatRequest

__all__ = ["CacheSessions", "Turn"]

# The end of a prompt opens the answer, and a template may write it otherwise once the answer is there.
_TOLERANCE: Final = 16


class Turn(NamedTuple):
    """A turn, with the previous turn of its session.

    Attributes:
        number: Position among all turns, from 1.
        session: Name of its session.
        tokens: Tokens of the prompt.
        reused: Tokens that came from the cache.
        again: Prompt tokens that were processed although the session's previous prompt had them.
        now: The request.
        before: The previous turn's request, if more was lost than the few tokens that start an answer; else None.
        others: Number of turns of other sessions between the two.
    """

    number: int
    session: str
    tokens: int
    reused: int
    again: int
    now: ChatRequest
    before: ChatRequest | None
    others: int


@dataclass(slots=True)
class _Session:
    name: str
    key: str | None
    request: ChatRequest
    words: tuple[str, ...]
    tokens: int
    number: int


class CacheSessions:
    """The sessions of a program, identified by name, and within one name by their messages.

    A turn belongs to the session with which it has most messages in common. Not thread-safe.

    Args:
        most: Maximum number of sessions to keep, those with the newest turns; None keeps all.
    """

    def __init__(self, most: int | None = None) -> None:
        self._sessions: list[_Session] = []
        self._most = most
        self._turns = 0

    def add(self, request: ChatRequest, usage: Usage | None, timings: Timings | None, key: str | None = None) -> Turn:
        """Find the session of a turn. Timings take precedence over usage, since every build reports them.

        Args:
            request: The request.
            usage: Its token counts.
            timings: The server's measurements.
            key: Name of the session; None uses only the messages.
        """
        tokens = usage.prompt_tokens if usage else (timings.cache_n or 0) + timings.prompt_n if timings else 0
        reused = max(tokens - timings.prompt_n if timings else (usage and usage.cached_tokens) or 0, 0)
        request = replace(request, thinking_control=None)  # it is for a reply that runs
        words = tuple(_words(message) for message in request.messages if message.get("role") != "system")
        self._turns += 1
        known = self._session_of(words, key)
        again = 0 if known is None else max(0, min(known.tokens, tokens) - reused)
        name = known.name if known is not None else self._new_name(key)
        lost = known.request if known is not None and again > _TOLERANCE else None
        others = 0 if known is None else self._turns - known.number - 1
        if known is not None:
            self._sessions.remove(known)
        self._sessions.append(_Session(name, key, request, words, tokens, self._turns))
        if self._most is not None:
            del self._sessions[: -self._most]
        return Turn(self._turns, name, tokens, reused, again, request, lost, others)

    def _session_of(self, words: tuple[str, ...], key: str | None) -> _Session | None:
        """The one that began the same, or else has most in common: beginnings are trimmed."""
        mine = [known for known in self._sessions if known.key == key]
        likeness = {known.name: (_common_length(known.words, words), len({*known.words} & {*words})) for known in mine}
        best = max(mine, key=lambda known: likeness[known.name], default=None)
        return best if best is not None and likeness[best.name] > (0, 0) else None

    def _new_name(self, key: str | None) -> str:
        if key is None:
            return f"#{sum(known.key is None for known in self._sessions) + 1}"
        same = sum(known.key == key for known in self._sessions)
        return f"{key} ({same + 1})" if same else key


def _common_length(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _words(message: Any) -> str:
    return json.dumps(message, sort_keys=True, default=str)
