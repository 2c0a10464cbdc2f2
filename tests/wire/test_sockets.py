"""Connections: kept, found stale, reset, and sent on again exactly once; and what may not leave them."""

import logging
import pickle
import socket
import threading
import traceback

import httpx
import pytest

from llamacpp_server import (
    AuthenticationFailedError,
    ChatRequest,
    ConnectionFailedError,
    LlamaServerClient,
    LlamaServerError,
    MalformedReplyError,
)
from tests.unit.events import DONE, chunk, text
from tests.waiting import LONG, wait_until
from tests.wire.scripted_server import Answer, ScriptedServer, error, head, reply, stream
from tests.wire.shells import ask

CHAT = ChatRequest(messages=[{"role": "user", "content": "Hello"}])
HELLO = stream(text("Hello"), chunk(finish="stop"), DONE)
TOKENS = reply({"tokens": [1, 2]})
UNANSWERED = Answer(then="close")
KEY = "sk-verysecret-4711"


# -- kept and stale


@pytest.mark.parametrize("answer", [TOKENS, HELLO], ids=["reply", "stream"])
def test_a_connection_is_used_again(connect, answer):
    with ScriptedServer(answer) as server:
        client = connect(server.url)
        for _ in range(4):
            ask(client, "tokenize" if answer is TOKENS else "chat")
        assert (len(server.requests), server.connections) == (4, 1)


@pytest.mark.parametrize("call", ["chat", "tokenize"])
def test_a_kept_connection_that_closes_on_the_next_request_is_sent_again_once(connect, call):
    answer = HELLO if call == "chat" else TOKENS
    with ScriptedServer(answer, UNANSWERED, answer) as server:
        client = connect(server.url, max_retries=0)
        assert ask(client, call) == ask(client, call)
        assert [request.connection for request in server.requests] == [0, 0, 1]
        assert server.requests[2].body == server.requests[1].body


def test_what_is_sent_again_goes_over_a_fresh_connection_as_all_kept_ones_may_be_stale():
    both_came = threading.Event()
    slow = Answer((both_came, *TOKENS.parts))
    with ScriptedServer(slow, slow, UNANSWERED, TOKENS) as server, LlamaServerClient(server.url) as client:
        threads = [threading.Thread(target=client.tokenize, args=("x",)) for _ in range(2)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(server.requests) == 2, "both requests")
        both_came.set()
        for thread in threads:
            thread.join(LONG)
        assert client.tokenize("x") == [1, 2]
        assert [request.connection for request in server.requests][3] == 2


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("call", ["chat", "tokenize"])
def test_a_server_that_closes_unanswered_twice_is_an_error_after_two_requests(connect, call, how):
    with ScriptedServer(Answer(then=how)) as server:
        with pytest.raises(ConnectionFailedError, match="closed the connection without a response") as caught:
            ask(connect(server.url, max_retries=5), call)
        assert len(server.requests) == 2
    assert caught.value.reason == "closed"
    assert len(caught.value.earlier) == 1


def test_a_connection_that_was_closed_while_idle_is_replaced_without_a_resend(connect):
    with ScriptedServer(Answer(TOKENS.parts, "close"), TOKENS) as server:
        client = connect(server.url)
        client.tokenize("x")
        server.wait_until_closed()
        client.tokenize("x")
        assert [request.connection for request in server.requests] == [0, 1]


@pytest.mark.parametrize(
    "greeting", [b"\x15\x03\x01\x00\x02\x02\x16", b"220 smtp ready\r\n\r\n", b"\r\n\r\nhello\r\n\r\n"]
)
def test_another_protocol_is_not_this_api_and_is_not_asked_again(connect, greeting):
    with ScriptedServer(Answer((greeting,), "close")) as server:
        with pytest.raises(MalformedReplyError, match="invalid HTTP") as caught:
            connect(server.url, max_retries=5).tokenize("x")
        assert len(server.requests) == 1
    assert "port" in str(caught.value)


def test_https_where_plain_http_answers_says_so(connect):
    with ScriptedServer(TOKENS) as server:
        server._receive = lambda connection, data, number: connection.sendall(b"HTTP/1.1 400 Bad\r\n\r\n")
        with pytest.raises(ConnectionFailedError, match="https") as caught:
            connect(server.url.replace("http:", "https:"), max_retries=0).tokenize("x")
    assert caught.value.reason == "tls"


