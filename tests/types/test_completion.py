"""What editors offer within the brackets of a constructor: the arguments, and nothing that is private."""

import dataclasses
import inspect
from collections.abc import Callable, Iterator
from typing import Any, get_type_hints

import pytest
from pydantic import BaseModel

import langchain_llamacpp_server
import llamacpp_server
import llamaindex_llamacpp_server
from llamacpp_server import AsyncLlamaServerClient, LlamaServerClient, LocalServer, ServerSettings
from llamacpp_server.settings import SettingsChanges

PACKAGES = (llamacpp_server, langchain_llamacpp_server, llamaindex_llamacpp_server)
OFFERED = {name: getattr(package, name) for package in PACKAGES for name in package.__all__}
CLASSES = {name: each for name, each in OFFERED.items() if isinstance(each, type) and not issubclass(each, Exception)}
MODELS = {name: each for name, each in CLASSES.items() if issubclass(each, BaseModel)}


def own_annotations(cls: type[Any]) -> Iterator[str]:
    """The annotated names of a class and of its bases of ours: jedi takes each for an argument."""
    for base in cls.__mro__:
        if base.__module__.partition(".")[0] in {package.__name__ for package in PACKAGES}:
            yield from vars(base).get("__annotations__", {})


@pytest.mark.parametrize("name", sorted(MODELS))
def test_no_private_name_of_a_model_is_annotated(name: str) -> None:
    assert [each for each in own_annotations(MODELS[name]) if each.startswith("_")] == []


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_no_constructor_shows_a_private_argument(name: str) -> None:
    try:
        arguments = inspect.signature(CLASSES[name]).parameters
    except ValueError:  # a class of the interpreter's own
        arguments = {}  # type: ignore[assignment]
    assert [each for each in arguments if each.startswith("_")] == []


def test_models_of_both_adapters_are_among_them() -> None:
    assert {"ChatLlamaServer", "LlamaServer", "LlamaServerEmbeddings", "LlamaServerRerank"} <= set(MODELS)
    assert len(MODELS) > 10


@pytest.mark.parametrize(
    "call",
    [
        *(each for client in (LlamaServerClient, AsyncLlamaServerClient) for each in (client, client.with_settings)),
        *(LocalServer.client, LocalServer.async_client, ServerSettings.replace),
    ],
    ids=lambda call: call.__qualname__,
)
def test_calls_that_accept_settings_name_each_of_them(call: Callable[..., Any]) -> None:
    function = call.__init__ if isinstance(call, type) else call
    hints = get_type_hints(inspect.unwrap(function))
    (keywords,) = (one.name for one in inspect.signature(function).parameters.values() if one.kind is one.VAR_KEYWORD)
    offered = {*hints, *get_type_hints(hints[keywords].__args__[0])}
    assert {field.name for field in dataclasses.fields(ServerSettings)} <= offered


def test_settings_have_the_same_types_as_keywords_and_as_fields() -> None:
    fields, keywords = get_type_hints(ServerSettings), get_type_hints(SettingsChanges)
    assert {**keywords, "api_key": None} == {**{name: fields[name] for name in keywords}, "api_key": None}
    assert keywords["api_key"] == fields["api_key"] | str  # which is read as a secret, and given as text too
