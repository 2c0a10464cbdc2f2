"""The one module that touches the network: a sync and an async shell that carry out programs.

What is decided (retry or not, ready or not, which error, where an event ends) is decided in pure modules beside this
one. Here are sockets and sleeping. The shells are siblings and a test keeps them the same program.
"""

from __future__ import annotations

import atexit
import os
import ssl
import threading
import time
import weakref
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AbstractContextManager, suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Final, Self, TypeVar, cast
from weakref import WeakKeyDictionary, WeakSet

import anyio
import httpx

from .._frames import clear_frames
from ..errors import LlamaServerError, RequestTimeoutError
from ..settings import split_unix
from .bodies import abounded, apieces, bounded, pieces
from .concurrency import arun_all, awork, run_all, work
from .deadlines import apieces_until, auntil, pieces_until, too_late, until
from .effects import Admit, Effect, Enter, Program, Read, Relay, Running, Send, Together, Work, passed, relayed
from .event_loops import current_loop
from .exchange import deadline_in
from .forks import in_forked_child
from .gate import LOOK, Ticket
from .httpx_errors import error_for, failures, stream_error
from .httpx_setup import (
    SCOPE,
    OwnAsyncClient,
    OwnClient,
    SeparateCookies,
    asked_url,
    build,
    connection_kind,
    drop_oldest,
    is_single,
    limits,
    load_backend,
    options,
    refuse_unix_socket,
)
from .kept_connections import drop_if_more_came
from .leaving import Retired, Scope, cut, hand_over, keep, keep_for_parent, leave, pools_of, unwatch, watch
from .leaving import start as close_what_was_left
from .place import PATIENCE

__all__ = ["AsyncTransport", "Transport"]

T = TypeVar("T")

# Process, and the way: "near" (this machine), "far" (perhaps through a proxy), a unix socket; "foreign" is no server.
# Whether each request gets a connection of its own, and how certificates are checked.
_Key = tuple[int, str, bool, bool | ssl.SSLContext]
_Clients = dict[_Key, httpx.AsyncClient]
_Loops = WeakKeyDictionary[Any, _Clients]


