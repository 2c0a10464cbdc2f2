"""Warnings that are logged once per process: what was repaired, dropped, clamped or can't be enforced.

To switch it off: `logging.getLogger("llamacpp_server").setLevel(logging.ERROR)`.
"""

from __future__ import annotations

import logging

logger = logging.getLogger("llamacpp_server")

_said: set[str] = set()


def say_once(message: str) -> None:
    """Log a warning unless these very words were logged before in this process."""
    if message not in _said:
        _said.add(message)
        logger.warning(message)
