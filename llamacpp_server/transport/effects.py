"""Effects: requests of a program to its shell. Values only: the shells in `shells.py` carry them out."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from .._replies import StreamDecoder
from ..errors import LlamaServerError, TimeLimit
from .deadlines import FirstToken
from .gate import Gate, Ticket
from .place import Place

T = TypeVar("T")


class OpenReply(Protocol):
    """An answer whose headers are there and whose body is not read yet."""

    @property
    def status_code(self) -> int:
        """HTTP status."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers, looked up without regard to case."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send a request and give back the answer once its headers are there.

    Attributes:
        method: HTTP method.
        url: Whole address. Its query may hold a key, so it is not shown with the variables of a traceback.
        headers: Request headers, with the key.
        content: Body; None sends none.
        connect_timeout: Seconds for a connection; None waits on.
        read_timeout: Longest silence in seconds; None waits on.
        foreign: Name of a host that is not the llama-server; it gets none of the headers, cookies and certificates
            that are for the server. "" is the server.
        verify: As in `ServerSettings`.
        fresh: Whether on a connection of its own: a kept one had been closed, and the next may have been as well.
        deadline: Time on the monotonic clock by which the head of the answer must be there; None sets none.
        limit: The setting that the deadline comes from.
    """

    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    content: bytes | None = field(repr=False)
    connect_timeout: float | None
    read_timeout: float | None
    foreign: str = ""
    verify: bool | ssl.SSLContext = field(default=True, repr=False)
    fresh: bool = False
    deadline: float | None = None
    limit: TimeLimit = "total_timeout"


@dataclass(frozen=True, slots=True)
class Read:
    """Read the whole body of an answer, and give back its bytes.

    Attributes:
        reply: The answer.
        deadline: Time on the monotonic clock after which it takes too long; None sets none.
        most: Bytes after which it is too long; None for as many as an event may have.
    """

    reply: OpenReply
    deadline: float | None = None
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Sleep:
    """Do nothing for some seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Enter:
    """Enter a gate, on behalf of the thread or event loop that carries the program out.

    Attributes:
        ticket: Gets the place.
        gate: Where.
        place: New, and not entered yet.
    """

    ticket: Ticket
    gate: Gate
    place: Place


@dataclass(frozen=True, slots=True)
class Admit:
    """Wait until a ticket of a gate is granted; for one that names a slot, at most until it is worth a look.

    Attributes:
        ticket: Has entered a gate.
        timeout: Seconds; None waits on.
    """

    ticket: Ticket
    timeout: float | None


@dataclass(frozen=True, slots=True)
class Together:
    """Run programs at once, and give back their results in order.

    An error takes the place of the result of a program that failed; none is started after that, and those never
    started give None.

    Attributes:
        programs: What to run.
        at_once: How many run at the same time.
    """

    programs: Sequence[Program[Any]]
    at_once: int


@dataclass(frozen=True, slots=True)
class Work:
    """Call a function that blocks or computes for a while, away from the event loop; its result comes back."""

    function: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Bound:
    """Raise `RequestTimeoutError` when the program's further waits last beyond a time. What it relays has its own.

    Attributes:
        deadline: Time on the monotonic clock; None sets none.
        url: The address that the error names, without credentials.
    """

    deadline: float | None
    url: str = ""


@dataclass(frozen=True, slots=True)
class Relay:
    """Decode an answer as it comes, and pass its deltas on to whoever reads the stream.

    An error of the answer, or of its connection, is thrown into the program, with what had come as its `partial`.

    Attributes:
        reply: The answer.
        decoder: Makes deltas of its bytes; of this answer only.
        ticket: Holds its place; it stays the program's.
        deadline: Time on the monotonic clock by which the answer must be complete; None sets none.
        watch: Called with the deltas of each piece; the program that it gives runs before they are passed on.
        collected: Gets the deltas, and the reader gets none; None passes them on.
        first_token: Further limits of its waits; None sets none.
    """

    reply: OpenReply
    decoder: StreamDecoder[Any]
    ticket: Ticket
    deadline: float | None = None
    watch: Callable[[Sequence[Any]], Program[None] | None] | None = None
    collected: list[Any] | None = None
    first_token: FirstToken | None = None


Effect = Send | Read | Sleep | Enter | Admit | Together | Work | Relay
Program = Generator[Effect | Bound, Any, T]


def relayed(relay: Relay) -> Program[None]:
    """A program that does nothing else."""
    yield relay


def passed(deltas: Sequence[Any], collected: list[Any] | None) -> Sequence[Any]:
    """The deltas for a reader of their stream: none where they are collected."""
    if collected is None:
        return deltas
    collected += deltas
    return ()


class Running(Generic[T]):
    """A program that is under way: what it asks for next, and what came of what it asked for.

    Attributes:
        result: Of the last effect.
        error: What it ended in instead.
        bound: The bound that the program has set.
        value: What the program returned.
    """

    __slots__ = ("_program", "bound", "error", "result", "value")

    value: T

    def __init__(self, program: Program[T]) -> None:
        self._program = program
        self.result: Any = None
        self.error: LlamaServerError | None = None
        self.bound = Bound(None)

    def next(self) -> Effect | None:
        """The effect to carry out next; None if the program has returned."""
        while True:
            result, error = self.result, self.error
            self.result = self.error = None
            try:
                effect = self._program.send(result) if error is None else self._program.throw(error)
            except StopIteration as stop:
                self.value = stop.value
                return None
            finally:
                del result, error  # an error whose traceback refers to it would be garbage in a cycle
            if not isinstance(effect, Bound):
                return effect
            self.bound = effect
