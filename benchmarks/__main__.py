"""`python -m benchmarks`: all measurements, as tables; with `--save`, also to benchmarks/results.md."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from . import embedding_cpu, import_time, stream_cpu

MEASUREMENTS = {
    "CPU for each streamed chunk": stream_cpu,
    "CPU for each embedded document": embedding_cpu,
    "Time to import": import_time,
}
PACKAGES = ("httpx", "pydantic", "langchain-core", "langchain-openai", "llama-index-core", "openai")


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as a Markdown table."""
    head = list(rows[0])
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join("" if row[key] is None else str(row[key]) for key in head) + " |" for row in rows]
    return "\n".join(lines)


def machine() -> str:
    """What the figures were taken on: they hold as ratios, not as promises."""
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} (not installed)")
    return f"Python {platform.python_version()}, {platform.machine()}; {', '.join(found)}"


def main() -> None:
    """Runs every measurement."""
    parts = ["# Benchmarks", machine()]
    for title, module in MEASUREMENTS.items():
        parts += [f"## {title}", (module.__doc__ or "").strip(), table(module.run())]
    text = "\n\n".join(parts) + "\n"
    print(text)
    if "--save" in sys.argv:
        (Path(__file__).parent / "results.md").write_text(text)


if __name__ == "__main__":
    main()
