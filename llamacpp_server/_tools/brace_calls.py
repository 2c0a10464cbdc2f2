"""Calls that a model wrote as `call:name{key:value}`, as FunctionGemma and Gemma 4 do. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from .written_call import WrittenCall

_HEAD: Final = re.compile(r"(?:<start_function_call>|<\|tool_call>|\A)\s*call:\s*([\w.-]+)\s*(?=\{)")
_END: Final = re.compile(r"\s*(?:<end_function_call>|<tool_call\|>)?")
_QUOTED: Final = re.compile(r'(<escape>|<\|"\|>)(.*?)\1', re.DOTALL)
_KEY: Final = re.compile(r'\s*(?:<\|"\|>|<escape>|")?([\w.$-]+)(?:<\|"\|>|<escape>|")?\s*:')
# A value without quotes ends where the next key or the end of the object follows.
_BARE: Final = re.compile(r"[^{}\[\]]*?(?=,\s*[\w.$-]+\s*:|[}\]])")
_BARE_ENTRY: Final = re.compile(r"[^{}\[\],]*")
_DEEPEST: Final = 32


def find_brace_calls(text: str, read: Callable[[str, str, str], Any]) -> Iterator[WrittenCall]:
    """Calls behind a mark, or at the beginning of the text; none that breaks off or has other text in it.

    Args:
        text: The transcript.
        read: Makes a value of one without quotes: called with the names of the call and the argument, and its text.
    """
    for head in _HEAD.finditer(text):
        try:
            arguments, at = _Reader(text, head[1], read).object(head.end(), 0)
        except ValueError:
            continue
        ended = _END.match(text, at)
        end = ended.end() if ended is not None else at
        if head[0].lstrip().startswith("<") or not text[end:].strip():  # without a mark, only as the whole text
            yield WrittenCall(head[1], arguments, head.start(), end)


class _Reader:
    """Reads values. Each method takes where one begins, and gives it and its end.

    Raises:
        ValueError: By all, where there is none.
    """

    def __init__(self, text: str, name: str, read: Callable[[str, str, str], Any]) -> None:
        self._text, self._name, self._read = text, name, read

    def object(self, at: int, depth: int) -> tuple[dict[str, Any], int]:
        """`{key:value,…}`; the values of the outermost one are read as `read` says."""
        found: dict[str, Any] = {}
        at = self._after_space(at + 1)
        while not self._text.startswith("}", at):
            key = _KEY.match(self._text, at)
            if key is None:
                raise ValueError("not a key")
            found[key[1]], at = self._value(key.end(), depth, key[1])
            at = self._after_comma(at, "}")
        return found, at + 1

    def _list(self, at: int, depth: int) -> tuple[list[Any], int]:
        found = list[Any]()
        at = self._after_space(at + 1)
        while not self._text.startswith("]", at):
            value, at = self._value(at, depth, None)
            found.append(value)
            at = self._after_comma(at, "]")
        return found, at + 1

    def _value(self, at: int, depth: int, key: str | None) -> tuple[Any, int]:
        at = self._after_space(at)
        first = self._text[at : at + 1]
        if depth > _DEEPEST:
            raise ValueError("too deep")
        if first == "{":
            return self.object(at, depth + 1)
        if first == "[":
            return self._list(at, depth + 1)
        if first == '"':
            return json.JSONDecoder(strict=False).raw_decode(self._text, at)
        if (quoted := _QUOTED.match(self._text, at)) is not None:
            return quoted[2], quoted.end()
        return self._bare(at, depth, key)

    def _bare(self, at: int, depth: int, key: str | None) -> tuple[Any, int]:
        """A value without quotes."""
        bare = (_BARE_ENTRY if key is None else _BARE).match(self._text, at)
        if bare is None or not bare[0].strip():
            raise ValueError("not a value")
        written = bare[0].strip()
        if key is not None and not depth:
            return self._read(self._name, key, written), bare.end()
        try:
            return json.loads(written), bare.end()
        except ValueError:
            return written, bare.end()

    def _after_space(self, at: int) -> int:
        while self._text[at : at + 1].isspace():
            at += 1
        return at

    def _after_comma(self, at: int, end: str) -> int:
        at = self._after_space(at)
        if self._text.startswith(",", at):
            return self._after_space(at + 1)
        if self._text.startswith(end, at):
            return at
        raise ValueError("the value is incomplete")


__all__ = ["find_brace_calls"]
