"""Bounds the requests that run at once on one server to its slots, in the whole process, and decides who is next.

A server queues what exceeds its slots, silently and without end; a batch of 2,000 would hold 2,000 sockets, and each
queued request would count as silence against its read timeout. Here they wait before anything is sent, and one that
is cancelled meanwhile was never sent at all.

Requests that name a slot (`id_slot`) never overlap with another one in that slot. The server looks into its RAM cache
for such a request before it looks whether the slot is busy, and swaps the slot's context under the request that runs
there, which goes on with the other's text (b11434 and the 2026.10 wheel, unless `--cache-ram 0`). Requests that name
none may run in any slot, so one that names a slot waits for them as well. Other processes can't be waited for.

Who is next: first come, first served, but for three rules.

- A conversation whose prompt is still in a slot (it is among the last that ran, one for each slot) goes before those
  that the server would have to read anew, which would also push it out. Its next turn is not there yet when the last
  one ends, as its program has to read the answer first; so where a conversation has come back once, the slot that it
  leaves is kept for it for some milliseconds before another conversation gets it.
- What runs in the background (`priority="background"`) goes behind all others. For a model of a router that does
  nothing now it waits until no other model has anything else to do, as it might be swapped in for that alone.
- Nobody is passed by for ever: after so many grants to others (`_FEW_ROUNDS` or `_MANY_ROUNDS` times the slots) a
  place goes first.

The states of a `Place`, which is one request's part in a gate:

    new --enter--> waiting --grant--> running --left--> gone
                         |                                 ^
                         +--------------left---------------+

- `enter` puts a place at the end of the queue, and a `grant` follows at once where there is room.
- A place is *left* by one store, `place.left = True`, which no interrupt can cut in two. It is gone with the next
  change of the gate, whoever makes it. A `Ticket`, which owns the place, leaves it when it is collected, too.
- A place is *granted* when fewer requests run than its own limit, and nobody who is to go before it waits.
- A place that runs *alone* waits until nothing else runs, and nothing else starts beside it.
- Where the slots share one context, a place waits until its prompt fits into it beside those that run. While it is
  unknown whether they do, it waits where somebody reads one of the answers as it comes: that can't be begun again.
- A running place is *idle*, and one more may run instead of it, when it can't go on by itself: its reader has paused
  for `PATIENCE` seconds (the server does not wait for readers, so its slot may be free), or its event loop does not
  run. If the loop was closed, the place is gone.
- A blocking request that waits on the very thread that a running place needs (its event loop runs there, or the call
  that was interrupted by a signal handler) would wait for ever. For that request, this place is idle.

No lock is taken: a finaliser, a signal handler or a fork may come while this very thread changes the gate. The whole
state is one immutable value. A change computes the next value and puts it into the `next` of the one before, which
`dict.setdefault` does for one thread only; whoever lost begins again from the winner's. An exception at any bytecode
finds the old state or the new one.

Nothing here blocks: the transport waits until `Ticket.granted`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from operator import itemgetter
from typing import Any, Final
from urllib.parse import urlsplit

from ..settings import is_loopback
from .forks import in_forked_child
from .place import Place
from .prompt_size import PromptSize

# Gates of servers and models that nobody uses are forgotten beyond this many.
_MOST_GATES: Final = 1000
# Grants to others for each slot after which a place goes first, and the same for one in the background.
_FEW_ROUNDS: Final = 4
_MANY_ROUNDS: Final = 16
# Conversations that a gate remembers to have run; as many of the newest as there are slots count as warm.
_MOST_WARM: Final = 64
# Seconds for which a slot is kept for the next turn of the conversation that leaves it, and the most as a share of the
# time that it ran. An agent calls again after 1 to 5 ms; reading 2,000 tokens anew takes a hundred times that.
_KEPT: Final = 0.005
_KEPT_SHARE: Final = 0.1
# Seconds after which a request that waits for a place looks whether those in front can't go on.
LOOK: Final = 0.25
# Seconds after a full context for which requests look for those of other processes.
_CROWDED_FOR: Final = 60.0


class Ticket:
    """The owner of a place. Made before there is one, so that an interrupt never falls between a place and its owner.

    Attributes:
        place: The place that is held or waited for; `ticket.place.left = True` gives it up in one step.
    """

    __slots__ = ("place",)

    def __init__(self) -> None:
        self.place = Place()

    @property
    def gate(self) -> Gate:
        """The gate of the place.

        Raises:
            AttributeError: Before it has entered one.
        """
        if self.place.gate is None:
            raise AttributeError("the ticket has not entered a gate")
        return self.place.gate

    @property
    def granted(self) -> bool:
        """Whether the request may run."""
        gate = self.place.gate
        return gate is None or self.place in gate.state().held

    def enter(self, gate: Gate, place: Place) -> None:
        """Give up the place it has, and take this one at the end of the gate's queue."""
        self.leave()
        place.gate = gate
        self.place = place
        gate.enter(place)

    def leave(self) -> None:
        """Give the place to the next one; does nothing the second time. Safe in finalisers and signal handlers."""
        place = self.place
        place.left = True
        if place.gate is not None:
            place.gate.settle()

    def __del__(self) -> None:
        place = getattr(self, "place", None)  # an interrupt may come before there is one
        if place is not None and not place.left:
            self.leave()


