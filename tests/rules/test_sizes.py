"""Files and functions stay small enough to be read at once."""

import ast

from tests.rules.packages import FILES, name_of, nodes_of

LONGEST_FILE, LONGEST_FUNCTION = 600, 45


def functions(path):
    """(name, lines without its docstring) of every function of a file."""
    for node in nodes_of(path):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            documented = ast.get_docstring(node, clean=False) is not None
            said = first.end_lineno - first.lineno + 1 if documented else 0
            yield node.name, node.end_lineno - node.lineno + 1 - said


def test_files_are_short():
    lengths = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert lengths["llamacpp_server.transport.shells"] > 100
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_FILE} == {}


def test_functions_are_short():
    lengths = {f"{name_of(path)}.{name}": lines for path in FILES for name, lines in functions(path)}
    assert lengths["llamacpp_server.transport.shells.stream"] > 10
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_FUNCTION} == {}
