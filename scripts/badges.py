"""Draw the badges of the README from `pyproject.toml`: `python -m scripts.badges`; a test compares them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
ASSETS = ROOT / "docs" / "assets"
_CHARACTER = 7.0  # pixels of width at this size of letters
_COLOURS = {"python": "#3b6ea5", "langchain-core": "#1c6b5a", "llama-index-core": "#6a4c93", "license": "#6b7280"}


def badges() -> dict[Path, str]:
    """Each badge by its path."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    versions = re.findall(r"Python :: (3\.\d+)", " ".join(project["classifiers"]))
    shown = {"python": f"{versions[0]} to {versions[-1]}", "license": _license(project)}
    for name in ("langchain-core", "llama-index-core"):
        shown[name] = _range(project["optional-dependencies"], name)
    return {ASSETS / f"badge-{name}.svg": _drawn(name, value, _COLOURS[name]) for name, value in shown.items()}


def _license(project: dict[str, Any]) -> str:
    given = project["license"]
    return str(given if isinstance(given, str) else given["text"])


def _range(extras: dict[str, list[str]], name: str) -> str:
    """The versions of a dependency that we allow, such as `1.4, < 2`."""
    found = next(one for wanted in extras.values() for one in wanted if re.match(rf"{name}\b[><=~]", one))
    least, below = re.findall(r">=([\d.]+)", found)[0], re.findall(r"<([\d.]+)", found)
    return f"{least} to < {below[0]}" if below else f"{least} or later"


def _drawn(name: str, value: str, colour: str) -> str:
    left, right = (round(len(text) * _CHARACTER + 14) for text in (name, value))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="20" role="img" '
        f'aria-label="{name}: {value.replace("<", "below")}">'
        f'<rect width="{left + right}" height="20" rx="3" fill="#3a4650"/>'
        f'<path d="M{left} 0h{right - 3}a3 3 0 0 1 3 3v14a3 3 0 0 1-3 3H{left}z" fill="{colour}"/>'
        '<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" text-anchor="middle">'
        f'<text x="{left / 2}" y="14">{name}</text>'
        f'<text x="{left + right / 2}" y="14">{value.replace("<", "&lt;")}</text></g></svg>\n'
    )


if __name__ == "__main__":
    for path, text in badges().items():
        path.write_text(text, encoding="utf-8")
