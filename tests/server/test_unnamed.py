"""A server that nobody named is looked for at both default ports, and one with an address only there."""

import asyncio
import copy
import logging
import pickle
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from langchain_llamacpp_server import ChatLlamaServer
from llamacpp_server import (
    DEFAULT_BASE_URL,
    AsyncLlamaServerClient,
    ChatRequest,
    ConnectionFailedError,
    LlamaServerClient,
    LocalServer,
    ServerSettings,
)
from llamacpp_server.settings import UnnamedAddress
from llamacpp_server.transport import address_in_use
from tests.behind_doors import is_found_at_newer_port, put_newer_port

HELLO = ChatRequest(messages=[{"role": "user", "content": "Hello"}], params={"max_tokens": 1})


@pytest.fixture
def closed() -> Iterator[str]:
    """An address where nothing listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://localhost:{held.getsockname()[1]}"


@pytest.fixture
def newer(chat_server: LocalServer, monkeypatch: pytest.MonkeyPatch, fresh_notices: set[str]) -> int:
    """The port of a real server, as if it were the default one of newer builds."""
    port = urlsplit(chat_server.base_url).port
    assert port is not None
    put_newer_port(monkeypatch, port)
    return port


def test_where_nothing_listens_the_newer_port_is_tried_and_said_once(
    closed: str, newer: int, caplog: pytest.LogCaptureFixture
) -> None:
    settings = ServerSettings(base_url=UnnamedAddress(closed), max_retries=0)
    with caplog.at_level(logging.WARNING, "llamacpp_server"), LlamaServerClient(settings=settings) as client:
        assert client.chat(HELLO).choices
        assert list(client.stream_chat(HELLO))
        assert client.tokenize("a")
    assert [record.message for record in caplog.records if "no address was given" in record.message] == [
        f"no address was given, and nothing listens at {closed}: using http://localhost:{newer}"
    ]
    assert address_in_use(settings) == f"http://localhost:{newer}"


def test_awaited_calls_try_it_too(closed: str, newer: int) -> None:
    async def ask() -> None:
        settings = ServerSettings(base_url=UnnamedAddress(closed), max_retries=0)
        async with AsyncLlamaServerClient(settings=settings) as client:
            assert (await client.chat(HELLO)).choices
            assert await client.tokenize("a")

    asyncio.run(ask())


def test_a_server_that_moved_back_is_found(closed: str, newer: int, monkeypatch: pytest.MonkeyPatch) -> None:
    put_newer_port(monkeypatch, urlsplit(closed).port, found=True)
    old = UnnamedAddress(f"http://localhost:{newer}")
    with LlamaServerClient(settings=ServerSettings(base_url=old, max_retries=0)) as client:
        assert client.chat(HELLO).choices
    assert not is_found_at_newer_port()


def test_a_server_that_was_named_is_not_looked_for_elsewhere(closed: str, newer: int) -> None:
    with LlamaServerClient(closed, max_retries=0) as client, pytest.raises(ConnectionFailedError) as raised:
        client.chat(HELLO)
    assert raised.value.url is not None
    assert raised.value.url.startswith(closed)


def test_where_nothing_listens_at_either_the_error_is_of_the_first(
    closed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_newer_port(monkeypatch, urlsplit(closed).port)
    settings = ServerSettings(base_url=UnnamedAddress(closed), max_retries=1)
    with LlamaServerClient(settings=settings) as client, pytest.raises(ConnectionFailedError) as raised:
        client.chat(HELLO)
    assert raised.value.url is not None
    assert raised.value.url.startswith(closed)


def test_an_address_is_unnamed_only_where_nobody_gave_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLAMACPP_BASE_URL", raising=False)
    for made in (ServerSettings(), ServerSettings.from_env(), LlamaServerClient().settings):
        assert isinstance(made.base_url, UnnamedAddress)
        assert isinstance(made.replace(model="m").base_url, UnnamedAddress)
    llm = ChatLlamaServer()
    for copied in (llm, llm.model_copy(), copy.deepcopy(llm), pickle.loads(pickle.dumps(llm))):
        assert isinstance(copied.server_settings().base_url, UnnamedAddress)
    for named in (
        ServerSettings(base_url=DEFAULT_BASE_URL),
        ChatLlamaServer(base_url=DEFAULT_BASE_URL).server_settings(),
    ):
        assert not isinstance(named.base_url, UnnamedAddress)
    monkeypatch.setenv("LLAMACPP_BASE_URL", DEFAULT_BASE_URL)
    for named in (ServerSettings.from_env(), ChatLlamaServer().server_settings()):
        assert not isinstance(named.base_url, UnnamedAddress)
