"""The time by which all network work of a request must end, however the server spreads its bytes.

The timeouts of httpx bound each single read. A server that sends one header byte a second, or an endless row of `103`
responses, passes every one of them. So blocking reads and writes never wait longer than the time that is left, and
awaited ones run in a cancel scope.
"""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
    nullcontext,
    suppress,
)
from typing import Any, Final, TypeVar

import anyio

from .._replies import DeltaFilter, has_token
from ..errors import RequestTimeoutError, TimeLimit
from .kept_connections import guard

T = TypeVar("T")

_END: Final[Any] = object()
_SHORTEST: Final = 0.001
_MOMENT: Final = 0.05
_NONE: Final = (None,)
# Most requests have no deadline, and a generator as a context takes as long as some of their steps.
_NOTHING: Final = nullcontext()


class _Until(threading.local):
    """The deadline of what this thread does just now, on the monotonic clock; None where there is none."""

    url: str | None = None
    limit: TimeLimit = "total_timeout"
    deadline: float | None = None


_until: Final = _Until()

_SLOTS: Final = "or start the server with more slots (-np)"
_EXCEEDED: Final[dict[TimeLimit, tuple[str, str | None]]] = {
    "read_timeout": (
        "the server sent nothing for longer than read_timeout",
        f"raise read_timeout, {_SLOTS}; a queued request receives nothing",
    ),
    "first_token_timeout": (
        "no token came within first_token_timeout",
        f"raise first_token_timeout, shorten the prompt, {_SLOTS}; it includes waiting for a slot and "
        "processing the prompt",
    ),
    "total_timeout": ("the reply took longer than total_timeout", None),
}


def too_late(url: str | None = None, limit: TimeLimit = "total_timeout") -> RequestTimeoutError:
    """The error for a request that took longer than one of its limits."""
    words, remedy = _EXCEEDED[limit]
    return RequestTimeoutError(words, url=url, remedy=remedy, limit=limit)


def until(
    deadline: float | None, url: str | None = None, limit: TimeLimit = "total_timeout"
) -> AbstractContextManager[None]:
    """Bound the network work of this thread by a deadline, and by those that hold already.

    Args:
        deadline: Time on the monotonic clock; None sets none.
        url: For the error.
        limit: The setting that the deadline comes from.
    """
    return _NOTHING if deadline is None else _until_then(deadline, url, limit)


@contextmanager
def _until_then(deadline: float, url: str | None, limit: TimeLimit) -> Iterator[None]:
    before = _until.deadline, _until.url, _until.limit
    if before[0] is None or deadline < before[0]:
        _until.deadline, _until.url, _until.limit = deadline, url, limit
    try:
        yield
    finally:
        _until.deadline, _until.url, _until.limit = before


def auntil(
    deadline: float | None, url: str | None = None, limit: TimeLimit = "total_timeout"
) -> AbstractAsyncContextManager[None]:
    """`until` for awaited work.

    Raises:
        RequestTimeoutError: When the work was not done by then.
    """
    return _NOTHING if deadline is None else _auntil_then(deadline, url, limit)


@asynccontextmanager
async def _auntil_then(deadline: float, url: str | None, limit: TimeLimit) -> AsyncIterator[None]:
    with anyio.move_on_after(max(deadline - time.monotonic(), 0.0)) as scope:
        yield
    if scope.cancelled_caught:
        raise too_late(url, limit)


class FirstToken(DeltaFilter[Any]):
    """The limits of a stream whose first token has one of its own. Sees the deltas, to know when it has come.

    Args:
        timeout: `first_token_timeout`.
        read_timeout: Longest silence after the first token; None sets none.
    """

    def __init__(self, timeout: float, read_timeout: float | None) -> None:
        self.silence = None if read_timeout is None else max(timeout, read_timeout)
        """Longest silence that may come at any time, for what can't tell one from another."""
        self._timeout, self._read_timeout = timeout, read_timeout
        self._came = False
        self.sent()

    def sent(self) -> None:
        """Begin: a request is being sent."""
        self.deadline = time.monotonic() + self._timeout

    def add(self, deltas: list[Any]) -> list[Any]:
        """The deltas as they are."""
        self._came = self._came or any(map(has_token, deltas))
        return deltas

    def limit(self) -> tuple[float | None, None, TimeLimit]:
        """Arguments of `until` for the next wait."""
        if not self._came:
            return self.deadline, None, "first_token_timeout"
        return None if self._read_timeout is None else time.monotonic() + self._read_timeout, None, "read_timeout"


def just_after(deadline: float | None) -> float | None:
    """A bound for what has deadlines of its own at that time, which know more of what failed."""
    return None if deadline is None else deadline + _MOMENT


def pieces_until(pieces: Iterator[T], deadline: float | None, first: FirstToken | None = None) -> Iterator[T]:
    """Yield from `pieces` with a deadline for each wait, but not for the reader."""
    return pieces if deadline is None and first is None else _pieces_until(pieces, deadline, first)


def apieces_until(
    pieces: AsyncIterator[T], deadline: float | None, first: FirstToken | None = None
) -> AsyncIterator[T]:
    """Async version of `pieces_until`."""
    return pieces if deadline is None and first is None else _apieces_until(pieces, deadline, first)


def _pieces_until(pieces: Iterator[T], deadline: float | None, first: FirstToken | None) -> Iterator[T]:
    while True:
        with until(deadline), until(*_NONE if first is None else first.limit()):
            piece = next(pieces, _END)
        if piece is _END:
            return
        yield piece


async def _apieces_until(
    pieces: AsyncIterator[T], deadline: float | None, first: FirstToken | None
) -> AsyncIterator[T]:
    while True:
        async with auntil(deadline), auntil(*_NONE if first is None else first.limit()):
            piece = await anext(pieces, _END)
        if piece is _END:
            return
        yield piece


def bound(client: Any) -> None:
    """Make the connections that a blocking client of httpx opens from now on observe the deadline of their thread.

    Nor are they closed under a request (see `kept_connections`). httpx has no argument for httpcore's network backend
    or pool, so this is put around those that are there. Transports of another kind, such as mocks, stay as they are.
    """
    for transport in (getattr(client, "_transport", None), *getattr(client, "_mounts", {}).values()):
        pool = getattr(transport, "_pool", None)
        backend = getattr(pool, "_network_backend", None)
        if backend is not None and not isinstance(backend, _Backend):
            with suppress(AttributeError):
                pool._network_backend = _Backend(backend)  # type: ignore[union-attr]  # httpcore's pools have one
            guard(pool)


class _Backend:
    """Opens connections whose reads and writes observe the deadline of their thread."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def connect_tcp(self, *args: Any, timeout: float | None = None, **kwargs: Any) -> Any:
        """A connection to a host."""
        if _until.deadline is None:
            return _Connection(self._inner.connect_tcp(*args, timeout=timeout, **kwargs))
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
        self.get_extra_info = inner.get_extra_info

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
        if _until.deadline is None:
            self._inner.write(buffer, timeout)
            return
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
        raise too_late(_until.url, _until.limit)
    try:
        yield left if timeout is None else min(timeout, left)
    except Exception:
        if time.monotonic() >= deadline - _SHORTEST:
            raise too_late(_until.url, _until.limit) from None
        raise