def test_many_requests_at_once_each_get_their_own_answer():
    with ScriptedServer(stream(text("Hello"), 0.05, chunk(finish="stop"), DONE)) as server:
        with LlamaServerClient(server.url, max_concurrency=None) as client:
            found = []
            threads = [threading.Thread(target=lambda: found.append(client.chat(CHAT).content)) for _ in range(16)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(LONG)
        assert found == ["Hello"] * 16
        assert len(server.requests) == 16


# -- redirects and keys


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("call", ["chat", "tokenize"])
def test_a_redirect_is_not_followed_and_the_key_goes_nowhere_else(connect, status, call):
    with ScriptedServer(HELLO if call == "chat" else TOKENS) as other:
        moved = reply(b"", status, headers=[f"Location: {other.url}/v1/chat/completions"])
        with ScriptedServer(moved) as server:
            with pytest.raises(MalformedReplyError, match="redirect") as caught:
                ask(connect(server.url, api_key=KEY), call)
            assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
            assert len(server.requests) == 1
        assert other.requests == []
        assert other.url in str(caught.value)


def test_an_http_client_that_follows_redirects_does_not_for_us():
    with (
        ScriptedServer(TOKENS) as other,
        ScriptedServer(reply(b"", 307, headers=[f"Location: {other.url}/"])) as server,
    ):
        with httpx.Client(follow_redirects=True, trust_env=False) as mine, pytest.raises(MalformedReplyError):
            LlamaServerClient(server.url, api_key=KEY, http_client=mine).tokenize("x")
        assert other.requests == []


def test_a_key_is_sent_and_no_placeholder_is(connect):
    with ScriptedServer(TOKENS) as server:
        connect(server.url, api_key=KEY).tokenize("x")
        connect(server.url, api_key="no-key").tokenize("x")
        connect(server.url).tokenize("x")
        assert [r.headers.get("authorization") for r in server.requests] == [f"Bearer {KEY}", None, None]
        assert not [r for r in server.requests if "x-api-key" in r.headers]


def test_keys_of_other_services_in_the_environment_are_not_sent(connect, monkeypatch):
    for name in ("OPENAI_API_KEY", "LLAMA_API_KEY", "API_KEY"):
        monkeypatch.setenv(name, KEY)
    with ScriptedServer(TOKENS) as server:
        connect(server.url).tokenize("x")
        assert KEY not in str(server.requests[0])


def variables(error):
    """What `pytest -l`, rich and error trackers show besides: the variables of each frame that is not a test's."""
    trace = traceback.TracebackException.from_exception(error, capture_locals=True)
    while trace is not None:
        for frame in trace.stack:
            if "/tests/" not in frame.filename:
                yield f"{frame.filename}:{frame.lineno} {frame.name} {frame.locals}\n"
        trace = trace.__cause__ or trace.__context__  # type: ignore[assignment]


@pytest.mark.parametrize(
    "answer", [error(401, "Invalid API Key", "authentication_error"), error(500, "boom"), reply(b"<html>"), UNANSWERED,
               Answer((head(), b"data: {"), "close"), reply(b"{")]
)  # fmt: skip
@pytest.mark.parametrize("where", ["key", "address", "query", "header"])
def test_no_error_and_no_log_holds_a_secret(connect, answer, where, caplog):
    with ScriptedServer(answer) as server, caplog.at_level(logging.DEBUG):
        url = server.url.replace("http://", f"http://user:{KEY}@") if where == "address" else server.url
        fields = {"key": {"api_key": KEY}, "query": {"query": {"k": KEY}}, "header": {"headers": {"X-Api-Key": KEY}}}
        client = connect(url, max_retries=1, **fields.get(where, {}))
        with pytest.raises(LlamaServerError) as caught:
            client.chat(CHAT)
        sent = server.requests[0]
        assert KEY in str(sent) or sent.headers["authorization"].startswith("Basic ")
    error_ = caught.value
    shown = [
        str(error_),
        repr(error_),
        repr(vars(error_)),
        repr(pickle.loads(pickle.dumps(error_))),
        repr(client.client),
    ]
    cause = error_.__cause__
    while cause is not None:
        shown += [str(cause), repr(cause)]
        cause = cause.__cause__ or cause.__context__
    assert KEY not in " ".join(shown) + "".join(variables(error_))
    assert KEY not in caplog.text
    assert ("HTTP Request: POST" in caplog.text) == (answer is not UNANSWERED), "httpx's own line is redacted, not lost"


def test_a_wrong_key_is_named_as_such(connect):
    with ScriptedServer(error(401, "Invalid API Key", "authentication_error")) as server:
        with pytest.raises(AuthenticationFailedError, match="LLAMACPP_API_KEY"):
            connect(server.url, api_key="wrong").chat(CHAT)
        assert len(server.requests) == 1


# -- proxies


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])
def test_the_environments_proxy_does_not_come_between_us_and_this_machine(connect, monkeypatch, host):
    with ScriptedServer(reply(b"<html>proxy</html>", 502, "text/html")) as proxy, ScriptedServer(TOKENS) as server:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        assert connect(f"http://{host}:{server.port}").tokenize("x") == [1, 2]
        assert proxy.requests == []


def test_the_environments_proxy_is_used_for_other_machines_and_no_proxy_is_honoured(connect, monkeypatch):
    with ScriptedServer(TOKENS) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("http_proxy", proxy.url)
        assert connect("http://llama.example:8080").tokenize("x") == [1, 2]
        assert proxy.requests[0].path == "http://llama.example:8080/tokenize"
        monkeypatch.setenv("NO_PROXY", "llama.example")
        monkeypatch.setenv("no_proxy", "llama.example")
        with pytest.raises(ConnectionFailedError):
            connect("http://llama.example:8080", max_retries=0).tokenize("x")
        assert len(proxy.requests) == 1


def test_ipv6_loopback_is_reached(connect):
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with ScriptedServer(TOKENS) as server:
        server._listener.shutdown(socket.SHUT_RDWR)
        server._listener.close()
        server._listener = listener
        server._start(server._accept)
        assert connect(f"http://[::1]:{listener.getsockname()[1]}/v1").tokenize("x") == [1, 2]
