"""Servers that start, sleep, load, queue, evict and fail, as the real program does it: requests wait or are told."""

import asyncio
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from llama_index.core.llms import ChatMessage

from langchain_llamacpp_server import ChatLlamaServer
from llamacpp_server import (
    AsyncLlamaServerClient,
    ChatRequest,
    LlamaServerClient,
    LocalServer,
    NotFoundError,
    ServerFaultError,
    ServerLoadingError,
)
from llamaindex_llamacpp_server import LlamaServer
from tests.waiting import LONG, wait_until
from tests.wire.scripted_server import free_port

pytestmark = pytest.mark.binary

HELLO = [{"role": "user", "content": "Hello"}]
SMALL = {"backend": "binary", "threads": 1, "warmup": False, "ctx_size": 1024, "parallel": 2}


def of(model: str | None = None) -> ChatRequest:
    return ChatRequest(messages=HELLO, model=model, params={"max_tokens": 2, "ignore_eos": True})


def test_a_cold_start_is_one_flag_away(models_dir: Path) -> None:
    port, reasons = free_port(), list[str]()
    server = LocalServer(models_dir / "random.gguf", port=port, **SMALL)
    starting = threading.Timer(0.3, server.start)
    starting.start()
    try:
        with LlamaServerClient(
            f"http://127.0.0.1:{port}", wait_while_refused=True, on_wait=lambda state: reasons.append(state.reason)
        ) as client:
            assert client.chat(of()).usage.completion_tokens == 2
    finally:
        starting.join()
        server.stop()
    assert reasons[0] == "refused"
    assert set(reasons) <= {"refused", "loading"}


@pytest.fixture(scope="module")
def sleeper(models_dir: Path) -> Iterator[LocalServer]:
    with LocalServer(models_dir / "random.gguf", sleep_idle_seconds=1, **SMALL) as server:
        yield server


def asleep(server: LocalServer) -> bool:
    with server.client() as client:
        wait_until(lambda: client.props().is_sleeping, "a server that sleeps")
        return client.health().ready


@pytest.mark.parametrize("way", ["client", "awaited", "langchain", "llamaindex"])
def test_a_sleeping_model_is_woken_by_a_request(sleeper: LocalServer, way: str) -> None:
    assert asleep(sleeper)
    if way == "client":
        with sleeper.client() as client:
            assert client.chat(of()).usage.completion_tokens == 2
    elif way == "awaited":

        async def main() -> int:
            async with AsyncLlamaServerClient(sleeper.base_url) as client:
                replies = await asyncio.gather(*(client.chat(of()) for _ in range(6)))
            return sum(reply.usage.completion_tokens for reply in replies)

        assert asyncio.run(main()) == 12
    elif way == "langchain":
        llm = ChatLlamaServer(base_url=sleeper.base_url, max_tokens=2)
        assert llm.invoke("Hello").usage_metadata["output_tokens"] <= 2
        llm.close()
    else:
        index = LlamaServer(base_url=sleeper.base_url, max_tokens=2)
        assert index.chat([ChatMessage("Hello")]).raw is not None
        index.close()


@pytest.fixture(scope="module")
def router(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """Two models and a file that is none; one model at a time."""
    directory = tmp_path_factory.mktemp("waking")
    for name in ("one", "two"):
        shutil.copy(models_dir / "random.gguf", directory / f"{name}.gguf")
    shutil.copy(models_dir / "broken.gguf", directory / "bad.gguf")
    with LocalServer(models_dir=directory, models_max=1, **SMALL) as server:
        yield server


def test_a_router_loads_queues_and_evicts_while_requests_wait(router: LocalServer) -> None:
    async def main() -> list[int]:
        async with AsyncLlamaServerClient(router.base_url) as client:
            replies = await asyncio.gather(*(client.chat(of(name)) for name in ["one", "two"] * 5))
        return [reply.usage.completion_tokens for reply in replies]

    assert asyncio.run(main()) == [2] * 10


def test_a_model_that_can_not_be_loaded_is_an_error_at_once(router: LocalServer) -> None:
    began = time.monotonic()
    with router.client() as client:
        with pytest.raises(ServerFaultError, match="exit code") as caught:
            client.chat(of("bad"))
        with pytest.raises(ServerFaultError, match=r"exit code [1-9]"):
            client.load_model("bad")
    assert time.monotonic() - began < LONG, "it did not wait for load_timeout"
    assert not isinstance(caught.value, ServerLoadingError)
    assert caught.value.earlier == ()


def test_a_model_that_the_router_does_not_know_is_not_waited_for(router: LocalServer) -> None:
    with router.client() as client, pytest.raises(NotFoundError, match="not found"):
        client.chat(of("none"))
