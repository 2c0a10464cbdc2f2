"""The blocking and the async shells are the same program, equal once a few words are renamed; so is the client."""

import ast
import subprocess
import sys

import pytest

from tests.rules.packages import FILES, ROOT, name_of, parsed

CORE = ROOT / "llamacpp_server"

TRANSPORT_NAMES = {
    "AsyncClient": "Client", "AsyncIterator": "Iterator", "aclose": "close",
    "apieces": "pieces", "apieces_until": "pieces_until", "auntil": "until",
    "abounded": "bounded", "aadmit": "admit", "arun_all": "run_all",
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
        only = node.generators[0]
        if (
            only.is_async
            and len(node.generators) == 1
            and ast.dump(node.elt) == ast.dump(ast.Name(only.target.id, ast.Load()))
        ):
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


# Pairs that differ in more than words. A pair that is not here is equal.
DIFFERENT = {
    # tasks, cancel scopes and events of a loop in the place of threads, locks and signals
    *(f"llamacpp_server.transport.shells.{name}" for name in ("aadmit", "AsyncTransport.aclose", "AsyncTransport.run",
        "AsyncTransport.stream", "AsyncTransport._carry_out", "AsyncTransport._perform", "AsyncTransport._send")),
    *(f"llamacpp_server.transport.{name}" for name in ("concurrency.arun_all", "concurrency.awork",
        "deadlines._auntil_then", "httpx_setup.OwnAsyncClient.send")),
    *(f"llamacpp_server._batch.run.{name}" for name in ("arun_batch", "_asend", "_asend_alone")),
    *(f"llamacpp_server.local.server.LocalServer.{name}" for name in ("__aenter__", "__aexit__")),
    "llamacpp_server.telemetry.wrapping._AsyncStream.__anext__",
    "llamaindex_llamacpp_server.server_tools._ServerTool.acall",
    # the end of an async generator, which a loop may be closing already
    "llamaindex_llamacpp_server._streams.aresponses", "llamaindex_llamacpp_server._streams.amapped",
    "langchain_llamacpp_server._progress.awithin_run",
    "langchain_llamacpp_server._structured_chain.StructuredChain.astream",
    "langchain_llamacpp_server._structured_chain.StructuredChain._apartial_objects",
    # the awaited one closes the connections of both kinds
    "llamacpp_server.integration.fields.ConnectionFields.aclose",
    # what a property can't ask for on an event loop, an awaited method does
    "langchain_llamacpp_server.chat_models.ChatLlamaServer._afill_profile",
    *(f"llamaindex_llamacpp_server._structured.{name}" for name in ("apredicted", "apartials")),
    *(f"llamaindex_llamacpp_server.llms.LlamaServer.{name}" for name in ("apredict_and_call", "_araw_client")),
    # LlamaIndex leaves the system prompt out where it awaits
    "llamaindex_llamacpp_server.llms.LlamaServer.astructured_predict",
}  # fmt: skip
WITHOUT_A = (
    ("_a", "_"),
    ("a", ""),
    ("__a", "__"),
    ("Async", ""),
    ("_Async", "_"),
    ("async_", ""),
    ("http_async_", "http_"),
)


def identifiers(node):
    """Names and attributes in a piece of code."""
    found = {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
    found |= {one.attr for one in ast.walk(node) if isinstance(one, ast.Attribute)}
    return found | {one.arg for one in ast.walk(node) if isinstance(one, ast.arg | ast.keyword) and one.arg}


def renamings(awaiting, blocking):
    """Names of the awaiting code that stand without their `a` or `Async` in the blocking code."""
    ours, theirs = identifiers(awaiting), identifiers(blocking) | {blocking.name}
    names = {awaiting.name: blocking.name}
    for name in ours - theirs:
        for prefix, other in WITHOUT_A:
            if name.startswith(prefix) and other + name.removeprefix(prefix) in theirs:
                names[name] = other + name.removeprefix(prefix)
    return names


class Awaited(Blocking):
    """Also takes a stream that is closed when it is left for one that closes itself, as blocking ones do."""

    def visit_With(self, node):
        self.generic_visit(node)
        match node:
            case ast.With([ast.withitem(ast.Call(ast.Name("aclosing" | "closing"), [stream]), ast.Name(name))],
                          [ast.Expr(ast.YieldFrom(ast.Name(other)))]) if name == other:  # fmt: skip
                if isinstance(stream, ast.Call) and ast.unparse(stream.func) == "cast":
                    stream = stream.args[1]
                return ast.Expr(ast.YieldFrom(stream))
        return node

    def visit_AsyncWith(self, node):
        return self.visit_With(ast.With(node.items, node.body))


def code_of(function, names):
    """What a function does, without annotations and docstring, as blocking code."""
    function = ast.parse(ast.unparse(function)).body[0]
    for one in ast.walk(function):
        if isinstance(one, ast.arg):
            one.annotation = None
        elif isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef):
            one.returns = None
    return ast.unparse(ast.fix_missing_locations(Awaited(names).visit(function)))


def functions_of(body):
    """Functions by name."""
    return {node.name: node for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def hand_written_pairs():
    """(path and name, awaiting, blocking) of the functions and methods of one file that stand twice."""
    generated = {path for path in FILES if path.parent.name == "_clients" or path.name == "client.py"}
    for path in sorted(set(FILES) - generated):
        tree = parsed(path)
        scopes = {node.name: functions_of(node.body) for node in tree.body if isinstance(node, ast.ClassDef)}
        scopes[""] = functions_of(tree.body)
        for scope, functions in scopes.items():
            sibling = scopes.get(scope.replace("Async", "", 1), functions)
            for name, node in functions.items():
                for prefix, other in (("", ""), *WITHOUT_A[:3]):
                    twin = sibling.get(other + name.removeprefix(prefix)) if name.startswith(prefix) else None
                    if isinstance(node, ast.AsyncFunctionDef) and isinstance(twin, ast.FunctionDef):
                        yield f"{name_of(path)}.{scope}{'.' if scope else ''}{name}", node, twin


def differing_pairs():
    """Pairs whose code differs in more than words."""
    for name, awaiting, blocking in hand_written_pairs():
        if code_of(awaiting, renamings(awaiting, blocking)) != code_of(blocking, {}):
            yield name


def test_pairs_written_by_hand_do_the_same():
    assert sum(1 for _ in hand_written_pairs()) > 60
    assert set(differing_pairs()) == DIFFERENT
