"""Warnings that are logged once per process: what was repaired, dropped, clamped or can't be enforced.

Also which of the repairs are enabled.

To switch the warnings off: `logging.getLogger("llamacpp_server").setLevel(logging.ERROR)`.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Final

from ._printable import one_line

if TYPE_CHECKING:
    from .chat import Repair

logger = logging.getLogger("llamacpp_server")

_MOST_SAID: Final = 1000
_said: set[str] = set()


def warn_once(message: str) -> None:
    """Log a warning unless these very words were logged before in this process, as one of about a thousand."""
    message = one_line(message)
    if message in _said:
        return
    if len(_said) >= _MOST_SAID:
        _said.clear()
    _said.add(message)
    logger.warning(message)


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
