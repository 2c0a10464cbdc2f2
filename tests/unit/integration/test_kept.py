"""A model keeps its client for as long as its fields say the same, and no longer."""

import copy
import pickle

import pytest

from langchain_llamacpp_server import ChatLlamaServer


@pytest.mark.parametrize("name", ["client", "async_client"])
def test_a_model_keeps_its_client(name):
    model = ChatLlamaServer(base_url="http://127.0.0.1:1")
    assert getattr(model, name) is getattr(model, name)


@pytest.mark.parametrize(
    ("field", "value"),
    [("base_url", "http://127.0.0.1:2"), ("read_timeout", 7.0), ("model", "other"), ("default_query", {"a": "b"})],
)
def test_a_changed_field_is_in_the_next_client(field, value):
    model = ChatLlamaServer(base_url="http://127.0.0.1:1")
    before = model.client
    setattr(model, field, value)
    assert model.client is not before
    assert getattr(model.client.settings, field.removeprefix("default_")) == value


def test_headers_that_were_changed_in_place_are_in_the_next_client():
    model = ChatLlamaServer(base_url="http://127.0.0.1:1", default_headers={"X-User": "a"})
    before = model.client
    model.default_headers["X-User"] = "b"
    assert model.client is not before
    assert model.client.settings.request_headers()["X-User"] == "b"


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_of_its_own_has_a_client_of_its_own(duplicate):
    model = ChatLlamaServer(base_url="http://127.0.0.1:1")
    client = model.client
    assert duplicate(model).client is not client
