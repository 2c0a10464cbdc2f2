"""A server that starts, loads or is busy: what is waited for, for how long, and what is not."""

import contextlib
import socket
import time

import pytest

from llamacpp_server import (
    BadRequestError,
    ChatRequest,
    ConnectionFailedError,
    RequestTimeoutError,
    ServerBusyError,
    ServerFaultError,
    ServerLoadingError,
)
from tests.unit.events import DONE, chunk, text
from tests.wire.scripted_server import LOADING, MISSING, Answer, ScriptedServer, error, free_port, reply, stream

CHAT = ChatRequest(messages=[{"role": "user", "content": "Hello"}])
HELLO = stream(text("Hello"), chunk(finish="stop"), DONE)
TOKENS = reply({"tokens": [1, 2]})


class ColdStart:
    """A server that listens only once a client has been refused and waits."""

    def __init__(self, stack, *answers):
        self.port, self.told = free_port(), []
        self._start = lambda: stack.enter_context(ScriptedServer(*answers, port=self.port))
        self.url, self.server = f"http://127.0.0.1:{self.port}", None

    def on_wait(self, state):
        self.told.append(state)
        if self.server is None:
            self.server = self._start()


def test_a_server_that_refuses_at_first_is_waited_for_when_asked(connect):
    with contextlib.ExitStack() as stack:
        cold = ColdStart(stack, LOADING, HELLO)
        client = connect(cold.url, wait_while_refused=True, on_wait=cold.on_wait)
        assert client.chat(CHAT).content == "Hello"
    assert [state.reason for state in cold.told] == ["refused", "loading"]
    assert [state.elapsed for state in cold.told] == sorted(state.elapsed for state in cold.told)
    assert {(state.budget, state.url) for state in cold.told} == {(5.0, cold.url)}


def test_wait_until_ready_waits_for_both_without_being_asked(connect):
    with contextlib.ExitStack() as stack:
        cold = ColdStart(stack, LOADING, reply({"status": "ok"}))
        assert connect(cold.url, on_wait=cold.on_wait).wait_until_ready(5).ready
        assert [request.path for request in cold.server.requests] == ["/health", "/health"]
    assert [state.reason for state in cold.told] == ["refused", "loading"]


def test_a_refused_connection_fails_at_once_with_the_way_to_start_a_server(connect):
    port, began = free_port(), time.monotonic()
    with pytest.raises(ConnectionFailedError, match="not reachable") as caught:
        connect(f"http://127.0.0.1:{port}/v1").chat(CHAT)
    assert time.monotonic() - began < 2
    assert caught.value.reason == "refused"
    assert f"http://127.0.0.1:{port}" in str(caught.value)
    assert "llama-server -m model.gguf --port 8080" in str(caught.value)
    assert isinstance(caught.value, ConnectionError)


def test_localhost_that_refuses_on_every_address_is_refused(connect):
    with pytest.raises(ConnectionFailedError) as caught:
        connect(f"http://localhost:{free_port()}").tokenize("x")
    assert caught.value.reason == "refused"


def test_waiting_for_a_server_that_never_starts_ends_with_load_timeout(connect):
    began = time.monotonic()
    with pytest.raises(ConnectionFailedError):
        connect(f"http://127.0.0.1:{free_port()}", wait_while_refused=True, load_timeout=0.2).chat(CHAT)
    assert 0.2 <= time.monotonic() - began < 3


def test_an_unknown_host_is_named_as_such_and_not_waited_for(connect):
    client = connect("http://no-such-host.invalid:8080", wait_while_refused=True, max_retries=0)
    with pytest.raises(ConnectionFailedError) as caught:
        client.tokenize("x")
    assert caught.value.reason == "name"
    assert "base_url" in str(caught.value)


@pytest.mark.parametrize("call", ["chat", "tokenize"])
def test_a_loading_server_is_waited_for_by_every_request(connect, call):
    told = []
    with ScriptedServer(LOADING, LOADING, HELLO if call == "chat" else TOKENS) as server:
        client = connect(server.url, on_wait=told.append)
        found = client.chat(CHAT).content if call == "chat" else client.tokenize("x")
    assert found == ("Hello" if call == "chat" else [1, 2])
    assert len(server.requests) == 3
    assert [state.reason for state in told] == ["loading"] * 2
    assert len({request.body for request in server.requests}) == 1


def test_a_load_that_takes_longer_than_load_timeout_is_an_error_that_says_so(connect):
    began = time.monotonic()
    with ScriptedServer(LOADING) as server:
        with pytest.raises(ServerLoadingError, match="Loading model") as caught:
            connect(server.url, load_timeout=0.2).chat(CHAT)
        assert 0.2 <= time.monotonic() - began < 3
        assert caught.value.status == 503
        assert len(server.requests) > 2
        assert caught.value.earlier


