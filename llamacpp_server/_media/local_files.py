"""Local files named by a message: opened first, and checked after opening.

A path checked before it is opened may lead elsewhere when it is opened: anyone who can write to an allowed directory
could swap a link. Each directory on the way is therefore opened from its parent without following links, and kind and
size are those of the open file.
"""

from __future__ import annotations

import os
import stat
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from ..errors import BadRequestError

__all__ = ["read_file"]

# Opening a pipe without a writer must not wait, and a terminal must not become ours. Windows has none of these.
_CALM: Final = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY"))
_NO_LINK: Final = getattr(os, "O_NOFOLLOW", 0)
_FOLDER: Final = getattr(os, "O_DIRECTORY", 0) | _NO_LINK | _CALM
_OPENS_FROM_FOLDERS: Final = os.open in os.supports_dir_fd and bool(_NO_LINK)


def read_file(path: Path, roots: list[Path] | None, most: int, where: str) -> bytes:
    """Read a regular file within one of the directories, whatever links lead to it.

    Args:
        path: The file.
        roots: The directories; None for any.
        most: Bytes that it may have.
        where: Its place in the request, for errors.

    Raises:
        BadRequestError: For what lies elsewhere, is no regular file, is too long or can't be read.
    """
    try:
        with ExitStack() as opened:
            descriptor = _open(path.expanduser(), roots, where, opened)
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise BadRequestError(f"{path} ({where}) is not a file")
            # The files of /proc say that they are empty, and any file may grow.
            data = b"" if found.st_size > most else _read(descriptor, most + 1)
        if found.st_size > most or len(data) > most:
            raise BadRequestError(f"the file at {where} is larger than {most} bytes", remedy="use a smaller file")
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, BadRequestError):
            raise
        raise BadRequestError(f"can't read the file at {where}: {error}") from error
    return data


def _open(path: Path, roots: list[Path] | None, where: str, opened: ExitStack) -> int:
    """An open descriptor, which `opened` closes."""
    if roots is None:
        return _keep_open(os.open(path, _CALM), opened)
    real = path.resolve(strict=True)
    for root in (root.expanduser().resolve() for root in roots):
        if real.is_relative_to(root) and real != root:
            break
    else:
        raise BadRequestError(f"the file {path} ({where}) is not in any directory of read_files")
    if not _OPENS_FROM_FOLDERS:
        descriptor = _keep_open(os.open(real, _CALM), opened)
        if real.resolve(strict=True) != real or not os.path.samestat(os.stat(real), os.fstat(descriptor)):
            raise OSError("it was replaced while being opened")
        return descriptor
    folder = _keep_open(os.open(root, _FOLDER), opened)
    *folders, name = real.relative_to(root).parts
    for part in folders:
        folder = _keep_open(os.open(part, _FOLDER, dir_fd=folder), opened)
    return _keep_open(os.open(name, _CALM | _NO_LINK, dir_fd=folder), opened)


def _keep_open(descriptor: int, opened: ExitStack) -> int:
    opened.callback(os.close, descriptor)
    return descriptor


def _read(descriptor: int, most: int) -> bytes:
    parts, left = [], most
    while left > 0 and (part := os.read(descriptor, min(left, 1 << 20))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)
