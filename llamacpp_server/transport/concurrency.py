"""Runs several programs at once: on threads for blocking calls, in a task group for awaited ones. No I/O of its own.

Both ways take the programs in order, stop starting new ones when one has failed, and let those that run finish.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from queue import SimpleQueue
from typing import Any, Final

import anyio

from ..errors import LlamaServerError
from .effects import Program, Together
from .leaving import Scope

# Seconds for threads to end after an interrupt.
_PATIENCE: Final = 0.5


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


def run_all(run: Callable[[Program[Any], Scope], Any], effect: Together, cut: Callable[[Scope], object]) -> list[Any]:
    """The results in order; an error in the place of a program that failed, None for those never started.

    An exception in this thread, such as a KeyboardInterrupt, ends the other threads' requests by `cut`. The threads
    are daemons: one that does not end in time does not keep the process.
    """
    work, scope = _Work(effect), Scope()
    failed, done = list[BaseException](), SimpleQueue[None]()

    def worker() -> None:
        try:
            while (taken := work.take()) is not None:
                place, program = taken
                try:
                    work.results[place] = run(program, scope)
                except LlamaServerError as error:
                    work.results[place] = error
                    work.stop()
        except BaseException as error:  # noqa: BLE001 (raised by the thread that waits)
            failed.append(error)
            work.stop()
        finally:
            done.put(None)

    threads = [threading.Thread(target=worker, name="llamacpp-server", daemon=True) for _ in range(effect.at_once)]
    try:
        for thread in threads:
            thread.start()
        for _ in threads:
            done.get()
    except BaseException:
        work.stop()
        scope.stopped = True
        _end(threads, partial(cut, scope))
        raise
    if failed:
        raise failed[0]
    return work.results


def _end(threads: Sequence[threading.Thread], cut: Callable[[], object]) -> None:
    """Waits a short while until the threads have ended; one that was about to send needs a second cut."""
    until = time.monotonic() + _PATIENCE
    while any(thread.is_alive() for thread in threads) and time.monotonic() < until:
        cut()
        time.sleep(0.01)


async def arun_all(run: Callable[[Program[Any]], Awaitable[Any]], effect: Together) -> list[Any]:
    """Async version of `run_all`; cancelling it cancels all."""
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
