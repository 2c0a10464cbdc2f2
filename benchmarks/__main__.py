"""`python -m benchmarks`: all measurements, or those that are named; with `--save` also results.md and its plots.

A measurement is a module with a docstring that says what it measures, a `TITLE`, `run(quick)` that gives the rows of
a table, and where a picture says more than the table, `draw(rows, figure)`.
"""

from __future__ import annotations

import argparse
import os
import platform
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

MEASUREMENTS = (
    "first_chunk",
    "agents",
    "stream_cpu",
    "concurrency",
    "threads",
    "batch",
    "embedding_cpu",
    "rerank_cpu",
    "import_time",
    "admission",
    "corpus",
    "decisions",
)
PACKAGES = (
    "httpx",
    "pydantic",
    "langchain-core",
    "langchain-openai",
    "langchain-llama-cpp",
    "llama-index-core",
    "llama-index-llms-openai-like",
    "llama-index-embeddings-openai-like",
    "openai",
    "xllamacpp",
)
HERE = Path(__file__).parent
HOW_TO_READ = (
    "The cost of each client compared with the others and with the unavoidable minimum (the floor), all in one run on "
    "one machine. **The ratios are the result**: microseconds depend on the machine and its load. CPU time is the "
    "minimum of several rounds in which all clients take turns. A ratio of 1.0 to the floor means that a client adds "
    "nothing to reading the bytes and to its framework's own work; it can be below 1, because this package creates "
    "some of the framework's objects in fewer steps than their constructors. `make bench` generates this page."
)


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as a Markdown table."""
    head = list(rows[0])
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join("" if row[key] is None else str(row[key]) for key in head) + " |" for row in rows]
    return "\n".join(lines)


def machine() -> str:
    """Description of the machine and versions."""
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} (not installed)")
    cores = os.cpu_count()
    return f"{_processor()}, {cores} cores; Python {platform.python_version()}; {', '.join(found)}."


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def section(name: str, *, quick: bool, save: bool) -> str:
    """One measurement as a chapter."""
    module = import_module(f".{name}", __package__)
    rows = module.run(quick)
    parts = [f"## {module.TITLE}", (module.__doc__ or "").strip(), table(rows)]
    if save and hasattr(module, "draw"):
        _save(module, rows, HERE / f"{name}.png")
        parts.insert(2, f"![{module.TITLE}]({name}.png)")
    return "\n\n".join(parts)


def _save(module: Any, rows: list[dict[str, Any]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), dpi=100, layout="constrained")
    module.draw(rows, figure)
    figure.savefig(path, metadata={"Software": None})


def main() -> None:
    """Runs the measurements."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Our cost beside the peers'.")
    parser.add_argument("names", nargs="*", metavar="measurement", help=f"of {', '.join(MEASUREMENTS)}; none means all")
    parser.add_argument("--save", action="store_true", help="write results.md and its plots, when all are measured")
    parser.add_argument("--quick", action="store_true", help="one tiny round, to see that everything runs")
    given = parser.parse_args()
    if unknown := set(given.names) - set(MEASUREMENTS):
        parser.error(f"no such measurement: {', '.join(sorted(unknown))}")
    save = given.save and not given.names and not given.quick
    parts = ["# Benchmarks", HOW_TO_READ, machine()]
    print("\n\n".join(parts), flush=True)
    for name in given.names or MEASUREMENTS:
        parts.append(section(name, quick=given.quick, save=save))
        print("\n" + parts[-1], flush=True)
    if save:
        (HERE / "results.md").write_text("\n\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
