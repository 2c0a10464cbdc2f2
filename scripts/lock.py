"""Write `dev.lock`, the versions for development and tests: `make lock`."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
HEAD = "# Versions for development, for pip --constraint; written by `make lock`. Users are bound by pyproject.toml.\n"
# Built from source, for one system only, or the newest each time.
LEFT_OUT = {"binary", "fuzz", "ecosystem"}


def main() -> None:
    """Resolve all extras and groups together."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
    chosen = [part for name in groups if name not in LEFT_OUT for part in ("--group", name)]
    command = [sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", "--all-extras", *chosen]
    command += ["--universal", "--python-version", "3.11", "--no-header", "--no-annotate", "--no-emit-index-url"]
    text = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    kept = [line for line in text.split("\n") if not re.match(r"llamacpp-server\\b|-e |--", line)]
    (ROOT / "dev.lock").write_text(HEAD + "\n".join(kept), encoding="utf-8")


if __name__ == "__main__":
    main()
