"""Convert the client's deltas to responses, as generators that close their source."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from contextlib import closing
from typing import Protocol, TypeVar, cast

__all__ = ["amapped", "aresponses", "mapped", "responses"]

D = TypeVar("D", contravariant=True)
R = TypeVar("R", covariant=True)
A = TypeVar("A")
B = TypeVar("B")


class State(Protocol[D, R]):
    """State of a stream so far."""

    def add(self, delta: D) -> R | None:
        """Return the response with `delta` added; None if it adds nothing to show."""

    def last(self) -> R:
        """Return the complete response."""


def responses(deltas: Iterator[D], state: State[D, R]) -> Generator[R, None, None]:
    """Yield a response for each delta, and the complete one at the end. Closing it releases the server's slot."""
    add = state.add
    with closing(cast(Generator[D, None, None], deltas)):
        for delta in deltas:
            response = add(delta)
            if response is not None:
                yield response
    yield state.last()


async def aresponses(deltas: AsyncIterator[D], state: State[D, R]) -> AsyncGenerator[R, None]:
    """Async version of `responses`."""
    try:
        async for delta in deltas:
            response = state.add(delta)
            if response is not None:
                yield response
    finally:
        await _close(cast(AsyncGenerator[D, None], deltas))
    yield state.last()


def mapped(items: Generator[A, None, None], convert: Callable[[A], B]) -> Generator[B, None, None]:
    """Every item, converted."""
    with closing(items):
        for item in items:
            yield convert(item)


async def amapped(items: AsyncGenerator[A, None], convert: Callable[[A], B]) -> AsyncGenerator[B, None]:
    """Async version of `mapped`."""
    try:
        async for item in items:
            yield convert(item)
    finally:
        await _close(items)


async def _close(items: AsyncGenerator[A, None]) -> None:
    """Closes it, unless it is being closed: an event loop that ends closes all generators at once."""
    if not getattr(items, "ag_running", False):
        await items.aclose()
