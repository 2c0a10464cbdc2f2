"""Values that a framework passes on as its caller gave them, in the shape that the code behind them relies on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import BadRequestError

__all__ = ["as_json", "list_of", "object_of", "stop_texts"]


def list_of(value: Any, place: str, kind: type | tuple[type, ...] = object) -> list[Any]:
    """The items of a list.

    Args:
        value: The list.
        place: Its name in errors.
        kind: What its items have to be.

    Raises:
        BadRequestError: For anything else, also for a single text.
    """
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise _wrong(place, "a list", value)
    items = list(value)
    for number, item in enumerate(items):
        if not isinstance(item, kind):
            wanted = kind if isinstance(kind, type) else kind[0]
            raise _wrong(f"{place}[{number}]", f"a {wanted.__name__}", item)
    return items


def object_of(value: Any, place: str) -> Mapping[str, Any]:
    """The fields of an object; none for None.

    Raises:
        BadRequestError: For anything else.
    """
    if value is not None and not isinstance(value, Mapping):
        raise _wrong(place, "an object", value)
    return value or {}


def stop_texts(value: Any) -> list[str]:
    """The texts that end an answer: a list of them, or one.

    Raises:
        BadRequestError: For anything else.
    """
    return [value] if isinstance(value, str) else list_of(value, "stop", str)


def as_json(value: Any, place: str) -> str:
    """A value as JSON.

    Raises:
        BadRequestError: For what JSON can't hold, such as a set, or what holds itself.
    """
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise BadRequestError(f"{place} can't be written as JSON: {str(error)[:200]}") from None


def _wrong(place: str, wanted: str, got: object) -> BadRequestError:
    return BadRequestError(f"{place} must be {wanted}, not {type(got).__name__}")
