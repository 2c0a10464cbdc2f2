"""The blocking and the async shells are the same program, equal once a few words are renamed; so is the client."""

import ast
import subprocess
import sys

import pytest

from tests.rules.packages import ROOT, parsed

CORE = ROOT / "llamacpp_server"

TRANSPORT_NAMES = {
    "AsyncClient": "Client", "AsyncIterator": "Iterator", "aclose": "close",
    "apieces": "pieces", "apieces_until": "pieces_until", "auntil": "until",
    "abounded": "bounded", "aadmit": "admit", "atogether": "together",
    "awork": "work", "anyio": "time",
}  # fmt: skip

# Connections belong to event loops on one side only. Blocking calls are interrupted at any bytecode, and finalised by
# the collector; awaited ones end at an await, and by their event loop.
OWN_WAYS = {
    "__init__",
    "close",
    "turn",
    "_client",
    "run",
    "stream",
    "_carry_out",
    "_perform",
    "_send",
    "after_fork",
    "_renew",
}


class Blocking(ast.NodeTransformer):
    """Makes awaiting code blocking, and the two ways to write a loop one."""

    def __init__(self, names):
        self.names, self.matched = names, set()

    def rename(self, name):
        if name in self.names:
            self.matched.add(name)
        return self.names.get(name, name)

    def visit_Name(self, node):
        return ast.Name(self.rename(node.id), node.ctx)

    def visit_Attribute(self, node):
        self.generic_visit(node)
        return ast.Attribute(node.value, self.rename(node.attr), node.ctx)

    def visit_Await(self, node):
        return self.visit(node.value)

    def visit_AsyncFunctionDef(self, node):
        return self.visit_FunctionDef(node)

    def visit_FunctionDef(self, node):
        self.generic_visit(node)
        body = node.body[1:] if ast.get_docstring(node) is not None else node.body
        return ast.FunctionDef(self.rename(node.name), node.args, body or [ast.Pass()], [], node.returns, None)

    def visit_AsyncFor(self, node):
        return self.visit_For(node)

    def visit_For(self, node):
        self.generic_visit(node)
        match node.body:
            case [ast.Expr(ast.Yield(ast.Name(name)))] if isinstance(node.target, ast.Name) and node.target.id == name:
                return ast.Expr(ast.YieldFrom(node.iter))
        return ast.For(node.target, node.iter, node.body, node.orelse, None)

    def visit_AsyncWith(self, node):
        self.generic_visit(node)
        return ast.With(node.items, node.body, None)

    def visit_Call(self, node):
        self.generic_visit(node)
        match node:
            case ast.Call(ast.Attribute(attr="join"), [ast.Call(ast.Name("list"), [only])]):
                return ast.Call(node.func, [only], [])
        return node

    def visit_ListComp(self, node):
        self.generic_visit(node)
        (only,) = node.generators
        if only.is_async and ast.dump(node.elt) == ast.dump(ast.Name(only.target.id, ast.Load())):
            return ast.Call(ast.Name("list", ast.Load()), [only.iter], [])
        return node


def methods(path, name, names):
    """The methods of a class as text, after renaming, in their order; and which names were renamed."""
    (found,) = [node for node in parsed(CORE / path).body if isinstance(node, ast.ClassDef) and node.name == name]
    blocking = Blocking(names)
    written = {}
    for node in found.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            method = ast.fix_missing_locations(blocking.visit(ast.parse(ast.unparse(node)).body[0]))
            written[method.name] = ast.unparse(method)
    return written, blocking.matched


TWINS = [
    pytest.param(("transport/shells.py", "Transport"), ("transport/shells.py", "AsyncTransport"), TRANSPORT_NAMES,
                 OWN_WAYS, id="transport"),
]  # fmt: skip


@pytest.mark.parametrize(("blocking", "awaiting", "names", "own_ways"), TWINS)
def test_twins_have_the_same_methods_in_the_same_order(blocking, awaiting, names, own_ways):
    assert list(methods(*awaiting, names)[0]) == list(methods(*blocking, {})[0])  # type: ignore[call-arg]


@pytest.mark.parametrize(("blocking", "awaiting", "names", "own_ways"), TWINS)
def test_twins_do_the_same(blocking, awaiting, names, own_ways):
    one, other = methods(*blocking, {})[0], methods(*awaiting, names)[0]  # type: ignore[call-arg]
    assert own_ways <= set(one)
    for name in one:
        if name not in own_ways:
            assert other[name] == one[name], name


@pytest.mark.parametrize(("blocking", "awaiting", "names", "own_ways"), TWINS)
def test_every_renaming_is_needed(blocking, awaiting, names, own_ways):
    assert methods(*awaiting, names)[1] == set(names)  # type: ignore[call-arg]


@pytest.mark.parametrize(("blocking", "awaiting", "names", "own_ways"), TWINS)
def test_ways_of_their_own_differ_and_are_not_listed_in_vain(blocking, awaiting, names, own_ways):
    one, other = methods(*blocking, {})[0], methods(*awaiting, names)[0]  # type: ignore[call-arg]
    assert [name for name in own_ways if other[name] == one[name]] == []


@pytest.mark.parametrize(("blocking", "awaiting", "names", "own_ways"), TWINS)
def test_twins_are_siblings_and_not_parent_and_child(blocking, awaiting, names, own_ways):
    for path, name in (blocking, awaiting):
        (found,) = [node for node in parsed(CORE / path).body if isinstance(node, ast.ClassDef) and node.name == name]
        assert found.bases == []


def test_the_blocking_client_is_what_the_script_makes_of_the_async_one():
    run = subprocess.run([sys.executable, "scripts/generate_client.py", "--check"], cwd=ROOT, check=False)
    assert run.returncode == 0


def test_a_difference_is_noticed():
    awaiting = ast.parse("async def f(self): return await self.aread(1)").body[0]
    one = ast.unparse(ast.fix_missing_locations(Blocking({"aread": "read"}).visit(awaiting)))
    assert one == ast.unparse(ast.parse("def f(self): return self.read(1)").body[0])
    assert one != ast.unparse(ast.parse("def f(self): return self.read(2)").body[0])
