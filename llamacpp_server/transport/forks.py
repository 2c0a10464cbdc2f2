"""State that a forked child must drop."""

from __future__ import annotations

import os
from collections.abc import Callable


def in_forked_child(forget: Callable[[], object]) -> None:
    """Have a function called in each forked child. On Windows, where nothing forks, it never is."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=forget)
