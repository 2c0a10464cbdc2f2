"""Python blocks of the README and the guides.

A block runs as it stands, after the ones above it on its page; only addresses differ. One that needs more than the
servers of `addresses` says so in its first line: `# Needs a router: llama-server --models-dir models`.
"""

import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
MODELS = ROOT / "models"
PAGES = [
    path
    for path in (ROOT / "README.md", *sorted(DOCS.glob("*.md")), *sorted(DOCS.glob("howto/*.md")))
    if "```python" in path.read_text(encoding="utf-8")
]


def blocks(page: Path) -> list[str]:
    """Python blocks of a page, those inside tabs included."""
    found = re.findall(r"^( *)```python\n(.*?)^\1```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(code) for _, code in found]


def needs(block: str) -> str:
    """What a block needs besides the usual servers; empty if nothing."""
    return block.removeprefix("# Needs ").split("\n")[0] if block.startswith("# Needs ") else ""


def run_page(page: Path, addresses: Mapping[str, str], with_needs: str = "") -> dict[str, Any]:
    """Run the blocks of a page and return the names that they leave.

    Args:
        page: Its file.
        addresses: What each port of localhost stands for.
        with_needs: Run the blocks that need something starting with this, too; by default none of those.
    """
    names: dict[str, Any] = {"__name__": page.stem}
    for block in blocks(page):
        need = needs(block)
        if need and not (with_needs and need.startswith(with_needs)):
            continue
        code = re.sub(r"http://localhost:(\d+)", lambda match: addresses[match[1]], block)
        exec(compile(code, str(page), "exec", dont_inherit=True), names)
    return names
