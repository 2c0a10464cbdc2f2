"""Calls that a model wrote as Python: `[add(a=1, b=2)]`, as Llama 3.2 and 4, LFM2 and Gemma do. Pure; runs nothing."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator
from typing import Any, Final

from .written_call import WrittenCall

_PLACES: Final = (
    re.compile(r"<\|tool_call_start\|>(.*?)(?:<\|tool_call_end\|>|\Z)", re.DOTALL),
    re.compile(r"```tool_code\n(.*?)(?:```|\Z)", re.DOTALL),
    re.compile(r"<\|python_tag\|>(.*?)(?:<\|eom_id\|>|<\|eot_id\|>|\Z)", re.DOTALL),
    re.compile(r"\A(\s*\[\s*[A-Za-z_][\w.]*\(.*\)\s*\]\s*)\Z", re.DOTALL),
)
"""Where Python code is a call and not an example: after a marker, or as a list that is the entire text."""
_MOST: Final = 20_000


def find_python_calls(text: str, names: Collection[str]) -> Iterator[WrittenCall]:
    """The calls of these tools; a place that holds anything else has none."""
    for pattern in _PLACES:
        for found in pattern.finditer(text):
            for number, (name, arguments) in enumerate(_calls(found[1], names)):
                # The calls of a list share its place: the first one takes all of it.
                yield WrittenCall(name, arguments, found.end() if number else found.start(), found.end())


def _calls(code: str, names: Collection[str]) -> list[tuple[str, dict[str, Any]]]:
    if len(code) > _MOST:
        return []
    try:
        tree = ast.parse(code.strip(), mode="eval").body
        nodes = tree.elts if isinstance(tree, ast.List) else [tree]
        return [_call(node, names) for node in nodes]
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return []


def _call(node: ast.expr, names: Collection[str]) -> tuple[str, dict[str, Any]]:
    """A call with arguments by name.

    Raises:
        ValueError: For anything else.
    """
    if not isinstance(node, ast.Call) or node.args or ast.unparse(node.func) not in names:
        raise ValueError("not a call of a tool")
    return ast.unparse(node.func), {_name(given): _literal(given.value) for given in node.keywords}


def _name(given: ast.keyword) -> str:
    if given.arg is None:
        raise ValueError("not an argument by name")
    return given.arg


def _literal(node: ast.expr) -> Any:
    """A value as JSON has it; `true`, `false` and `null` are written by models as well."""
    if isinstance(node, ast.Name) and node.id in _WORDS:
        return _WORDS[node.id]
    if isinstance(node, ast.List | ast.Tuple):
        return [_literal(entry) for entry in node.elts]
    if isinstance(node, ast.Dict):
        return {_key(key): _literal(value) for key, value in zip(node.keys, node.values, strict=True)}
    value = ast.literal_eval(node)
    if not isinstance(value, str | int | float | bool | None):
        raise ValueError("not a value of JSON")
    return value


def _key(node: ast.expr | None) -> str:
    if not (isinstance(node, ast.Constant) and isinstance(node.value, str)):
        raise ValueError("not a key of JSON")
    return node.value


_WORDS: Final[dict[str, bool | None]] = {"true": True, "false": False, "null": None}

__all__ = ["find_python_calls"]
