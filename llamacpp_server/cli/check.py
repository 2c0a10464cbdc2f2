"""`llamacpp-server check`: what a server supports, and which flags are missing."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import Any, Final

from .._printable import short_line
from ..diagnostics import CAPABILITIES, Finding, preflight
from .shared import Progress, add_command, connect

__all__ = ["add_to"]

_MOST_SHOWN: Final = 1000


def add_to(commands: Any, where: argparse.ArgumentParser) -> None:
    """Add the command."""
    check = add_command(
        commands, "check", parents=[where], help="show what a server supports and which flags are missing"
    )
    check.add_argument("--json", action="store_true", help="print the findings as JSON")
    check.add_argument(
        "--need", action="append", default=[], choices=CAPABILITIES, help="fail if this is missing; can be repeated"
    )
    check.set_defaults(run=_check)


def _check(arguments: argparse.Namespace, progress: Progress) -> int:
    findings = []
    with connect(arguments, progress) as client:
        for finding in preflight(client, arguments.need):
            progress.end()
            findings.append(finding)
            if not arguments.json:
                print(_line(finding), flush=True)
    ok = not any(finding.status == "failed" for finding in findings)
    if arguments.json:
        checks = [asdict(finding) for finding in findings]
        print(json.dumps({"ok": ok, "checks": checks}, indent=2))
    elif not ok:
        failed = ", ".join(finding.name for finding in findings if finding.status == "failed")
        print(f"\nFailed: {failed}", file=sys.stderr)
    return 0 if ok else 1


def _line(finding: Finding) -> str:
    detail = short_line(finding.detail, _MOST_SHOWN)
    status = "FAILED" if finding.status == "failed" else finding.status
    remedy = f"\n{'':21}{short_line(finding.remedy, _MOST_SHOWN)}" if finding.remedy else ""
    return f"{status:8} {finding.name:11} {detail}{remedy}"
