"""The page of routes names every route that the code asks for, methods and tests that exist, and nothing else."""

import ast

import pytest

from llamacpp_server import AsyncLlamaServerClient
from tests.rules.routes import OTHER_SERVERS, PATH, ROOT, ROUTES, calls_in_code, page, paths_in_code

# Methods that put several requests together, or that are no request.
_COMPOSED = {"with_settings", "aclose", "stream_resumable_chat", "choice_probabilities", "calibrate"}


def test_the_page_of_routes_is_that_of_the_code() -> None:
    assert page() == PATH.read_text(encoding="utf-8"), "python -m tests.rules.routes"


def test_every_path_of_the_code_is_in_the_table_and_no_other() -> None:
    table = {route.path.replace("{id}", "{}") for route in ROUTES}
    assert paths_in_code() == table | OTHER_SERVERS


def test_every_call_of_the_code_has_the_http_method_of_its_route() -> None:
    table = {(route.verb, route.path.replace("{id}", "{}")) for route in ROUTES}
    calls = {(verb, path) for verb, path in calls_in_code() if path not in OTHER_SERVERS}
    assert len(calls) > 20
    assert calls <= table


def test_every_method_of_the_client_has_a_route() -> None:
    methods = {name for name, value in vars(AsyncLlamaServerClient).items() if callable(value) and name[0] != "_"}
    assert methods - _COMPOSED == {name for route in ROUTES for name in route.methods}


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.verb} {route.path}")
def test_the_test_of_a_route_exists(route) -> None:
    file, _, name = route.test.partition("::")
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
