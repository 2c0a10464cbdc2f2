"""Files and functions stay small enough to be read at once."""

import ast

import pytest

from tests.rules.packages import FILES, ROOT, name_of, parsed

LONGEST_FILE, LONGEST_FUNCTION = 440, 40


def functions(path):
    """(name, lines without its docstring) of every function of a file."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            documented = ast.get_docstring(node, clean=False) is not None
            said = first.end_lineno - first.lineno + 1 if documented else 0
            yield node.name, node.end_lineno - node.lineno + 1 - said


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_is_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_function_is_short(path):
    assert [(name, lines) for name, lines in functions(path) if lines > LONGEST_FUNCTION] == []


def test_the_rule_measures():
    assert max(lines for _, lines in functions(ROOT / "llamacpp_server" / "transport.py")) > 10
