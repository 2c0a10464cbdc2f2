r"""Grammars (GBNF) for what llama-server has no words for: regular expressions, and lists of texts.

What a grammar lets through matches the expression as `re.fullmatch` has it: where the two can't agree (look-around,
`\b`, back-references) the expression is refused by the name of what is in the way, and never widened. `\d`, `\w` and
`\s` stand for their ASCII characters, their opposites for what is none of the Unicode ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from ..errors import BadRequestError
from .regex import (
    CLASSES,
    PatternParser,
    Ranges,
    UnsupportedPatternError,
    complement,
    either,
    quantifier_text,
)

__all__ = ["choices_grammar", "quoted", "regex_grammar"]

_LAST: Final = 0x10FFFF
# No text has these: the first ends it for the server's matcher, the others are halves of characters.
_NO_TEXT: Final[Ranges] = ((0, 0), (0xD800, 0xDFFF))
_SPACE: Final[Ranges] = ((9, 13), (32, 32))


def choices_grammar(choices: Iterable[str]) -> str:
    """A grammar that lets through these texts and no other.

    Raises:
        BadRequestError: When there are none, or one has a character that no text has.
    """
    texts = list(dict.fromkeys(choices))
    if not texts:
        raise BadRequestError("choices must not be empty")
    try:
        return "root ::= " + " | ".join(quoted(text) for text in texts)
    except UnsupportedPatternError as error:
        raise BadRequestError(f"can't convert choices to a grammar: {error}") from None


# A grammar of more takes the server minutes to read.
_LONGEST: Final = 20_000


@lru_cache(maxsize=256)
def regex_grammar(pattern: str) -> str:
    """A grammar whose texts match a regular expression as a whole; `^` and `$` at its ends change nothing.

    Raises:
        BadRequestError: For what is no expression of Python, or has something that no grammar can say.
    """
    if len(pattern) > _LONGEST:
        raise BadRequestError(f"the regex has {len(pattern)} characters; a grammar can have at most {_LONGEST}")
    try:
        re.compile(pattern)
        branches = _RegexParser(pattern).parse()
    except re.error as error:
        raise BadRequestError(f"regex {pattern[:500]!r} is not a valid regular expression: {error}") from None
    except (RecursionError, OverflowError):
        raise BadRequestError(f"the regex {pattern[:80]!r}... is nested too deeply for a grammar") from None
    except UnsupportedPatternError as error:
        raise BadRequestError(
            f"can't convert regex {pattern[:500]!r} to a grammar: {error}", remedy="rewrite it, or pass a `grammar`"
        ) from None
    texts = [branch.piece.text for branch in branches]
    body = either(texts, _RegexParser.bar).text if len(texts) > 1 else texts[0]
    return f"root ::= {body or quoted('')}"


def quoted(text: str) -> str:
    """A text as a literal of a grammar.

    Raises:
        UnsupportedPatternError: For a character that no text has.
    """
    return '"' + "".join(_spelled(ord(char), '"\\') for char in text) + '"'


def _spelled(code: int, special: str) -> str:
    if any(low <= code <= high for low, high in _NO_TEXT):
        raise UnsupportedPatternError(f"the character U+{code:04X}")
    char = chr(code)
    if char in special or not char.isprintable():
        return f"\\x{code:02X}" if code < 0x100 else f"\\u{code:04X}" if code < 0x10000 else f"\\U{code:08X}"
    return char


class _RegexParser(PatternParser):
    """Reads an expression as Python does, and writes GBNF."""

    bar = " | "

    def joined(self, texts: list[str]) -> str:
        return " ".join(text for text in texts if text)

    def literal(self, char: str) -> str:
        return quoted(char)

    def any_of(self, ranges: Ranges) -> str:
        # Never `[^...]`, which lets through the half characters of a model with tokens of bytes.
        ranges = complement((*complement(ranges), *_NO_TEXT))
        if not ranges:
            raise UnsupportedPatternError("an empty class")
        return f"[{''.join(_spelled_range(low, high) for low, high in ranges)}]"

    def escaped_class(self, letter: str) -> Ranges:
        if letter == "s":
            return _SPACE
        return CLASSES[letter] if letter.islower() else _unicode_class(letter)

    def bracketed(self, text: str) -> str:
        return f"({text})"

    def repetition(self, least: int, most: int | None) -> str:
        return quantifier_text(least, most)

    def members(self) -> Ranges:
        if self.peek() == "]" or self.pattern.startswith("^]", self.at):
            raise UnsupportedPatternError("a ] that opens a class: write it as \\]")
        return super().members()

    def escape(self) -> str | Ranges:
        if self.peek() == "0" and self.pattern[self.at + 1 : self.at + 2].isdigit():
            raise UnsupportedPatternError("an octal escape")
        return super().escape()


def _spelled_range(low: int, high: int) -> str:
    first, last = (_spelled(code, "^-[]\\") for code in (low, high))
    return first if low == high else f"{first}-{last}"


@lru_cache
def _unicode_class(letter: str) -> Ranges:
    """All characters of one of Python's classes."""
    matches = re.compile(f"\\{letter}").match
    ranges: list[tuple[int, int]] = []
    for code in range(_LAST + 1):
        if matches(chr(code)):
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1] = (ranges[-1][0], code)
            else:
                ranges.append((code, code))
    return tuple(ranges)
