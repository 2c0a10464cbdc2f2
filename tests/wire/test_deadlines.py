"""`total_timeout` ends a request whatever the server does to stretch it, one byte at a time."""

import asyncio
import threading
import time
from contextlib import suppress

import httpx
import pytest

from llamacpp_server import AsyncLlamaServerClient, ChatRequest, LlamaServerClient, RequestTimeoutError
from llamacpp_server.requests import MediaPolicy
from tests import behind_doors
from tests.unit.events import text
from tests.waiting import LONG, TIMEOUTS
from tests.wire.scripted_server import Answer, ScriptedServer, head
from tests.wire.scripted_server import chunk as piece

CHAT = ChatRequest(messages=[{"role": "user", "content": "Hello"}])
SECONDS = 0.12


def dripping(data):
    """The bytes, one at a time; each comes within any read timeout."""
    return [part for byte in data for part in (bytes([byte]), 0.05)]


JSON_HEAD = b"HTTP/1.1 500 X\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n"
STRETCHED = {
    "header bytes that drip": dripping(b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 400),
    "endless 103": [b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n", 0.05] * 400,
    "a stream that stalls late": [head(), *[piece(text("Hi")), 0.01] * 5, 30.0],
    "a stream that drips": [head(), *dripping(piece(b": " + b"x" * 400))],
    "an error that drips": [JSON_HEAD, *dripping(b"x" * 400)],
    "an error that stalls": [JSON_HEAD, 30.0],
}


@pytest.mark.parametrize("parts", STRETCHED.values(), ids=STRETCHED)
def test_a_chat_ends_after_its_total_timeout(connect, parts):
    with ScriptedServer(Answer(tuple(parts), "close")) as server:
        started = time.monotonic()
        with pytest.raises(RequestTimeoutError, match="total_timeout") as caught:
            connect(server.url, total_timeout=SECONDS).chat(CHAT)
        assert time.monotonic() - started < 15  # what drips takes 20 s and more, what stalls 30
        # On a busy machine the client may be gone before the server has read a thing.
        assert not server.requests or server.wait_until_left(), "the connection was not closed"
    assert caught.value.url == f"{server.url}/v1/chat/completions"


def test_an_unstreamed_answer_that_drips_ends_after_its_total_timeout(connect):
    body = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 400\r\n\r\n" + b"[" * 400
    with ScriptedServer(Answer(tuple(dripping(body)), "close")) as server:
        started = time.monotonic()
        with pytest.raises(RequestTimeoutError, match="total_timeout"):
            connect(server.url, total_timeout=SECONDS).tokenize("x")
        assert time.monotonic() - started < 15  # what drips takes 20 s and more, what stalls 30


def test_a_client_of_the_callers_own_keeps_the_total_timeout_as_well():
    parts = STRETCHED["header bytes that drip"]
    with ScriptedServer(Answer(tuple(parts), "close")) as server, httpx.Client(timeout=30) as given:
        started = time.monotonic()
        with pytest.raises(RequestTimeoutError, match="total_timeout"):
            LlamaServerClient(server.url, http_client=given, total_timeout=SECONDS).chat(CHAT)
        assert time.monotonic() - started < 15  # what drips takes 20 s and more, what stalls 30


def test_a_reader_who_pauses_has_no_deadline_for_its_own_requests():
    """The bound is that of the stream's reads; between them the thread is the caller's."""
    events, own = Answer((head(), piece(text("one")), piece(text("two")), 4 * LONG)), None
    for seconds in TIMEOUTS:
        slow = Answer((1.5 * seconds, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
        with ScriptedServer(events) as server, ScriptedServer(slow) as other, httpx.Client(timeout=None) as given:
            client = LlamaServerClient(server.url, http_client=given, total_timeout=seconds)
            stream = client.stream_chat(CHAT)
            with suppress(RequestTimeoutError):  # a busy machine was so slow
                next(stream)
                own = given.get(other.url).text
                with pytest.raises(RequestTimeoutError):
                    list(stream)
                break
    assert own == "ok"


def test_fetching_a_picture_that_drips_ends_in_time(connect, monkeypatch):
    monkeypatch.setattr(behind_doors.SECONDS_OF_A_FETCH, SECONDS)
    media = MediaPolicy(fetch_urls=["127.0.0.1"])
    with ScriptedServer(Answer(tuple(STRETCHED["header bytes that drip"]), "close")) as server:
        image = {"type": "image_url", "image_url": {"url": f"{server.url}/a.png"}}
        request = ChatRequest(messages=[{"role": "user", "content": [image]}], media=media)
        started = time.monotonic()
        with pytest.raises(RequestTimeoutError, match="can't be fetched: it took longer"):
            connect(server.url).chat(request)
        assert time.monotonic() - started < 15  # what drips takes 20 s and more, what stalls 30


def test_the_total_timeout_covers_what_comes_before_the_request(connect):
    """A picture that takes 30 s may not stretch a chat that may take less."""
    media = MediaPolicy(fetch_urls=["127.0.0.1"])
    with ScriptedServer(Answer((30.0,), "close")) as server:
        image = {"type": "image_url", "image_url": {"url": f"{server.url}/a.png"}}
        request = ChatRequest(messages=[{"role": "user", "content": [image]}], media=media)
        started = time.monotonic()
        with pytest.raises(RequestTimeoutError):
            connect(server.url, total_timeout=SECONDS).chat(request)
        assert time.monotonic() - started < 15  # what drips takes 20 s and more, what stalls 30


def test_the_deadline_of_one_thread_is_not_anothers(connect):
    slow = Answer((0.3, b'HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{"tokens": [1]}'))
    with ScriptedServer(slow) as server:
        results = []
        patient = LlamaServerClient(server.url)
        thread = threading.Thread(target=lambda: results.append(patient.tokenize("x")))
        thread.start()
        with pytest.raises(RequestTimeoutError):
            connect(server.url, total_timeout=0.1).tokenize("x")
        thread.join(LONG)
    assert results == [[1]]


async def test_what_came_is_kept_when_the_event_loop_is_busy_at_the_deadline():
    loop, came = asyncio.get_running_loop(), None
    for seconds in (0.5, 3.0, LONG):
        with ScriptedServer(Answer((head(), piece(text("so far")), 2 * LONG))) as server:
            async with AsyncLlamaServerClient(server.url, total_timeout=seconds) as client:
                loop.call_later(seconds - 0.2, time.sleep, 0.4)
                with pytest.raises(RequestTimeoutError, match="total_timeout") as caught:
                    await client.chat(CHAT)
        if (came := caught.value.partial) is not None:
            break
    assert came is not None
    assert came.content == "so far"