@dataclass(frozen=True, slots=True, eq=False)
class _State:
    """Snapshot of a gate's state.

    Attributes:
        held: The places that run.
        queue: Those that wait, in the order in which they came.
        size: Slots of the server; None while they are unknown.
        context: Tokens of the context of a slot; None while they are unknown.
        divided: Whether the slots were seen to hold more than one context together.
        asking: The place whose request finds the slots out; None when nobody does.
        grants: How many were granted so far.
        warm: Conversations that ran, the newest first.
        kept: Conversations that a slot is kept for, each with the time until when.
        next: The state that followed, under None; empty for the latest.
    """

    held: tuple[Place, ...] = ()
    queue: tuple[Place, ...] = ()
    size: int | None = None
    context: int | None = None
    divided: bool = False
    asking: Place | None = None
    grants: int = 0
    warm: tuple[int, ...] = ()
    kept: tuple[tuple[int, float], ...] = ()
    next: dict[None, _State] = field(default_factory=dict)


class Gate:
    """The requests of this process to one server. Until its size is known, one runs and the others wait.

    Attributes:
        is_router: Whether the server was found to be a router: then each of its models has slots, and a gate.
        router: Name of the router whose model this gate is for; None for the gate of a server.
        shares_context: Whether its slots share one context; None while it is unknown.
        crowded_at: Time on the monotonic clock when that was full; None where it never was.
    """

    def __init__(self, router: str | None = None) -> None:
        self.is_router = False
        self.router = router
        self.shares_context: bool | None = None
        self.crowded_at: float | None = None
        self._state = _State()
        self._looked = 0.0

    def state(self) -> _State:
        """The latest state."""
        state = self._state
        while (following := state.next.get(None)) is not None:
            state = following
        return state

    def running(self) -> int:
        """Number of this process's requests that run on the server now."""
        return sum(not place.is_gone() for place in self.state().held)

    def enter(self, place: Place) -> None:
        """Put a place at the end of the queue; it is granted at once when there is room."""
        self._change(partial(_with_waiting, place=place))

    def settle(self) -> None:
        """Drop the places that were left, and grant what can be granted: time may have made some idle."""
        self._change(_settled)

    def look(self, place: Place) -> None:
        """Settle on behalf of a place that has waited for a while, unless another one did so just now.

        Each look takes time for all that wait, so of a thousand only the first in the queue looks at its own pace.
        """
        now = time.monotonic()
        first = next((other for other in self.state().queue if other.slot is None), place)
        if place is first or place.slot is not None or now - self._looked >= LOOK:
            self._looked = now
            self.settle()

    def crowd(self, most: int) -> list[PromptSize]:
        """Prompts that may have to wait for each other; empty where as many as there are slots fit together.

        Args:
            most: How many are looked at: those that run, and the first of the queue.
        """
        state = self.state()
        places = (*state.held, *state.queue)[:most]
        if state.context is None or not _must_fit(state, self, places):
            return []
        slots, sizes = state.size or 1, [place.prompt for place in places if place.prompt is not None]
        largest = sorted((size.needed(state.context, slots) for size in sizes), reverse=True)[:slots]
        return sizes if sum(largest) > state.context else []

    def lacks_context(self) -> bool:
        """Whether requests run here, and nobody knows how large the context is that they may share."""
        state = self.state()
        return self.shares_context is None and state.size is None and bool(state.held)

    def note_crowd(self) -> None:
        """Take note that the context was full, which shows that the slots share it."""
        self.shares_context, self.crowded_at = True, time.monotonic()

    def may_be_crowded(self) -> bool:
        """Whether a request should look for those of other processes first: the context was full a while ago."""
        if self.crowded_at is None or self.shares_context is False or self.state().divided:
            return False
        return time.monotonic() - self.crowded_at < _CROWDED_FOR

    def note_tokens(self, tokens: int) -> None:
        """Take note of how many tokens the slots hold together: more than one context has means one for each."""

        def noted(state: _State) -> _State:
            divided = state.context is not None and tokens > state.context
            return _settled(replace(state, divided=divided, next={})) if divided != state.divided else state

        self._change(noted)

    def should_ask(self, place: Place) -> bool:
        """Whether the caller has to find out the size and `resize`: some wait, and nobody is at it yet."""

        def claim(state: _State) -> _State:
            asked = state.asking is not None and not state.asking.is_gone()
            if state.size is not None or asked or len(state.held) + len(state.queue) < 2:
                return state
            return replace(state, asking=place, next={})

        self._change(claim)
        return self.state().asking is place

    def resize(self, size: int | None, context: int | None = None) -> None:
        """Set how many run at once; None when it could not be found out, so that the next one asks again.

        Args:
            size: The slots.
            context: Tokens of the context of a slot; None where it is unknown.
        """
        self._change(lambda state: _settled(replace(state, size=size, context=context, asking=None, next={})))

    def hand_over(self, gate_of: Callable[[str], Gate]) -> None:
        """Give the places of what runs to the gates of their models: the server is a router."""
        self.is_router = True
        moved = self.state().held
        for place in moved:
            place.gate = gate_of(place.model)
            place.gate._change(partial(_with_running, place=place))
        self._change(partial(_without_running, moved=moved))

    def admit(self, place: Place) -> None:
        """Let a waiting place run, whatever the limits say."""
        self._change(lambda state: _granted(state, [place]) if place in state.queue else state)

    def look_in(self) -> float | None:
        """Seconds until a slot is kept no longer; None when none is."""
        now = time.monotonic()
        return min((max(until - now, 0.0) for _, until in self.state().kept), default=None)

    def is_held_up_by_readers(self, place: Place) -> bool:
        """Whether a place that names a slot waits only for streams that nobody reads just now.

        So does one whose own thread would have to carry on what runs there.
        """
        held = [other for other in self.state().held if other.slot in (None, place.slot)]
        now = time.monotonic()
        return all(other.paused is not None or other.is_idle(now) or other.is_blocked_by(place) for other in held)

    def _change(self, change: Callable[[_State], _State]) -> None:
        while True:
            old = self.state()
            new = change(old)
            if new is old:
                return
            if old.next.setdefault(None, new) is new:
                break
        self._state = new
        if new.held is not old.held:
            before = set(old.held)
            waiting = [place for place in new.held if place.wake is not None and place not in before]
            if waiting:
                _wake(waiting)
        if new.kept and (new.kept is not old.kept or new.queue[:1] != old.queue[:1]):
            # One of those that wait looks again when the slot is kept no longer.
            _wake([place for place in new.queue if place.slot is None][:1])
        if self.router is not None and (old.held or old.queue) and not _has_foreground(new):
            for other in _models_of(self.router):
                if other is not self and _waits_in_background(other.state()):
                    other.settle()


