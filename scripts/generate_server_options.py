"""Writes `local/flags.py` from `llama-server --help`: `python scripts/generate_server_options.py [PROGRAM [BUILD]]`.

Options that `local/options.py` describes by hand are left out. `missing` names flags of a build that neither knows;
a test asks it of the installed program, so that a new build shows what is to be added.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from llamacpp_server.local import EXCLUDED, OPTIONS, find_binary

TARGET = Path(__file__).parents[1] / "llamacpp_server" / "local" / "flags.py"
_ENTRY = re.compile(r"^(?P<flags>-[^\s,]+(?:, +-[^\s,]+)*)(?P<value> [^\s][^\n]*?)?(?: {2,}(?P<help>.*))?$")
_END_OF_SENTENCE = re.compile(
    r" ?allowed values| - |; |(?<!max)(?<!i\.e)(?<!e\.g)\. |, one of|,? (?:i\.e|e\.g)\.| ?see http| note:| example"
)
_HEAD = '''\
"""Options of llama-server that need no conversion, from {build}. Generated, see scripts/."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypedDict

Row = tuple[str, str, tuple[str, ...]]
"""Flag, kind of its value (`value`, `switch`, `both`, `on_off`, `list`, `pair`, `json`), and its other long names."""

'''


@dataclass(frozen=True)
class Entry:
    """One option of the program."""

    long: list[str]
    negative: bool
    value: str
    help: str

    @property
    def name(self) -> str:
        """As a keyword of Python."""
        return self.long[0].removeprefix("--").replace("-", "_").replace(".", "_")

    @property
    def kind(self) -> str:
        """How a value becomes arguments."""
        if not self.value:
            return "both" if self.negative else "switch"
        if "on|off" in self.value:
            return "on_off"
        if "JSON" in self.value or "SCHEMA" in self.value:
            return "json"
        if self.value == "START END":
            return "pair"
        return "list" if re.search(r",\.\.|1,", self.value) else "value"

    @property
    def annotation(self) -> str:
        """Its type."""
        if self.kind in ("both", "switch"):
            return "bool | None"
        if self.kind == "on_off":
            return "bool | str | None"
        if self.kind == "json":
            return "Mapping[str, Any] | str | None"
        if self.kind in ("list", "pair"):
            return "str | Sequence[Any] | None" if self.kind == "list" else "Sequence[int] | None"
        if re.fullmatch(r"N|P|INDEX|SECONDS|<0\|1>|<0\.\.\.100>|L|SEED", self.value):
            return "float | None" if re.search(r"default: -?\d+\.\d", self.help) else "int | None"
        return "str | None"


def entries(text: str) -> Iterator[Entry]:
    """The options of a help text."""
    for block in re.split(r"\n(?=-[^-\s]|--[a-z]|-----)", text):
        first, _, rest = block.partition("\n")
        found = _ENTRY.match(first)
        if found is None or block.startswith("-----"):
            continue
        flags = re.split(r", +", found["flags"])
        more = " ".join(
            [found["help"] or "", *(line.strip() for line in rest.split("\n") if line.startswith(" " * 20))]
        )
        long = [flag for flag in flags if flag.startswith("--") and not flag.startswith("--no-")]
        negative = [flag for flag in flags if flag.startswith("--no-")]
        long = long or negative
        if long and "argument has been removed" not in more:
            yield Entry(long, bool(negative) and long != negative, (found["value"] or "").strip(), more.strip())


def missing(text: str) -> list[str]:
    """Flags of a help text that no option of `LocalServer` sets and `EXCLUDED` does not name."""
    from llamacpp_server.local import FLAGS

    known = {option.flag for option in OPTIONS.values()} | {row[0] for row in FLAGS.values()} | set(EXCLUDED)
    return [entry.long[0] for entry in entries(text) if not known & set(entry.long)]


def written(text: str, build: str) -> str:
    """The module for a help text."""
    by_hand = {option.flag for name, option in OPTIONS.items() if not option.generated}
    kept = [entry for entry in entries(text) if not set(entry.long) & (by_hand | set(EXCLUDED))]
    lines = [_HEAD.format(build=build), "FLAGS: Final[Mapping[str, Row]] = {"]
    for entry in kept:
        others = tuple(flag.removeprefix("--").replace("-", "_") for flag in entry.long[1:])
        lines.append(f"    {entry.name!r}: {(entry.long[0], entry.kind, others)!r},")
    lines += ["}", "", "", "class ServerFlags(TypedDict, total=False):"]
    lines += ['    """Options by their flags; None is the server\'s own default.', "", "    Attributes:"]
    lines += [f"        {entry.name}: {_sentence(entry.help)}" for entry in kept]
    lines += ['    """', "", *(f"    {entry.name}: {entry.annotation}" for entry in kept), ""]
    return "\n".join(lines)


def _sentence(text: str) -> str:
    """The first sentence of a help text, without what stands in parentheses, in one line."""
    text = re.sub(r"\s*\([^()]*(\([^()]*\)[^()]*)*\)", "", text)
    text = re.split(
        r" ?allowed values| - |; |(?<!max)(?<!i\.e)(?<!e\.g)\. |, one of|,? (?:i\.e|e\.g)\.| ?see http| note:| example",
        text,
    )[0]
    text = re.split(r"[,;]? ?\(|, default", text)[0].partition("\\")[0].replace("max. ", "maximum ").strip(" ,.;:('")
    while len(text) > 84:
        text = text[: max(text.rfind(mark, 0, 84) for mark in (",", " "))].rstrip(" ,;:")
    return (text[:1].upper() + text[1:] or "No description") + "."


def main() -> None:
    """Write the module, and format it."""
    program = Path(sys.argv[1]) if len(sys.argv) > 1 else find_binary()
    if program is None:
        raise SystemExit("name a llama-server program")
    text = subprocess.run([program, "--help"], capture_output=True, text=True, check=True).stdout
    build = sys.argv[2] if len(sys.argv) > 2 else "of an unknown build"
    TARGET.write_text(written(text, f"llama.cpp {build}"), encoding="utf-8")
    subprocess.run([sys.executable, "-m", "ruff", "format", "-q", TARGET], check=True)


if __name__ == "__main__":
    main()
