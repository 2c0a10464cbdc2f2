"""Clients that a caller brings: mocks and recordings whose replies were read already, caches, and httpx2."""

import asyncio
import json

import httpx
import httpx2
import pytest

from llamacpp_server import (
    AsyncLlamaServerClient,
    ChatRequest,
    ConnectionFailedError,
    LlamaServerClient,
    RequestTimeoutError,
    StreamCutOffError,
)
from tests.unit.events import DONE, chunk, text
from tests.wire.scripted_server import Answer, ScriptedServer, head, reply, stream
from tests.wire.scripted_server import chunk as piece

CHAT = ChatRequest(messages=[{"role": "user", "content": "Hello"}])
EVENTS = text("Hello") + chunk(finish="stop") + DONE
URL = "http://127.0.0.1:1"
LIBRARIES = [httpx, httpx2]


def _answers(library):
    def handler(request):
        if request.url.path == "/tokenize":
            return library.Response(200, json={"tokens": [1, 2]})
        return library.Response(200, content=EVENTS, headers={"Content-Type": "text/event-stream"})

    return library.MockTransport(handler)


@pytest.mark.parametrize("library", LIBRARIES)
def test_replies_that_were_read_already_are_read(library):
    with library.Client(transport=_answers(library)) as given:
        client = LlamaServerClient(URL, http_client=given)
        assert client.tokenize("x") == [1, 2]
        assert client.chat(CHAT).content == "Hello"


@pytest.mark.parametrize("library", LIBRARIES)
def test_replies_that_were_read_already_are_read_when_awaited(library):
    async def main():
        async with library.AsyncClient(transport=_answers(library)) as given:
            client = AsyncLlamaServerClient(URL, http_client=given)
            return await client.tokenize("x"), (await client.chat(CHAT)).content

    assert asyncio.run(main()) == ([1, 2], "Hello")


def test_a_reply_that_was_decoded_already_is_not_decoded_again():
    class Recording(httpx.BaseTransport):
        def handle_request(self, request):
            found = httpx.Response(200, json={"tokens": [1, 2]})
            found.headers["Content-Encoding"] = "gzip"  # as recorded; the body is plain
            return found

    with httpx.Client(transport=Recording()) as given:
        assert LlamaServerClient(URL, http_client=given).tokenize("x") == [1, 2]


def test_a_reply_whose_request_is_another_one_is_read():
    """A cache answers with the request that it had kept."""

    class Cache(httpx.Client):
        def send(self, request, **options):
            found = super().send(request, **options)
            found.request = httpx.Request(request.method, request.url)
            return found

    with ScriptedServer(reply({"tokens": [1]})) as server, Cache() as given:
        assert LlamaServerClient(server.url, http_client=given).tokenize("x") == [1]


def _ask(library, url, call, *, awaited, **settings):
    if not awaited:
        with library.Client() as given:
            return call(LlamaServerClient(url, http_client=given, **settings))

    async def main():
        async with library.AsyncClient() as given:
            return await call(AsyncLlamaServerClient(url, http_client=given, **settings))

    return asyncio.run(main())


@pytest.mark.parametrize("awaited", [False, True])
def test_a_client_of_httpx2_streams_and_sends_the_same_as_one_of_httpx(awaited):
    sent = []
    for library in LIBRARIES:
        with ScriptedServer(stream(text("Hello"), chunk(finish="stop") + DONE)) as server:
            found = _ask(library, server.url, lambda client: client.chat(CHAT), awaited=awaited, api_key="k")
            assert found.content == "Hello"
            sent.append((server.requests[0].headers["authorization"], json.loads(server.requests[0].body)))
    assert sent[0] == sent[1]


@pytest.mark.parametrize("awaited", [False, True])
def test_errors_of_httpx2_are_those_of_httpx(awaited):
    refused, cut = [], Answer((head(), piece(text("Hel"))), "close")
    for library in LIBRARIES:
        with pytest.raises(ConnectionFailedError) as caught:
            _ask(library, URL, lambda client: client.tokenize("x"), awaited=awaited)
        refused.append((caught.value.reason, str(caught.value)))
        with ScriptedServer(cut) as server, pytest.raises(StreamCutOffError):
            _ask(library, server.url, lambda client: client.chat(CHAT), awaited=awaited)
        with ScriptedServer(Answer((30.0,), "close")) as server, pytest.raises(RequestTimeoutError):
            _ask(library, server.url, lambda client: client.tokenize("x"), awaited=awaited, read_timeout=0.1)
    assert refused[0] == refused[1]
    assert refused[0][0] == "refused"


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_proxy_that_is_down_is_named_as_the_proxy(library):
    with (
        library.Client(proxy="http://user:secret@127.0.0.1:1") as given,
        pytest.raises(ConnectionFailedError) as caught,
    ):
        LlamaServerClient("http://example.test", http_client=given, max_retries=0).tokenize("x")
    assert "the proxy http://127.0.0.1:1 is not reachable" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_proxy_that_refuses_is_named_as_the_proxy():
    refusal = Answer((b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n",), "close")
    with ScriptedServer(refusal) as proxy, httpx.Client(proxy=proxy.url) as given:
        client = LlamaServerClient("https://example.test", http_client=given, max_retries=0)
        with pytest.raises(ConnectionFailedError, match=f"the proxy {proxy.url} can't connect to the server: 407"):
            client.tokenize("x")


@pytest.mark.parametrize("library", LIBRARIES)
def test_httpx_logs_no_query_of_ours_and_nothing_is_remembered_for_it(library, caplog):
    caplog.set_level("INFO")
    with ScriptedServer(reply({"tokens": [1]})) as server, library.Client() as given:
        LlamaServerClient(server.url, http_client=given, query={"key": "hunter2"}).tokenize("x")
        given.get(f"{server.url}/own?page=2")
    assert "hunter2" not in caplog.text
    assert "page=2" in caplog.text  # the caller's own requests are logged as ever
