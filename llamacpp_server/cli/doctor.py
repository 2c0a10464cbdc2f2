"""`llamacpp-server doctor`: why a recorded program was slow."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from .._printable import printable
from ..diagnostics import Cost, Recorded, Replay, diagnose, doctor_html, read_recording, replay
from ..local import LocalServer
from ..transport import RECORD
from .shared import Progress, add_command

__all__ = ["add_to"]

_WATCH_SECONDS: Final = 2.0


def add_to(commands: Any) -> None:
    """Add the command."""
    doctor = add_command(commands, "doctor", help="show why a recorded program was slow and which flag or line helps")
    doctor.add_argument(
        "recording", help="file written by a program with LLAMACPP_RECORD=FILE, or by CacheReport(recording=...)"
    )
    doctor.add_argument("--html", metavar="FILE", help="write a page with plots")
    doctor.add_argument("--json", action="store_true", help="print the findings as JSON")
    doctor.add_argument("--watch", action="store_true", help="keep watching while the program runs, until ^C")
    doctor.add_argument(
        "--apply", metavar="MODEL", help="replay the calls on a local server with this GGUF, without and with the flags"
    )
    doctor.set_defaults(run=_doctor)


def _doctor(arguments: argparse.Namespace, _progress: Progress) -> int:
    os.environ.pop(RECORD, None)  # a replay is not part of the recording
    server, calls = read_recording(arguments.recording)
    costs = diagnose(server, calls)
    replays = _replayed(arguments.apply, server, calls, costs) if arguments.apply else None
    if arguments.html:
        Path(arguments.html).write_text(doctor_html(server, calls, costs, replays), encoding="utf-8")
    if arguments.json:
        print(json.dumps({"calls": len(calls), "costs": [asdict(cost) for cost in costs]}, indent=2))
    else:
        _print_costs(len(calls), costs)
    if replays is not None and not arguments.json:
        for name, found in zip(("without flags", "with flags"), replays, strict=True):
            print(f"{name}: {found.tokens_read} tokens read in {found.seconds:.1f} s, {found.failed} failed")
    while arguments.watch:
        time.sleep(_WATCH_SECONDS)
        server, now = read_recording(arguments.recording)
        if len(now) != len(calls):
            calls = now
            _print_costs(len(calls), diagnose(server, calls))
    return 0


def _print_costs(calls: int, costs: Sequence[Cost]) -> None:
    if not calls:
        print("the recording has no calls yet", flush=True)
        return
    found = "most expensive cause first:" if costs else "no expensive cause was found"
    print(f"{calls} call{'s' if calls > 1 else ''}; {found}")
    for number, cost in enumerate(costs, 1):
        print(f"{number}. {printable(str(cost))}", flush=True)


def _replayed(
    model: str, server: dict[str, Any], calls: Sequence[Recorded], costs: Sequence[Cost]
) -> tuple[Replay, Replay]:
    """The recording sent to a server as it was, and to one with the options that help."""
    before: dict[str, Any] = {"parallel": server.get("slots") or 1}
    if server.get("n_ctx"):
        before["ctx_size"] = server["n_ctx"] * before["parallel"]
    after = dict(before)
    for cost in reversed(costs):  # where two disagree, the dearer one wins
        after |= cost.options
    added = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in after.items())
    note = f"with: {added}" if after != before else "no flag of the server helps: both replays run with the same ones"
    print(note, file=sys.stderr)
    found = []
    for options in (before, after):
        with LocalServer(model, **options) as local, local.client() as client:
            found.append(replay(client, calls))
    return found[0], found[1]