class Transport:
    """Carries out programs with blocking calls. Safe to use from several threads, after a fork, and pickled.

    Args:
        http_client: Used instead of clients of our own, and never closed by us. Its timeouts are overridden.
    """

    def __init__(self, http_client: httpx.Client | None = None) -> None:
        load_backend()
        self._given = http_client
        self._cookies = SeparateCookies()
        self._clients: dict[_Key, httpx.Client] = {}
        self._retired = Retired()
        self._renew()
        # A model that is dropped without a word leaves no socket open. This may come while a lock is held.
        weakref.finalize(self, _leave_all, self._clients).atexit = False
        _TRANSPORTS.add(self)

    def __reduce__(self) -> tuple[Any, ...]:
        _refuse_given(self._given)
        return type(self), (None,)

    def __deepcopy__(self, memo: object) -> Self:
        return type(self)(self._given)

    def uses(self, http_client: object) -> bool:
        """Whether these are the connections of a caller's client, or of our own for None."""
        return self._given is http_client

    def run(self, program: Program[T], scope: Scope | None = None) -> T:
        """The result of a program; its requests are those of `scope`."""
        scope, running = Scope() if scope is None else scope, Running(program)
        try:
            while (effect := running.next()) is not None:
                self._carry_out(effect, running, scope)
            return running.value
        except LlamaServerError as error:
            clear_frames(error)
            raise
        except BaseException as error:
            # Interrupted: a reply may be open that the program does not know yet.
            _end_requests(self, scope)
            clear_frames(error)
            raise
        finally:
            # The program gives back what it holds.
            program.close()

    def stream(self, program: Program[object], scope: Scope | None = None) -> Iterator[Any]:  # noqa: C901, PLR0912 (as below)
        """Yield what a program relays, as it arrives. Closing it closes the connection, which stops the server."""
        scope, running = Scope() if scope is None else scope, Running(program)
        try:
            while (effect := running.next()) is not None:
                if not isinstance(effect, Relay):
                    self._carry_out(effect, running, scope)
                    continue
                reply, decoder, place = cast(httpx.Response, effect.reply), effect.decoder, effect.ticket.place
                feed, aside_of, collected = decoder.feed, effect.watch, effect.collected
                watch(place)
                try:
                    chunks = pieces_until(keep(scope, reply, pieces(reply)), effect.deadline, effect.first_token)
                    try:
                        for data in chunks:
                            deltas = feed(data)
                            if aside_of is not None and (aside := aside_of(deltas)) is not None:
                                self.run(aside)
                            place.paused = time.monotonic()
                            yield from passed(deltas, collected)
                            place.paused, place.thread = None, threading.get_ident()
                            if decoder.over:
                                break
                    except failures(RequestTimeoutError):
                        if not decoder.is_done:
                            raise
                    place.paused = time.monotonic()
                    yield from passed(decoder.close(), collected)
                except failures(LlamaServerError) as failed:
                    running.error = stream_error(failed, reply, decoder)
                finally:
                    # This may run in a finaliser, at any place of the program: no lock may be taken here.
                    place.left = True
                    unwatch(place)
                    leave(scope)
        except GeneratorExit:
            raise
        except LlamaServerError as error:
            clear_frames(error)
            raise
        except BaseException as error:
            _end_requests(self, scope)
            clear_frames(error)
            raise
        finally:
            program.close()

    def turn(self) -> AbstractContextManager[Any]:
        """A lock for what need not be asked by many at once; the thread that has it may take it again."""
        return self._turn

    def close(self) -> None:
        """Closes the connections of our own. The transport can be used again afterwards."""
        with self._lock:
            clients = dict(self._clients)
            self._clients.clear()
        _close_all(clients)
        for pool in self._retired.pools():
            pool.close()

    def after_fork(self) -> None:
        """Leave the parent's connections and locks alone."""
        keep_for_parent((dict(self._clients), self._retired.pools()))
        self._clients.clear()
        self._retired = Retired()
        self._renew()

    def _renew(self) -> None:
        # Reentrant: a signal handler may ask the model while this very thread holds one.
        self._lock, self._turn = threading.RLock(), threading.RLock()

    def _carry_out(self, effect: Effect, running: Running[Any], scope: Scope) -> None:
        scope.check()
        try:
            with until(running.bound.deadline, running.bound.url):
                running.result = self._perform(effect, scope)
        except failures(LlamaServerError) as failed:
            running.error = error_for(failed, effect)

    def _perform(self, effect: Effect, scope: Scope) -> Any:  # noqa: PLR0911 (one for each effect)
        if isinstance(effect, Send):
            return self._send(effect, scope)
        if isinstance(effect, Read):
            return b"".join(bounded(cast(httpx.Response, effect.reply), effect))
        if isinstance(effect, Enter | Admit):
            return admit(effect, scope)
        if isinstance(effect, Together):
            return run_all(self.run, effect, partial(_end_requests, self))
        if isinstance(effect, Work):
            return work(effect.function)
        if isinstance(effect, Relay):
            return deque(self.stream(relayed(effect), scope), 0)
        return time.sleep(effect.seconds)

    def _send(self, effect: Send, scope: Scope) -> httpx.Response:
        close_what_was_left()
        client = self._client(effect)
        request = build(client, effect, self._cookies.sent_with(effect), scope)
        with until(effect.deadline, asked_url(effect), effect.limit):
            reply = client.send(request, stream=True, follow_redirects=False)
        self._cookies.keep(effect, reply)
        drop_if_more_came(reply)
        return reply

    def _client(self, send: Send) -> httpx.Client:
        socket = split_unix(send.url)[1]
        if self._given is not None and not send.foreign:
            return refuse_unix_socket(self._given, socket)
        # A forked child must not share its parent's sockets.
        key = (os.getpid(), socket or connection_kind(send), is_single(send), send.verify)
        client = self._clients.get(key)
        if client is None:
            with self._lock:
                client = self._clients.get(key)
                if client is None:
                    uds = None if socket is None else httpx.HTTPTransport(uds=socket, limits=limits(key[2]))
                    client = OwnClient(transport=uds, **options(key))
                    self._clients[key] = client
                    drop_oldest(self._clients)
        return client


