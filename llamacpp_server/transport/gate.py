"""Bounds the requests that run at once on one server to its slots: first come, first served, in the whole process.

A server queues what exceeds its slots, silently and without end; a batch of 2,000 would hold 2,000 sockets, and each
queued request would count as silence against its read timeout. Here they wait before anything is sent, and one that
is cancelled meanwhile was never sent at all.

Requests that name a slot (`id_slot`) never overlap with another one in that slot. The server looks into its RAM cache
for such a request before it looks whether the slot is busy, and swaps the slot's context under the request that runs
there, which goes on with the other's text (b11434 and the 2026.10 wheel, unless `--cache-ram 0`). Requests that name
none may run in any slot, so one that names a slot waits for them as well. Other processes can't be waited for.

Nothing here blocks: `enter` hands out a ticket, and the transport waits until `Ticket.granted`.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from urllib.parse import urlsplit

from ..settings import is_loopback

UNLIMITED = 1 << 30


class Ticket:
    """A place of one request in a gate.

    Attributes:
        granted: Whether the request may run.
        wake: Called (from any thread) when it is granted; set by whoever waits.
        parked: True while the consumer of its stream does something else than read. The server does not wait for
            readers, so its slot may be free already.
        model: Name of the model that is asked; a router has a gate for each.
        slot: The slot that it names; None leaves it to the server.
        counted: Whether it takes one of the places.
    """

    __slots__ = ("counted", "gate", "granted", "model", "parked", "slot", "wake")

    def __init__(self, gate: Gate, model: str = "", slot: int | None = None, counted: bool = True) -> None:
        self.gate = gate
        self.model = model
        self.slot = slot
        self.counted = counted
        self.granted = False
        self.wake: Callable[[], None] | None = None
        self.parked = False

    def leave(self) -> None:
        """Gives the place to the next one; does nothing the second time."""
        self.gate.leave(self)


class Gate:
    """The requests of this process to one server. Until its size is known, one runs and the others wait.

    Attributes:
        is_router: Whether the server was found to be a router: then each of its models has slots, and a gate.
    """

    def __init__(self) -> None:
        self.is_router = False
        self._lock = threading.Lock()
        self._held: set[Ticket] = set()
        self._queue: deque[Ticket] = deque()
        self._size: int | None = None
        self._asking = False

    def enter(self, model: str = "", slot: int | None = None, *, counted: bool = True) -> Ticket:
        """A ticket, granted at once when there is room.

        Args:
            model: Name of the model that is asked.
            slot: The slot that the request names, below the server's number of slots; None leaves it to the server.
            counted: Whether it takes one of the places.
        """
        ticket = Ticket(self, model, slot, counted)
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
        if ticket.gate is not self:  # handed over in this very moment
            ticket.gate.leave(ticket)

    def hand_over(self, gate_of: Callable[[str], Gate]) -> None:
        """Gives the tickets of what runs to the gates of their models: the server is a router."""
        with self._lock:
            self.is_router = True
            for ticket in self._held:
                other = ticket.gate = gate_of(ticket.model)
                with other._lock:
                    other._held.add(ticket)
            self._held.clear()

    def overtake(self, ticket: Ticket) -> None:
        """Lets a ticket in beyond the size when someone in front is not reading: both could wait for each other.

        One that names a slot is let in by `admit` only.
        """
        if ticket.slot is None and any(held.parked for held in tuple(self._held)):
            self.admit(ticket)

    def admit(self, ticket: Ticket) -> None:
        """Lets a waiting ticket in."""
        with self._lock:
            if ticket.granted:
                return
            self._queue.remove(ticket)
            self._held.add(ticket)
            ticket.granted = True
        _wake([ticket])

    def is_held_up_by_readers(self, ticket: Ticket) -> bool:
        """Whether a ticket that names a slot waits only for streams that are not being read just now."""
        with self._lock:
            return all(held.parked for held in self._held if held.slot in (None, ticket.slot))

    def _grant(self) -> list[Ticket]:
        room = (1 if self._size is None else self._size) - sum(held.counted for held in self._held)
        granted = []
        # What comes behind one that waits must not take from it what it waits for.
        waiting: set[int | None] = set()
        for ticket in tuple(self._queue):
            if (ticket.counted and room <= 0) or self._must_wait(ticket, waiting):
                waiting.add(ticket.slot)
                if ticket.slot is None:
                    break
                continue
            self._queue.remove(ticket)
            self._held.add(ticket)
            room -= ticket.counted
            ticket.granted = True
            granted.append(ticket)
        return granted

    def _must_wait(self, ticket: Ticket, waiting: set[int | None]) -> bool:
        if ticket.slot is None:
            return bool(waiting)
        taken = {held.slot for held in self._held} | waiting
        return None in taken or ticket.slot in taken


def _wake(tickets: list[Ticket]) -> None:
    for ticket in tickets:
        try:
            if ticket.wake is not None:
                ticket.wake()
        except RuntimeError:  # its event loop was closed: nobody is there to take the place
            ticket.leave()


_gates: dict[tuple[int, str, str | None], Gate] = {}
_gates_lock = threading.Lock()


def gate_for(base_url: str, model: str | None = None) -> Gate:
    """The gate of a server. A forked child starts with gates of its own: its parent's tickets are not its own.

    Args:
        base_url: In any spelling of this machine's name, with or without a port that goes without saying.
        model: Of a router, which has slots for each of its models; None for the server as a whole.
    """
    key = (os.getpid(), _server(base_url), model)
    with _gates_lock:
        gate = _gates.get(key)
        if gate is None:
            gate = _gates[key] = Gate()
        return gate


@lru_cache
def _server(base_url: str) -> str:
    """One name for all the spellings of a server's address."""
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https"):
        return base_url  # a unix socket
    host = (parts.hostname or "").lower()
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"{'localhost' if is_loopback(host) else host}:{port}{parts.path}"
