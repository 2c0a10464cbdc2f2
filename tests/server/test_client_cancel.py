"""Leaving an answer frees the server's slot at once, however it is left. Watched on `/slots` of the real server."""

import asyncio
import gc
import signal
import subprocess
import sys
from contextlib import aclosing, suppress

import anyio
import httpx
import pytest
import trio

from llamacpp_server import (
    AsyncLlamaServerClient,
    ChatRequest,
    CompletionRequest,
    LlamaServerClient,
    RequestTimeoutError,
)
from llamacpp_server.vectors import EmbedRequest, RankRequest
from tests.waiting import LONG, wait_until, wait_until_queued

CHAT = ChatRequest(messages=[{"role": "user", "content": "Hello"}])
COMPLETION = CompletionRequest(prompt="Hello")


class Watch:
    """Looks at the slots of a server over a connection of its own."""

    def __init__(self, server):
        self.client = LlamaServerClient(server.base_url)

    def busy(self):
        return sum(slot.is_processing for slot in self.client.slots())

    def until(self, busy):
        wait_until(lambda: self.busy() == busy, f"{busy} busy slots")

    def freed(self):
        """What was left would keep its slot for ever: the server never stops by itself."""
        self.until(0)


@pytest.fixture
def watch(slow_server):
    """A watch on a server that never stops by itself; all its slots are free before and after."""
    watch = Watch(slow_server)
    watch.until(0)
    yield watch
    watch.until(0)
    watch.client.close()


@pytest.mark.parametrize(("name", "request_"), [("stream_chat", CHAT), ("stream_complete", COMPLETION)])
def test_closing_a_stream(connect, slow_server, watch, name, request_):
    client = connect(slow_server)
    stream = client.start(name, request_)
    for _ in range(3):
        assert client.next(stream) is not None
    assert watch.busy() == 1
    client.leave(stream)
    watch.freed()
    assert client.health().ready, "the client is of use no more"


def test_breaking_a_loop(slow_server, watch):
    with slow_server.client() as client:
        for number, _ in enumerate(client.stream_chat(CHAT)):
            if number == 3:
                assert watch.busy() == 1
                break
        watch.freed()


def test_forgetting_a_stream(slow_server, watch):
    with slow_server.client() as client:
        stream = client.stream_chat(CHAT)
        next(stream)
        assert watch.busy() == 1
        del stream
        gc.collect()
        watch.freed()


def test_an_exception_in_the_loop_of_the_reader(slow_server, watch):
    with slow_server.client() as client:
        with pytest.raises(ZeroDivisionError):
            for _ in client.stream_chat(CHAT):
                1 / 0  # noqa: B018
        watch.freed()


def test_closing_the_client_while_a_stream_runs(slow_server, watch):
    client = slow_server.client()
    stream = client.stream_chat(CHAT)
    next(stream)
    client.close()
    stream.close()
    watch.freed()


def test_a_deadline(connect, slow_server, watch):
    """The deadline may come before the first token on a busy machine; then there is nothing to keep, and more time."""
    for seconds in (0.3, 3.0, 30.0):
        client = connect(slow_server, total_timeout=seconds)
        with pytest.raises(RequestTimeoutError) as caught:
            client.chat(CHAT)
        watch.freed()
        if caught.value.partial is not None:
            break
    assert caught.value.partial is not None
    assert caught.value.partial.choices[0].content.startswith("word word")


# -- awaited


async def cancelled(task):
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_cancelling_a_task_that_waits_for_an_unstreamed_chat(slow_server, watch):
    async with AsyncLlamaServerClient(slow_server.base_url) as client:
        for request, ask in [(CHAT, client.chat), (COMPLETION, client.complete)]:
            task = asyncio.create_task(ask(request))
            await asyncio.to_thread(watch.until, 1)
            await cancelled(task)
            await asyncio.to_thread(watch.freed)
        assert (await client.health()).ready


async def test_cancelling_a_task_that_reads_a_stream(slow_server, watch):
    async with AsyncLlamaServerClient(slow_server.base_url) as client:

        async def read():
            async for _ in client.stream_chat(CHAT):
                pass

        task = asyncio.create_task(read())
        await asyncio.to_thread(watch.until, 1)
        await cancelled(task)
        await asyncio.to_thread(watch.freed)


async def test_a_timeout_of_the_event_loop(slow_server, watch):
    async with AsyncLlamaServerClient(slow_server.base_url) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await client.chat(CHAT)
        await asyncio.to_thread(watch.freed)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.complete(COMPLETION), 0.2)
        await asyncio.to_thread(watch.freed)


async def test_breaking_an_awaited_loop(slow_server, watch):
    async with AsyncLlamaServerClient(slow_server.base_url) as client:
        async for _ in client.stream_chat(CHAT):
            break
        await asyncio.to_thread(watch.freed)


async def test_forgetting_an_awaited_stream(slow_server, watch):
    async with AsyncLlamaServerClient(slow_server.base_url) as client:
        stream = client.stream_chat(CHAT)
        await anext(stream)
        assert await asyncio.to_thread(watch.busy) == 1
        del stream
        gc.collect()
        await asyncio.to_thread(watch.freed)


