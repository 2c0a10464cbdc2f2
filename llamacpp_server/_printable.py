"""Make text from servers, models and files safe for messages, logs and terminals."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Final

# C0 and C1 control characters, marks that turn the direction of writing, line ends of Unicode, tag characters (which
# nobody sees), and halves of surrogate pairs, which can't be written at all.
_UNSAFE: Final = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\U000e0000-\U000e007f"
)
_IN_TEXT: Final = re.compile(f"[{_UNSAFE}]")
_IN_LINE: Final = re.compile(f"[{_UNSAFE}\n\t]")


def one_line(text: str) -> str:
    r"""The text with control characters, bidirectional marks and line ends escaped: `\x1b`, `\u202e`, `\n`."""
    return _IN_LINE.sub(_escaped, text) if not _is_plain(text) else text


def printable(text: str) -> str:
    """Escape text of several lines: like `one_line`, but keep line feeds and tabs."""
    return _IN_TEXT.sub(_escaped, text) if not _is_plain(text) else text


def short_line(text: str, most: int = 200) -> str:
    """`one_line` of a text that may have any length; the middle of one longer than `most` characters is left out."""
    return one_line(text if len(text) <= most else f"{text[: most // 2]} ... {text[-most // 2 :]}")


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Ask for the known name closest to an unknown one; "" if none is close."""
    near = difflib.get_close_matches(str(name), list(known), n=1)
    return f"did you mean {near[0]!r}?" if near else ""


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable()


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()
