"""What a public module offers is listed, sorted, and there."""

import importlib

import pytest

from llamacpp_server import LlamaServerError
from tests.rules.packages import FILES, PACKAGES, is_public, name_of

PUBLIC = [name_of(path) for path in FILES if is_public(path)]


def isort_style(name):
    """Constants, then classes, then the rest, as ruff sorts `__all__`."""
    return (0 if name.isupper() else 1 if name[:1].isupper() else 2, name)


def test_the_rule_sees_the_modules():
    assert {"llamacpp_server", "llamacpp_server.client", "llamacpp_server.errors"} <= set(PUBLIC)
    assert set(PACKAGES) <= set(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_module_lists_what_it_offers_in_order(name):
    module = importlib.import_module(name)
    assert module.__doc__, "a module says why it exists"
    assert module.__all__ == sorted(set(module.__all__), key=isort_style)
    for offered in module.__all__:
        assert hasattr(module, offered), f"{name}.{offered} does not exist"


def test_the_root_offers_every_error_and_every_value():
    root = set(importlib.import_module("llamacpp_server").__all__)
    for module in ("errors", "requests", "replies", "results", "client", "async_client"):
        offered = set(importlib.import_module(f"llamacpp_server.{module}").__all__)
        assert offered <= root, f"missing at the root: {sorted(offered - root)}"


@pytest.mark.parametrize("package", ["langchain_llamacpp_server", "llamaindex_llamacpp_server"])
def test_an_adapter_offers_every_error_that_a_traceback_of_it_can_name(package):
    adapter = importlib.import_module(package)
    errors = vars(importlib.import_module(f"{package}._errors")).values()
    own = {error.__name__ for error in errors if isinstance(error, type) and issubclass(error, LlamaServerError)}
    assert own | set(importlib.import_module("llamacpp_server.errors").__all__) <= set(adapter.__all__)
