"""`llamacpp-server check`: what a server supports, and which flags are missing."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import Any

from .._printable import one_line
from ..diagnostics import CAPABILITIES, Finding, preflight
from .shared import Progress, add_command, connect

__all__ = ["add_to"]


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
    detail = one_line(finding.detail)
    status = "FAILED" if finding.status == "failed" else finding.status
    remedy = f"\n{'':21}{one_line(finding.remedy)}" if finding.remedy else ""
    return f"{status:8} {finding.name:11} {detail}{remedy}"
