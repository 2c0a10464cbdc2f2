"""Requests beyond the server's slots wait in this process: all are answered, few run at once, none is stuck."""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any, Literal

import pytest

from llamacpp_server import (
    AsyncLlamaServerClient,
    ChatRequest,
    LlamaServerClient,
    LocalServer,
    RequestTimeoutError,
)
from llamacpp_server.transport import (
    Gate,
    Place,
    Ticket,
    gate_for,
)
from tests.waiting import LONG, wait_until_busy, wait_until_queued

REQUEST = ChatRequest(messages=[{"role": "user", "content": "Hello"}], params={"max_tokens": 8, "temperature": 0})
ENDLESS = ChatRequest(messages=[{"role": "user", "content": "Hello"}])


class Watched:
    """Counts the most tickets that a gate has out at once."""

    def __init__(self, gate: Gate) -> None:
        self.gate, self.most, self._over = gate, 0, threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._over.is_set():
            self.most = max(self.most, len(self.gate.state().held))
            time.sleep(0.0005)

    def __enter__(self) -> "Watched":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()


def test_awaited_requests_beyond_the_slots_are_answered_few_at_once(chat_server: LocalServer) -> None:
    async def many() -> int:
        async with AsyncLlamaServerClient(chat_server.base_url) as client:
            replies = await asyncio.gather(*(client.chat(REQUEST) for _ in range(64)))
        return sum(reply.finish_reason is not None for reply in replies)

    with Watched(gate_for(chat_server.base_url)) as watched:
        assert asyncio.run(many()) == 64
    assert watched.most == 2


def test_threads_beyond_the_slots_are_answered_few_at_once(chat_server: LocalServer) -> None:
    answered: list[str | None] = []
    with LlamaServerClient(chat_server.base_url) as client, Watched(gate_for(chat_server.base_url)) as watched:
        threads = [
            threading.Thread(target=lambda: answered.append(client.chat(REQUEST).finish_reason)) for _ in range(24)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(answered) == 24
    assert None not in answered
    assert watched.most == 2


@pytest.mark.parametrize("limit", [1, None])
def test_the_limit_can_be_set_or_lifted(chat_server: LocalServer, limit: int | None) -> None:
    async def many() -> None:
        async with AsyncLlamaServerClient(chat_server.base_url, max_concurrency=limit) as client:
            await asyncio.gather(*(client.chat(REQUEST) for _ in range(12)))

    with Watched(gate_for(chat_server.base_url)) as watched:
        asyncio.run(many())
    assert watched.most == (0 if limit is None else 1)


def test_a_reader_that_pauses_does_not_hold_up_others(slow_server: LocalServer, idle: Callable[..., None]) -> None:
    with LlamaServerClient(slow_server.base_url, max_concurrency=1) as client:
        stream = client.stream_chat(ENDLESS)
        next(stream)
        request = ChatRequest(messages=ENDLESS.messages, params={"max_tokens": 2})
        assert client.chat(request).finish_reason == "length"
        stream.close()  # type: ignore[attr-defined]
    idle(slow_server)
    assert not gate_for(slow_server.base_url).state().held


def test_a_wait_for_a_place_ends_at_the_total_timeout(slow_server: LocalServer, idle: Callable[..., None]) -> None:
    async def queued() -> None:
        async with AsyncLlamaServerClient(slow_server.base_url, max_concurrency=1) as client:
            stream = client.stream_chat(ENDLESS)
            reading = asyncio.create_task(_read(stream))
            await asyncio.to_thread(wait_until_busy, slow_server)
            with pytest.raises(RequestTimeoutError):
                await client.with_settings(total_timeout=0.2).chat(REQUEST)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    asyncio.run(queued())
    idle(slow_server)
    assert not gate_for(slow_server.base_url).state().held


async def _read(stream: object) -> None:
    async for _ in stream:  # type: ignore[attr-defined]
        pass


def test_a_cancelled_waiter_leaves_the_queue(slow_server: LocalServer, idle: Callable[..., None]) -> None:
    async def cancelled() -> None:
        async with AsyncLlamaServerClient(slow_server.base_url, max_concurrency=1) as client:
            first = asyncio.create_task(_read(client.stream_chat(ENDLESS)))
            await asyncio.to_thread(wait_until_busy, slow_server)
            second = asyncio.create_task(client.chat(REQUEST))
            await asyncio.to_thread(wait_until_queued, slow_server)
            for task in (second, first):
                task.cancel()
            await asyncio.gather(first, second, return_exceptions=True)

    asyncio.run(cancelled())
    idle(slow_server)
    gate = gate_for(slow_server.base_url)
    assert not gate.state().held
    assert not gate.state().queue


def test_a_background_request_is_answered_after_those_that_came_later(scripted_server: Any) -> None:
    server = scripted_server("Yes.", parallel=1)
    answered = list[str]()

    def ask(text: str, priority: Literal["normal", "background"]) -> None:
        with LlamaServerClient(server.base_url, priority=priority) as client:
            client.chat(ChatRequest(messages=[{"role": "user", "content": text}], params={"max_tokens": 8}))
        answered.append(text)

    # Not a stream, which ends at its context's end, or lets others in once nobody has read it for a second.
    gate, ticket, threads = gate_for(server.base_url), Ticket(), list[threading.Thread]()
    ticket.enter(gate, Place())
    for number, (text, priority) in enumerate({"title": "background", "a": "normal", "b": "normal"}.items(), 1):
        threads.append(threading.Thread(target=ask, args=(text, priority)))
        threads[-1].start()
        wait_until_queued(server, number)
    ticket.leave()
    for thread in threads:
        thread.join(LONG)
    assert answered == ["a", "b", "title"]
