"""The page of routes names every route that the code asks for, methods and tests that exist, and nothing else."""

import ast
from functools import cache

import pytest

from llamacpp_server import AsyncLlamaServerClient
from tests.rules.routes import OTHER_SERVERS, PATH, ROOT, ROUTES, calls_in_code, page, paths_in_code
from tests.upstream import BY_DESIGN, print_differences, unlisted_fields

# Methods that put several requests together, or that are no request.
_COMPOSED = {"batch_file", "with_settings", "aclose", "stream_resumable_chat", "choice_probabilities", "calibrate"}


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
    methods = {name for name in dir(AsyncLlamaServerClient) if name[0] != "_"}
    assert methods - _COMPOSED == {name for route in ROUTES for name in route.methods}


@cache
def functions_of(file: str) -> set[str]:
    """The functions at the top of a file of tests."""
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.verb} {route.path}")
def test_the_test_of_a_route_exists(route) -> None:
    file, _, name = route.test.partition("::")
    assert name in functions_of(file)


def test_a_request_field_of_the_server_that_no_table_has_is_found(tmp_path) -> None:
    schema = 'add((new field_num("temperature", x))->add_alias("brand_alias");'
    schema += '\n#if 0\nadd((new field_num("speculative", x)));\n#endif\n    // add((new field_num("off", x))\n'
    (tmp_path / "server-schema.cpp").write_text(schema)
    (tmp_path / "server-common.cpp").write_text('body.contains("stop"); json_value(body, "brand_new", 1);')
    assert unlisted_fields(tmp_path) == {"brand_alias", "brand_new"}


def test_what_passes_with_plain_http_only_fails_the_command_unless_it_has_a_reason() -> None:
    passed, failed = ("passed", ""), ("failed", "assert 1 == 2")
    known = next(iter(BY_DESIGN))
    assert print_differences({"a": passed, known: passed, "b": failed}, {"a": passed, known: failed, "b": failed}) == 0
    assert print_differences({"a": passed}, {"a": failed}) == 1
    assert print_differences({"a": passed}, {}) == 1
    assert print_differences({}, {}) == 1
