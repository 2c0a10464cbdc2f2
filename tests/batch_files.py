"""Input and output of jobs with many requests."""

import json
from pathlib import Path
from typing import Any


def write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    """Write a file of JSON lines."""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def read_answers(path: Path) -> dict[str, Any]:
    """The lines of an output by the name of their request, each of which is there once."""
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert len({line["custom_id"] for line in found}) == len(found), "no line twice"
    return {line["custom_id"]: line for line in found}
