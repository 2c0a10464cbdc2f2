"""`llamacpp-server top`: a live view of a server."""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from typing import Any, Final

from .. import _monitor
from .shared import Progress, add_command, connect

__all__ = ["add_to"]

_LONGEST: Final = 86_400


def add_to(commands: Any, where: argparse.ArgumentParser) -> None:
    """Add the command."""
    top = add_command(
        commands, "top", parents=[where], help="live view of a server: slots, cache, queue, tokens per second"
    )
    top.add_argument(
        "--interval", type=_positive, default=1.0, metavar="SECONDS", help="update interval (default: %(default)g)"
    )
    top.add_argument("--once", action="store_true", help="print one table and exit")
    top.add_argument("--json", action="store_true", help="print JSON and exit")
    top.set_defaults(run=_top)


def _top(arguments: argparse.Namespace, progress: Progress) -> int:
    with connect(arguments, progress) as client:
        if not arguments.once and not arguments.json:
            _monitor.watch(lambda: _monitor.take_snapshot(client), arguments.interval)
        before = _monitor.take_snapshot(client)
        if before.error is None:
            time.sleep(arguments.interval)
        now = _monitor.take_snapshot(client)
    if arguments.json:
        print(json.dumps(_monitor.as_json(now, before), indent=2))
    else:
        _monitor.show(now, before)
    return 1 if now.error is not None else 0


def _positive(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < (value := float(text)) <= _LONGEST:
            return value
    raise argparse.ArgumentTypeError(f"must be a number above 0, at most {_LONGEST}")
