"""A server that starts, loads or is busy: what is waited for, for how long, and what is not."""

import contextlib
import re
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
from llamacpp_server.settings import ServerSettings
from llamacpp_server.transport import (
    Wait,
    log_wait,
)
from tests.unit.events import DONE, chunk, text
from tests.waiting import LONG, TIMEOUTS
from tests.wire.scripted_server import LOADING, MISSING, Answer, ScriptedServer, error, refusing_port, reply, stream

CHAT = ChatRequest(messages=[{"role": "user", "content": "Hello"}])
HELLO = stream(text("Hello"), chunk(finish="stop"), DONE)
TOKENS = reply({"tokens": [1, 2]})


class ColdStart:
    """A server that listens only once a client has been refused and waits."""

    def __init__(self, stack, *answers):
        self.port, self.reports = refusing_port(), []
        self._start = lambda: stack.enter_context(ScriptedServer(*answers, port=self.port))
        self.url, self.server = f"http://127.0.0.1:{self.port}", None

    def on_wait(self, state):
        self.reports.append(state)
        if self.server is None:
            self.server = self._start()


def test_a_server_that_refuses_at_first_is_waited_for_when_asked(connect):
    with contextlib.ExitStack() as stack:
        cold = ColdStart(stack, LOADING, HELLO)
        client = connect(cold.url, wait_while_refused=True, on_wait=cold.on_wait)
        assert client.chat(CHAT).content == "Hello"
    assert [state.reason for state in cold.reports] == ["refused", "loading"]
    assert [state.elapsed for state in cold.reports] == sorted(state.elapsed for state in cold.reports)
    assert {(state.budget, state.url) for state in cold.reports} == {(5.0, cold.url)}


def test_wait_until_ready_waits_for_both_without_being_asked(connect):
    with contextlib.ExitStack() as stack:
        cold = ColdStart(stack, LOADING, reply({"status": "ok"}))
        assert connect(cold.url, on_wait=cold.on_wait).wait_until_ready(5).ready
        assert [request.path for request in cold.server.requests] == ["/health", "/health"]
    assert [state.reason for state in cold.reports] == ["refused", "loading"]


def test_a_refused_connection_fails_at_once_with_the_way_to_start_a_server(connect):
    port, began = refusing_port(), time.monotonic()
    with pytest.raises(ConnectionFailedError, match="not reachable") as caught:
        connect(f"http://127.0.0.1:{port}/v1").chat(CHAT)
    assert time.monotonic() - began < 15
    assert caught.value.reason == "refused"
    assert f"http://127.0.0.1:{port}" in str(caught.value)
    assert re.search(r"llama-server -m model\.gguf --port \d+, or try port 9931", str(caught.value))
    assert isinstance(caught.value, ConnectionError)


def test_localhost_that_refuses_on_every_address_is_refused(connect):
    with pytest.raises(ConnectionFailedError) as caught:
        connect(f"http://localhost:{refusing_port()}").tokenize("x")
    assert caught.value.reason == "refused"


def test_waiting_for_a_server_that_never_starts_ends_with_load_timeout(connect):
    began = time.monotonic()
    with pytest.raises(ConnectionFailedError):
        connect(f"http://127.0.0.1:{refusing_port()}", wait_while_refused=True, load_timeout=0.1).chat(CHAT)
    assert 0.1 <= time.monotonic() - began < 15


def test_an_unknown_host_is_named_as_such_and_not_waited_for(connect):
    client = connect("http://no-such-host.invalid:8080", wait_while_refused=True, max_retries=0)
    with pytest.raises(ConnectionFailedError) as caught:
        client.tokenize("x")
    assert caught.value.reason == "name"
    assert "base_url" in str(caught.value)


@pytest.mark.parametrize("call", ["chat", "tokenize"])
def test_a_loading_server_is_waited_for_by_every_request(connect, call):
    reports = []
    with ScriptedServer(LOADING, LOADING, HELLO if call == "chat" else TOKENS) as server:
        client = connect(server.url, on_wait=reports.append)
        found = client.chat(CHAT).content if call == "chat" else client.tokenize("x")
    assert found == ("Hello" if call == "chat" else [1, 2])
    assert len(server.requests) == 3
    assert [state.reason for state in reports] == ["loading"] * 2
    assert len({request.body for request in server.requests}) == 1


