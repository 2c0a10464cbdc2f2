"""Writes the blocking client from the async one: `python scripts/generate_client.py`, or `--check` to compare.

`async_client.py` is the one that is written by hand. Words of async Python are replaced, in code and in docstrings
alike, and the sentences of `LINES` as a whole. A replacement that matches nothing is an error.
"""

import re
import subprocess
import sys
from pathlib import Path

CORE = Path(__file__).parents[1] / "llamacpp_server"
SOURCE, TARGET = CORE / "async_client.py", CORE / "client.py"

LINES = {
    '"""The async client: one method for each endpoint of llama-server. `client.py` is generated from it.':
        '"""The blocking client: one method for each endpoint of llama-server. Generated from `async_client.py`.',
    "To change a method, change it here and run `python scripts/generate_client.py`.":
        "To change a method, change `async_client.py` and run `python scripts/generate_client.py`.",
    '    """An async client of llama-server, for asyncio and trio. Works in one event loop after another.':
        '    """A client of llama-server. Safe to use from several threads, after a fork, and pickled.',
    "Close the connections of this event loop;":
        "Close the connections;",
}  # fmt: skip

WORDS = (
    (r"\[(\w+) async for \1 in (.+?)\]\)", r"list(\2))"),
    (r"\basync (def|with|for)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\bAsync(Iterator|Client|Transport|LlamaServerClient)\b", r"\1"),
    (r"\baclos(e|ing)\b", r"clos\1"),
    (r"\barun_batch\b", "run_batch"),
    (r"\b__a(enter|exit)__\b", r"__\1__"),
)


def blocking(source: str) -> str:
    """The text of the blocking client."""
    for line, other in LINES.items():
        if line not in source:
            raise SystemExit(f"{SOURCE.name} has no line {line!r}: mend LINES in {Path(__file__).name}")
        source = source.replace(line, other)
    for pattern, replacement in WORDS:
        source, count = re.subn(pattern, replacement, source)
        if not count:
            raise SystemExit(f"nothing in {SOURCE.name} matches {pattern!r}: mend WORDS in {Path(__file__).name}")
    ruff = [sys.executable, "-m", "ruff"]
    for command in ([*ruff, "check", "--select", "I", "--fix", "-q", "-"], [*ruff, "format", "-q", "-"]):
        source = subprocess.run(
            [*command, "--stdin-filename", str(TARGET)], input=source, capture_output=True, text=True, check=True
        ).stdout
    return source


def main() -> None:
    """Write the client, or compare it."""
    made = blocking(SOURCE.read_text(encoding="utf-8"))
    if "--check" not in sys.argv:
        TARGET.write_text(made, encoding="utf-8")
    elif made != TARGET.read_text(encoding="utf-8"):
        raise SystemExit("client.py differs from what async_client.py makes: run python scripts/generate_client.py")


if __name__ == "__main__":
    main()
