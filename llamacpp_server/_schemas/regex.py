r"""Regular expressions of JSON Schema -> those that llama-server turns into a grammar.

The server takes a `pattern` as text of a grammar rule between two quotes (`json-schema-to-grammar.cpp`, b11434 and
b6900), so it knows no `\d`, no look-around and no search: a pattern must begin with `^` and end with `$`. Older builds
refuse what they don't know, newer ones then take any string. Both match against the *JSON text* of the string, where
`.` and `[^/]` let a bare quote through, after which the string never ends. And both apply a quantifier to all the
letters that come after an escaped one before it. What comes out here has none of this: classes are spelled out and
leave out what JSON wants escaped, escapes stand beside them as alternatives, and what is repeated is in brackets.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, NamedTuple

Ranges = tuple[tuple[int, int], ...]

_LAST: Final = 0x10FFFF
MOST_REPEATS: Final = 1000
"""A grammar may not repeat a thing more than 2,000 times (`MAX_REPETITION_THRESHOLD`, b11434); half leaves room."""
_MOST_DEPTH: Final = 50

# What JSON writes with a backslash, by the letter behind it. `\/` and `\u....` are other spellings of the same.
_ESCAPES: Final = {'"': '"', "\\": "\\\\", "\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t"}
_RAW_FORBIDDEN: Final[Ranges] = ((0, 0x1F), (0x22, 0x22), (0x5C, 0x5C), (0x7F, 0x7F))
_SPECIAL: Final = frozenset("^$.[]()|{}*+?")

_DIGIT: Final[Ranges] = ((48, 57),)
_WORD: Final[Ranges] = ((48, 57), (65, 90), (95, 95), (97, 122))
_SPACE: Final[Ranges] = ((9, 13), (32, 32), (0xA0, 0xA0), (0xFEFF, 0xFEFF))
CLASSES: Final = {"d": _DIGIT, "w": _WORD, "s": _SPACE}
_CONTROLS: Final = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "0": "\0"}


# What every build reads as it is meant, and may stay as it was written.
_SAFE: Final = re.compile(
    r"\^(?:\[[\w .:/@+,-]+\](?:[*+?]|\{\d{1,3}(?:,\d{0,3})?\})?|[\w/:@ ,-]|\(|\||\)\??)*\$", re.ASCII
)


class UnsupportedPatternError(Exception):
    """The pattern has something that no grammar of the server can say."""


class Piece(NamedTuple):
    """Text for the server, and whether it matches the empty string."""

    text: str
    nullable: bool


class Branch(NamedTuple):
    """One alternative, and whether it began and ended with an anchor."""

    piece: Piece
    starts: bool
    ends: bool


_LONGEST: Final = 20_000


@lru_cache(maxsize=1024)
def server_pattern(pattern: str) -> str | None:
    """A pattern for the server that matches the same strings; None where there is none."""
    if len(pattern) > _LONGEST:
        return None
    try:
        branches = PatternParser(pattern).parse()
    except (UnsupportedPatternError, RecursionError):
        return None
    if _SAFE.fullmatch(pattern):
        return pattern
    texts = [_searched(branch) for branch in branches]
    return f"^{either(texts).text}$" if len(texts) > 1 else f"^{texts[0]}$"


def _searched(branch: Branch) -> str:
    """An alternative, with anything before and behind it where it has no anchor."""
    if not branch.piece.text and not (branch.starts and branch.ends):
        return _ANYTHING
    return ("" if branch.starts else _ANYTHING) + branch.piece.text + ("" if branch.ends else _ANYTHING)


def either(texts: list[str], bar: str = "|") -> Piece:
    """Alternatives in brackets; an empty one becomes a question mark, as older builds know no empty alternative."""
    filled = [text for text in texts if text]
    if not filled:
        return Piece("", True)
    return Piece(f"({bar.join(filled)})" + ("?" if len(filled) < len(texts) else ""), False)


class PatternParser:
    """Recursive descent over the syntax of ECMA 262, as far as it is regular.

    What it writes is text for the server's own reading of a pattern; a subclass may write something else.
    """

    bar = "|"

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0
        self.depth = 0

    def parse(self) -> list[Branch]:
        branches = [self.branch(top=True)]
        while self.take("|"):
            branches.append(self.branch(top=True))
        if self.at < len(self.pattern):
            raise UnsupportedPatternError("unbalanced brackets")
        return branches

    def joined(self, texts: list[str]) -> str:
        """One after the other."""
        return "".join(texts)

    def literal(self, char: str) -> str:
        """A character."""
        return _literal(char)

    def any_of(self, ranges: Ranges) -> str:
        """One of some characters."""
        return _class(ranges)

    def escaped_class(self, letter: str) -> Ranges:
        r"""The characters of a class such as `\d` or `\D`."""
        ranges = CLASSES[letter.lower()]
        return ranges if letter.islower() else complement(ranges)

    def bracketed(self, text: str) -> str:
        """Return an expression that a quantifier may follow."""
        return _bracketed(text)

    def repetition(self, least: int, most: int | None) -> str:
        """A quantifier."""
        if most is not None and least <= MOST_REPEATS < most:
            most = None  # more strings match; the schema itself is checked on our side
        return quantifier_text(least, most)

    def peek(self) -> str:
        return self.pattern[self.at : self.at + 1]

    def take(self, text: str) -> bool:
        found = self.pattern.startswith(text, self.at)
        self.at += len(text) if found else 0
        return found

    def next(self) -> str:
        if self.at >= len(self.pattern):
            raise UnsupportedPatternError("it ends too early")
        self.at += 1
        return self.pattern[self.at - 1]

    def branch(self, *, top: bool = False) -> Branch:
        starts = top and (self.take("^") or self.take("\\A"))
        texts, nullable = list[str](), True
        while self.peek() not in ("", "|", ")"):
            if top and self.ends_here():
                return Branch(Piece(self.joined(texts), nullable), starts, True)
            piece = self.repeated(self.atom())
            texts.append(piece.text)
            nullable = nullable and piece.nullable
        return Branch(Piece(self.joined(texts), nullable), starts, False)

    def ends_here(self) -> bool:
        """Takes an end anchor, which must be the last of its alternative."""
        if not any(self.take(anchor) for anchor in ("$", "\\Z", "\\z")):
            return False
        if self.peek() not in ("", "|"):
            raise UnsupportedPatternError("an anchor in the middle")
        return True

    def atom(self) -> Piece:
        if self.take("("):
            return self.group()
        if self.take("["):
            return Piece(self.any_of(self.members()), False)
        if self.take("."):
            return Piece(self.any_of(complement(((10, 10), (13, 13)))), False)
        if self.take("\\"):
            escaped = self.escape()
            return Piece(self.literal(escaped) if isinstance(escaped, str) else self.any_of(escaped), False)
        char = self.next()
        if char in "^$*+?{":
            raise UnsupportedPatternError(f"{char} is not expected here")
        return Piece(self.literal(char), False)

    def group(self) -> Piece:
        if self.take("?") and not self.take(":"):
            self.skip_name()
        self.depth += 1
        if self.depth > _MOST_DEPTH:
            raise UnsupportedPatternError("nested too deeply")
        branches = [self.branch().piece]
        while self.take("|"):
            branches.append(self.branch().piece)
        if not self.take(")"):
            raise UnsupportedPatternError("unbalanced brackets")
        self.depth -= 1
        nullable = any(branch.nullable for branch in branches)
        return Piece(either([branch.text for branch in branches], self.bar).text, nullable)

    def skip_name(self) -> None:
        """Takes the name of a group; anything else behind `(?` is look-around or a flag."""
        opening = self.pattern[self.at - 2 : self.at + 2]
        self.take("P")
        if not self.take("<") or self.peek() in ("=", "!", ""):
            raise UnsupportedPatternError(f"{opening} (look-around, a flag or a back-reference)")
        while self.next() != ">":
            pass

    def repeated(self, piece: Piece) -> Piece:
        bounds = self.quantifier()
        if bounds is None:
            return piece
        least, most = bounds
        self.take("?")  # lazy: the same strings match
        if self.peek() in ("*", "+", "{", "?"):
            raise UnsupportedPatternError("two quantifiers")
        if not piece.text or most == 0:
            return Piece("", True)
        if piece.nullable and most != 1:
            raise UnsupportedPatternError("a grammar can't repeat a group that may be empty")
        return Piece(self.bracketed(piece.text) + self.repetition(least, most), piece.nullable or least == 0)

    def quantifier(self) -> tuple[int, int | None] | None:
        for mark, bounds in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self.take(mark):
                return bounds
        if not self.take("{"):
            return None
        end = self.pattern.find("}", self.at)
        least, comma, most = self.pattern[self.at : end].partition(",")
        if end < 0 or not least.isdecimal() or (most and not most.isdecimal()):
            raise UnsupportedPatternError("braces that are not a quantifier")
        self.at = end + 1
        if not comma:
            return int(least), int(least)
        return int(least), int(most) if most else None

    def escape(self) -> str | Ranges:
        """Parse the part after a backslash: a character or a class."""
        char = self.next()
        if char.lower() in CLASSES:
            return self.escaped_class(char)
        if char in _CONTROLS:
            return _CONTROLS[char]
        if char in "xu":
            return self.code_point(2 if char == "x" else 4)
        if char.isalnum():
            raise UnsupportedPatternError(f"\\{char}")
        return char

    def code_point(self, digits: int) -> str:
        end = self.at + digits
        try:
            if self.take("{"):
                end = self.pattern.index("}", self.at)
            code = int(self.pattern[self.at : end], 16)
            char = chr(code)
        except (ValueError, OverflowError):
            raise UnsupportedPatternError("a bad code point") from None
        if 0xD800 <= code <= 0xDFFF:
            raise UnsupportedPatternError("a surrogate")
        self.at = end + (self.pattern[end : end + 1] == "}")
        return char

    def members(self) -> Ranges:
        negated = self.take("^")
        ranges: list[tuple[int, int]] = []
        while not self.take("]"):
            first = self.member()
            if isinstance(first, str) and self.peek() == "-" and self.pattern[self.at + 1 : self.at + 2] != "]":
                self.next()
                last = self.member()
                if not isinstance(last, str) or last < first:
                    raise UnsupportedPatternError("a bad range")
                ranges.append((ord(first), ord(last)))
            else:
                ranges.extend([(ord(first), ord(first))] if isinstance(first, str) else first)
        return complement(ranges) if negated else _union(ranges)

    def member(self) -> str | Ranges:
        char = self.next()
        if char != "\\":
            return char
        if self.take("b"):
            return "\b"
        return self.escape()


# -- sets of characters


def _union(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Sorted, and without overlaps."""
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return tuple(merged)


