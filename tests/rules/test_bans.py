"""Words that must not appear in the packages, and where the network may be touched."""

import ast

from tests.rules.packages import FILES, imports_of, name_of, nodes_of, parsed

# They cut at U+2028, U+2029 and U+0085, which are legal inside JSON strings.
LINE_SPLITTERS = {"iter_lines", "aiter_lines", "splitlines"}
# They read logs and what people type, where no JSON is torn.
LOG_READERS = {"llamacpp_server.local.server", "llamacpp_server.local.child"}

NETWORK = ("httpx", "httpcore", "socket", "urllib.request", "http.client", "requests", "aiohttp", "openai")
# Who may import which of them, and why.
ALLOWED = {
    ("llamacpp_server.transport.shells", "httpx"): "the one module that does the I/O",
    ("llamacpp_server.transport.bodies", "httpx"): "for its types",
    (
        "llamacpp_server.transport.httpx_setup",
        "httpx",
    ): "to set its clients up, without steps that ours don't use",
    ("llamacpp_server.transport.leaving", "httpx"): "for its types",
    ("llamacpp_server.transport.leaving", "socket"): "to shut down the connection of a reply that is left",
    ("llamacpp_server.transport.kept_connections", "httpx"): "to know its classes from those of httpx2",
    ("llamacpp_server.transport.kept_connections", "socket"): "to know a socket with a timeout",
    ("llamacpp_server.transport.httpx_errors", "httpx"): "for its exceptions",
    ("llamacpp_server.transport.httpx_errors", "socket"): "to know an unknown host's error",
    ("llamacpp_server.transport.httpx_setup", "urllib.request"): "to know the environment's proxies",
    ("llamacpp_server._media.hosts", "urllib.request"): "to know the environment's proxies",
    ("llamacpp_server._media.hosts", "socket"): "to look up a host of an image's address",
    ("llamacpp_server.client", "httpx"): "for the type of http_client",
    ("llamacpp_server.async_client", "httpx"): "for the type of http_client",
    ("llamacpp_server.integration.fields", "httpx"): "for the type of a field",
    ("llamacpp_server.integration.given_clients", "httpx"): "to check the classes of clients that a caller brings",
    ("langchain_llamacpp_server._argument_names", "httpx"): "for type checkers: httpx.Timeout, which ChatOpenAI takes",
    ("llamacpp_server.integration.argument_names", "httpx"): "for type checkers, likewise",
    ("llamacpp_server.local.options", "socket"): "to find a free port",
    ("llamacpp_server.local.child", "socket"): "to find a free port",
    ("llamacpp_server.testing.scripted_server", "http.client"): "to stand between a test and its server",
    ("llamacpp_server.testing.scripted_server", "socket"): "to cut a reply off",
    ("llamacpp_server.local.server", "socket"): "to find a free port",
    ("llamacpp_server.local.address", "socket"): "to see whether a unix socket was left behind",
}
TYPES_ONLY = ("llamacpp_server.client", "llamacpp_server.async_client")


def is_network(name):
    return next((word for word in NETWORK if name == word or name.startswith(word + ".")), None)


def test_text_is_never_split_into_lines_with_splitlines():
    used = {
        (name_of(path), node.lineno, node.attr)
        for path in FILES
        for node in nodes_of(path)
        if isinstance(node, ast.Attribute) and node.attr in LINE_SPLITTERS
    }
    assert {name for name, _, _ in used} <= LOG_READERS


def test_the_network_is_touched_where_it_is_allowed():
    touched = {(name_of(path), word) for path in FILES for name, _ in imports_of(path) if (word := is_network(name))}
    assert ("llamacpp_server.transport.shells", "httpx") in touched
    assert touched <= set(ALLOWED)


def test_the_clients_import_httpx_for_types_only():
    clients = [path for path in FILES if name_of(path) in TYPES_ONLY]
    assert len(clients) == len(TYPES_ONLY)
    for path in clients:
        for node in parsed(path).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [""]
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(is_network(name) for name in names), f"{path.name}:{node.lineno}"


def test_a_type_that_is_ignored_says_which_and_a_todo_has_an_issue():
    for path in FILES:
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
            assert "type: ignore" not in line or "type: ignore[" in line, f"{path.name}:{number}"
            assert "TODO" not in line or "#" in line.partition("TODO")[2], f"{path.name}:{number}"
