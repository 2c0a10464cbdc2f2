"""Crowds on a server with 4 slots: all are answered, what is in flight is bounded by the slots, and memory is flat.

In flight is what the server says itself (`/metrics`: processing and deferred), not what we think.
"""

import asyncio
import gc
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.llms import ChatMessage

from langchain_llamacpp_server import ChatLlamaServer, LlamaServerEmbeddings
from llamacpp_server import AsyncLlamaServerClient, ChatRequest, LlamaServerClient, LocalServer
from llamaindex_llamacpp_server import LlamaServer, LlamaServerEmbedding

pytestmark = [pytest.mark.long, pytest.mark.alone]
SLOTS = 4
STREAMS, REQUESTS = 256, 2000


@pytest.fixture(scope="module")
def four(serve: Any) -> LocalServer:
    server: LocalServer = serve("random.gguf", parallel=SLOTS, ctx_size=1024 * SLOTS, metrics=True, threads_http=12)
    return server


@pytest.fixture(scope="module")
def two(serve: Any) -> LocalServer:
    """With a thread for each connection: a thread waits five seconds at a kept one before it serves another."""
    server: LocalServer = serve(
        "encoder.gguf", embeddings=True, pooling="mean", parallel=2, ctx_size=1024, threads_http=16
    )
    return server


class Watched:
    """The most requests that a server had at once, by its own account, over a connection of our own."""

    def __init__(self, server: LocalServer) -> None:
        self._server, self.most, self._over = server, 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        with self._server.client() as client:
            while not self._over.wait(0.02):
                found = client.metrics().values
                here = found["requests_processing"] + found["requests_deferred"]
                self.most = max(self.most, here)

    def __enter__(self) -> "Watched":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def steady() -> Iterator[None]:
    """Nothing is left behind: no sockets, and no more memory than the answers take."""
    gc.collect()
    files, memory = descriptors(), resident()
    yield
    gc.collect()
    assert descriptors() <= files + 2
    assert resident() - memory < 64 << 20


@pytest.mark.usefixtures("steady")
def test_256_streams_at_once(four: LocalServer) -> None:
    request = ChatRequest(messages=[{"role": "user", "content": "Hi"}], params={"max_tokens": 4, "ignore_eos": True})

    async def read(client: AsyncLlamaServerClient, number: int, order: list[int]) -> int:
        deltas = [delta async for delta in client.stream_chat(request)]
        order.append(number)
        return deltas[-1].usage.completion_tokens if deltas[-1].usage else 0

    async def main() -> tuple[list[int], list[int]]:
        order: list[int] = []
        async with AsyncLlamaServerClient(four.base_url) as client:
            return await asyncio.gather(*(read(client, number, order) for number in range(STREAMS))), order

    with Watched(four) as watched:
        tokens, order = asyncio.run(main())
    assert tokens == [4] * STREAMS
    assert watched.most <= SLOTS
    # First come, first served: nobody is overtaken by more than those who run beside it.
    assert max(abs(place - number) for place, number in enumerate(order)) < 2 * SLOTS


@pytest.mark.usefixtures("steady")
def test_2000_chats_in_a_batch_of_langchain(four: LocalServer) -> None:
    llm = ChatLlamaServer(base_url=four.base_url, max_tokens=1)

    async def main() -> list[Any]:
        found = await llm.abatch(["Hi"] * (REQUESTS // 2))
        await llm.aclose()
        return found

    with Watched(four) as watched:
        answers = [*llm.batch(["Hi"] * (REQUESTS // 2), config={"max_concurrency": 32}), *asyncio.run(main())]
    assert [answer.usage_metadata["output_tokens"] for answer in answers] == [1] * REQUESTS
    assert watched.most <= SLOTS
    llm.close()


@pytest.mark.usefixtures("steady")
def test_300_chats_of_llamaindex(four: LocalServer, caplog: pytest.LogCaptureFixture) -> None:
    llm = LlamaServer(base_url=four.base_url, max_tokens=1, thinking=False)

    async def main() -> int:
        found = await asyncio.gather(*(llm.achat([ChatMessage("Hi")]) for _ in range(300)))
        await llm.aclose()
        return len([answer for answer in found if answer.raw is not None])

    with Watched(four) as watched, caplog.at_level("INFO"):
        assert asyncio.run(main()) == 300
    assert watched.most <= SLOTS
    # A kept connection that the server closes after its hundredth answer is told as a retry.
    waits = [line for line in caplog.messages if "waiting" in line and " is retry" not in line]
    assert not waits + [line for line in caplog.messages if "can't query" in line]


@pytest.mark.usefixtures("steady")
def test_2000_texts_of_many_callers(two: LocalServer) -> None:
    """From both frameworks, threads and an event loop at once; two slots."""
    ours = LlamaServerEmbeddings(base_url=two.base_url, batch_size=25)
    theirs = LlamaServerEmbedding(base_url=two.base_url, request_batch_size=25)
    texts = [f"text {number}" for number in range(200)]
    expected = ours.embed_documents(texts[:1])[0]

    async def main() -> list[Any]:
        found = await asyncio.gather(*(ours.aembed_documents(texts) for _ in range(4)))
        await ours.aclose()
        return found

    with ThreadPoolExecutor(6) as pool:
        loop = pool.submit(asyncio.run, main())
        threads = [pool.submit(ours.embed_documents, texts) for _ in range(3)]
        threads += [pool.submit(theirs.get_text_embedding_batch, texts) for _ in range(3)]
        found = [*loop.result(), *(done.result() for done in threads)]
    assert [len(vectors) for vectors in found] == [200] * 10
    assert all(vectors[0] == pytest.approx(expected, abs=1e-3) for vectors in found)
    ours.close()
    theirs.close()


def test_threads_of_one_client(four: LocalServer) -> None:
    request = ChatRequest(messages=[{"role": "user", "content": "Hi"}], params={"max_tokens": 1})
    with LlamaServerClient(four.base_url) as client, Watched(four) as watched, ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(lambda _: client.chat(request).finish_reason, range(300)))
    assert answers == ["length"] * 300
    assert watched.most <= SLOTS