def complement(ranges: Iterable[tuple[int, int]]) -> Ranges:
    left, start = [], 0
    for low, high in _union(ranges):
        if low > start:
            left.append((start, low - 1))
        start = high + 1
    return (*left, (start, _LAST)) if start <= _LAST else tuple(left)


def _without(ranges: Ranges, others: Ranges) -> Ranges:
    return complement((*complement(ranges), *others))


def _contains(ranges: Ranges, char: str) -> bool:
    return any(low <= ord(char) <= high for low, high in ranges)


# -- text for the server


def _class(ranges: Ranges) -> str:
    """A class for JSON text: what may stand there bare, and beside it what has to be escaped."""
    bare = _without(ranges, _RAW_FORBIDDEN)
    escaped = "".join(letter for char, letter in _ESCAPES.items() if _contains(ranges, char))
    texts = []
    if bare and bare[-1][1] == _LAST:
        texts.append(f"[^{spelled(complement(bare))}]")
    elif bare:
        texts.append(_literal(chr(bare[0][0])) if _is_single(bare) else f"[{spelled(bare)}]")
    if escaped:
        texts.append(f"\\\\[{escaped}]")
    if not texts:
        raise UnsupportedPatternError("an empty class")
    return texts[0] if len(texts) == 1 and not escaped else f"({'|'.join(texts)})"


