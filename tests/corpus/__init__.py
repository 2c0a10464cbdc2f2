"""Tool schemas in the shapes that MCP servers, pydantic, zod and OpenAPI documents give them. Our own words.

One tool a line. `TOOLS` has them all, under distinct names; those of `NASTY` have one oddity each, most of them from
somebody's bug report.
"""

import json
from pathlib import Path
from typing import Any

from tests.corpus.models import PYDANTIC


def _read(name: str) -> list[dict[str, Any]]:
    lines = (Path(__file__).parent / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


NASTY = _read("nasty")
TOOLS = [*_read("developer"), *_read("office"), *_read("services"), *_read("openapi"), *PYDANTIC, *NASTY]
