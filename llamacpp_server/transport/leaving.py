"""Closes replies and connections whose reader has gone, without waiting for a lock.

A reply is left by `close`, by an error of its reader, or by the garbage collector, which may run at any bytecode: in
the middle of httpcore's pool too, whose lock is not reentrant. So whoever leaves only shuts the socket down, which
makes the server stop and free its slot, and hands the rest over to a thread that starts when there is something to
close and ends when there is nothing left.

What is open is referred to from here, not only from the generator that reads it. The collector finalises all that
is garbage in an order of its own, and httpcore's own generators take the pool's lock when they are finalised.

Streams that nobody can read any more are found as well, while they still hold slots. A web framework leaves a blocking
iterator when its client goes, but does not close it. What keeps it alive is garbage in a cycle: the exception that
ended the response, whose traceback refers to its frames (Starlette 1.10, anyio 4.16). Python's collector finds it, but
it comes after a number of allocations, and an app whose slots are all held by such streams allocates nothing. So a
helper thread runs the collector when a stream is not read for a while. A stream that survives may pause for twice as
long before it is looked at again, so a slow reader costs a collection or two. After a collection that freed nothing,
the thread rests for twice as long as it took. Where the program has switched the collector off, it stays off.
"""

from __future__ import annotations

import _thread
import gc
import os
import socket
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final

import httpx

from .forks import in_forked_child
from .place import Place


class HelperThread:
    """Starts when there is work, and ends when there is none left. Safe to start in finalisers and signal handlers.

    Args:
        has_work: Whether there is something to do.
        work: Does some of it; must not raise.
    """

    __slots__ = ("_has_work", "_turn", "_work")

    def __init__(self, has_work: Callable[[], object], work: Callable[[], None]) -> None:
        self._has_work, self._work = has_work, work
        # Whoever pops this starts the thread; it is put back when the thread ends.
        self._turn = deque[None]([None])

    def start(self) -> None:
        """Start the thread, unless it runs or there is no work."""
        # Where it runs, it looks once more after its turn is back, and finds what came before this call.
        if not self._turn or not self._has_work() or not self._is_my_turn():
            return
        try:
            # Not a `threading.Thread`, whose start takes locks.
            _thread.start_new_thread(self._run, ())
        except RuntimeError:  # the interpreter ends, or there are too many threads: the next time
            self._turn.append(None)

    def after_fork(self) -> None:
        """Forget the parent's thread, which a forked child does not have."""
        self._turn.clear()
        self._turn.append(None)

    def _is_my_turn(self) -> bool:
        try:
            self._turn.pop()
        except IndexError:
            return False
        return True

    def _run(self) -> None:
        while True:
            try:
                while self._has_work():
                    self._work()
            finally:
                self._turn.append(None)
            # What came after the last look found the turn taken.
            if not self._has_work() or not self._is_my_turn():
                return


_OPEN: Final[dict[Scope, tuple[httpx.Response, Iterator[bytes]]]] = {}
_LEFT: Final[deque[Callable[[], object]]] = deque()
# What belongs to the parent of a forked process: to close it would end the parent's requests or wait for its locks.
_OF_PARENTS: Final[list[object]] = []


class Scope:
    """The requests that end together when their caller is interrupted.

    Attributes:
        pid: The process that made it.
        stopped: Whether its programs must not go on.
    """

    __slots__ = ("pid", "stopped")

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.stopped = False

    def check(self) -> None:
        """Raise when the programs must not go on.

        Raises:
            StoppedError: When they must not.
        """
        if self.stopped:
            raise StoppedError


class StoppedError(BaseException):
    """Ends the thread of a request whose caller was interrupted; nobody sees it."""


