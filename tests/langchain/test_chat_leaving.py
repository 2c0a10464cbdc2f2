"""Leaving a call early, in whatever way, frees the server's slot: watched on the server itself."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from langchain_llamacpp_server import ChatLlamaServer
from llamacpp_server import LocalServer

Idle = Callable[[LocalServer], None]


@pytest.fixture
def endless(slow_server: LocalServer) -> ChatLlamaServer:
    """Would go on until its context is full."""
    return ChatLlamaServer(base_url=slow_server.base_url)


def busy(server: LocalServer) -> bool:
    with server.client() as client:
        return any(slot.is_processing for slot in client.slots())


async def until_busy(server: LocalServer) -> None:
    while not await asyncio.to_thread(busy, server):
        pass


def test_a_closed_stream(endless: ChatLlamaServer, slow_server: LocalServer, idle: Idle) -> None:
    stream = endless.stream("Hi")
    next(stream)
    assert busy(slow_server)
    stream.close()  # type: ignore[attr-defined]
    idle(slow_server)


def test_a_broken_loop(endless: ChatLlamaServer, slow_server: LocalServer, idle: Idle) -> None:
    for _ in endless.stream("Hi"):
        break
    idle(slow_server)


async def test_a_broken_loop_that_awaits(endless: ChatLlamaServer, slow_server: LocalServer, idle: Idle) -> None:
    async for _ in endless.astream("Hi"):
        break
    await asyncio.to_thread(idle, slow_server)


def test_a_parser_that_has_seen_enough(endless: ChatLlamaServer, slow_server: LocalServer, idle: Idle) -> None:
    with pytest.raises(ZeroDivisionError):
        for _ in endless.stream("Hi"):
            raise ZeroDivisionError
    idle(slow_server)


@pytest.mark.parametrize("way", ["ainvoke", "astream", "abatch"])
async def test_a_cancelled_task(endless: ChatLlamaServer, slow_server: LocalServer, idle: Idle, way: str) -> None:
    async def work() -> Any:
        match way:
            case "ainvoke":
                return await endless.ainvoke("Hi")
            case "abatch":
                return await endless.abatch(["Hi", "Ho"])
        return [chunk async for chunk in endless.astream("Hi")]

    task = asyncio.create_task(work())
    await until_busy(slow_server)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(idle, slow_server)


async def test_a_deadline(endless: ChatLlamaServer, slow_server: LocalServer, idle: Idle) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await endless.ainvoke("Hi")
    await asyncio.to_thread(idle, slow_server)


def test_a_total_timeout(slow_server: LocalServer, idle: Idle) -> None:
    hurried = ChatLlamaServer(base_url=slow_server.base_url, total_timeout=0.3)
    with pytest.raises(TimeoutError) as caught:
        hurried.invoke("Hi")
    assert caught.value.partial.content.startswith("word word")  # type: ignore[attr-defined]
    idle(slow_server)


def test_neighbours_go_on(endless: ChatLlamaServer, slow_server: LocalServer, idle: Idle) -> None:
    lines: list[str] = []

    def other() -> None:
        lines.extend(chunk.text for chunk in endless.stream("Hi", max_tokens=300))

    thread = threading.Thread(target=other)
    thread.start()
    for _ in endless.stream("Ho"):
        break
    thread.join()
    assert "".join(lines).count("word") >= 299
    idle(slow_server)
