"""The head of a GGUF file: its metadata, and where its parts begin.

A head is read without the weights, and without the long arrays (a vocabulary has a hundred thousand texts): of these
only the place is kept, for whoever needs one entry.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from .files import LocalServerError

MAGIC: Final = b"GGUF"
TEXT: Final = 8
"""The number of the type "string" (gguf.h)."""

_ARRAY: Final = 9
# Types of a fixed size by their number (gguf.h), as `struct` reads them.
_SCALARS: Final = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_VERSIONS: Final = (2, 3)
# Beyond these a file is broken, and reading on would only cost memory.
_MOST_KEYS, _LONGEST, _MOST_DIMENSIONS = 100_000, 1 << 28, 16
_SHORT_ARRAY: Final = 1024
_ALIGNMENT: Final = 32
_KEYS_AT: Final = 24  # behind the magic bytes, the version and two counts


@dataclass(frozen=True, slots=True)
class ArrayAt:
    """A long array that was not read.

    Attributes:
        kind: Number of its entries' type.
        length: Number of its entries.
        offset: Where they begin in the file.
    """

    kind: int
    length: int
    offset: int


@dataclass(frozen=True, slots=True)
class Head:
    """Header of a GGUF file, before the weights.

    Attributes:
        version: Of the format.
        tensors: Number of tensors.
        values: The metadata; long arrays as `ArrayAt`. Bytes that are not UTF-8 are kept as surrogates.
        keys_at: Where the metadata begins.
        keys_end: Where it ends, and the descriptions of the tensors begin.
        infos_end: Where the descriptions end.
        alignment: Of the weights, in bytes.
    """

    version: int
    tensors: int
    values: Mapping[str, Any]
    keys_at: int
    keys_end: int
    infos_end: int
    alignment: int

    @property
    def data_at(self) -> int:
        """Offset of the weights."""
        return self.infos_end + -self.infos_end % self.alignment


def read_metadata(path: Path) -> dict[str, Any]:
    """The metadata of a GGUF file without its long arrays, such as the vocabulary.

    Raises:
        LocalServerError: If the file can't be read or is not a GGUF file.
    """
    try:
        with path.open("rb") as file:
            values = _read_keys(file)[2]
    except (OSError, ValueError, struct.error) as error:
        raise _invalid(path, error) from error
    return {name: value for name, value in values.items() if not isinstance(value, ArrayAt)}


def read_head(file: IO[bytes], path: Path) -> Head:
    """The whole head of an open GGUF file.

    Args:
        file: At its beginning.
        path: Its name, for the error.

    Raises:
        LocalServerError: When it is not a valid GGUF file.
    """
    try:
        version, tensors, values = _read_keys(file)
        keys_end = file.tell()
        for _ in range(tensors):
            _text(file)
            if (dimensions := _scalar(file, "I")) > _MOST_DIMENSIONS:
                raise ValueError("a tensor has too many dimensions")
            file.seek(8 * dimensions + 4 + 8, os.SEEK_CUR)
        infos_end = file.tell()
        if infos_end > os.fstat(file.fileno()).st_size:
            raise ValueError("unexpected end of file")
        alignment = values.get("general.alignment", _ALIGNMENT)
        if not isinstance(alignment, int) or alignment < 1:
            raise ValueError("the alignment is not a positive number")
    except (OSError, ValueError, struct.error) as error:
        raise _invalid(path, error) from error
    return Head(version, tensors, values, _KEYS_AT, keys_end, infos_end, alignment)


def read_text_at(file: IO[bytes], array: ArrayAt, index: int) -> str:
    """One text of a long array; "" when it has no such entry or holds no texts."""
    if array.kind != TEXT or not 0 <= index < array.length:
        return ""
    file.seek(array.offset)
    for _ in range(index):
        _pass_text(file)
    return _text(file)


def _invalid(path: Path, error: Exception) -> LocalServerError:
    if isinstance(error, struct.error):
        reason: str | None = "unexpected end of file"
    else:
        reason = error.strerror if isinstance(error, OSError) else str(error)
    return LocalServerError(f"can't read the header of {path}: {reason}", remedy="check that it is a GGUF file")


def _read_keys(file: IO[bytes]) -> tuple[int, int, dict[str, Any]]:
    """Version, number of tensors, and the metadata."""
    magic, version, tensors, count = struct.unpack("<4sIQQ", file.read(_KEYS_AT))
    if magic != MAGIC or version not in _VERSIONS or count > _MOST_KEYS:
        raise ValueError("not a valid GGUF file")
    values = {}
    for _ in range(count):
        name = _text(file)
        values[name] = _value(file, _scalar(file, "I"))
    return version, tensors, values


def _value(file: IO[bytes], kind: int) -> Any:
    if kind in _SCALARS:
        return _scalar(file, _SCALARS[kind])
    if kind == TEXT:
        return _text(file)
    if kind != _ARRAY:
        raise ValueError(f"unknown value type {kind}")
    inner, length = _scalar(file, "I"), _scalar(file, "Q")
    if length > _LONGEST:
        raise ValueError("an array is too long")
    array = ArrayAt(inner, length, file.tell())
    if inner in _SCALARS:
        if length <= _SHORT_ARRAY:
            return [_scalar(file, _SCALARS[inner]) for _ in range(length)]
        file.seek(length * struct.calcsize(_SCALARS[inner]), os.SEEK_CUR)
    elif inner == TEXT:
        for _ in range(length):
            _pass_text(file)
    else:
        raise ValueError("an array of arrays")
    return array


def _scalar(file: IO[bytes], form: str) -> Any:
    (value,) = struct.unpack(f"<{form}", file.read(struct.calcsize(f"<{form}")))
    return value


def _pass_text(file: IO[bytes]) -> None:
    file.seek(_length(file), os.SEEK_CUR)


def _length(file: IO[bytes]) -> int:
    length = int(_scalar(file, "Q"))
    if length > _LONGEST:
        raise ValueError("a string is too long")
    return length


def _text(file: IO[bytes]) -> str:
    length = _length(file)
    data = file.read(length)
    if len(data) < length:
        raise ValueError("unexpected end of file")
    return data.decode("utf-8", "surrogateescape")
