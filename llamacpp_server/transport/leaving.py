"""Closes replies and connections whose reader has gone, without waiting for a lock.

A reply is left by `close`, by an error of its reader, or by the garbage collector, which may run at any bytecode: in
the middle of httpcore's pool too, whose lock is not reentrant. So whoever leaves only shuts the socket down, which
makes the server stop and free its slot, and hands the rest over to a thread that starts when there is something to
close and ends when there is nothing left.

What is open is referred to from here, not only from the generator that reads it. The collector finalises all that
is garbage in an order of its own, and httpcore's own generators take the pool's lock when they are finalised.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final

import httpx

from .helper_thread import HelperThread

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


def cut(client: httpx.Client, scope: Scope, mark: str) -> None:
    """Shut down the sockets of requests of a scope for which threads wait, so that these end.

    httpx has no way to end a request from outside of its thread, so this looks into its pool. Where that is another
    one, the requests end at their timeouts.

    Args:
        client: Whose connections.
        scope: Whose requests.
        mark: The name under which the scope is in the extensions of a request.
    """
    for transport in (client._transport, *client._mounts.values()):
        pool: Any = getattr(transport, "_pool", None)
        for waiting in list(getattr(pool, "_requests", ())):
            if waiting.request.extensions.get(mark) is scope:
                shut_down(waiting.connection)


def hand_over(close: Callable[[], object]) -> None:
    """Have something closed in the thread that may wait for locks."""
    _LEFT.append(close)
    start()


def start() -> None:
    """Start the thread that closes what was left, unless it runs or nothing was left."""
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
    while (inner := getattr(connection, "_connection", None)) is not None:
        connection = inner  # one within another, such as that through a proxy
    shut(getattr(connection, "_network_stream", None), "HTTP/1.1")


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


def _after_fork() -> None:
    keep_for_parent((dict(_OPEN), list(_LEFT)))
    _OPEN.clear()
    _LEFT.clear()
    _CLOSER.after_fork()


os.register_at_fork(after_in_child=_after_fork)
