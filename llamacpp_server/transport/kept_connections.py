"""Connections that httpx keeps: none is closed while a thread waits for its reply, and none is reused with a rest.

httpcore's pool (1.0.9) looks through its connections for each request, in the thread of that request. Whether one has
expired are two looks: is it idle, and is its socket readable? When another thread begins its request in between, the
socket is readable because the reply has come, and the pool closes the connection under it. Linux doesn't wake the
`poll` of a closed descriptor, so that thread hangs until its read timeout. The same holds for connections that are
closed because there are more than `max_keepalive_connections` (encode/httpcore#1110), and when another thread closes
the client: then the socket is shut down first, so that those who wait get an error.

And a connection on which more bytes came than belong to the reply is dropped. A reply whose `Content-Length` is too
short leaves the rest of its body behind, and a server may send anything after the end. httpcore does not reuse an idle
connection whose socket is readable, but it does not see what was received already: that would be read as the reply to
the next request. No request is lost by dropping the connection, since the next one has not begun. httpx shows none of
those buffers, so this looks behind it. Where they are not found (another transport, another version), everything is as
httpx has it.
"""

from __future__ import annotations

import socket
import ssl
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Final, cast

import httpx

from .leaving import release, shut, shut_down


def guard(pool: Any) -> None:
    """Have a pool of httpcore (or httpcore2) open connections that are closed only while no request is on them.

    It gets a subclass of its class: attributes of its own that refer to it would leave it to the garbage collector.
    """
    if not isinstance(pool, _Guarded):
        pool.__class__ = _guarded(cast(Any, type(pool)))
        if not pool._requests and not pool._connections:  # nobody holds it yet
            # httpcore takes its lock in Python code, and an interrupt behind that line would leave it held for good.
            pool._optional_thread_lock = threading.Lock()


class _Guarded:
    """Marker class of guarded pools."""


@lru_cache(maxsize=8)
def _guarded(cls: Any) -> type[Any]:
    """The guarded subclass of a class of pools."""
    refused = sys.modules[cls.__module__.partition(".")[0]].ConnectionNotAvailable

    def create_connection(pool: Any, origin: Any) -> Any:
        return _Kept(cls.create_connection(pool, origin), pool, refused)

    def close(pool: Any) -> None:
        pool._ends = True
        cls.close(pool)

    return type(cls.__name__, (_Guarded, cls), {"_ends": False, "create_connection": create_connection, "close": close})


class _Kept:
    """A connection for which beginning a request and deciding to close it exclude each other."""

    def __init__(self, inner: Any, pool: Any, refused: type[Exception]) -> None:
        self._inner, self._pool, self._refused = inner, weakref.ref(pool), refused
        self._lock = threading.Lock()
        self._beginning, self._retired = set[object](), False
        # What the pool asks of each connection, several times for each request.
        self.is_closed, self.is_idle, self.can_handle_request = inner.is_closed, inner.is_idle, inner.can_handle_request

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __repr__(self) -> str:
        return repr(self._inner)

    def __del__(self) -> None:
        # Freed with a pool that was let go after an interrupt; after `close` there is nothing left to do.
        release(self._inner)

    def handle_request(self, request: Any) -> Any:
        """Send a request and receive the head of its reply; the pool looks for another connection if this can't."""
        mark = object()
        try:
            try:
                with self._lock:
                    if self._retired:
                        raise self._refused
                    self._beginning.add(mark)
                return self._inner.handle_request(request)
            finally:
                self._beginning.discard(mark)  # in one step: an interrupt leaves no request behind
        except Exception:
            raise
        except BaseException:
            # An interrupt may come when the reply is there, and the pool forgets the request: nobody would end it.
            # And it may leave a lock of the connection held, so no other request begins on that.
            self._retired = True
            shut_down(self._inner)
            raise

    def has_expired(self) -> bool:
        """Whether the pool must close it; if so, no request begins on it any more."""
        with self._lock:
            if self._beginning or not (self._inner.has_expired() or (self._retired and self._inner.is_idle())):
                return False
            self._retired = True
            return True

    def is_available(self) -> bool:
        """Whether another request may begin on it; never where no connection is kept."""
        kept = getattr(self._pool(), "_max_keepalive_connections", 1) != 0
        return kept and not self._retired and self._inner.is_available()

    def close(self) -> None:
        """Close it; or give it back to the pool if a request has begun since the pool found it idle.

        When the pool itself ends, so do the requests; the pool closes what becomes idle after that.
        """
        pool = self._pool()
        if pool is not None and self._is_busy():
            if pool._ends:
                self._retired = True
                shut_down(self._inner)
            with pool._optional_thread_lock:
                pool._connections.append(self)
            if not (pool._ends and self._inner.is_idle()):  # otherwise it became so before the pool could see it
                return
        self._inner.close()

    def _is_busy(self) -> bool:
        """Whether a request is on it; if not, none begins any more."""
        with self._lock:
            busy = bool(self._beginning) or not (self._inner.is_idle() or self._inner.is_closed())
            self._retired = self._retired or not busy
            return busy