def _is_single(ranges: Ranges) -> bool:
    return len(ranges) == 1 and ranges[0][0] == ranges[0][1]


def spelled(ranges: Ranges) -> str:
    """The inside of a class."""
    return "".join(
        _class_char(low) if low == high else f"{_class_char(low)}-{_class_char(high)}" for low, high in ranges
    )


def _class_char(code: int) -> str:
    if code < 0x20 or code == 0x7F or chr(code) in "^-":
        return f"\\x{code:02X}"
    return f"\\{chr(code)}" if chr(code) in "\\[]" else chr(code)


def _literal(char: str) -> str:
    if char in _ESCAPES:
        return {'"': '\\\\"', "\\": "\\\\\\\\"}.get(char, f"\\\\{_ESCAPES[char]}")
    if ord(char) < 0x20 or ord(char) == 0x7F or 0xD800 <= ord(char) <= 0xDFFF:
        raise UnsupportedPatternError("a control character")
    return f"\\{char}" if char in _SPECIAL else char


def _bracketed(text: str) -> str:
    """Return an expression that a quantifier may follow: a class, or text in brackets."""
    is_class = text.startswith("[") and text.endswith("]") and "]" not in text[1:-1].replace("\\]", "")
    is_group = text.startswith("(") and text.endswith(")") and _closes_at_end(text)
    return text if is_class or is_group else f"({text})"


def _closes_at_end(text: str) -> bool:
    """Whether the bracket that opens `text` is closed by its last character."""
    depth, inside, skip = 0, False, False
    for position, char in enumerate(text):
        if skip:
            skip = False
        elif char == "\\":
            skip = True
        elif inside or char == "[":
            inside = char != "]"
        elif char in "()":
            depth += 1 if char == "(" else -1
            if depth == 0:
                return position == len(text) - 1
    return False


def quantifier_text(least: int, most: int | None) -> str:
    """Raises `UnsupportedPatternError` for more repetitions than a grammar takes."""
    if max(least, most or 0) > MOST_REPEATS or (most is not None and most < least):
        raise UnsupportedPatternError("too many repetitions")
    marks = {(0, None): "*", (1, None): "+", (0, 1): "?", (1, 1): ""}
    return marks.get((least, most), f"{{{least},{'' if most is None else most}}}" if most != least else f"{{{least}}}")


_ANYTHING: Final = _class(((0, _LAST),)) + "*"
