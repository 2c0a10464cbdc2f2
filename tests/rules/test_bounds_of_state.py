"""Nothing at module level grows without a bound: a process may run for months."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("llamacpp_server", "langchain_llamacpp_server", "llamaindex_llamacpp_server")
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


def tables(source: str) -> Iterator[str]:
    """Names at module level that functions of the module put something into, and never look how much is there."""
    tree = ast.parse(source)
    names = set()
    for node in tree.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        value = getattr(node, "value", None)
        if value is not None and not any(word in ast.unparse(value) for word in WEAK):
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    grown, measured = set(), set()
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for node in ast.walk(function):  # type: ignore[assignment]
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=attr)) if attr in GROWS:
                    grown.add(name)
                case ast.Subscript(value=ast.Name(id=name), ctx=ast.Store()):
                    grown.add(name)
                case ast.Call(func=ast.Name(id="len"), args=[ast.Name(id=name)]):
                    measured.add(name)
    local = {
        target.id
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.For)
        for target in ast.walk(node)
        if isinstance(target, ast.Name) and isinstance(target.ctx, ast.Store)
    }
    yield from sorted((names & grown) - measured - local)


def caches(source: str) -> Iterator[str]:
    """Functions with parameters whose results are all kept."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and node.args.args:
            for decorator in map(ast.unparse, node.decorator_list):
                if decorator in ("cache", "functools.cache") or "maxsize=None" in decorator:
                    yield node.name


FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


@pytest.mark.parametrize("find", [tables, caches])
def test_no_table_of_a_module_grows_without_a_bound(find):
    found = {
        f"{path.relative_to(ROOT / path.relative_to(ROOT).parts[0])}:{name}"
        for path in FILES
        for name in find(path.read_text())
    }
    assert found <= BOUNDED_ELSEWHERE


def test_a_table_and_a_cache_without_a_bound_are_found():
    grows = "seen = set()\ndef see(x):\n    seen.add(x)\n"
    assert list(tables(grows)) == ["seen"]
    assert list(tables(grows + "    if len(seen) > 9:\n        seen.clear()\n")) == []
    assert list(caches("@cache\ndef f(x):\n    return x\n")) == ["f"]
    assert list(caches("@cache\ndef f():\n    return 1\n")) == []
