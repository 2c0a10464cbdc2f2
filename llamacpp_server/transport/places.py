"""How a shell waits at a gate for a place, with a blocking wait and with an awaited one."""

from __future__ import annotations

import time
import weakref
from functools import partial
from queue import Empty, SimpleQueue
from typing import Final

import anyio

from .deadlines import too_late
from .effects import Admit, Enter
from .event_loops import current_loop
from .exchange import deadline_in
from .gate import PATIENCE, Ticket
from .leaving import Scope

# Seconds after which a request that waits for a place looks whether those in front can't go on.
_LOOK: Final = 0.25


def admit(effect: Enter | Admit, scope: Scope) -> None:
    """Enters a gate; or waits for a place, and looks now and then whether those in front can't go on."""
    if isinstance(effect, Enter):
        return effect.ticket.enter(effect.gate, effect.place)
    # Unlike an Event, this is set without a lock: a finaliser in this very thread may do it.
    ticket, bell = effect.ticket, SimpleQueue[None]()
    deadline = deadline_in(effect.timeout)
    ticket.place.wake = partial(bell.put, None)
    while not ticket.granted:
        try:
            bell.get(timeout=_next_look(ticket, deadline))
        except Empty:
            scope.check()
            ticket.gate.settle()
            if not ticket.granted:
                _check_wait(deadline)
                if ticket.place.slot is not None:
                    break
    return None


async def aadmit(effect: Enter | Admit) -> None:
    """Async version of `admit`; the one who leaves may run in another thread."""
    if isinstance(effect, Enter):
        effect.place.loop = weakref.ref(current_loop())
        return effect.ticket.enter(effect.gate, effect.place)
    ticket, event = effect.ticket, anyio.Event()
    deadline = deadline_in(effect.timeout)
    loop = current_loop()
    ticket.place.wake = partial(getattr(loop, "call_soon_threadsafe", None) or loop.run_sync_soon, event.set)
    while not ticket.granted:
        with anyio.move_on_after(_next_look(ticket, deadline)) as scope:
            await event.wait()
        if scope.cancelled_caught:
            ticket.gate.settle()
            if not ticket.granted:
                _check_wait(deadline)
                if ticket.place.slot is not None:
                    break
    return None


def _check_wait(deadline: float | None) -> None:
    if deadline is not None and time.monotonic() >= deadline:
        raise too_late()


def _next_look(ticket: Ticket, deadline: float | None) -> float:
    """Seconds until a waiting request looks again. For one that names a slot, that asks the server."""
    seconds = _LOOK if ticket.place.slot is None else PATIENCE
    return seconds if deadline is None else max(min(seconds, deadline - time.monotonic()), 0.0)
