"""The type hints of everything public resolve at runtime, as frameworks and dependency injection read them."""

import inspect
import re
import typing
from importlib import import_module

import pytest

from tests.rules.packages import PACKAGES
from tests.rules.public_api import PATH

NAMES = re.findall(r"^(?:class |(?:async )?def )([\w.]+)", PATH.read_text(encoding="utf-8"), re.MULTILINE)


def found(name):
    """What a public name stands for."""
    module, _, last = name.rpartition(".")
    return getattr(import_module(module), last)


def is_ours(value):
    return str(getattr(value, "__module__", "")).partition(".")[0] in PACKAGES


def methods(cls):
    """The functions behind the public methods and properties of a class, by name, with those of our bases."""
    for base in filter(is_ours, cls.__mro__):
        for name, value in list(vars(base).items()):
            function = getattr(value, "fget", None) or getattr(value, "func", None) or getattr(value, "__func__", value)
            if (not name.startswith("_") or name == "__init__") and inspect.isroutine(function):
                yield f"{base.__name__}.{name}", function


def unresolved(name):
    """Errors of hints, by what has them."""
    value = found(name)
    checked = [(name, value)]
    if inspect.isclass(value):
        # The frameworks' own classes name types that only checkers see, so each of ours is read for itself.
        checked = [(base.__name__, base) for base in value.__mro__ if is_ours(base)] + list(methods(value))
    errors = {}
    for label, one in checked:
        try:
            if inspect.isclass(one):
                inspect.get_annotations(one, eval_str=True)
            elif is_ours(inspect.unwrap(one)):
                typing.get_type_hints(one)
        except Exception as error:
            errors[label] = repr(error)
    return errors


def test_the_rule_sees_methods_of_all_packages():
    assert len(NAMES) > 150
    seen = {name for cls in (found(one) for one in NAMES) if inspect.isclass(cls) for name, _ in methods(cls)}
    assert {"ChatLlamaServer.bind_tools", "LlamaServer.stream_chat", "LlamaServerClient.batch_file"} <= seen
    assert {"Generation.chat", "AsyncInputs.embed_texts", "ConnectionFields.client", "CacheReport.__init__"} <= seen


@pytest.mark.parametrize("name", NAMES)
def test_hints_resolve(name):
    assert unresolved(name) == {}
