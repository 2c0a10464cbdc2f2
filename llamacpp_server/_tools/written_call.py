"""A call that a reader of one of the forms found in a text."""

from __future__ import annotations

from typing import Any, NamedTuple


class WrittenCall(NamedTuple):
    """A call in a text.

    Attributes:
        name: Name of the tool, as it was written.
        arguments: By name.
        start: Where it begins.
        end: Where it ends.
    """

    name: str
    arguments: dict[str, Any]
    start: int
    end: int


__all__ = ["WrittenCall"]
