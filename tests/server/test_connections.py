"""Connections are kept and reused, one set for each event loop, and given up before the server closes them."""

import asyncio
import gc
import threading
import weakref
from typing import Any

import pytest
import trio

from llamacpp_server import AsyncLlamaServerClient, LlamaServerClient, LocalServer
from llamacpp_server.transport import (
    AsyncTransport,
)


def pool_size(transport: AsyncTransport) -> int:
    """Sockets that the clients of all loops hold open."""
    clients = [client for loop in transport._loops.values() for client in loop.values()]
    return sum(len(client._transport._pool.connections) for client in clients)  # type: ignore[attr-defined]


def test_awaited_requests_in_turn_share_one_connection(chat_server: LocalServer) -> None:
    async def three() -> tuple[int, int]:
        async with AsyncLlamaServerClient(chat_server.base_url) as client:
            for _ in range(3):
                await client.health()
            return len(client.transport._loops), pool_size(client.transport)

    assert asyncio.run(three()) == (1, 1)


def test_awaited_requests_in_turn_share_one_connection_on_trio(chat_server: LocalServer) -> None:
    async def three() -> tuple[int, int]:
        async with AsyncLlamaServerClient(chat_server.base_url) as client:
            for _ in range(3):
                await client.health()
            return len(client.transport._loops), pool_size(client.transport)

    assert trio.run(three) == (1, 1)


def test_threads_share_one_client(chat_server: LocalServer) -> None:
    with LlamaServerClient(chat_server.base_url) as client:
        answers = []
        threads = [threading.Thread(target=lambda: answers.append(client.health().ready)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [True] * 8
        assert len(client.transport._clients) == 1


def test_an_event_loop_that_ends_closes_connections_that_nobody_closed(chat_server: LocalServer) -> None:
    client = AsyncLlamaServerClient(chat_server.base_url)

    async def left_open() -> int:
        await client.health()
        return pool_size(client.transport)

    for _ in range(3):
        assert asyncio.run(left_open()) == 1
        assert len(client.transport._loops) == 0
    gc.collect()  # an open socket would be reported here, and every warning is an error


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
async def test_closing_in_one_event_loop_drops_the_connections_of_loops_that_were_closed_without_their_generators(
    chat_server: LocalServer,
) -> None:
    """As LlamaIndex closes the loop of a blocking call that was made in a running one."""
    client = AsyncLlamaServerClient(chat_server.base_url)

    def in_a_loop_of_its_own() -> weakref.ref[Any]:
        loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(client.props())
        finally:
            loop.close()
        return weakref.ref(loop)

    loop = await asyncio.to_thread(in_a_loop_of_its_own)
    await client.aclose()
    gc.collect()
    assert loop() is None
