"""Bounds the requests that run at once on one server to its slots: first come, first served, in the whole process.

A server queues what exceeds its slots, silently and without end; a batch of 2,000 would hold 2,000 sockets, and each
queued request would count as silence against its read timeout. Here they wait before anything is sent, and one that
is cancelled meanwhile was never sent at all.

Nothing here blocks: `enter` hands out a ticket, and the transport waits until `Ticket.granted`.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable

UNLIMITED = 1 << 30


class Ticket:
    """A place of one request in a gate.

    Attributes:
        granted: Whether the request may run.
        wake: Called (from any thread) when it is granted; set by whoever waits.
        parked: True while the consumer of its stream does something else than read. The server does not wait for
            readers, so its slot may be free already.
    """

    __slots__ = ("gate", "granted", "parked", "wake")

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.granted = False
        self.wake: Callable[[], None] | None = None
        self.parked = False

    def leave(self) -> None:
        """Gives the place to the next one; does nothing the second time."""
        self.gate.leave(self)


class Gate:
    """The requests of this process to one server. Until its size is known, one runs and the others wait."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: set[Ticket] = set()
        self._queue: deque[Ticket] = deque()
        self._size: int | None = None
        self._asking = False

    def enter(self) -> Ticket:
        """A ticket, granted at once when there is room."""
        ticket = Ticket(self)
        with self._lock:
            self._queue.append(ticket)
            granted = self._grant()
        _wake(granted)
        return ticket

    def should_ask(self) -> bool:
        """Whether the caller has to find out the size and `resize`: some wait, and nobody is at it yet."""
        with self._lock:
            ask = self._size is None and not self._asking and len(self._held) + len(self._queue) > 1
            self._asking = self._asking or ask
        return ask

    def resize(self, size: int | None) -> None:
        """Sets how many run at once; None when it could not be found out, so that the next one asks again."""
        with self._lock:
            self._asking = False
            self._size = size
            granted = self._grant()
        _wake(granted)

    def leave(self, ticket: Ticket) -> None:
        """Takes a ticket back, granted or not."""
        with self._lock:
            if ticket in self._held:
                self._held.discard(ticket)
            elif ticket in self._queue:
                self._queue.remove(ticket)
            if not self._held and not self._queue:
                # The server may be another one, or have other flags, when the next burst comes.
                self._size, self._asking = None, False
            granted = self._grant()
        _wake(granted)

    def overtake(self, ticket: Ticket) -> None:
        """Lets a ticket in beyond the size when someone in front is not reading: both could wait for each other."""
        with self._lock:
            if ticket.granted or not any(held.parked for held in self._held):
                return
            self._queue.remove(ticket)
            self._held.add(ticket)
            ticket.granted = True
        _wake([ticket])

    def _grant(self) -> list[Ticket]:
        size = 1 if self._size is None else self._size
        granted = []
        while self._queue and len(self._held) < size:
            ticket = self._queue.popleft()
            self._held.add(ticket)
            ticket.granted = True
            granted.append(ticket)
        return granted


def _wake(tickets: list[Ticket]) -> None:
    for ticket in tickets:
        try:
            if ticket.wake is not None:
                ticket.wake()
        except RuntimeError:  # its event loop was closed: nobody is there to take the place
            ticket.leave()


_gates: dict[tuple[int, str], Gate] = {}
_gates_lock = threading.Lock()


def gate_for(base_url: str) -> Gate:
    """The gate of a server. A forked child starts with gates of its own: its parent's tickets are not its own."""
    key = (os.getpid(), base_url)
    with _gates_lock:
        gate = _gates.get(key)
        if gate is None:
            gate = _gates[key] = Gate()
        return gate
