"""Writes the blocking client from the async one: `python scripts/generate_client.py`, or `--check` to compare.

`async_client.py` and the `async_*.py` of `_clients` are written by hand; each makes the file without `async_`. Words of
async Python are replaced, in code and in docstrings, and the sentences of `LINES` in full. A replacement that matches
nothing in any file is an error.
"""

import re
import subprocess
import sys
from pathlib import Path

CORE = Path(__file__).parents[1] / "llamacpp_server"
SOURCES = (CORE / "async_client.py", *sorted((CORE / "_clients").glob("async_*.py")))

LINES = {
    '"""The async client: one method for each endpoint of llama-server. `client.py` is generated from it.':
        '"""The blocking client: one method for each endpoint of llama-server. Generated from `async_client.py`.',
    "To change a method, change it here and run `python scripts/generate_client.py`.":
        "To change a method, change `async_client.py` and run `python scripts/generate_client.py`.",
    '    """Async client of llama-server, for asyncio and trio; can be used in one event loop after another.':
        '    """Client of llama-server, safe to use from several threads, after a fork, and pickled.',
    "Close the connections of this event loop;":
        "Close the connections;",
}  # fmt: skip

WORDS = (
    (r"\[(\w+) async for \1 in (.+?)\]\)", r"list(\2))"),
    (r"\basync (def|with|for)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\bAsync(Iterator|Client|Transport|LlamaServerClient|Methods|Generation|Management|Inputs)\b", r"\1"),
    (r"\basync_(base|generation|management|inputs)\b", r"\1"),
    (r"\basync client\b(.*; )see `async_client.py`", r"blocking client\1generated"),
    (r"\baclos(e|ing)\b", r"clos\1"),
    (r"\barun_batch\b", "run_batch"),
    (r"\b__a(enter|exit)__\b", r"__\1__"),
)


def target_of(source: Path) -> Path:
    """The file that is made from another."""
    return source.with_name(source.name.removeprefix("async_"))


def blocking() -> dict[Path, str]:
    """The text of each file of the blocking client."""
    texts = {target_of(source): source.read_text(encoding="utf-8") for source in SOURCES}
    for line, other in LINES.items():
        if not any(line in text for text in texts.values()):
            raise SystemExit(f"the async client has no line {line!r}: mend LINES in {Path(__file__).name}")
        texts = {target: text.replace(line, other) for target, text in texts.items()}
    for pattern, replacement in WORDS:
        if not any(re.search(pattern, text) for text in texts.values()):
            raise SystemExit(f"nothing in the async client matches {pattern!r}: mend WORDS in {Path(__file__).name}")
        texts = {target: re.sub(pattern, replacement, text) for target, text in texts.items()}
    return {target: formatted(target, text) for target, text in texts.items()}


def formatted(target: Path, text: str) -> str:
    """The text with its imports sorted, as ruff writes it."""
    ruff = [sys.executable, "-m", "ruff"]
    for command in ([*ruff, "check", "--select", "I", "--fix", "-q", "-"], [*ruff, "format", "-q", "-"]):
        text = subprocess.run(
            [*command, "--stdin-filename", str(target)], input=text, capture_output=True, text=True, check=True
        ).stdout
    return text


def main() -> None:
    """Write the files, or compare them."""
    for target, text in blocking().items():
        if "--check" not in sys.argv:
            target.write_text(text, encoding="utf-8")
        elif not target.exists() or text != target.read_text(encoding="utf-8"):
            name = target.relative_to(CORE)
            raise SystemExit(f"{name} is not what async_{target.name} makes: run scripts/generate_client.py")


if __name__ == "__main__":
    main()