async def test_a_task_group_of_which_one_fails(slow_server, watch):
    async with AsyncLlamaServerClient(slow_server.base_url) as client:

        async def fail():
            await asyncio.to_thread(watch.until, 2)
            raise RuntimeError("one failed")

        with pytest.raises(ExceptionGroup, match="TaskGroup"):
            async with asyncio.TaskGroup() as group:
                group.create_task(client.chat(CHAT))
                group.create_task(client.chat(CHAT))
                group.create_task(fail())
        await asyncio.to_thread(watch.freed)


def test_a_cancel_scope_of_trio(slow_server, watch):
    async def main():
        async with AsyncLlamaServerClient(slow_server.base_url) as client:

            async def cancel_when_busy(scope):
                await trio.to_thread.run_sync(watch.until, 1)
                scope.cancel()

            async with trio.open_nursery() as others:
                with trio.CancelScope() as scope:
                    others.start_soon(cancel_when_busy, scope)
                    await client.chat(CHAT)
                assert scope.cancelled_caught
                await trio.to_thread.run_sync(watch.freed)
                with trio.CancelScope() as scope:
                    others.start_soon(cancel_when_busy, scope)
                    async with aclosing(client.stream_chat(CHAT)) as stream:  # type: ignore[type-var]
                        async for _ in stream:
                            pass
                await trio.to_thread.run_sync(watch.freed)

    trio.run(main)


def test_a_cancelled_request_in_the_queue_is_never_sent(slow_server, watch):
    async def main():
        async with AsyncLlamaServerClient(slow_server.base_url) as client:
            running = [asyncio.create_task(client.chat(CHAT)) for _ in range(2)]
            await asyncio.to_thread(watch.until, 2)
            queued = asyncio.create_task(client.chat(CHAT))
            await asyncio.to_thread(wait_until_queued, slow_server)
            await cancelled(queued)
            for task in running:
                await cancelled(task)
            await asyncio.to_thread(watch.freed)

    asyncio.run(main())


def test_many_streams_left_one_after_another_leave_nothing_behind(slow_server, watch):
    with slow_server.client() as client:
        for _ in range(20):
            stream = client.stream_chat(CHAT)
            next(stream)
            stream.close()
        watch.freed()
        assert client.chat(ChatRequest(messages=CHAT.messages, params={"max_tokens": 3})).content.startswith("word")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_cancel_scope_of_anyio(slow_server, watch, backend):
    async def main():
        async with AsyncLlamaServerClient(slow_server.base_url) as client:
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as group:
                    group.start_soon(client.chat, CHAT)
                    group.start_soon(client.complete, COMPLETION)
                    await anyio.to_thread.run_sync(watch.until, 2)
                    scope.cancel()
            assert scope.cancelled_caught
            await anyio.to_thread.run_sync(watch.freed)
            assert (await client.health()).ready, "the cancelled scope has spoilt the client"

    anyio.run(main, backend=backend)


INTERRUPTED = """
import asyncio, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are deaf to it
from llamacpp_server import AsyncLlamaServerClient, ChatRequest, LlamaServerClient
url, way = sys.argv[1:]
request = ChatRequest(messages=[{"role": "user", "content": "Hello"}])

client = LlamaServerClient(url)

async def main():
    await AsyncLlamaServerClient(url).chat(request)

try:
    client.chat(request) if way == "blocking" else asyncio.run(main())
except KeyboardInterrupt:
    print("interrupted", client.health().ready, flush=True)
    time.sleep(30)  # it lives on: its end must not be what closes the connection
"""


@pytest.mark.parametrize("way", [pytest.param("blocking", marks=pytest.mark.long), "awaited"])
def test_an_interrupted_program_that_lives_on(slow_server, watch, way):
    command = [sys.executable, "-W", "error", "-c", INTERRUPTED, slow_server.base_url, way]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            wait_until(lambda: watch.busy() == 1, "the request of a program that has to start", 3 * LONG)
            child.send_signal(signal.SIGINT)
            assert child.stdout.readline() == "interrupted True\n"
            watch.freed()
            assert child.poll() is None
        finally:
            child.kill()


# -- vectors: the server looks whether the client is there once a second in which no result comes (b11549), so a request
# -- of many texts goes on to its end. What a cancelled call has not sent by then is never sent.


@pytest.mark.parametrize(("kind", "server"), [("embed", "embedding_server"), ("rank", "rerank_server")])
async def test_cancelling_a_thousand_texts_leaves_only_what_was_sent(request, kind, server):
    texts = ["word " * 60] * 1000
    request_ = (
        EmbedRequest(inputs=texts, batch_size=4)
        if kind == "embed"
        else RankRequest(query="word", documents=texts, batch_size=4)
    )
    server = request.getfixturevalue(server)
    watch, sent = Watch(server), list[httpx.Request]()

    async def note(sending):
        sent.append(sending)

    async with (
        httpx.AsyncClient(event_hooks={"request": [note]}) as given,
        AsyncLlamaServerClient(server.base_url, http_client=given) as client,
    ):
        task = asyncio.create_task(client.embed_texts(request_) if kind == "embed" else client.rank(request_))
        await asyncio.to_thread(watch.until, 2)
        await cancelled(task)
        before = len(sent)
        for _ in range(10):  # between two texts a slot is idle
            await asyncio.to_thread(watch.freed)
        assert len(sent) == before
    assert before < 250, "all of the thousand were sent"
    watch.client.close()