class AsyncTransport:
    """Carries out programs with awaits, on asyncio and trio; one set of connections for each event loop.

    Args:
        http_client: Used instead of clients of our own, and never closed by us. Its timeouts are overridden.
    """

    def __init__(self, http_client: httpx.AsyncClient | None = None) -> None:
        load_backend()
        self._given = http_client
        self._cookies = SeparateCookies()
        self._renew()
        _TRANSPORTS.add(self)

    def __reduce__(self) -> tuple[Any, ...]:
        _refuse_given(self._given)
        return type(self), (None,)

    def __deepcopy__(self, memo: object) -> Self:
        return type(self)(self._given)

    def uses(self, http_client: object) -> bool:
        """Whether these are the connections of a caller's client, or of our own for None."""
        return self._given is http_client

    async def run(self, program: Program[T]) -> T:
        """The result of a program."""
        running = Running(program)
        try:
            while (effect := running.next()) is not None:
                await self._carry_out(effect, running)
            return running.value
        except Exception as error:
            clear_frames(error)
            raise
        finally:
            # The program gives back what it holds.
            program.close()

    async def stream(self, program: Program[object]) -> AsyncIterator[Any]:  # noqa: C901, PLR0912 (one flow)
        """Yield what a program relays, as it arrives. Closing it closes the connection, which stops the server."""
        running = Running(program)
        try:
            while (effect := running.next()) is not None:
                if not isinstance(effect, Relay):
                    await self._carry_out(effect, running)
                    continue
                reply, decoder, place = cast(httpx.Response, effect.reply), effect.decoder, effect.ticket.place
                feed, aside_of, collected = decoder.feed, effect.watch, effect.collected
                watch(place)
                try:
                    try:
                        async for data in apieces_until(apieces(reply), effect.deadline, effect.first_token):
                            deltas = feed(data)
                            if aside_of is not None and (aside := aside_of(deltas)) is not None:
                                await self.run(aside)
                            place.paused = time.monotonic()
                            for delta in passed(deltas, collected):
                                yield delta
                            place.paused = None
                            if decoder.over:
                                break
                    except failures(RequestTimeoutError):
                        if not decoder.is_done:
                            raise
                    place.paused = time.monotonic()
                    for delta in passed(decoder.close(), collected):
                        yield delta
                except failures(LlamaServerError) as failed:
                    running.error = stream_error(failed, reply, decoder)
                finally:
                    unwatch(place)
                    await reply.aclose()
        except Exception as error:
            clear_frames(error)
            raise
        finally:
            program.close()

    def turn(self) -> anyio.Lock:
        """A lock of this event loop, for what need not be asked by many at once."""
        with self._lock:
            return self._turns.setdefault(current_loop(), anyio.Lock())

    async def aclose(self) -> None:
        """Closes the connections of this event loop. The transport can be used again afterwards."""
        with self._lock:
            _forget_closed_loops(self)
            keeper = self._keepers.pop(current_loop(), None)
        if keeper is not None:
            await keeper.aclose()

    def after_fork(self) -> None:
        """Leave the parent's connections and locks alone."""
        keep_for_parent((self._loops, self._turns, self._keepers))
        self._renew()

    def _renew(self) -> None:
        self._lock = threading.RLock()
        self._loops: _Loops = WeakKeyDictionary()
        self._turns: WeakKeyDictionary[Any, anyio.Lock] = WeakKeyDictionary()
        self._keepers: WeakKeyDictionary[Any, AsyncGenerator[None]] = WeakKeyDictionary()

    async def _carry_out(self, effect: Effect, running: Running[Any]) -> None:
        # A reply ends at its own deadline, with what had come. A busy event loop would find both deadlines passed at
        # once, and cancel all of it.
        deadline = None if isinstance(effect, Relay) and effect.deadline is not None else running.bound.deadline
        try:
            async with auntil(deadline, running.bound.url):
                running.result = await self._perform(effect)
        except failures(LlamaServerError) as failed:
            running.error = error_for(failed, effect)

    async def _perform(self, effect: Effect) -> Any:  # noqa: PLR0911 (one for each effect)
        if isinstance(effect, Send):
            return await self._send(effect)
        if isinstance(effect, Read):
            return b"".join([data async for data in abounded(cast(httpx.Response, effect.reply), effect)])
        if isinstance(effect, Enter | Admit):
            return await aadmit(effect)
        if isinstance(effect, Together):
            return await arun_all(self.run, effect)
        if isinstance(effect, Work):
            return await awork(effect.function)
        if isinstance(effect, Relay):
            return [delta async for delta in self.stream(relayed(effect))]
        return await anyio.sleep(effect.seconds)

    async def _send(self, effect: Send) -> httpx.Response:
        client = self._client(effect)
        request = build(client, effect, self._cookies.sent_with(effect))
        async with auntil(effect.deadline, asked_url(effect), effect.limit):
            reply = await client.send(request, stream=True, follow_redirects=False)
        self._cookies.keep(effect, reply)
        drop_if_more_came(reply)
        return reply

    def _client(self, send: Send) -> httpx.AsyncClient:
        socket = split_unix(send.url)[1]
        if self._given is not None and not send.foreign:
            return refuse_unix_socket(self._given, socket)
        # Sockets belong to the event loop that opened them, and a forked child must not share its parent's.
        loop = current_loop()
        key = (os.getpid(), socket or connection_kind(send), is_single(send), send.verify)
        with self._lock:
            clients = self._loops.get(loop)
            if clients is None:
                _forget_closed_loops(self)
                clients = self._loops[loop] = {}
                self._keepers[loop] = _keeper(clients, weakref.ref(self))
            client = clients.get(key)
            if client is None:
                uds = None if socket is None else httpx.AsyncHTTPTransport(uds=socket, limits=limits(key[2]))
                client = OwnAsyncClient(transport=uds, **options(key))
                clients[key] = client
                drop_oldest(clients)
        return client