def test_a_load_that_takes_longer_than_load_timeout_is_an_error_that_says_so(connect):
    for seconds in TIMEOUTS:
        began = time.monotonic()
        with ScriptedServer(LOADING) as server:
            with pytest.raises(ServerLoadingError, match="Loading model") as caught:
                connect(server.url, load_timeout=seconds).chat(CHAT)
            assert seconds <= time.monotonic() - began < seconds + LONG
        assert caught.value.status == 503
        if len(server.requests) > 2:
            break
    assert len(server.requests) > 2
    assert caught.value.earlier


def test_loading_is_not_waited_for_when_that_is_switched_off(connect):
    with ScriptedServer(LOADING, HELLO) as server:
        with pytest.raises(ServerLoadingError):
            connect(server.url, wait_while_loading=False).chat(CHAT)
        assert len(server.requests) == 1


def test_health_reports_loading_and_does_not_wait(connect):
    with ScriptedServer(LOADING) as server:
        health = connect(server.url).health()
        assert (health.ready, health.message) == (False, "Loading model")
        assert len(server.requests) == 1


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again_after_the_time_it_names(connect, status):
    reports, began = [], time.monotonic()
    busy = error(status, "busy", headers=["Retry-After: 0.1"])
    with ScriptedServer(busy, HELLO) as server:
        assert connect(server.url, on_wait=reports.append).chat(CHAT).content == "Hello"
        assert len(server.requests) == 2
    assert time.monotonic() - began >= 0.1
    assert [(state.reason, state.budget) for state in reports] == [("busy", None)]


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
    assert time.monotonic() - began < 15


UNREACHED = [error(502, "Bad Gateway"), error(500, "proxy error: Could not establish connection")]


@pytest.mark.parametrize("unreached", UNREACHED, ids=["gateway", "router"])
def test_a_request_that_reached_no_server_is_sent_again(connect, unreached):
    with ScriptedServer(unreached, HELLO) as server:
        assert connect(server.url).chat(CHAT).content == "Hello"
        assert len(server.requests) == 2


@pytest.mark.parametrize("unreached", UNREACHED, ids=["gateway", "router"])
def test_a_server_that_stays_out_of_reach_is_a_fault_after_the_repeats(connect, unreached):
    with ScriptedServer(unreached) as server:
        with pytest.raises(ServerFaultError, match="a gateway or router can't reach the server"):
            connect(server.url, max_retries=1).chat(CHAT)
        assert len(server.requests) == 2


def test_a_server_out_of_reach_is_waited_for_like_one_that_refuses(connect):
    with ScriptedServer(*UNREACHED * 3, HELLO) as server:
        client = connect(server.url, max_retries=0, wait_while_refused=True)
        assert client.chat(CHAT).content == "Hello"


@pytest.mark.parametrize("status", [408, 425])
def test_a_request_that_came_late_or_early_is_sent_again(connect, status):
    with ScriptedServer(error(status, "again"), HELLO) as server:
        assert connect(server.url).chat(CHAT).content == "Hello"


@pytest.mark.parametrize("status", [500, 504])
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
def test_a_refusal_is_an_error_even_when_its_reason_cannot_be_found_out(connect, probed):
    for seconds in TIMEOUTS if probed.then == "hang" else (LONG,):
        with ScriptedServer(error(400, "boom", "invalid_request_error"), probed, lacks=()) as server:
            client = connect(server.url, read_timeout=seconds, load_timeout=0.2, max_retries=0)
            with pytest.raises((BadRequestError, RequestTimeoutError)) as caught:
                client.chat(CHAT)
        if isinstance(caught.value, BadRequestError):
            break  # a busy machine may need longer for the refusal
    assert isinstance(caught.value, BadRequestError)
    assert "boom" in str(caught.value)
    assert caught.value.status == 400
    assert [request.path for request in server.requests].count("/v1/chat/completions") == 1


@pytest.mark.parametrize("probed", [LOADING, error(429, "busy", headers=["Retry-After: 20"])])
def test_a_refusal_is_an_error_at_once_when_its_reason_would_have_to_be_waited_for(connect, probed):
    began, refusal = time.monotonic(), error(400, "boom", "invalid_request_error")
    with ScriptedServer(refusal, probed, lacks=()) as server, pytest.raises(BadRequestError, match="boom"):
        connect(server.url, load_timeout=60, max_retries=5).chat(CHAT)
    assert time.monotonic() - began < 15


@pytest.mark.parametrize("call", ["chat", "tokenize"])
def test_silence_is_a_timeout_and_never_repeated(connect, call):
    began = time.monotonic()
    with ScriptedServer(Answer(then="hang")) as server:
        client = connect(server.url, read_timeout=0.1, max_retries=5)
        with pytest.raises(RequestTimeoutError, match="read_timeout") as caught:
            client.chat(CHAT) if call == "chat" else client.tokenize("x")
        assert time.monotonic() - began < 15
        assert server.wait_until_left(), "the connection was not closed"
        assert len(server.requests) == 1
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.url is not None


