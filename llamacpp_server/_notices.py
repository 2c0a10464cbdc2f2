"""Warnings that are logged once per process: what was repaired, dropped, clamped or can't be enforced.

To switch it off: `logging.getLogger("llamacpp_server").setLevel(logging.ERROR)`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from ._printable import one_line

if TYPE_CHECKING:
    from .replies import Repair

logger = logging.getLogger("llamacpp_server")

_MOST_SAID: Final = 1000
_said: set[str] = set()


def warn_once(message: str) -> None:
    """Log a warning, unless the process has logged the same text before (it remembers about a thousand)."""
    message = one_line(message)
    if message in _said:
        return
    if len(_said) >= _MOST_SAID:
        _said.clear()
    _said.add(message)
    logger.warning(message)


def log_repairs(repairs: Iterable[Repair]) -> None:
    """Log each repair, once per process."""
    for repair in repairs:
        warn_once(str(repair))
