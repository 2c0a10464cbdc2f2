"""Draws docs/architecture.svg from the import contract and the packages: `python -m tests.rules.architecture`."""

import ast
import html
import tomllib

from tests.rules.packages import ROOT

PATH = ROOT / "docs" / "architecture.svg"
CORE = ROOT / "llamacpp_server"
_WIDTH, _ROW, _GAP, _LEFT = 880, 54, 10, 16
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#1f2933}.name{font-weight:600}.note{font-size:11px;fill:#52606d}"
    ".value{fill:#e4e7eb}.package{fill:#d9ecff}.public{fill:#d5f2e3}.adapter{fill:#fdebc8}.sheet{fill:#fff}"
    "@media (prefers-color-scheme:dark){.sheet{fill:#161b22}text{fill:#e6edf3}.note{fill:#9aa7b4}"
    ".value{fill:#2d333b}.package{fill:#12395c}.public{fill:#174a34}.adapter{fill:#5c4413}}"
)


def layers() -> list[list[str]]:
    """Rows of the core from the import contract, the highest first."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (rows,) = [contract["layers"] for contract in contracts if contract.get("containers") == ["llamacpp_server"]]
    return [row.split(" | ") for row in rows]


def purpose(name: str) -> str:
    """The first sentence of a module's or a package's docstring."""
    path = CORE / name / "__init__.py" if (CORE / name).is_dir() else CORE / f"{name}.py"
    text = (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n\n")[0].replace("\n", " ")
    return text.partition(". ")[0].rstrip(".")


def kind(name: str) -> str:
    """How a box is coloured: a package behind a door, a public one, or a module of values."""
    if not (CORE / name).is_dir():
        return "value"
    return "package" if name.startswith("_") or name == "transport" else "public"


def picture() -> str:
    """The picture as SVG: an arrow down is the only way to import."""
    rows = [("adapter", ["langchain_llamacpp_server", "llamaindex_llamacpp_server"]), *(("", row) for row in layers())]
    height = 2 * _LEFT + len(rows) * (_ROW + _GAP) - _GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img"'
        ' aria-label="The packages of llamacpp-server in layers; each imports only from the rows below it">',
        f"<style>{_STYLE}</style>",
        f'<rect class="sheet" width="{_WIDTH}" height="{height}"/>',
    ]
    for at, (given, names) in enumerate(rows):
        width = (_WIDTH - 2 * _LEFT - _GAP * (len(names) - 1)) / len(names)
        for column, name in enumerate(names):
            x, y = _LEFT + column * (width + _GAP), _LEFT + at * (_ROW + _GAP)
            note = "" if given else _shortened(purpose(name), width)
            parts += [
                f'<rect class="{given or kind(name)}" x="{x:.0f}" y="{y}" width="{width:.0f}" height="{_ROW}" rx="6"/>',
                f'<text class="name" x="{x + 12:.0f}" y="{y + 22}">{name}</text>',
                f'<text class="note" x="{x + 12:.0f}" y="{y + 41}">{html.escape(note)}</text>',
            ]
    return "\n".join([*parts, "</svg>", ""])


def _shortened(text: str, width: float) -> str:
    """A note of one line, cut between words."""
    most = int((width - 24) / 5.6)
    if len(text) <= most:
        return text
    kept = text[: max(text.rfind(" ", 0, most - 1), 0)].rstrip(",;:")
    return f"{kept} …" if kept else ""


if __name__ == "__main__":
    PATH.write_text(picture(), encoding="utf-8")
