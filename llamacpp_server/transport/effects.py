"""What a program asks its shell to do. Values only: the shells in `shells.py` carry them out."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from .gate import Gate, Place, Ticket

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


Effect = Send | Read | Sleep | Enter | Admit | Together | Work
Program = Generator[Effect, Any, T]
