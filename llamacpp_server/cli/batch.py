"""`llamacpp-server batch`: a file of requests."""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from typing import Any, Final

from .._batch import BatchProgress
from .shared import START_OF_LINE, Progress, add_command, connect

__all__ = ["add_to"]

_BAR_WIDTH: Final = 30


def add_to(commands: Any, where: argparse.ArgumentParser) -> None:
    """Add the command."""
    batch = add_command(commands, "batch", parents=[where], help="process a file of requests; resumes where it stopped")
    batch.add_argument("input", help="JSON lines: OpenAI's batch format, or an id and the request's fields; - is stdin")
    batch.add_argument("output", help="output file; one line per answer")
    batch.add_argument("--concurrency", type=int, metavar="N", help="concurrent requests (default: the server's slots)")
    batch.add_argument("--retry-errors", action="store_true", help="retry requests that failed before")
    batch.set_defaults(run=_batch)


def _batch(arguments: argparse.Namespace, progress: Progress) -> int:
    bar = _Bar()
    with connect(arguments, progress) as client, _readable(arguments.input) as source:
        try:
            found = client.batch_file(
                source,
                arguments.output,
                concurrency=arguments.concurrency,
                retry_errors=arguments.retry_errors,
                on_progress=bar,
            )
        finally:
            bar.end()
    print(
        f"{found.total} lines: {found.answered} answered now, {found.resumed} before, {found.errors} with an error; "
        f"{found.seconds:.1f} s"
    )
    return 1 if found.errors else 0


@contextlib.contextmanager
def _readable(source: str) -> Iterator[str]:
    """The input as a file: a job reads it more than once, and in another order."""
    if source != "-":
        yield source
        return
    with tempfile.NamedTemporaryFile(prefix="llamacpp-server-batch-") as copy:
        shutil.copyfileobj(sys.stdin.buffer, copy)
        copy.flush()
        yield copy.name


class _Bar:
    """Progress of a job on stderr: a bar on a terminal, a line every ten seconds elsewhere."""

    def __init__(self) -> None:
        self._is_tty = sys.stderr.isatty()
        self._next, self._lock = 0.0, threading.Lock()

    def __call__(self, progress: BatchProgress) -> None:
        with self._lock:
            if progress.seconds < self._next and progress.done < progress.total:
                return
            self._next = progress.seconds + (0.1 if self._is_tty else 10.0)
        text = f"{progress.done}/{progress.total}, {progress.errors} errors, {progress.seconds:.0f} s"
        if self._is_tty:
            filled = _BAR_WIDTH * progress.done // max(1, progress.total)
            print(f"{START_OF_LINE}[{'#' * filled:<{_BAR_WIDTH}}] {text}", end="", file=sys.stderr, flush=True)
        elif progress.done < progress.total:
            print(text, file=sys.stderr, flush=True)

    def end(self) -> None:
        """Leave the bar where it is."""
        if self._is_tty:
            print(file=sys.stderr, flush=True)
