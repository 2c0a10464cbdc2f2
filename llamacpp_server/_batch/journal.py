"""The output file of a batch job: one complete line for each answer, and no other state.

Each line is one `write` to a file opened for appending, so a killed process leaves complete lines and at most one
truncated line, which is removed when the job is resumed. An operating-system lock, released when its process ends,
keeps a second job from using the file.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Self

from .._notices import warn_once
from ..errors import BadRequestError

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

# Opening a pipe would wait for its reader; on Windows, line ends would be changed.
_PLAIN: Final = sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_BINARY"))
_BEGINNING: Final = b'{"custom_id": '


class Journal:
    """An output file that is open and locked.

    Args:
        path: The file; made where it is missing.
        retry_errors: Remove the lines of requests that failed, so that these are sent again.

    Attributes:
        done: Ids that the file has an answer for, with the digest of the request that was answered.
        errors: How many of these are errors.

    Raises:
        BadRequestError: When another job has the file, or it is not the output of a batch job.
        OSError: When it can't be opened.
    """

    def __init__(self, path: str | os.PathLike[str], *, retry_errors: bool = False) -> None:
        self.path = Path(path)
        self.done: dict[str, str] = {}
        self.errors = 0
        self._file = self._open_locked()
        try:
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
        """Append an answer, whole or not at all.

        Raises:
            OSError: When the disk is full.
        """
        data = json.dumps(line, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"
        size = os.fstat(self._file).st_size
        try:
            while data:
                data = data[os.write(self._file, data) :]
        except BaseException:
            os.ftruncate(self._file, size)
            raise

    def close(self) -> None:
        """Write out and close the file, which gives the lock back."""
        file, self._file = self._file, -1
        if file >= 0:
            with contextlib.suppress(OSError):
                os.fsync(file)
            os.close(file)

    def _open_locked(self) -> int:
        """Return the file, locked; reopen it if another job has replaced it meanwhile."""
        while True:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | _PLAIN, 0o644)
            try:
                if not stat.S_ISREG(os.fstat(file).st_mode):
                    raise BadRequestError(
                        f"{self.path} is not a regular file: a batch job reads its output again when it resumes",
                        remedy="name a file",
                    )
                self._lock(file)
                if os.path.sameopenfile(file, (other := os.open(self.path, os.O_RDONLY))):
                    os.close(other)
                    return file
                os.close(other)
            except BaseException:
                os.close(file)
                raise
            os.close(file)

    def _lock(self, file: int) -> None:
        if fcntl is None:
            return warn_once(f"{self.path} can't be locked on this system: run only one batch job with it")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadRequestError(
                f"another batch job is writing {self.path}", remedy="wait for it, or name another output file"
            ) from None
        except OSError as error:  # some network file systems have no locks
            warn_once(f"{self.path} can't be locked ({error.strerror}): run only one batch job with it")

    def _read(self, retry_errors: bool) -> None:
        """Read the existing answers. The file is changed only if all of it is the output of a job."""
        failed, end = 0, 0
        for number, line, wire in self._lines():
            if not line.endswith(b"\n"):  # it was cut when its process was killed
                if not (line.startswith(_BEGINNING) or _BEGINNING.startswith(line)):
                    raise self._stranger(number)
                break
            name = wire.get("custom_id") if isinstance(wire, dict) else None
            if not isinstance(name, str) or "error" not in wire:
                raise self._stranger(number)
            end += len(line)
            failed += wire["error"] is not None
            if not (retry_errors and wire["error"] is not None):
                self.done[name] = str(wire.get("request_digest") or "")
        os.ftruncate(self._file, end)
        self.errors = 0 if retry_errors else failed
        if retry_errors and failed:
            self._rewrite(lambda wire: wire["error"] is None)

    def _stranger(self, number: int) -> BadRequestError:
        return BadRequestError(
            f"{self.path}, line {number} is not the output of a batch job", remedy="name another output file"
        )

    def _lines(self) -> Iterator[tuple[int, bytes, Any]]:
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    yield number, line, json.loads(line)
                except (ValueError, RecursionError):
                    yield number, line, None

    def _rewrite(self, keep: Callable[[Any], bool]) -> None:
        """Remove lines in one step: a job killed meanwhile has the old file or the new one."""
        temporary = self.path.with_name(self.path.name + ".new")
        with temporary.open("wb") as file:
            for _, line, wire in self._lines():
                if keep(wire):
                    file.write(line)
            file.flush()
            os.fsync(file.fileno())
        opened = os.open(temporary, os.O_RDWR | os.O_APPEND)
        old, self._file = self._file, opened
        self._lock(opened)
        temporary.replace(self.path)
        os.close(old)
