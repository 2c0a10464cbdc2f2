"""Whole answers that are spoilt: web pages, half a JSON text, other encodings, and too much of everything."""

import gzip
import threading
import tracemalloc
import zlib
from functools import cache

import pytest

from llamacpp_server import (
    ChatRequest,
    LlamaServerError,
    MalformedReplyError,
    NotFoundError,
    ServerFaultError,
    StreamCutOffError,
)
from tests import behind_doors
from tests.unit.events import DONE, chunk, text
from tests.wire.scripted_server import Answer, ScriptedServer, head, reply, stream
from tests.wire.scripted_server import chunk as piece
from tests.wire.shells import ask

CHAT = ChatRequest(messages=[{"role": "user", "content": "Hello"}])
EVENTS = text("Hello") + chunk(finish="stop") + DONE
PAGE = b"<!doctype html><html><body>llama.cpp</body></html>"


@pytest.mark.parametrize("call", ["chat", "tokenize", "health"])
@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "text/plain"])
def test_a_web_page_at_200_is_called_one(connect, call, kind):
    with ScriptedServer(reply(PAGE, kind=kind)) as server:
        client = connect(server.url)
        with pytest.raises(MalformedReplyError, match="got an HTML page instead of a llama-server response") as caught:
            client.health() if call == "health" else ask(client, call)
    assert caught.value.status == 200
    assert caught.value.body == PAGE.decode()
    assert "base_url" in str(caught.value)
    assert server.url in str(caught.value)


@pytest.mark.parametrize("call", ["chat", "tokenize"])
def test_a_proxys_page_for_a_failed_server_is_a_fault_without_its_markup(connect, call):
    page = reply(b"<html><h1>502 Bad Gateway</h1></html>", 502, "text/html")
    with ScriptedServer(page) as server, pytest.raises(ServerFaultError) as caught:
        ask(connect(server.url), call)
    assert "<" not in str(caught.value)
    assert "502" in str(caught.value)


@pytest.mark.parametrize("body", [b'{"tokens": [1, 2', b'{"tokens"', b"", b"\xff\xfe", b"tokens"])
def test_half_a_json_text_that_claims_to_be_complete_is_malformed(connect, body):
    with ScriptedServer(reply(body)) as server:
        with pytest.raises(MalformedReplyError):
            connect(server.url).tokenize("x")
        assert len(server.requests) == 1