def _with_waiting(state: _State, place: Place) -> _State:
    """The state with one more at the end of its queue."""
    place.entered = state.grants
    if _has_plenty(state, place):
        return _granted(state, [place])
    added = replace(state, queue=(*state.queue, place), next={})
    first = state.queue[0] if state.queue else None
    may_pass = first is None or first.slot is not None or (first.background and not place.background)
    may_pass = may_pass or (bool(state.kept) and place.session in dict(state.kept))
    if not may_pass and not _may_be_stuck(place, state.held):
        return added  # there is no room; looking at thousands in front for each new one would take long
    return _settled(added)


def _has_plenty(state: _State, place: Place) -> bool:
    """Whether a place may run at a glance: nobody waits, and those that run leave room, in a shared context too."""
    if state.queue or place.slot is not None or place.background or len(state.held) >= (place.limit or state.size or 1):
        return False
    if not state.held:
        return True
    if place.alone or [other for other in state.held if other.alone]:
        return False
    return not _must_fit(state, place.gate, (place, *state.held))


def _with_running(state: _State, place: Place) -> _State:
    """The state with one more that runs already."""
    return replace(state, held=(*state.held, place), next={})


def _without_running(state: _State, moved: Collection[Place]) -> _State:
    """The state without some that run, and that are in other gates now."""
    held = tuple(place for place in state.held if place not in moved)
    return _settled(replace(state, held=held, next={}))


