"""Leaving a call early, in whatever way, frees the server's slot: watched on the server itself."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from langchain.agents import create_agent
from langgraph.graph import START, MessagesState, StateGraph

from langchain_llamacpp_server import ChatLlamaServer, LlamaServerLLM
from llamacpp_server import LocalServer, RequestTimeoutError
from tests.waiting import LONG, busy_slots, wait_until_busy

Idle = Callable[[LocalServer], None]


@pytest.fixture
def endless(slow_server: LocalServer) -> ChatLlamaServer:
    """Would go on until its context is full."""
    return ChatLlamaServer(base_url=slow_server.base_url)


def test_a_closed_stream(endless: ChatLlamaServer, slow_server: LocalServer, idle: Idle) -> None:
    stream = endless.stream("Hi")
    next(stream)
    assert busy_slots(slow_server) == 1
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
    await asyncio.to_thread(wait_until_busy, slow_server)
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
    for seconds in (0.3, 3, LONG):  # on a busy machine the first token may come after the first of them
        hurried = ChatLlamaServer(base_url=slow_server.base_url, total_timeout=seconds)
        with pytest.raises(RequestTimeoutError) as caught:
            hurried.invoke("Hi")
        if caught.value.partial is not None:
            break
    assert caught.value.partial is not None
    assert caught.value.partial.content.startswith("word word")
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


def graph(endless: ChatLlamaServer) -> Any:
    async def ask(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await endless.ainvoke(state["messages"])]}

    built = StateGraph(MessagesState)
    built.add_node("ask", ask)
    built.add_edge(START, "ask")
    return built.compile()


HELLO: Any = {"messages": [("user", "Hi")]}


@pytest.mark.parametrize("made", [graph, create_agent])
@pytest.mark.parametrize("way", ["ainvoke", "astream", "timeout", "aclose"])
async def test_an_aborted_run_of_langgraph(
    endless: ChatLlamaServer, slow_server: LocalServer, idle: Idle, made: Callable[..., Any], way: str
) -> None:
    run = made(endless)

    async def work() -> Any:
        if way == "ainvoke":
            return await run.ainvoke(HELLO)
        return [part async for part in run.astream(HELLO, stream_mode="messages")]

    if way == "timeout":
        run.step_timeout = 0.3
        with pytest.raises(TimeoutError):
            await run.ainvoke(HELLO)
    elif way == "aclose":
        parts = run.astream(HELLO, stream_mode="messages")
        await anext(parts)
        await parts.aclose()
    else:
        task = asyncio.create_task(work())
        await asyncio.to_thread(wait_until_busy, slow_server)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await asyncio.to_thread(idle, slow_server)


def test_a_blocking_stream_of_an_agent_that_is_left_ends_with_the_total_timeout(
    slow_server: LocalServer, idle: Idle
) -> None:
    """LangGraph runs a node in a thread, and waits for it when its stream is closed: it needs a deadline as well."""
    for seconds in (0.3, 3, LONG):
        hurried = ChatLlamaServer(base_url=slow_server.base_url, total_timeout=seconds)
        with suppress(RequestTimeoutError):  # on a busy machine no token came in time
            for _ in create_agent(hurried).stream(HELLO, stream_mode="messages"):
                break
            break
    else:
        pytest.fail("no token came")
    idle(slow_server)


async def test_a_cancelled_completion(slow_server: LocalServer, idle: Idle) -> None:
    llm = LlamaServerLLM(base_url=slow_server.base_url)
    task = asyncio.create_task(llm.ainvoke("Hi"))
    await asyncio.to_thread(wait_until_busy, slow_server)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(idle, slow_server)
    await llm.aclose()


async def test_a_blocking_call_in_a_thread_ends_with_its_total_timeout(slow_server: LocalServer, idle: Idle) -> None:
    """Nothing can stop a thread from outside: who leaves it behind needs a deadline in it."""
    hurried = ChatLlamaServer(base_url=slow_server.base_url, total_timeout=0.2)
    running = asyncio.create_task(asyncio.to_thread(hurried.invoke, "Hi"))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(running), 0.05)
    with pytest.raises(TimeoutError):
        await running
    await asyncio.to_thread(idle, slow_server)
    hurried.close()
