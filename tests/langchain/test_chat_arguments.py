"""Every argument of ChatOpenAI works or is said to have no meaning; a misspelt one is an error."""

from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from langchain_llamacpp_server import ChatLlamaServer
from tests.langchain.behind_doors import ChatDefaults, prepare

pytestmark = pytest.mark.usefixtures("fresh_notices")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"model_name": "m"}, {"model": "m", "model_name": "m"}),
        ({"openai_api_base": "http://gpu:1/v1"}, {"base_url": "http://gpu:1/v1"}),
        ({"max_completion_tokens": 5}, {"max_tokens": 5}),
        ({"stop_sequences": ["a"]}, {"stop": ["a"]}),
        ({"timeout": 60}, {"read_timeout": 60, "connect_timeout": 5}),
        ({"request_timeout": 2.5}, {"read_timeout": 2.5, "connect_timeout": 2.5}),
        ({"timeout": (1, 30)}, {"read_timeout": 30, "connect_timeout": 1}),
        ({"timeout": httpx.Timeout(9, connect=3)}, {"read_timeout": 9, "connect_timeout": 3}),
        ({"timeout": httpx.Timeout(None)}, {"read_timeout": None, "connect_timeout": None}),
        ({"timeout": 60, "read_timeout": 7}, {"read_timeout": 7}),
        ({"stream_chunk_timeout": 20}, {"read_timeout": 20}),
        ({"timeout": 10, "stream_chunk_timeout": 20}, {"read_timeout": 10}),
        ({"reasoning": {"effort": "low"}}, {"reasoning_effort": "low"}),
        ({"default_query": {"v": 1}}, {"default_query": {"v": "1"}}),
        ({"max_retries": None, "default_headers": None}, {"max_retries": 2, "default_headers": {}}),
        ({"temperature": 0, "seed": 0}, {"temperature": 0, "seed": 0}),
        ({"model": "a", "model_name": "b"}, {"model": "a"}),
    ],
)
def test_what_arguments_become(given: dict[str, Any], expected: dict[str, Any]) -> None:
    llm = ChatLlamaServer(**given)
    assert {name: getattr(llm, name) for name in expected} == expected


@pytest.mark.parametrize("given", [{"openai_api_key": "k"}, {"api_key": lambda: "k"}])
def test_keys(given: dict[str, Any]) -> None:
    key = ChatLlamaServer(**given).api_key
    assert key is not None
    assert key.get_secret_value() == "k"


def test_a_key_that_would_have_to_be_awaited_is_refused() -> None:
    async def key() -> str:
        return "k"

    with pytest.raises(ValidationError, match="await it first"):
        ChatLlamaServer(api_key=key)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "meant"),
    [("temprature", "temperature"), ("max_tokns", "max_tokens"), ("base_ulr", "base_url"), ("modelname", "model_name")],
)
def test_a_misspelt_argument_is_an_error_that_names_the_right_one(name: str, meant: str) -> None:
    with pytest.raises(ValidationError, match=f"{name}.*did you mean '{meant}'"):
        ChatLlamaServer(**{name: 1})


def call(defaults: dict[str, Any] | None = None, **kwargs: Any) -> Any:
    return prepare([], None, kwargs, ChatDefaults(**{"params": {}, **(defaults or {})}))


@pytest.mark.parametrize(
    ("kwargs", "sent"),
    [
        ({"max_completion_tokens": 5}, {"max_tokens": 5}),
        ({"stop_sequences": ["a"]}, {"stop": ["a"]}),
        ({"reasoning": {"effort": "low"}}, {"reasoning_effort": "low"}),
        ({"stream": True, "user": "me", "service_tier": "x"}, {}),
        ({"top_k": 3}, {"top_k": 3}),
        ({"temperature": None}, {}),
    ],
)
def test_arguments_of_a_call(kwargs: dict[str, Any], sent: dict[str, Any]) -> None:
    assert call(**kwargs).request.params == sent


def test_a_call_wins_over_the_model() -> None:
    assert call({"params": {"top_k": 1, "seed": 2}}, top_k=3).request.params == {"top_k": 3, "seed": 2}
    assert call({"model": "a"}, model="b").request.model == "b"
    assert call({"extra_body": {"x": 1, "y": 1}}, extra_body={"x": 2}).request.extra_body == {"x": 2, "y": 1}
    assert call({"stream_usage": True}, stream_usage=False).stream_usage is False
    assert call({"stream_usage": False}, stream_options={"include_usage": True}).stream_usage is True


def test_stop_of_a_call_replaces_all_others() -> None:
    defaults = ChatDefaults(params={"stop": ["a"]})
    assert prepare([], ["b"], {}, defaults).request.params["stop"] == ["b"]
    assert prepare([], [], {}, defaults).request.params["stop"] == []
    assert prepare([], None, {}, defaults).request.params["stop"] == ["a"]


def test_model_kwargs_are_parameters_or_go_as_they_are() -> None:
    request = call({"model_kwargs": {"top_k": 3, "new_field": 1}}).request
    assert request.params == {"top_k": 3}
    assert request.extra_body == {"new_field": 1}


def test_disabled_parameters_are_not_sent() -> None:
    tool = {"type": "function", "function": {"name": "f"}}
    disabled = {"seed": None, "top_k": [1], "parallel_tool_calls": None}
    request = call({"disabled_params": disabled}, seed=1, top_k=1, tools=[tool], parallel_tool_calls=True).request
    assert request.params == {}
    assert request.parallel_tool_calls is None
    assert call({"disabled_params": disabled}, top_k=2).request.params == {"top_k": 2}


def test_settings_of_a_call() -> None:
    made = call(timeout=3, extra_headers={"X-A": "b"}, extra_query={"q": 1})
    assert made.settings == {"connect_timeout": 3, "read_timeout": 3, "headers": {"X-A": "b"}, "query": {"q": "1"}}
    limits = {"read_timeout": 5, "first_token_timeout": None, "total_timeout": 60}
    made = call(timeout=3, **limits)
    assert made.settings == {"connect_timeout": 3, **limits}
    assert made.request.params == {}


def test_a_forced_call_is_checked_unless_switched_off() -> None:
    tool = {"type": "function", "function": {"name": "f"}}
    assert call(tools=[tool], tool_choice="any").request.missing_call_is_error
    assert not call(tools=[tool], tool_choice="any", check_forced_call=False).request.missing_call_is_error