def keep(scope: Scope, reply: httpx.Response, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The pieces of a reply, which are referred to from here until `leave`."""
    _OPEN[scope] = reply, pieces
    return pieces


def leave(scope: Scope) -> None:
    """End a reply, wherever this is called; does nothing for one that was read to its end."""
    reply, pieces = _OPEN.get(scope, (None, None))
    if reply is not None and not reply.is_closed:
        if scope.pid == os.getpid():
            shut(reply.extensions.get("network_stream"), reply.http_version)
            hand_over(lambda: _finish(reply, pieces))
        else:
            keep_for_parent((reply, pieces))
    _OPEN.pop(scope, None)


def pools_of(client: httpx.Client) -> list[Any]:
    """The pools of httpcore in a client; none where it has other transports."""
    transports = (client._transport, *client._mounts.values())
    return [pool for transport in transports if (pool := getattr(transport, "_pool", None)) is not None]


def cut(pool: Any, scope: Scope, mark: str) -> None:
    """Shut down the sockets of requests of a scope for which threads wait, so that these end.

    httpx has no way to end a request from outside of its thread, so this looks into its pool. Where that is another
    one, the requests end at their timeouts.

    Args:
        pool: Whose connections.
        scope: Whose requests.
        mark: The name under which the scope is in the extensions of a request.
    """
    for waiting in list(getattr(pool, "_requests", ())):
        if waiting.request.extensions.get(mark) is scope:
            shut_down(waiting.connection)


class Retired:
    """Pools that get no further request, for as long as a reply of theirs is read; nobody else refers to them.

    An exception that a signal handler raises may hit any line of httpcore, which may then count a connection as in use
    for good. So a pool is not used again after an interrupt. When its last reply ends, it is freed with what it has.
    Adding and looking take no lock.
    """

    __slots__ = ("_pools",)

    def __init__(self) -> None:
        self._pools = set[weakref.ref[Any]]()

    def add(self, pool: Any) -> None:
        """Note a pool that is no longer used."""
        self._pools.add(weakref.ref(pool, self._pools.discard))

    def pools(self) -> list[Any]:
        """Those of which a reply is still read."""
        return [pool for one in list(self._pools) if (pool := one()) is not None]


def hand_over(close: Callable[[], object]) -> None:
    """Have something closed in the thread that may wait for locks."""
    _LEFT.append(close)
    start()


def start() -> None:
    """Start the thread that closes what was left, unless it runs or nothing was left."""
    if _LEFT:
        _CLOSER.start()


def keep_for_parent(thing: object) -> None:
    """Never close or finalise something that is the parent process's."""
    _OF_PARENTS.append(thing)


def _close_one() -> None:
    with suppress(Exception):
        _LEFT.popleft()()


_CLOSER: Final = HelperThread(lambda: _LEFT, _close_one)


def shut_down(connection: Any) -> None:
    """End what a connection of httpcore sends and receives; whoever reads it finds its end and closes it.

    To close it here would be wrong: a thread that wakes up looks for its descriptor once more, which may be that of
    another connection by then.
    """
    shut(_network_stream(connection), "HTTP/1.1")


def release(connection: Any) -> None:
    """Close the socket of a connection that nobody can use any more. Takes no lock."""
    if (stream := _network_stream(connection)) is not None:
        with suppress(Exception):
            stream.close()


def _network_stream(connection: Any) -> Any:
    while (inner := getattr(connection, "_connection", None)) is not None:
        connection = inner  # one within another, such as that through a proxy
    return getattr(connection, "_network_stream", None)


def shut(stream: Any, version: str) -> None:
    """Shut the socket of a network stream down; that of HTTP/2 carries other requests as well, and is left alone."""
    connected = stream.get_extra_info("socket") if stream is not None and version != "HTTP/2" else None
    if connected is not None:
        with suppress(OSError):
            connected.shutdown(socket.SHUT_RDWR)


def _finish(reply: httpx.Response, pieces: Any) -> None:
    try:
        pieces.close()
    finally:
        reply.close()


# Seconds between two looks, and of a stream's first pause that counts.
_LOOK: Final = 0.1
_FIRST_PAUSE: Final = 0.15
_REST: Final = 2


class _Watched:
    """Seconds that a stream may pause before it is checked."""

    __slots__ = ("patience",)

    def __init__(self) -> None:
        self.patience = _FIRST_PAUSE


_WATCHED: Final[dict[Place, _Watched]] = {}


def watch(place: Place) -> None:
    """Have the stream of a place collected soon after it was lost."""
    _WATCHED[place] = _Watched()
    _COLLECTOR.start()


def unwatch(place: Place) -> None:
    """End that; does nothing for what was not watched. Safe in finalisers."""
    _WATCHED.pop(place, None)


def _look_for_lost() -> None:
    time.sleep(_LOOK)
    now = time.monotonic()
    # A copy in one step: others come and go meanwhile.
    paused = {place: watched for place, watched in _WATCHED.copy().items() if _has_paused(place, watched, now)}
    if not paused or not gc.isenabled():
        return
    gc.collect()
    took = time.monotonic() - now
    for watched in paused.values():
        watched.patience *= 2
    if all(place in _WATCHED for place in paused):
        time.sleep(_REST * took)


def _has_paused(place: Place, watched: _Watched, now: float) -> bool:
    since = place.paused
    return since is not None and now - since >= watched.patience


_COLLECTOR: Final = HelperThread(lambda: _WATCHED, _look_for_lost)


def _after_fork() -> None:
    keep_for_parent((dict(_OPEN), list(_LEFT)))
    _OPEN.clear()
    _LEFT.clear()
    _CLOSER.after_fork()
    _WATCHED.clear()
    _COLLECTOR.after_fork()


in_forked_child(_after_fork)
