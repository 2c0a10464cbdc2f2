"""A framework's hook is found in the file of the class that has it, and not in one of its bases."""

import importlib
import inspect

import pytest

from tests.rules.packages import PACKAGES

FRAMEWORKS = ("langchain", "langchain_core", "langgraph", "llama_index")


def is_ours(cls):
    """Whether a class is of one of our packages."""
    return cls.__module__.partition(".")[0] in PACKAGES


def is_of_framework(cls):
    """Whether a class is of a framework."""
    return cls.__module__.partition(".")[0] in FRAMEWORKS


def adapter_classes():
    for package in PACKAGES[1:]:
        root = importlib.import_module(package)
        for name in root.__all__:
            cls = getattr(root, name)
            if inspect.isclass(cls) and not issubclass(cls, BaseException) and any(map(is_of_framework, cls.__mro__)):
                yield pytest.param(cls, id=f"{package}.{name}")


CLASSES = list(adapter_classes())


def hooks_in_bases(cls):
    """Methods that our bases of a class define in the place of a framework's, as (base, name)."""
    hooks = {name for base in cls.__mro__ if is_of_framework(base) for name in vars(base) if not name.startswith("__")}
    own = vars(cls)
    return [
        (base.__qualname__, name)
        for base in cls.__mro__[1:]
        if is_ours(base)
        for name, value in vars(base).items()
        if name in hooks and name not in own and (callable(value) or isinstance(value, property | classmethod))
    ]


def test_the_rule_sees_the_classes():
    assert {cls.values[0].__name__ for cls in CLASSES} >= {"ChatLlamaServer", "LlamaServer", "LlamaServerEmbeddings"}


def test_the_rule_sees_a_hook_in_a_base():
    chat = importlib.import_module("langchain_llamacpp_server").ChatLlamaServer
    derived = type("Derived", (chat,), {"__module__": "elsewhere"})
    assert ("ChatLlamaServer", "_generate") in hooks_in_bases(derived)


@pytest.mark.parametrize("cls", CLASSES)
def test_a_class_has_at_most_three_bases_of_ours_and_its_hooks_itself(cls):
    assert sum(map(is_ours, cls.__bases__)) <= 3
    assert hooks_in_bases(cls) == []