def _settled(state: _State) -> _State:
    """The state without places that were left, and with those granted that may run."""
    # Each change looks at all of a crowd, so what can be is done without a call for each.
    if not state.queue:  # nobody needs the places of loops that were closed
        kept = [place for place in state.held if not place.left]
    else:
        kept = [place for place in state.held if not (place.left or (place.loop is not None and place.is_gone()))]
    if len(kept) < len(state.held):
        state = replace(state, held=tuple(kept), kept=_kept_after(state) if state.queue else (), next={})
    elif state.kept:
        now = time.monotonic()
        if [until for _, until in state.kept if until <= now]:
            state = replace(state, kept=tuple((one, until) for one, until in state.kept if until > now), next={})
    if [place for place in state.queue if place.left]:
        state = replace(state, queue=tuple(place for place in state.queue if not place.left), next={})
    if not state.held and not state.queue:
        # The server may be another one, or have other flags, when the next burst comes.
        known = state.size is not None or state.asking is not None
        return _State(grants=state.grants, warm=state.warm) if known else state
    grants = list(_grants(state)) if state.queue else []
    return _granted(state, grants) if grants else state


def _kept_after(state: _State) -> tuple[tuple[int, float], ...]:
    """Reservations of slots after requests have finished."""
    now = time.monotonic()
    until = dict(entry for entry in state.kept if entry[1] > now)
    for place in state.held:
        if place.left and place.returns and place.session is not None and place.counted and not place.background:
            until[place.session] = now + min(_KEPT, _KEPT_SHARE * (now - place.began))
    return tuple(until.items())


def _granted(state: _State, places: list[Place]) -> _State:
    granted, queue, now = set(places), state.queue, time.monotonic()
    for place in places:
        place.began = now
        place.returns = place.session is not None and place.session in state.warm
    if queue:
        queue = tuple([place for place in queue if place not in granted])
    ran = [place.session for place in reversed(places) if place.session is not None]
    warm = (*dict.fromkeys((*ran, *state.warm)),)[:_MOST_WARM] if ran else state.warm
    kept = tuple(entry for entry in state.kept if entry[0] not in ran) if state.kept else ()
    grants = state.grants + len(places)
    # Not `replace`, which takes several times as long: this is done for each request.
    known: Any = {"size": state.size, "context": state.context, "divided": state.divided, "asking": state.asking}
    return _State(held=(*state.held, *places), queue=queue, grants=grants, warm=warm, kept=kept, **known)


def _ordered(state: _State) -> Sequence[Place]:
    """The queue in the order in which it is to run."""
    if len(state.queue) < 2:
        return state.queue
    slots = state.size or max(1, len(state.held))
    warm = set(state.warm[:slots])

    few, many = _FEW_ROUNDS * slots, _MANY_ROUNDS * slots
    ranks = [
        0
        if place.alone or state.grants - place.entered > (many if place.background else few)
        else 3
        if place.background
        else 1
        if place.session in warm
        else 2
        for place in state.queue
    ]
    if min(ranks) == max(ranks):
        return state.queue
    return [place for _, place in sorted(zip(ranks, state.queue, strict=True), key=itemgetter(0))]


def _has_foreground(state: _State) -> bool:
    return any(not place.background and not place.is_gone() for place in (*state.held, *state.queue))


def _waits_in_background(state: _State) -> bool:
    return not state.held and any(place.background for place in state.queue)


def _is_held_back(place: Place, state: _State) -> bool:
    """Whether a background request might swap a router's model for one that others use."""
    gate = place.gate
    if not place.background or state.held or gate is None or gate.router is None:
        return False
    return any(_has_foreground(other.state()) for other in _models_of(gate.router) if other is not gate)


def _grants(state: _State) -> Iterable[Place]:
    """The places of the queue that may run now, in order."""
    now, held = time.monotonic(), list(state.held)
    active = [place for place in held if place.counted and not place.is_idle(now)]
    has_idle = len(active) < sum(place.counted for place in held)
    # What comes behind one that waits must not take from it what it waits for; beside one that is idle, only one that
    # names a slot waits, and it has to wait for more than room.
    waiting, unnamed_waits = set[int | None](), False
    threads = {place.thread for place in held}
    # Conversations that a slot is kept for, and whether one that waits is held back for them: all behind it are, too.
    kept, is_kept = {session for session, until in state.kept if until > now}, False
    for place in _ordered(state):
        if unnamed_waits and (place.slot is not None or place.loop is not None or place.thread not in threads):
            continue  # of thousands that wait, nearly all
        if is_kept and place.session not in kept:
            continue
        stuck = _may_be_stuck(place, held)
        if place.slot is None:
            waits = (unnamed_waits or (bool(waiting) and not has_idle)) and not stuck
        elif unnamed_waits:
            waits = True
        else:
            used = {other.slot for other in held} | waiting
            waits = None in used or place.slot in used
        if kept and not (waits or stuck or is_kept) and place.slot is None:
            is_kept = _is_kept_from(state, place, len(active), kept)
            if is_kept:
                continue
        if waits or not (_has_room(state, place, active, stuck) and _fits_beside(state, place, active)):
            waiting.add(place.slot)
            unnamed_waits = unnamed_waits or place.slot is None
            continue
        held.append(place)
        if place.session is not None:
            kept.discard(place.session)
        threads.add(place.thread)
        active += [place] if place.counted else []
        yield place


