"""Bytes that do not belong to a reply, as with a wrong `Content-Length`, do not become part of the next one."""

import asyncio
import contextlib
import json
import ssl

import httpx
import httpx2
import pytest
import trustme

from llamacpp_server import AsyncLlamaServerClient, BadRequestError, LlamaServerClient, LlamaServerError
from tests.unit.events import DONE, chunk, text
from tests.wire.scripted_server import RECORD, Answer, ScriptedServer, error, reply, stream
from tests.wire.shells import ask
from tests.wire.test_sockets import CHAT, HELLO, TOKENS

BODY = b'{"tokens":[1,2]}'
EVENTS = text("Hello") + chunk(finish="stop") + DONE
STRANGE = reply({"tokens": [6, 6, 6]}).parts[0]
LARGE = list(range(60_000))


def with_length(body, length, kind):
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n".encode()
    return Answer((head + body,), then="close" if length > len(body) else "keep")


def followed_by(answer, more):
    return Answer((b"".join(answer.parts) + more,))


@pytest.mark.parametrize("by", [-5, 5])
@pytest.mark.parametrize("call", ["chat", "tokenize"])
def test_a_reply_of_a_wrong_length_does_not_spoil_the_next_call(connect, call, by):
    body, kind = (EVENTS, "text/event-stream") if call == "chat" else (BODY, "application/json")
    right = HELLO if call == "chat" else TOKENS
    with ScriptedServer(with_length(body, len(body) + by, kind), right) as server:
        client = connect(server.url, max_retries=0)
        with contextlib.suppress(LlamaServerError):
            assert ask(client, call) in ("Hello", [1, 2])
        assert ask(client, call) in ("Hello", [1, 2])
        assert len(server.requests) == 2


@pytest.mark.parametrize("more", [b" ", b"\n", STRANGE], ids=["space", "line end", "reply"])
@pytest.mark.parametrize("first", [TOKENS, error(400, "no")], ids=["reply", "error"])
def test_what_follows_a_reply_is_not_the_reply_to_the_next_request(connect, first, more):
    with ScriptedServer(followed_by(first, more), TOKENS) as server:
        client = connect(server.url, max_retries=0)
        if first is TOKENS:
            assert client.tokenize("x") == [1, 2]
        else:
            with pytest.raises(BadRequestError):
                client.tokenize("x")
        assert client.tokenize("x") == [1, 2]
        assert [request.connection for request in server.requests] == [0, 1]


def test_what_follows_a_stream_is_not_the_reply_to_the_next_request(connect):
    with ScriptedServer(followed_by(stream(EVENTS), STRANGE), TOKENS) as server:
        client = connect(server.url, max_retries=0)
        assert client.chat(CHAT).content == "Hello"
        assert client.tokenize("x") == [1, 2]


def test_what_follows_a_large_reply_and_was_read_with_it_is_dropped_too(connect):
    complete = reply({"tokens": LARGE})
    with ScriptedServer(followed_by(complete, STRANGE * 8), TOKENS) as server:
        client = connect(server.url, max_retries=0)
        for _ in range(8):
            server.answers.insert(0, server.answers[0])
        for _ in range(9):
            assert client.tokenize("x") == LARGE
        assert client.tokenize("x") == [1, 2]


@pytest.mark.parametrize("library", [httpx, httpx2])
@pytest.mark.parametrize("awaited", [False, True])
def test_it_holds_with_a_client_of_the_callers(library, awaited):
    async def ask_twice(url):
        async with library.AsyncClient() as given:
            client = AsyncLlamaServerClient(url, http_client=given, max_retries=0)
            return [await client.tokenize("x"), await client.tokenize("x")]

    with ScriptedServer(followed_by(TOKENS, STRANGE), TOKENS) as server:
        if awaited:
            found = asyncio.run(ask_twice(server.url))
        else:
            with library.Client() as given:
                client = LlamaServerClient(server.url, http_client=given, max_retries=0)
                found = [client.tokenize("x"), client.tokenize("x")]
    assert found == [[1, 2], [1, 2]]


@pytest.mark.parametrize("tokens", [[1, 2, 3], LARGE], ids=["one record", "many records"])
def test_it_holds_over_tls_where_the_rest_is_not_decrypted_yet(connect, tokens):
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    body = json.dumps({"tokens": tokens}).encode()
    # The reply ends with a record, so that what follows is one that nobody had to decrypt.
    spaces = (reply(body + b" " * count) for count in range(2 * RECORD))
    complete = next(answer for answer in spaces if len(answer.parts[0]) % RECORD == 0)
    with ScriptedServer(followed_by(complete, STRANGE), TOKENS, tls=context) as server:
        client = connect(f"https://localhost:{server.port}", max_retries=0, verify=trusting)
        assert client.tokenize("x") == tokens
        assert client.tokenize("x") == [1, 2]


@pytest.mark.parametrize("answer", [TOKENS, HELLO, reply({"tokens": LARGE})], ids=["reply", "stream", "large"])
def test_a_connection_without_more_is_kept(connect, answer):
    with ScriptedServer(answer) as server:
        client = connect(server.url)
        for _ in range(3):
            ask(client, "chat" if answer is HELLO else "tokenize")
        assert server.connections == 1
