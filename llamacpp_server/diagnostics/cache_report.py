"""Report how much of the prompt cache each turn reused, and which change prevented reuse.

Each adapter has a `CacheReport` that fills this one from the events of its framework. Adding a turn compares counts and
messages. The changes are determined when the report is read: by comparing the requests, and if these are equal, their
rendered prompts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import Final

from ..errors import LlamaServerError
from ..replies import ChatReply, Timings, Usage
from ..requests import ChatRequest
from .cache_changes import Change, compare
from .cache_sessions import CacheSessions, Turn
from .recording import Recording

__all__ = ["CacheReport", "CacheTurn"]

_HEAD: Final = ("turn", "session", "prompt", "reused", "read", "again", "what changed first")

Render = Callable[[ChatRequest], str]


@dataclass(frozen=True, slots=True)
class CacheTurn:
    """One answer and the cost of its prompt.

    Attributes:
        number: Position in the report, from 1.
        session: Name of its session, else "#1", "#2" and so on.
        tokens: Tokens of the prompt.
        reused: Tokens that came from the cache.
        again: Prompt tokens that were processed although the session's previous prompt had them.
        change: The first change; None if no more was lost than the few tokens that start an answer.
    """

    number: int
    session: str
    tokens: int
    reused: int
    again: int
    change: Change | None = None

    @property
    def read(self) -> int:
        """Prompt tokens that were not in the cache."""
        return self.tokens - self.reused


@dataclass(eq=False)
class CacheReport:
    """Turns of any number of sessions; `print(report)` shows a table.

    Sessions are identified by the name of each turn, and within one name by their messages: a turn belongs to the
    session with which it has most messages in common. Thread-safe.

    Args:
        render: Renders the prompt of a request, such as `LlamaServerClient.apply_template`; called when the report is
            read, for turns that lost tokens with unchanged messages and tools. None compares only requests.
        recording: Also receives each turn, for `llamacpp-server doctor`; None records nothing.
    """

    render: Render | None = None
    recording: Recording | None = None
    _turns: list[CacheTurn | Turn] = field(default_factory=list, init=False, repr=False)
    _sessions: CacheSessions = field(default_factory=CacheSessions, init=False, repr=False)
    _lock: Lock = field(default_factory=Lock, init=False, repr=False, compare=False)

    def add(self, request: ChatRequest, reply: ChatReply, session: str | None = None) -> None:
        """Record the turn of a client.

        Args:
            request: The request.
            reply: Its reply; ignored if the server reported no counts.
            session: Name of the session; None uses only the messages.
        """
        self.add_counts(request, reply.usage, reply.timings, session)

    def add_counts(
        self, request: ChatRequest, usage: Usage | None, timings: Timings | None, session: str | None = None
    ) -> None:
        """Record a turn by its counts; timings take precedence, since every build reports them."""
        if usage is None and timings is None:
            return
        if self.recording is not None:
            self.recording.chat(request, usage, timings, session)
        with self._lock:
            turn = self._sessions.add(request, usage, timings, session)
            self._turns.append(_turn(turn) if turn.before is None else turn)

    @property
    def turns(self) -> list[CacheTurn]:
        """All turns so far, in the order in which they ended. May have the server render prompts."""
        with self._lock:
            turns = list(self._turns)
        explained = [turn if isinstance(turn, CacheTurn) else self._explained(turn) for turn in turns]
        with self._lock:
            self._turns[: len(explained)] = explained
        return explained

    def _explained(self, turn: Turn) -> CacheTurn:
        if turn.before is None:
            return _turn(turn)
        return _turn(turn, compare(turn.before, turn.now, self._rendered, turn.others))

    def _rendered(self, request: ChatRequest) -> str | None:
        try:
            return self.render(request) if self.render is not None else None
        except LlamaServerError:
            return None  # the server has gone since; the report goes on without it

    def __str__(self) -> str:
        turns = self.turns
        rows = [_HEAD, *(_row(turn) for turn in turns)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD) - 1)]
        lines = ["  ".join([*map(_cell, row, widths, range(len(widths))), row[-1]]).rstrip() for row in rows]
        read, again = sum(turn.read for turn in turns), sum(turn.again for turn in turns)
        hints = dict[str, list[str]]()
        for turn in turns:
            if turn.change is not None:
                hints.setdefault(turn.change.hint, []).append(str(turn.number))
        notes = [f"turn {', '.join(numbers)}: {hint}" for hint, numbers in hints.items()]
        return "\n".join([*lines, f"{read} tokens were read, {again} of them again", *notes])


def _turn(turn: Turn, change: Change | None = None) -> CacheTurn:
    return CacheTurn(turn.number, turn.session, turn.tokens, turn.reused, turn.again, change)


def _row(turn: CacheTurn) -> tuple[str, ...]:
    counts = (turn.tokens, turn.reused, turn.read, turn.again)
    return (str(turn.number), turn.session, *map(str, counts), _change_cell(turn.change))


def _change_cell(change: Change | None) -> str:
    return "" if change is None else f"{change.where}: {change.what}"


def _cell(text: str, width: int, column: int) -> str:
    return text.ljust(width) if column == 1 else text.rjust(width)
