"""Runs several programs at once: on threads for blocking calls, in a task group for awaited ones. No I/O of its own.

Both ways take the programs in order, stop starting new ones when one has failed, and let those that run finish.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio

from ..errors import LlamaServerError
from .effects import Program, Together


class _Work:
    """Programs to run and what came of them. Workers of any kind take from it until nothing is left."""

    def __init__(self, effect: Together) -> None:
        self.results: list[Any] = [None] * len(effect.programs)
        self._left = deque(enumerate(effect.programs))

    def take(self) -> tuple[int, Program[Any]] | None:
        """The next program and its place; None when nothing is left. Safe from several threads."""
        try:
            return self._left.popleft()
        except IndexError:
            return None

    def stop(self) -> None:
        """Leaves the rest undone."""
        self._left.clear()


def together(run: Callable[[Program[Any]], Any], effect: Together) -> list[Any]:
    """The results in order; an error in the place of a program that failed, None for those never started."""
    work = _Work(effect)

    def worker() -> None:
        while (taken := work.take()) is not None:
            place, program = taken
            try:
                work.results[place] = run(program)
            except LlamaServerError as error:
                work.results[place] = error
                work.stop()
            except BaseException:
                work.stop()
                raise

    with ThreadPoolExecutor(effect.at_once, "llamacpp-server") as threads:
        for done in [threads.submit(worker) for _ in range(effect.at_once)]:
            try:
                done.result()
            except BaseException:
                work.stop()
                raise
    return work.results


async def atogether(run: Callable[[Program[Any]], Awaitable[Any]], effect: Together) -> list[Any]:
    """`together`, awaited; cancelling it cancels all."""
    work = _Work(effect)

    async def worker() -> None:
        while (taken := work.take()) is not None:
            place, program = taken
            try:
                work.results[place] = await run(program)
            except LlamaServerError as error:
                work.results[place] = error
                work.stop()

    async with anyio.create_task_group() as group:
        for _ in range(effect.at_once):
            group.start_soon(worker)
    return work.results


def work(function: Callable[[], Any]) -> Any:
    """The function's result."""
    return function()


async def awork(function: Callable[[], Any]) -> Any:
    """`work`, in a thread, so that the event loop goes on."""
    return await anyio.to_thread.run_sync(function)