def _may_be_stuck(place: Place, held: Iterable[Place]) -> bool:
    """Whether a blocking request waits on a thread that something which runs needs."""
    return place.loop is None and any(place.thread == other.thread for other in held)


def _is_kept_from(state: _State, place: Place, active: int, kept: Collection[int]) -> bool:
    """Whether a place may not have what is left of the slots, because the next turn of another conversation may."""
    slots = state.size or 1
    has_waited = state.grants - place.entered > (_MANY_ROUNDS if place.background else _FEW_ROUNDS) * slots
    return not (place.session in kept or has_waited) and place.counted and active + len(kept) >= (place.limit or slots)


def _has_room(state: _State, place: Place, active: list[Place], stuck: bool) -> bool:
    alone = [other for other in active if other.alone]
    if any(not other.is_blocked_by(place) for other in alone) or _is_held_back(place, state):
        return False
    if not place.counted:
        return True
    limit = place.limit or state.size or 1
    if len(active) < limit or not stuck:
        return len(active) < limit
    return sum(not other.is_blocked_by(place) for other in active) < limit


def _fits_beside(state: _State, place: Place, active: list[Place]) -> bool:
    """Whether a prompt fits beside those that run into the context that the slots share."""
    context = state.context
    if context is None or place.prompt is None or not _must_fit(state, place.gate, (place, *active)):
        return True
    sizes = [other.prompt for other in active if other.prompt is not None and not other.is_blocked_by(place)]
    slots = state.size or 1
    return not sizes or sum(size.needed(context, slots) for size in (*sizes, place.prompt)) <= context


def _must_fit(state: _State, gate: Gate | None, places: Iterable[Place]) -> bool:
    """Whether places may run together only while their prompts fit into one context."""
    if gate is None or state.divided or gate.shares_context is False:
        return False
    return bool(gate.shares_context or [place for place in places if place.shown])


def _wake(places: Iterable[Place]) -> None:
    for place in places:
        try:
            if place.wake is not None:
                place.wake()
        except RuntimeError:  # its event loop was closed: nobody is there to use the place
            place.left = True
            if place.gate is not None:
                place.gate.settle()


_gates: dict[tuple[str, str | None], Gate] = {}
# A forked child starts with gates of its own: its parent's places are not its own.
in_forked_child(_gates.clear)


def gate_for(base_url: str, model: str | None = None) -> Gate:
    """The gate of a server.

    Args:
        base_url: In any spelling of this machine's name, with or without a port that goes without saying.
        model: Of a router, which has slots for each of its models; None for the server as a whole.
    """
    key = (_server(base_url), model)
    gate = _gates.get(key)
    if gate is None:
        if len(_gates) >= _MOST_GATES:
            _forget_unused()
        gate = _gates.setdefault(key, Gate(None if model is None or model.startswith("\0") else key[0]))
    return gate


def note_context(base_url: str, *, shared: bool | None) -> None:
    """Remember whether the slots of a server share one context, where it is known from its command line.

    Args:
        base_url: Of the server.
        shared: Whether they do; None where it is unknown.
    """
    gate = gate_for(base_url)
    gate.shares_context, gate.crowded_at = shared, None


def forget_contexts(base_url: str) -> None:
    """Forget what is known of the context of a server that went away, and of its models."""
    server = _server(base_url)
    for (name, _), gate in list(_gates.items()):
        if name == server:
            gate.shares_context = gate.crowded_at = None


def _models_of(router: str) -> list[Gate]:
    return [gate for (server, _), gate in list(_gates.items()) if server == router and gate.router is not None]


def _forget_unused() -> None:
    for key, gate in list(_gates.items()):
        if not gate.state().held and not gate.state().queue:
            _gates.pop(key, None)


def running_requests(base_url: str, model: str | None = None) -> int:
    """Number of this process's requests in a server's slots; requests without a limit are not counted."""
    gate = gate_for(base_url)
    return gate_for(base_url, model or "").running() if gate.is_router else gate.running()


@lru_cache
def _server(base_url: str) -> str:
    """One name for all the spellings of a server's address."""
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https"):
        return base_url  # a unix socket
    host = (parts.hostname or "").lower()
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"{'localhost' if is_loopback(host) else host}:{port}{parts.path}"
