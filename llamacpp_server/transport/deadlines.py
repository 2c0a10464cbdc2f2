"""The time by which all network work of a request must end, however the server spreads its bytes.

The timeouts of httpx bound each single read. A server that sends one header byte a second, or an endless row of `103`
responses, passes every one of them. So blocking reads and writes never wait longer than the time that is left, and
awaited ones run in a cancel scope.
"""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Final, TypeVar

import anyio

from ..errors import RequestTimeoutError

T = TypeVar("T")

_END: Final[Any] = object()
_SHORTEST: Final = 0.001
_MOMENT: Final = 0.05


class _Until(threading.local):
    """The deadline of what this thread does just now, on the monotonic clock; None where there is none."""

    deadline: float | None = None
    url: str | None = None


_until: Final = _Until()


def too_late(url: str | None = None) -> RequestTimeoutError:
    """The error for a request that took longer than its whole time."""
    return RequestTimeoutError("the reply took longer than total_timeout", url=url)


@contextmanager
def until(deadline: float | None, url: str | None = None) -> Iterator[None]:
    """Bound the network work of this thread by a deadline, and by those that hold already; `url` is for the error."""
    before = _until.deadline, _until.url
    if deadline is not None and (before[0] is None or deadline < before[0]):
        _until.deadline, _until.url = deadline, url
    try:
        yield
    finally:
        _until.deadline, _until.url = before


@asynccontextmanager
async def auntil(deadline: float | None, url: str | None = None) -> AsyncIterator[None]:
    """`until` for awaited work.

    Raises:
        RequestTimeoutError: When the work was not done by then.
    """
    if deadline is None:
        yield
        return
    with anyio.move_on_after(max(deadline - time.monotonic(), 0.0)) as scope:
        yield
    if scope.cancelled_caught:
        raise too_late(url)


def just_after(deadline: float | None) -> float | None:
    """A bound for what has deadlines of its own at that time, which know more of what failed."""
    return None if deadline is None else deadline + _MOMENT


def pieces_until(pieces: Iterator[T], deadline: float | None) -> Iterator[T]:
    """What `pieces` gives, with a deadline for each wait, but none for whoever reads them."""
    return pieces if deadline is None else _pieces_until(pieces, deadline)


def apieces_until(pieces: AsyncIterator[T], deadline: float | None) -> AsyncIterator[T]:
    """Async version of `pieces_until`."""
    return pieces if deadline is None else _apieces_until(pieces, deadline)


def _pieces_until(pieces: Iterator[T], deadline: float) -> Iterator[T]:
    while True:
        with until(deadline):
            piece = next(pieces, _END)
        if piece is _END:
            return
        yield piece


async def _apieces_until(pieces: AsyncIterator[T], deadline: float) -> AsyncIterator[T]:
    while True:
        async with auntil(deadline):
            piece = await anext(pieces, _END)
        if piece is _END:
            return
        yield piece


def bound(client: Any) -> None:
    """Make the connections that a blocking client of httpx opens from now on observe the deadline of their thread.

    httpx has no argument for httpcore's network backend, so it is put around the one that is there. Transports of
    another kind, such as mocks, stay as they are.
    """
    for transport in (getattr(client, "_transport", None), *getattr(client, "_mounts", {}).values()):
        pool = getattr(transport, "_pool", None)
        backend = getattr(pool, "_network_backend", None)
        if backend is not None and not isinstance(backend, _Backend):
            with suppress(AttributeError):
                pool._network_backend = _Backend(backend)  # type: ignore[union-attr]  # httpcore's pools have one


class _Backend:
    """Opens connections whose reads and writes observe the deadline of their thread."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def connect_tcp(self, *args: Any, timeout: float | None = None, **kwargs: Any) -> Any:
        """A connection to a host."""
        with _timely(timeout) as left:
            return _Connection(self._inner.connect_tcp(*args, timeout=left, **kwargs))

    def connect_unix_socket(self, *args: Any, timeout: float | None = None, **kwargs: Any) -> Any:
        """A connection to a unix socket."""
        with _timely(timeout) as left:
            return _Connection(self._inner.connect_unix_socket(*args, timeout=left, **kwargs))


class _Connection:
    """A connection of httpcore whose reads and writes observe the deadline of their thread."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def read(self, max_bytes: int, timeout: float | None = None) -> Any:
        """Some bytes."""
        if _until.deadline is None:
            return self._inner.read(max_bytes, timeout)
        with _timely(timeout) as left:
            return self._inner.read(max_bytes, left)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of the bytes."""
        with _timely(timeout) as left:
            self._inner.write(buffer, left)

    def start_tls(self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None) -> Any:
        """The connection, encrypted. httpcore gives the arguments by position and by name."""
        with _timely(timeout) as left:
            return _Connection(self._inner.start_tls(ssl_context, server_hostname, left))


@contextmanager
def _timely(timeout: float | None) -> Iterator[float | None]:
    """A timeout that ends with the deadline at the latest; the error of a wait that ended with it says so."""
    deadline = _until.deadline
    if deadline is None:
        yield timeout
        return
    left = deadline - time.monotonic()
    if left <= 0:
        raise too_late(_until.url)
    try:
        yield left if timeout is None else min(timeout, left)
    except Exception:
        if time.monotonic() >= deadline - _SHORTEST:
            raise too_late(_until.url) from None
        raise