def test_a_host_that_accepts_no_connection_is_distinguished_from_one_that_refuses(connect):
    with contextlib.ExitStack() as stack:
        # The system lets connections wait while the queue of a listener that accepts nothing is full.
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        client = connect(f"http://127.0.0.1:{listener.getsockname()[1]}", connect_timeout=0.1, max_retries=0)
        began = time.monotonic()
        with pytest.raises(ConnectionFailedError, match="connect_timeout") as caught:
            client.tokenize("x")
        assert 0.1 <= time.monotonic() - began < 15
    assert caught.value.reason == "timeout"


@pytest.mark.parametrize("call", ["chat", "tokenize"])
def test_silence_is_repeated_when_that_is_asked_for(connect, call):
    for seconds in TIMEOUTS:  # the second answer has to come within it
        with ScriptedServer(Answer(then="hang"), HELLO if call == "chat" else TOKENS) as server:
            client = connect(server.url, read_timeout=seconds, retry_read_timeout=True, max_retries=1)
            with contextlib.suppress(RequestTimeoutError):
                assert client.chat(CHAT).content == "Hello" if call == "chat" else client.tokenize("x") == [1, 2]
                assert len(server.requests) == 2
                break
    else:
        pytest.fail("it was not repeated")


def test_silence_after_the_first_delta_is_never_repeated(connect):
    for seconds in TIMEOUTS:  # a silence before it may be repeated
        with ScriptedServer(stream(text("Hel"), 2 * LONG)) as server, pytest.raises(RequestTimeoutError) as caught:
            connect(server.url, read_timeout=seconds, retry_read_timeout=True, max_retries=5).chat(CHAT)
        if len(server.requests) == 1:
            break
    assert len(server.requests) == 1
    assert caught.value.partial.content == "Hel"


def test_the_log_counts_the_seconds_of_a_wait(caplog):
    caplog.set_level("INFO", logger="llamacpp_server")
    settings = ServerSettings(base_url="http://user:pw@localhost:1")
    for elapsed in range(0, 40, 2):
        log_wait(Wait(2.0, "loading", 600.0), elapsed, settings, first=elapsed == 0)
    assert [record.getMessage() for record in caplog.records] == [
        f"http://localhost:1 is loading; waiting ({elapsed} s so far)" for elapsed in (0, 8, 18, 28, 38)
    ]


# -- llama-swap, which answers with plain text


def plain(status, words):
    return reply(words.encode() + b"\n", status, "text/plain; charset=utf-8")


@pytest.mark.parametrize(
    "swapping",
    [
        plain(503, "Process can not ProxyRequest, state is stopping"),
        plain(502, "unable to start process: processes was in state stopping when start() was called"),
    ],
)
def test_a_model_that_is_swapped_out_is_waited_for_like_one_that_loads(connect, swapping):
    reports = []
    with ScriptedServer(swapping, swapping, HELLO) as server:
        assert connect(server.url, on_wait=reports.append, max_retries=0).chat(CHAT).content == "Hello"
        assert len(server.requests) == 3
    assert [state.reason for state in reports] == ["loading", "loading"]


@pytest.mark.parametrize(
    ("failed", "remedy"),
    [
        ("unable to start process: health check timed out after 15s", "healthCheckTimeout"),
        ("unable to start process: upstream command exited prematurely but successfully", "see its log"),
        ("unable to start process: process was already starting but wound up in state stopped", "see its log"),
    ],
)
def test_a_model_that_llama_swap_can_not_start_is_an_error_at_once(connect, failed, remedy):
    with ScriptedServer(plain(502, failed), HELLO) as server:
        with pytest.raises(ServerFaultError, match=remedy) as caught:
            connect(server.url, max_retries=5).chat(CHAT)
        assert len(server.requests) == 1
    assert caught.value.server_message == failed


def test_llama_swap_with_too_many_requests_is_busy(connect):
    with ScriptedServer(plain(429, "Too many requests"), HELLO) as server:
        assert connect(server.url).chat(CHAT).content == "Hello"
        assert len(server.requests) == 2


def test_llama_swap_that_shuts_down_is_not_waited_for_as_if_it_loaded(connect):
    with ScriptedServer(plain(503, "Process can not ProxyRequest, state is shutdown")) as server:
        with pytest.raises(ServerBusyError):
            connect(server.url, max_retries=0).chat(CHAT)
        assert len(server.requests) == 1
