"""`llamacpp-server ps` and `logs`: the local servers of this machine."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from .._printable import one_line, printable
from ..local import running_servers
from .shared import Progress, add_command

__all__ = ["add_to"]


def add_to(commands: Any) -> None:
    """Add the commands."""
    add_command(commands, "ps", help="list running local servers").set_defaults(run=_ps)
    logs = add_command(commands, "logs", help="print the end of a local server's log")
    logs.add_argument("name", nargs="?", default="", metavar="MODEL", help="part of the model's name, or the pid")
    logs.add_argument("--lines", type=int, default=50, help="number of lines (default: %(default)s)")
    logs.set_defaults(run=_logs)


def _ps(_arguments: argparse.Namespace, _progress: Progress) -> int:
    running = running_servers()
    for server in running:
        print(f"{one_line(server.base_url)}  {one_line(server.model)}  pid {server.pid}")
    if not running:
        print("no local server started by `llamacpp-server serve` or reuse=True is running", file=sys.stderr)
    return 0


def _logs(arguments: argparse.Namespace, _progress: Progress) -> int:
    found = [
        server
        for server in running_servers()
        if arguments.name in (str(server.pid), "") or arguments.name in server.model
    ]
    if len(found) != 1:
        shown = ", ".join(server.model for server in found or running_servers()) or "none"
        raise ValueError(f"no single match: pass part of a model's name, or a pid; running: {shown}")
    print(printable(found[0].log_tail(arguments.lines)))
    return 0
