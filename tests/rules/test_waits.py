"""Tests wait for events, with a bound: none fails because a machine is busy, and none hangs without a word."""

import ast
from collections.abc import Callable, Iterator

import pytest

from tests.rules.packages import ROOT, TEST_FILES, nodes_of

# Programs for people to start, which run until their time is over.
_PROGRAMS = ("soak.py", "long_run.py")
_ENOUGH = 15
"""Seconds within which a busy machine does what takes a moment on an idle one."""

WAITING = [path for path in TEST_FILES if path.name not in _PROGRAMS]


def _calls(nodes: list[ast.stmt], *names: str) -> bool:
    called = [node.func for each in nodes for node in ast.walk(each) if isinstance(node, ast.Call)]
    return any(isinstance(function, ast.Attribute) and function.attr in names for function in called)


def _places(find: Callable[[list[ast.AST]], Iterator[int]]) -> list[str]:
    return [f"{path.relative_to(ROOT)}:{line}" for path in WAITING for line in find(nodes_of(path))]


def unbound_loops(nodes: list[ast.AST]) -> Iterator[int]:
    """Loops that look, sleep and look again, and never fail; those that an event ends are bound by who sets it."""
    for node in nodes:
        if isinstance(node, ast.While) and not _calls([ast.Expr(node.test)], "is_set", "wait"):
            only_looks = all(isinstance(each, ast.Pass) for each in node.body)
            may_fail = any(isinstance(each, ast.Assert | ast.Raise) for each in ast.walk(node))
            if (only_looks or _calls(node.body, "sleep")) and not may_fail and not _is_bound(node.test):
                yield node.lineno


def _is_bound(test: ast.expr) -> bool:
    return _calls([ast.Expr(test)], "monotonic")


def tight_limits(nodes: list[ast.AST]) -> Iterator[int]:
    """Comparisons of what has passed on the clock with a few seconds; lower limits are fine."""
    for node in nodes:
        if isinstance(node, ast.Compare) and _calls([ast.Expr(node.left)], "monotonic", "perf_counter"):
            for operator, limit in zip(node.ops, node.comparators, strict=True):
                few = isinstance(limit, ast.Constant) and isinstance(limit.value, int | float) and limit.value < _ENOUGH
                if isinstance(operator, ast.Lt | ast.LtE) and few:
                    yield node.lineno


def test_a_loop_that_waits_has_a_bound() -> None:
    assert not _places(unbound_loops), "use wait_until and the like from tests.waiting"


def test_no_test_wants_a_machine_that_is_idle() -> None:
    assert not _places(tight_limits), "count what happens instead, or leave a busy machine its time: tests.waiting.LONG"


@pytest.mark.parametrize(
    ("code", "loops", "limits"),
    [
        ("while not done():\n    time.sleep(1)", 1, 0),
        ("while not done():\n    pass", 1, 0),
        ("while not done():\n    await asyncio.sleep(1)\n    assert time.monotonic() < end", 0, 0),
        ("while not over.is_set():\n    time.sleep(1)", 0, 0),
        ("while data := read():\n    send(data)", 0, 0),
        ("assert time.monotonic() - began < 2", 0, 1),
        ("assert 0.2 <= time.monotonic() - began < 15", 0, 0),
        ("assert time.monotonic() - began > 2", 0, 0),
    ],
)
def test_what_is_found(code: str, loops: int, limits: int) -> None:
    nodes = list(ast.walk(ast.parse(code)))
    assert (len(list(unbound_loops(nodes))), len(list(tight_limits(nodes)))) == (loops, limits)