def test_a_body_shorter_than_its_length_is_cut_off_and_not_asked_for_again(connect):
    answer = Answer((b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"tokens": [1',), "close")
    with ScriptedServer(answer) as server:
        with pytest.raises(StreamCutOffError) as caught:
            connect(server.url, max_retries=5).tokenize("x")
        assert len(server.requests) == 1
    assert caught.value.url == f"{server.url}/tokenize"


def test_an_error_whose_body_is_cut_off_is_still_an_error(connect):
    answer = Answer((b'HTTP/1.1 500 X\r\nContent-Length: 100\r\n\r\n{"error": {"mess',), "close")
    with ScriptedServer(answer) as server, pytest.raises(LlamaServerError):
        connect(server.url, max_retries=0).tokenize("x")


@pytest.mark.parametrize("call", ["chat", "tokenize"])
def test_a_gzip_answer_is_read(connect, call):
    body = EVENTS if call == "chat" else b'{"tokens": [1, 2]}'
    kind = "text/event-stream" if call == "chat" else "application/json"
    with ScriptedServer(reply(body, kind=kind, gzip=True)) as server:
        assert ask(connect(server.url), call) == ("Hello" if call == "chat" else [1, 2])


def test_a_gzip_stream_comes_delta_by_delta(connect):
    packer = zlib.compressobj(wbits=31)
    first = packer.compress(text("Hello")) + packer.flush(zlib.Z_SYNC_FLUSH)
    rest = packer.compress(chunk(finish="stop") + DONE) + packer.flush()
    top = head().replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n")
    first_is_read = threading.Event()
    with ScriptedServer(Answer((top, piece(first), first_is_read, piece(rest), b"0\r\n\r\n"))) as server:
        client = connect(server.url)
        stream = client.start("stream_chat", CHAT)
        assert client.next(stream).content == "Hello"
        first_is_read.set()
        assert client.next(stream).finish_reason == "stop"
        assert client.next(stream) is None


@pytest.mark.parametrize("call", ["chat", "tokenize"])
def test_an_answer_that_claims_gzip_and_is_not_is_malformed(connect, call):
    answer = reply(b'{"tokens": [1, 2]}', headers=["Content-Encoding: gzip"])
    with ScriptedServer(answer) as server, pytest.raises(MalformedReplyError, match="can't decode"):
        ask(connect(server.url), call)


def test_half_a_gzip_answer_is_malformed_or_cut(connect):
    half = gzip.compress(b'{"tokens": [1, 2]}')[:-10]
    answer = reply(half, headers=["Content-Encoding: gzip"])
    with ScriptedServer(answer) as server, pytest.raises((MalformedReplyError, StreamCutOffError)):
        connect(server.url).tokenize("x")


def test_an_endless_body_is_given_up_and_its_connection_closed(connect, monkeypatch):
    monkeypatch.setattr(behind_doors.MOST_BYTES_OF_A_BODY, 100_000)
    endless = Answer((head("application/json"), *[piece(b"[" * 10_000)] * 30), "hang")
    with ScriptedServer(endless) as server:
        with pytest.raises(MalformedReplyError, match="longer than") as caught:
            connect(server.url).tokenize("x")
        assert server.wait_until_left(), "the connection was not closed"
    assert caught.value.url == f"{server.url}/tokenize"


def test_an_endless_answer_in_one_piece_is_given_up_and_its_connection_closed(connect, monkeypatch):
    monkeypatch.setattr(behind_doors.MOST_BYTES_OF_AN_UNSTREAMED_REPLY, 100_000)
    endless = Answer((head("application/json"), *[piece(b"[" * 10_000)] * 30), "hang")
    with ScriptedServer(endless) as server:
        with pytest.raises(MalformedReplyError, match="longer than"):
            connect(server.url).chat(ChatRequest(messages=CHAT.messages, extra_body={"stream": False}))
        assert server.wait_until_left(), "the connection was not closed"


def test_an_endless_line_of_a_stream_is_given_up_and_its_connection_closed(connect, monkeypatch):
    monkeypatch.setattr(behind_doors.MOST_BYTES_OF_AN_EVENT, 100_000)
    endless = Answer((head(), *[piece(b"data: " + b"x" * 10_000)] * 30), "hang")
    with ScriptedServer(endless) as server:
        with pytest.raises(MalformedReplyError, match="longer than"):
            connect(server.url).chat(CHAT)
        assert server.wait_until_left(), "the connection was not closed"


def test_a_missing_endpoint_is_not_found_with_the_address(connect):
    with ScriptedServer(reply(b"", 404)) as server, pytest.raises(NotFoundError) as caught:
        connect(server.url).tokenize("x")
    assert caught.value.url == f"{server.url}/tokenize"
    assert "base_url" in str(caught.value)


@cache
def _bomb(size, times):
    packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    packed = b"".join([*(packer.compress(b"\0" * 1_000_000) for _ in range(size // 1_000_000)), packer.flush()])
    for _ in range(times - 1):
        packed = gzip.compress(packed, 9)
    return packed


@pytest.mark.parametrize("call", ["chat", "tokenize"])
def test_an_answer_that_is_compressed_twice_is_refused_before_it_is_decoded(connect, call):
    kind = "text/event-stream" if call == "chat" else "application/json"
    answer = reply(_bomb(64_000_000, 2), kind=kind, headers=["Content-Encoding: gzip, gzip"])
    with ScriptedServer(answer) as server:
        client = connect(server.url)
        tracemalloc.start()
        try:
            with pytest.raises(MalformedReplyError, match="compressed 2 times"):
                ask(client, call)
            assert tracemalloc.get_traced_memory()[1] < 8_000_000
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("call", ["chat", "tokenize"])
def test_an_answer_that_is_compressed_once_takes_no_more_memory_than_the_limit(connect, call, monkeypatch):
    for limit in (behind_doors.MOST_BYTES_OF_A_BODY, behind_doors.MOST_BYTES_OF_AN_EVENT):
        monkeypatch.setattr(limit, 1_000_000)
    kind = "text/event-stream" if call == "chat" else "application/json"
    answer = reply(_bomb(64_000_000, 1), kind=kind, headers=["Content-Encoding: gzip"])
    with ScriptedServer(answer) as server:
        client = connect(server.url)
        tracemalloc.start()
        try:
            with pytest.raises(MalformedReplyError, match="longer than 1000000 bytes"):
                ask(client, call)
            assert tracemalloc.get_traced_memory()[1] < 16_000_000
        finally:
            tracemalloc.stop()


def test_a_content_coding_that_was_not_asked_for_is_named(connect):
    with ScriptedServer(reply(b"...", headers=["Content-Encoding: br"])) as server:
        with pytest.raises(MalformedReplyError, match="unsupported content coding 'br'"):
            connect(server.url).tokenize("x")
        assert server.requests[0].headers["accept-encoding"] == "gzip, deflate"


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress, lambda body: zlib.compress(body)[2:-4]])
def test_every_way_to_compress_once_is_read(connect, pack):
    coding = "gzip" if pack is gzip.compress else "deflate"
    answer = reply(pack(b'{"tokens": [1, 2]}'), headers=[f"Content-Encoding: {coding}"])
    with ScriptedServer(answer) as server:
        assert connect(server.url).tokenize("x") == [1, 2]


def test_two_gzip_members_are_one_answer(connect):
    body = gzip.compress(b'{"tokens": ') + gzip.compress(b"[1, 2]}")
    with ScriptedServer(reply(body, headers=["Content-Encoding: gzip"])) as server:
        assert connect(server.url).tokenize("x") == [1, 2]


def test_a_stream_that_is_refused_before_its_first_byte_is_closed(connect):
    """Or the server would go on until the client is closed."""
    top = head().replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip, gzip\r\n\r\n")
    with ScriptedServer(Answer((top, 60.0))) as server:
        client = connect(server.url)
        with pytest.raises(MalformedReplyError, match="compressed 2 times"):
            client.chat(CHAT)
        assert server.wait_until_left()


def test_tools_that_a_caller_changes_between_requests_are_sent_as_they_are_now(connect):
    """Also where what is sent was made of the same objects before, and with nulls that no build takes."""
    function = {"name": "add", "description": None, "parameters": {"type": "object", "properties": {}}, "strict": None}
    tools = [{"type": "function", "function": function}]
    request = ChatRequest(messages=[{"role": "user", "content": "Hello"}], tools=tools)
    with ScriptedServer(stream(EVENTS), stream(EVENTS), stream(EVENTS), lacks=("/apply-template", "/props")) as server:
        client = connect(server.url)
        client.chat(request)
        function["parameters"]["properties"]["a"] = {"type": "integer"}
        client.chat(request)
        tools.append({"type": "function", "function": {"name": "sub"}})
        client.chat(request)
        first, second, third = ([tool["function"] for tool in sent.json["tools"]] for sent in server.requests)
    assert first == [{"name": "add", "description": "", "parameters": {"type": "object", "properties": {}}}]
    assert second[0]["parameters"]["properties"] == {"a": {"type": "integer"}}
    assert [third[0]] == second
    assert third[1]["name"] == "sub"
    assert function["description"] is None, "what the caller has is left alone"