def test_loading_is_not_waited_for_when_that_is_switched_off(connect):
    with ScriptedServer(LOADING, HELLO) as server:
        with pytest.raises(ServerLoadingError):
            connect(server.url, wait_while_loading=False).chat(CHAT)
        assert len(server.requests) == 1


def test_health_tells_of_loading_and_does_not_wait(connect):
    with ScriptedServer(LOADING) as server:
        health = connect(server.url).health()
        assert (health.ready, health.message) == (False, "Loading model")
        assert len(server.requests) == 1


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again_after_the_time_it_names(connect, status):
    told, began = [], time.monotonic()
    busy = error(status, "busy", headers=["Retry-After: 0.25"])
    with ScriptedServer(busy, HELLO) as server:
        assert connect(server.url, on_wait=told.append).chat(CHAT).content == "Hello"
        assert len(server.requests) == 2
    assert time.monotonic() - began >= 0.25
    assert [(state.reason, state.budget) for state in told] == [("busy", None)]


def test_a_busy_server_is_asked_as_often_as_max_retries_says(connect):
    with ScriptedServer(error(429, "busy")) as server:
        with pytest.raises(ServerBusyError) as caught:
            connect(server.url, max_retries=1).chat(CHAT)
        assert len(server.requests) == 2
        assert len(caught.value.earlier) == 1
        assert "1 earlier attempt" in str(caught.value)


def test_a_time_that_is_too_long_to_wait_is_passed_on_at_once(connect):
    began = time.monotonic()
    with ScriptedServer(error(429, "busy", headers=["Retry-After: 3600"])) as server:
        with pytest.raises(ServerBusyError) as caught:
            connect(server.url).chat(CHAT)
        assert len(server.requests) == 1
    assert caught.value.retry_after == 3600
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("status", [500, 502, 504])
def test_a_failed_server_is_never_asked_again(connect, status):
    with ScriptedServer(error(status, "boom"), HELLO) as server:
        with pytest.raises(ServerFaultError, match="boom"):
            connect(server.url, max_retries=5, wait_while_refused=True).chat(CHAT)
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    "probed", [MISSING, error(500, "other"), LOADING, reply(b"<html>"), reply(b"{"), Answer(then="close"),
               Answer(then="hang")],
    ids=["404", "500", "loading", "page", "half", "closed", "silent"],
)  # fmt: skip
def test_a_refusal_is_told_also_when_its_reason_cannot_be_found_out(connect, probed):
    with ScriptedServer(error(400, "boom", "invalid_request_error"), probed, lacks=()) as server:
        client = connect(server.url, read_timeout=0.2, load_timeout=0.2, max_retries=0)
        with pytest.raises(BadRequestError, match="boom") as caught:
            client.chat(CHAT)
        assert caught.value.status == 400
        assert [request.path for request in server.requests].count("/v1/chat/completions") == 1


@pytest.mark.parametrize("probed", [LOADING, error(429, "busy", headers=["Retry-After: 20"])])
def test_a_refusal_is_told_at_once_when_its_reason_would_have_to_be_waited_for(connect, probed):
    began, refusal = time.monotonic(), error(400, "boom", "invalid_request_error")
    with ScriptedServer(refusal, probed, lacks=()) as server, pytest.raises(BadRequestError, match="boom"):
        connect(server.url, load_timeout=60, max_retries=5).chat(CHAT)
    assert time.monotonic() - began < 3


@pytest.mark.parametrize("call", ["chat", "tokenize"])
def test_silence_is_a_timeout_and_never_repeated(connect, call):
    began = time.monotonic()
    with ScriptedServer(Answer(then="hang")) as server:
        client = connect(server.url, read_timeout=0.2, max_retries=5)
        with pytest.raises(RequestTimeoutError, match="read_timeout") as caught:
            client.chat(CHAT) if call == "chat" else client.tokenize("x")
        assert time.monotonic() - began < 3
        assert len(server.requests) == 1
        assert server.wait_until_left(), "the connection was not closed"
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.url is not None


def test_a_host_that_takes_no_connection_is_told_apart_from_one_that_refuses(connect):
    with contextlib.ExitStack() as stack:
        # The system lets connections wait while the queue of a listener that accepts nothing is full.
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        client = connect(f"http://127.0.0.1:{listener.getsockname()[1]}", connect_timeout=0.2, max_retries=0)
        began = time.monotonic()
        with pytest.raises(ConnectionFailedError, match="connect_timeout") as caught:
            client.tokenize("x")
        assert 0.2 <= time.monotonic() - began < 3
    assert caught.value.reason == "timeout"
