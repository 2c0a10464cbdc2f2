"""A server that is killed in the middle of a stream and started again: an error says it, and the next request works."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.llms import ChatMessage

from langchain_llamacpp_server import ChatLlamaServer
from llamacpp_server import (
    AsyncLlamaServerClient,
    ChatRequest,
    CompletionRequest,
    LlamaServerClient,
    LocalServer,
    StreamCutOffError,
)
from llamaindex_llamacpp_server import LlamaServer
from tests.models import Script, build_scripted
from tests.waiting import wait_until_busy
from tests.wire.scripted_server import free_port

CHAT = ChatRequest(messages=[{"role": "user", "content": "Hello"}])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("killed") / "endless.gguf"
    build_scripted(path, Script(says=["word "], endless=True), context_length=65536)
    return path


@pytest.fixture(scope="module")
def restarted(model: Path) -> Iterator[LocalServer]:
    """The server of all these tests: each kills it and starts it again."""
    options: Any = {"ctx_size": 65536, "context_shift": True, "parallel": 1, "threads": 1, "warmup": False}
    with LocalServer(model, port=free_port(), **options) as server:
        yield server


@pytest.fixture
def server(restarted: LocalServer) -> LocalServer:
    return restarted.start()


def kill(server: LocalServer) -> None:
    assert server._pid is not None
    os.kill(server._pid, signal.SIGKILL)


@pytest.mark.parametrize("kind", ["chat", "completion", "langchain", "llamaindex"])
def test_a_blocking_stream(server: LocalServer, kind: str) -> None:
    client = LlamaServerClient(server.base_url)
    llm = ChatLlamaServer(base_url=server.base_url)
    index = LlamaServer(base_url=server.base_url, thinking=False)
    stream: Any = {
        "chat": lambda: client.stream_chat(CHAT),
        "completion": lambda: client.stream_complete(CompletionRequest(prompt="Hello")),
        "langchain": lambda: llm.stream("Hello"),
        "llamaindex": lambda: index.stream_chat([ChatMessage("Hello")]),
    }[kind]()
    for _ in range(3):
        next(stream)
    kill(server)
    with pytest.raises(StreamCutOffError, match="may have crashed") as caught:
        list(stream)
    partial = caught.value.partial
    assert (partial.choices[0].text if kind == "completion" else partial.content).startswith("word word")
    server.stop()
    server.start()
    short = ChatRequest(messages=CHAT.messages, params={"max_tokens": 2})
    assert client.chat(short).content.startswith("word")
    assert llm.invoke("Hello", max_tokens=2).text.startswith("word")
    assert index.chat([ChatMessage("Hello")], max_tokens=2).message.content.startswith("word")
    for model in (client, llm, index):
        model.close()


def test_an_awaited_unstreamed_answer(server: LocalServer) -> None:
    async def main() -> str:
        async with AsyncLlamaServerClient(server.base_url) as client:
            task = asyncio.create_task(client.chat(CHAT))
            await asyncio.to_thread(wait_until_busy, server)
            kill(server)
            with pytest.raises(StreamCutOffError) as caught:
                await task
            await asyncio.to_thread(server.stop)
            await asyncio.to_thread(server.start)
            short = ChatRequest(messages=CHAT.messages, params={"max_tokens": 2})
            return caught.value.partial.content + "|" + (await client.chat(short)).content

    before, after = asyncio.run(main()).split("|")
    assert before.startswith("word ")
    assert after.startswith("word")
