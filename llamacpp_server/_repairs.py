"""Repairs: which are enabled, and how they are logged."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable

from ._notices import warn_once
from .chat import Repair


def log_repairs(repairs: Iterable[Repair]) -> None:
    """Log each repair, the same one only once in a process."""
    for repair in repairs:
        warn_once(str(repair))


def enabled(names: Collection[str], wanted: bool | Collection[str]) -> frozenset[str]:
    """The repairs of `names` to do.

    Args:
        names: All that there are.
        wanted: True for all, False for none, or those to leave out, each with a minus before its name, or those to do.

    Raises:
        ValueError: For a name that does not exist.
    """
    if isinstance(wanted, bool):
        return frozenset(names) if wanted else frozenset()
    given = {wanted} if isinstance(wanted, str) else set(wanted)
    if unknown := sorted(name for name in given if name.removeprefix("-") not in names):
        raise ValueError(f"unknown repair: {', '.join(unknown)} (available: {', '.join(sorted(names))})")
    without = {name[1:] for name in given if name.startswith("-")}
    kept = given - {f"-{name}" for name in without}
    return frozenset((kept or set(names)) - without)


def short_id(text: str) -> str:
    """Nine letters and digits, as some templates demand of a call's id, that are the same for the same text."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:9]
