"""A model that was put to sleep: seen without waking it, and woken by a request as if nothing had been."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from langchain_llamacpp_server import ChatLlamaServer
from llamacpp_server import ChatRequest, LocalServer
from llamaindex_llamacpp_server import LlamaServer
from tests.waiting import wait_until

pytestmark = pytest.mark.binary


@pytest.fixture(scope="module")
def sleeper(models_dir: Path) -> Iterator[LocalServer]:
    options: Any = {"ctx_size": 1024, "parallel": 1, "threads": 1, "sleep_idle_seconds": 1}
    with LocalServer(models_dir / "random.gguf", backend="binary", metrics=True, **options) as server:
        yield server


@pytest.fixture
def asleep(sleeper: LocalServer) -> LocalServer:
    with sleeper.client() as client:
        wait_until(lambda: client.props().is_sleeping, "a server that sleeps")
    return sleeper


def test_looking_does_not_wake_it(asleep: LocalServer) -> None:
    with asleep.client() as client:
        info = client.info()
        assert (info.is_sleeping, info.n_ctx, info.tools) == (True, 1024, True)
        assert client.health().ready
        client.models(), client.running_models(), client.metrics(), client.model_name()
        llm = ChatLlamaServer(base_url=asleep.base_url)
        assert llm.profile is not None
        assert llm.profile["max_input_tokens"] == 1024
        assert llm.server_info(refresh=True).is_sleeping
        assert LlamaServer(base_url=asleep.base_url).metadata.context_window == 1024
        assert client.props().is_sleeping


def test_a_request_wakes_it(asleep: LocalServer) -> None:
    with asleep.client(max_retries=0) as client:
        reply = client.chat(ChatRequest(messages=[{"role": "user", "content": "Hi"}], params={"max_tokens": 1}))
        assert reply.usage is not None
        assert not client.props().is_sleeping


def test_both_frameworks_wake_it(asleep: LocalServer) -> None:
    llm = ChatLlamaServer(base_url=asleep.base_url, max_tokens=1)
    assert llm.fits([("user", "Hi")]).available == 1024
    assert llm.invoke("Hi").usage_metadata


def test_llamaindex_wakes_it(asleep: LocalServer) -> None:
    assert LlamaServer(base_url=asleep.base_url, max_tokens=1).complete("Hi").raw["usage"]
