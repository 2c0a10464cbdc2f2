"""The command `llamacpp-server`: check a server, chat with it, or serve a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from .._lazy import lazy

if TYPE_CHECKING:
    from .command import parser as parser

__all__ = ["main", "parser"]

_INTERRUPTED: Final = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    Args:
        argv: Arguments; None takes those of the process.
    """
    try:
        from .command import run  # here, as ^C may come while it is imported

        return run(argv)
    except KeyboardInterrupt:
        return _INTERRUPTED


__getattr__, __dir__ = lazy(__name__, {"command": ("parser",)})
