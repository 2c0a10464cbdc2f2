"""A real server that wants a key."""

import logging

import pytest

from llamacpp_server import AuthenticationFailedError, ChatRequest

KEY = "sk-verysecret-4711"
CHAT = ChatRequest(messages=[{"role": "user", "content": "Hello"}], params={"max_tokens": 2})


@pytest.fixture(scope="module")
def locked(serve):
    return serve("random.gguf", api_key=KEY, parallel=1, ctx_size=1024)


def test_the_right_key_opens(connect, locked):
    client = connect(locked, api_key=KEY)
    assert client.chat(CHAT).finish_reason in ("stop", "length")
    assert client.models()
    assert client.slots()


@pytest.mark.parametrize("key", ["sk-wrong", None, "no-key"])
@pytest.mark.parametrize("call", [lambda c: c.chat(CHAT), lambda c: c.read("stream_chat", CHAT), lambda c: c.models()])
def test_another_key_or_none_is_refused_and_named(connect, locked, key, call, caplog):
    with caplog.at_level(logging.DEBUG), pytest.raises(AuthenticationFailedError, match="Invalid API Key") as caught:
        call(connect(locked, api_key=key))
    error = caught.value
    assert (error.status, error.server_type) == (401, "authentication_error")
    assert "LLAMACPP_API_KEY" in str(error)
    assert key is None or key == "no-key" or key not in str(error) + repr(vars(error)) + caplog.text


def test_health_needs_no_key(connect, locked):
    assert connect(locked).health().ready
    assert connect(locked, api_key="sk-wrong").wait_until_ready(1).ready


def test_the_key_comes_from_its_variable_and_not_from_another_services(connect, locked, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("LLAMA_API_KEY", KEY)
    with pytest.raises(AuthenticationFailedError):
        connect(locked).models()
    monkeypatch.setenv("LLAMACPP_API_KEY", KEY)
    assert connect(locked).models()


def test_a_key_can_be_given_for_some_calls(connect, locked):
    client = connect(locked)
    with pytest.raises(AuthenticationFailedError):
        client.models()
    client.client = client.client.with_settings(api_key=KEY)
    assert client.models()