def _end_requests(transport: Transport, scope: Scope) -> None:
    """Ends the requests of a scope, in whatever thread they wait. Later requests get a new pool."""
    clients = transport._clients
    for key in list(clients):
        client = clients.pop(key, None)  # another thread may be interrupted as well
        for pool in () if client is None else pools_of(client):
            transport._retired.add(pool)
    given = () if transport._given is None else pools_of(transport._given)
    for pool in (*transport._retired.pools(), *given):
        cut(pool, scope, SCOPE)


def _close_all(clients: dict[_Key, httpx.Client]) -> None:
    for client in clients.values():
        client.close()


def _leave_all(clients: dict[_Key, httpx.Client]) -> None:
    own = {key: client for key, client in clients.items() if key[0] == os.getpid()}
    if own:
        hand_over(partial(_close_all, own))


def _at_exit() -> None:
    for transport in list(_TRANSPORTS):
        if isinstance(transport, Transport):
            transport.close()


def _after_fork() -> None:
    for transport in list(_TRANSPORTS):
        transport.after_fork()


_TRANSPORTS: Final[WeakSet[Transport | AsyncTransport]] = WeakSet()
atexit.register(_at_exit)
in_forked_child(_after_fork)


def _refuse_given(http_client: object) -> None:
    if http_client is not None:
        raise TypeError("a custom http_client can't be pickled; leave it out, or set headers and verify instead")


def _forget_closed_loops(transport: AsyncTransport) -> None:
    """A keeper refers to its loop, so a loop that was closed without its keeper would be kept for ever."""
    for loop in [loop for loop in transport._keepers if hasattr(loop, "is_closed") and loop.is_closed()]:
        _forget(transport, loop)


def _forget(transport: AsyncTransport, loop: Any) -> None:
    for table in (transport._loops, transport._turns, transport._keepers):
        table.pop(loop, None)


def _keeper(clients: _Clients, transport: weakref.ref[AsyncTransport]) -> AsyncGenerator[None]:
    """Closes clients when it is closed, which an event loop does with its generators before it ends.

    So `asyncio.run` leaves no open sockets behind, though nobody called `aclose`.
    """

    async def keeper() -> AsyncGenerator[None]:
        try:
            yield
        finally:
            if (owner := transport()) is not None:
                _forget(owner, current_loop())
            for client in clients.values():
                await client.aclose()

    started = keeper()
    with suppress(StopIteration):
        started.__anext__().send(None)  # runs up to its yield; that is when the loop takes note of it
    return started


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
            ticket.gate.look(ticket.place)
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
    ticket, deadline, loop = effect.ticket, deadline_in(effect.timeout), current_loop()
    in_loop = getattr(loop, "call_soon_threadsafe", None) or loop.run_sync_soon
    while not ticket.granted:
        event = anyio.Event()
        ticket.place.wake = partial(in_loop, event.set)
        if ticket.granted:  # before there was a way to wake this one
            break
        with anyio.move_on_after(_next_look(ticket, deadline)) as scope:
            await event.wait()
        if scope.cancelled_caught:
            ticket.gate.look(ticket.place)
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
    # Of many that wait, each looks more seldom: a thousand together still do so all the time.
    seconds = LOOK * (1 + len(ticket.gate.state().queue) / 250) if ticket.place.slot is None else PATIENCE
    if ticket.place.slot is None and (kept := ticket.gate.look_in()) is not None:
        seconds = min(seconds, kept)
    return seconds if deadline is None else max(min(seconds, deadline - time.monotonic()), 0.0)