# From a reply of httpx to the state of h11, each the first that is there, and from a stream of httpcore to a socket.
_TO_PARSER: Final = ("_h11_state", "_connection", "_httpcore_stream", "_stream")
_TO_SOCKET: Final = ("_stream", "transport_stream")
_DEPTH: Final = 8


def drop_if_more_came(reply: Any) -> None:
    """Have a reply check, when it is closed, that its connection holds nothing more; else nobody uses that again."""
    if (network := reply.extensions.get("network_stream")) is not None:
        kind: Any = type(reply.stream)
        checked = _checked(kind, library_of(type(reply)))
        reply.stream = checked(reply.stream, network, reply.http_version)


class _Checked:
    """The stream of a reply. Only its closing is ours; iterating it costs nothing more."""

    _has_queue = False
    """Whether it may be of an event loop, which receives on its own."""

    def __init__(self, stream: Any, network: Any, version: str) -> None:
        self._stream, self._network, self._version = stream, network, version

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._stream)

    def __aiter__(self) -> Any:
        return self._stream.__aiter__()

    def close(self) -> None:
        self._check()
        self._stream.close()

    async def aclose(self) -> None:
        self._check()
        await self._stream.aclose()

    def _check(self) -> None:
        # Before the connection goes back to the pool: a socket that was shut down is readable, and so not reused.
        if self._version == "HTTP/2":
            return
        if _has_more(self._stream, self._network) or (self._has_queue and _has_queued(self._network)):
            shut(self._network, self._version)


@lru_cache(maxsize=16)
def _checked(stream: Any, library: Any) -> type[Any]:
    """The checked form of a class of streams. Recorders such as vcrpy have one that is of both kinds."""
    bases = [base for base in (library.SyncByteStream, library.AsyncByteStream) if issubclass(stream, base)]
    return type("_Checked", (_Checked, *bases), {"_has_queue": library.AsyncByteStream in bases})


def _has_more(stream: Any, network: Any) -> bool:
    """Whether bytes were received that are no part of the reply: by the parser, or by OpenSSL."""
    part = stream
    for _ in range(_DEPTH):
        if part is None:
            break
        if (trailing := getattr(part, "trailing_data", None)) is not None:
            if trailing[0]:
                return True
            break
        part = _inner(part, _TO_PARSER)
    return _has_more_encrypted(network)


def _has_queued(network: Any) -> bool:
    """Whether bytes were received that nobody has read from an asyncio connection of anyio."""
    part = network
    for _ in range(_DEPTH):
        if part is None:
            break
        if getattr(getattr(part, "_protocol", None), "read_queue", ()):
            return True
        part = _inner(part, _TO_SOCKET)
    return False


def _has_more_encrypted(network: Any) -> bool:
    # OpenSSL reads ahead, and tells only by a read what it has.
    encrypted = network.get_extra_info("ssl_object")
    if encrypted is None:
        return False
    if isinstance(connected := network.get_extra_info("socket"), socket.socket):
        connected.settimeout(0)  # those of event loops have no timeout
    try:
        encrypted.read(1)
    except ssl.SSLWantReadError:
        return False
    except (OSError, ValueError):
        return True
    return True


def _inner(part: Any, names: tuple[str, ...]) -> Any:
    for name in names:
        if (inner := getattr(part, name, None)) is not None:
            return inner
    return None


def _library_of(client: type[Any]) -> Any:
    """The library that a class of clients or errors is from: httpx, or httpx2, which has the same names."""
    roots = [cls.__module__.partition(".")[0] for cls in client.__mro__]
    return httpx2 if "httpx2" in roots and (httpx2 := sys.modules.get("httpx2")) is not None else httpx


library_of: Final[Callable[[Any], Any]] = lru_cache(maxsize=64)(_library_of)
