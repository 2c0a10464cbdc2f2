"""Fields of a reply that may hold anything: a value of the right kind, or what stands for "not told"."""

from __future__ import annotations

import dataclasses
import hashlib
import marshal
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from math import isfinite
from operator import attrgetter
from typing import Any, Final, TypeVar, cast

from pydantic_core import to_json

T = TypeVar("T")

# No count and no clock of a server is larger; a larger number overflows a float or a database.
_LARGEST: Final = 2**63
# A format without references, which depend on what else refers to a value; and the quicker one with them.
_BY_CONTENT: Final = 2
_BY_REFERENCE: Final = 4
# Bytes of a value whose key is kept.
_LONGEST_KEPT: Final = 100_000
_SMALL: Final = 1024
# Fields of requests that a caller fills with anything: a key whose name is misspelled may be among them.
_OF_CALLERS: Final = frozenset({"params", "extra_body", "chat_template_kwargs", "metadata"})


class RequestRepr:
    """A `repr` that shows the names of a request's parameters and their numbers, as the other values may be secret."""

    __slots__ = ()

    def __repr__(self) -> str:
        shown = ((one.name, getattr(self, one.name)) for one in dataclasses.fields(cast(Any, self)) if one.repr)
        parts = (f"{name}={_numbers(value) if name in _OF_CALLERS else repr(value)}" for name, value in shown)
        return f"{type(self).__name__}({', '.join(parts)})"


def _numbers(given: object) -> str:
    if not isinstance(given, Mapping):
        return "None" if given is None else "..."
    values = (f"{name!r}: {value if type(value) in (int, float, bool) else '...'}" for name, value in given.items())
    return f"{{{', '.join(values)}}}"


def text(wire: object) -> str:
    """A text; "" for anything else."""
    return wire if isinstance(wire, str) else ""


def texts(wire: object) -> tuple[str, ...]:
    """The texts of a list; () for anything else."""
    return tuple(entry for entry in wire if isinstance(entry, str)) if isinstance(wire, list) else ()


def integer(wire: object) -> int | None:
    """A whole number; None for anything else."""
    return wire if type(wire) is int and abs(wire) < _LARGEST else None


def figure(wire: object) -> float | None:
    """A finite number; None for anything else."""
    if type(wire) is float:
        return wire if isfinite(wire) else None
    return integer(wire)


def fields(wire: object) -> Mapping[str, Any]:
    """An object; an empty one for anything else."""
    return wire if isinstance(wire, Mapping) else {}


def objects(wire: object) -> list[Mapping[str, Any]]:
    """The objects of a list; [] for anything else."""
    return [entry for entry in wire if isinstance(entry, Mapping)] if isinstance(wire, list) else []


def flags(wire: object) -> dict[str, bool]:
    """The fields of an object that are true or false."""
    return {name: value for name, value in fields(wire).items() if isinstance(value, bool)}


def short_id(text: str) -> str:
    """Nine letters and digits, as some templates demand of a call's id, that are the same for the same text."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:9]


class KeyedList(list[Any]):
    """A list with the `content_key` of what it holds, so that this is made once. Nobody changes it.

    Args:
        items: What it holds.
        key: Of these; None where there is none.
    """

    __slots__ = ("key",)

    def __init__(self, items: Iterable[Any], key: bytes | None) -> None:
        super().__init__(items)
        self.key = key


def content_key(value: Any) -> bytes | None:
    """Key that is equal for two values with the same JSON, including types and order.

    It takes less time than writing JSON, so what depends on a value alone can be looked up by it.

    Returns:
        None where there is none: for subclasses and objects, and what holds itself.
    """
    if type(value) is KeyedList:
        return value.key
    try:
        # The quick format says the same of what is built the same, but depends on what else refers to a value.
        written = marshal.dumps(value, _BY_REFERENCE)
        return _key_of(written) if len(written) <= _LONGEST_KEPT else _key_of.__wrapped__(written)
    except ValueError:
        return None


def with_changes(value: T, **changes: Any) -> T:
    """`dataclasses.replace` for frozen values with slots, in less than half the time: each request has some."""
    names, get = _fields_of(cast(Any, type(value)))
    copy = object.__new__(type(value))
    for name, kept in zip(names, get(value), strict=True):
        object.__setattr__(copy, name, kept)
    for name, new in changes.items():
        object.__setattr__(copy, name, new)
    return copy


@lru_cache(maxsize=64)
def _fields_of(cls: Any) -> tuple[tuple[str, ...], Callable[[Any], tuple[Any, ...]]]:
    names = tuple(one.name for one in dataclasses.fields(cls))
    return names, attrgetter(*names)


def small_key(value: Any) -> bytes | None:
    """Key that says a small value is the same as before, in less time than `content_key`; equal ones may have several.

    Returns:
        None where there is none, as for `content_key`, and for larger values. One that holds itself may have one.
    """
    try:
        written = marshal.dumps(value, _BY_REFERENCE)
    except ValueError:
        return None
    return written if len(written) <= _SMALL else None


@lru_cache(maxsize=64)
def _key_of(written: bytes) -> bytes:
    value = marshal.loads(written)  # noqa: S302  # written by this process
    to_json(value)  # it refuses what holds itself, where `marshal` would double it without end
    return marshal.dumps(value, _BY_CONTENT)


def of_key(key: bytes) -> Any:
    """A new copy of what `content_key` or `small_key` was made from."""
    return marshal.loads(key)  # noqa: S302  # written by this process
