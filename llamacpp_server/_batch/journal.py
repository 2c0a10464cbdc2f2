"""The output file of a batch job: one whole line for each answer, and nothing else that a resumed job would need.

A line is one `write` to a file that is opened for appending, so a killed process leaves whole lines and at most one
that was cut. That one is removed when the job is resumed. A lock of the operating system, which ends with its process,
keeps a second job from the same file.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Self

from ..errors import BadRequestError

try:
    import fcntl
except ImportError:  # Windows has no such lock; two jobs with one file are the user's to avoid there
    fcntl = None  # type: ignore[assignment]

_PIECE: Final = 1 << 16


class Journal:
    """An output file that is open and locked.

    Args:
        path: The file; made where it is missing.
        retry_errors: Remove the lines of requests that failed, so that these are sent again.

    Attributes:
        done: Ids that the file has an answer for.
        errors: How many of these are errors.

    Raises:
        BadRequestError: When another job has the file, or it is not the output of a batch job.
        OSError: When it can't be opened.
    """

    def __init__(self, path: str | os.PathLike[str], *, retry_errors: bool = False) -> None:
        self.path = Path(path)
        self.done: set[str] = set()
        self.errors = 0
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            self._lock()
            self._remove_cut_line()
            self._read(retry_errors)
        except BaseException:
            self.close()
            raise

    @property
    def is_open(self) -> bool:
        """Whether it can be written to."""
        return self._file >= 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def write(self, line: Mapping[str, Any]) -> None:
        """Append an answer."""
        data = json.dumps(line, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"
        while data:  # a disk that is full may take a part; the next call raises then
            data = data[os.write(self._file, data) :]

    def close(self) -> None:
        """Write out and close the file, which gives the lock back."""
        file, self._file = self._file, -1
        if file >= 0:
            with contextlib.suppress(OSError):
                os.fsync(file)
            os.close(file)

    def _lock(self) -> None:
        if fcntl is None:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadRequestError(
                f"another batch job is writing {self.path}", remedy="wait for it, or name another output file"
            ) from None

    def _remove_cut_line(self) -> None:
        size = end = os.fstat(self._file).st_size
        while end > 0:
            start = max(0, end - _PIECE)
            piece = os.pread(self._file, end - start, start)
            at = piece.rfind(b"\n")
            if at >= 0:
                end = start + at + 1
                break
            end = start
        if end < size:
            os.ftruncate(self._file, end)

    def _read(self, retry_errors: bool) -> None:
        failed = 0
        for number, _, wire in self._lines():
            name = wire.get("custom_id") if isinstance(wire, dict) else None
            if not isinstance(name, str) or "error" not in wire:
                raise BadRequestError(
                    f"{self.path}, line {number} is not of a batch job", remedy="name another output file"
                )
            failed += wire["error"] is not None
            if not (retry_errors and wire["error"] is not None):
                self.done.add(name)
        self.errors = 0 if retry_errors else failed
        if retry_errors and failed:
            self._rewrite(lambda wire: wire["error"] is None)

    def _lines(self) -> Iterator[tuple[int, bytes, Any]]:
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    yield number, line, json.loads(line)
                except (ValueError, RecursionError):
                    yield number, line, None

    def _rewrite(self, keep: Callable[[Any], bool]) -> None:
        """Leave out lines, in one step: a job that is killed meanwhile has the old file or the new one."""
        temporary = self.path.with_name(self.path.name + ".new")
        with temporary.open("wb") as file:
            for _, line, wire in self._lines():
                if keep(wire):
                    file.write(line)
            file.flush()
            os.fsync(file.fileno())
        opened = os.open(temporary, os.O_RDWR | os.O_APPEND)
        old, self._file = self._file, opened
        self._lock()
        temporary.replace(self.path)
        os.close(old)
