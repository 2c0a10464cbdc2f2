"""Runs the demo and `llamacpp-server check` in a terminal and draws what they print, as pictures for the README.

python -m scripts.record_terminal      # writes docs/assets/demo.svg and docs/assets/check.svg
"""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

from llamacpp_server import LocalServer

ROOT = Path(__file__).parent.parent
ASSETS = ROOT / "docs" / "assets"
WIDTH = 92


def in_terminal(*command: str) -> str:
    """Return what a command writes to a terminal, with its colours."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(WIDTH), "TERM": "xterm-256color", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, stdout=theirs, stderr=subprocess.DEVNULL, cwd=ROOT, env=environment)
    os.close(theirs)
    pieces = []
    try:
        while piece := os.read(ours, 4096):
            pieces.append(piece)
    except OSError:  # Linux ends a terminal's output so
        pass
    os.close(ours)
    process.wait(60)
    return b"".join(pieces).decode().replace("\r\n", "\n")


def draw(path: Path, shown: str, output: str) -> None:
    """Write a picture of a terminal in which a command was typed."""
    from rich.console import Console
    from rich.terminal_theme import MONOKAI
    from rich.text import Text

    console = Console(record=True, width=WIDTH, file=open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    console.print(Text(f"$ {shown}", style="bold green"))
    console.print(Text.from_ansi(output.strip("\n")))
    svg = console.export_svg(title="", theme=MONOKAI, unique_id=path.stem)
    # Nothing is fetched from elsewhere: the reader's own monospaced font will do.
    svg = re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL).replace("Fira Code", "ui-monospace")
    path.write_text(svg, encoding="utf-8")


def main() -> None:
    """Record both."""
    draw(ASSETS / "demo.svg", "make demo", in_terminal(sys.executable, "-m", "examples.quickstart"))
    with LocalServer(ROOT / "models" / "tiny-chat.gguf", port=8080, threads=1, parallel=2) as server:
        check = in_terminal(sys.executable, "-m", "llamacpp_server.cli", "check", "--base-url", server.base_url)
    draw(ASSETS / "check.svg", "llamacpp-server check", check)


if __name__ == "__main__":
    main()
