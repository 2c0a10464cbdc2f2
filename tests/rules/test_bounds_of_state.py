"""Nothing at module level grows without a bound: a process may run for months."""

import ast
from collections.abc import Callable, Iterator

import pytest

from tests.rules.packages import FILES, ROOT, nodes_of

GROWS = {"add", "append", "setdefault", "update", "insert", "extend", "appendleft"}
WEAK = ("Weak",)
# Bounded by what they hold.
BOUNDED_ELSEWHERE = {
    "transport/gate.py:_gates",  # one entry for each server and model
    "transport/call_log.py:_ASIDE",  # a deque with a greatest length
    "transport/leaving.py:_OPEN",  # one for each stream that is open
    "transport/leaving.py:_LEFT",  # emptied by the next request or the closing thread
    "transport/leaving.py:_OF_PARENTS",  # streams that a fork inherited
    "transport/leaving.py:_TURN",  # one turn
    "transport/leaving.py:_WATCHED",  # one for each stream that is not being read
    "telemetry/wrapping.py:_ORIGINALS",  # one for each wrapped method
    "telemetry/wrapping.py:_LOST",  # one
    "_progress.py:_tasks",  # running tasks, which remove themselves
    "integration/arguments.py:_fields_with_none",  # one for each model class
}


def tables(nodes: list[ast.AST]) -> Iterator[str]:
    """Names at module level that functions of the module put something into, and never look how much is there."""
    names = set()
    for node in nodes[0].body:  # type: ignore[attr-defined]
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        value = getattr(node, "value", None)
        if value is not None and not any(word in ast.unparse(value) for word in WEAK):
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    grown, measured = set(), set()
    local = set()
    for function in nodes:
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for node in ast.walk(function):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=attr)) if attr in GROWS:
                    grown.add(name)
                case ast.Subscript(value=ast.Name(id=name), ctx=ast.Store()):
                    grown.add(name)
                case ast.Call(func=ast.Name(id="len"), args=[ast.Name(id=name)]):
                    measured.add(name)
                case ast.Assign() | ast.AnnAssign() | ast.For():
                    stored = (inner for inner in ast.walk(node) if isinstance(inner, ast.Name))
                    local |= {inner.id for inner in stored if isinstance(inner.ctx, ast.Store)}
    yield from sorted((names & grown) - measured - local)


def caches(nodes: list[ast.AST]) -> Iterator[str]:
    """Functions with parameters whose results are all kept."""
    for node in nodes:
        if isinstance(node, ast.FunctionDef) and node.args.args:
            for decorator in map(ast.unparse, node.decorator_list):
                if decorator in ("cache", "functools.cache") or "maxsize=None" in decorator:
                    yield node.name


@pytest.mark.parametrize("find", [tables, caches])
def test_no_table_of_a_module_grows_without_a_bound(find):
    found = {
        f"{path.relative_to(ROOT / path.relative_to(ROOT).parts[0])}:{name}"
        for path in FILES
        for name in find(nodes_of(path))
    }
    assert found <= BOUNDED_ELSEWHERE


def test_a_table_and_a_cache_without_a_bound_are_found():
    def found(find: Callable[[list[ast.AST]], Iterator[str]], source: str) -> list[str]:
        return list(find(list(ast.walk(ast.parse(source)))))

    grows = "seen = set()\ndef see(x):\n    seen.add(x)\n"
    assert found(tables, grows) == ["seen"]
    assert found(tables, grows + "    if len(seen) > 9:\n        seen.clear()\n") == []
    assert found(tables, grows + "    seen = x\n") == []
    assert found(caches, "@cache\ndef f(x):\n    return x\n") == ["f"]
    assert found(caches, "@cache\ndef f():\n    return 1\n") == []
