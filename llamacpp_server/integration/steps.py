"""Programs of integrations: what both a blocking and an awaited method do, written once.

A program is a generator that does no I/O. It yields steps, of whatever kind its author likes, and is sent the result of
each; an error of the server is thrown into it, and it may go on. An adapter carries the steps out:

    def program():
        reply = yield messages
        return reply.text

    run_steps(program(), model.invoke)
    await arun_steps(program(), model.ainvoke)
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable
from contextlib import aclosing, closing
from typing import Any, Protocol, TypeVar

from ..errors import LlamaServerError

__all__ = ["StreamedAnswer", "arun_steps", "aread_answer", "read_answer", "run_steps"]

S = TypeVar("S")
R = TypeVar("R")
C = TypeVar("C", contravariant=True)
P = TypeVar("P", covariant=True)
Q = TypeVar("Q")


def run_steps(program: Generator[S, Any, R], carry_out: Callable[[S], Any]) -> R:
    """Run a program's steps and return its result."""
    try:
        step = next(program)
        while True:
            try:
                found = carry_out(step)
            except LlamaServerError as error:
                step = program.throw(error)
            else:
                step = program.send(found)
    except StopIteration as end:
        result: R = end.value
        return result


async def arun_steps(program: Generator[S, Any, R], carry_out: Callable[[S], Awaitable[Any]]) -> R:
    """Async version of `run_steps`."""
    try:
        step = next(program)
        while True:
            try:
                found = await carry_out(step)
            except LlamaServerError as error:
                step = program.throw(error)
            else:
                step = program.send(found)
    except StopIteration as end:
        result: R = end.value
        return result


class StreamedAnswer(Protocol[C, P]):
    """Parser of a streamed answer into parts for its reader."""

    def begin(self) -> Any:
        """Request for each stream that is opened."""

    def add(self, chunk: C) -> Iterable[P]:
        """Return the parts that a chunk completes."""

    def failed(self, error: LlamaServerError) -> None:
        """Prepare another request after an error; raises if nothing is left to try."""

    def end(self) -> Iterable[P]:
        """Return the last parts; raises for an unusable answer."""


def read_answer(
    answer: StreamedAnswer[Q, P], opened: Callable[[Any], Generator[Q, None, None]]
) -> Generator[P, None, None]:
    """The parts of an answer.

    Args:
        answer: What makes them.
        opened: Opens a stream for the result of `begin`; it is closed when the reader stops.
    """
    while True:
        try:
            with closing(opened(answer.begin())) as chunks:
                for chunk in chunks:
                    yield from answer.add(chunk)
            break
        except LlamaServerError as error:
            answer.failed(error)
    yield from answer.end()


async def aread_answer(
    answer: StreamedAnswer[Q, P], opened: Callable[[Any], Awaitable[AsyncGenerator[Q, None]]]
) -> AsyncGenerator[P, None]:
    """Async version of `read_answer`."""
    while True:
        try:
            async with aclosing(await opened(answer.begin())) as chunks:
                async for chunk in chunks:
                    for part in answer.add(chunk):
                        yield part
            break
        except LlamaServerError as error:
            answer.failed(error)
    for part in answer.end():
        yield part
