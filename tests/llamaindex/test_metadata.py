"""Metadata from the running server: never raises, is asked for once, and remembers no failure."""

import contextlib
import socket
import time

import httpx
import pytest
from llama_index.core.constants import DEFAULT_CONTEXT_WINDOW
from llama_index.core.indices.prompt_helper import PromptHelper
from llama_index.core.llms import ChatMessage

from llamacpp_server import LocalServer
from llamaindex_llamacpp_server import LlamaServer
from tests.waiting import LONG, wait_until
from tests.wire.scripted_server import free_port, refusing_port


@pytest.fixture
def asked(chat_server):
    """An LLM and the paths that it asked for."""
    paths: list[str] = []
    client = httpx.Client(event_hooks={"request": [lambda request: paths.append(request.url.path)]}, trust_env=False)
    yield LlamaServer(base_url=chat_server.base_url, http_client=client), paths
    client.close()


def test_what_the_server_says(asked):
    llm, paths = asked
    metadata = llm.metadata
    assert metadata.context_window == 2048  # of one slot: 4096 for two
    assert metadata.model_name == "random"
    assert metadata.is_chat_model
    assert metadata.is_function_calling_model
    assert metadata.num_output == -1
    assert PromptHelper.from_llm_metadata(metadata).context_window == 2048
    before = list(paths)
    for _ in range(3):
        assert llm.metadata == metadata
        llm.to_payload()
    assert paths == before == ["/v1/models", "/props"]


def test_what_is_given_wins(make_llm, chat_server):
    llm = make_llm(
        chat_server,
        context_window=100,
        max_tokens=7,
        model="mine",
        is_function_calling_model=False,
    )
    metadata = llm.metadata
    assert (metadata.context_window, metadata.num_output, metadata.model_name) == (100, 7, "mine")
    assert not metadata.is_function_calling_model
    assert make_llm(chat_server, max_tokens=7, n_predict=9).metadata.num_output == 9


def test_a_server_that_is_not_there_raises_nothing_and_is_found_later(make_llm, models_dir, caplog):
    port = free_port()
    llm = make_llm(f"http://127.0.0.1:{port}")
    assert llm.metadata.context_window == DEFAULT_CONTEXT_WINDOW
    assert llm.metadata.is_function_calling_model
    assert "using context_window=3900" in caplog.text
    with LocalServer(models_dir / "random.gguf", port=port, ctx_size=512, parallel=1, threads=1, warmup=False):
        wait_until(lambda: llm.metadata.context_window == 512, "the context of the server")
        assert llm.metadata.model_name == "random"


def came(listener: socket.socket) -> int:
    """How many connections have come since the last look."""
    number = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            listener.accept()[0].close()
            number += 1
    return number


def test_a_server_that_is_silent_is_waited_for_once(make_llm):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        llm = make_llm(f"http://127.0.0.1:{listener.getsockname()[1]}")
        listener.setblocking(False)
        started = time.monotonic()
        assert llm.metadata.context_window == DEFAULT_CONTEXT_WINDOW
        assert time.monotonic() - started < LONG
        assert came(listener) > 0
        for _ in range(5):
            llm.to_payload()
            assert llm.metadata.model_name == "unknown"
        assert came(listener) == 0
        llm.close()


@pytest.mark.parametrize("base_url", ["http://", "ftp://host", "not an address"])
def test_an_address_that_can_not_be_used_raises_nothing(make_llm, base_url):
    assert make_llm(base_url).metadata.model_name == "unknown"


async def test_events_on_a_loop_never_wait_for_the_server(asked):
    llm, paths = asked
    assert llm.to_payload()["model"] == "unknown"
    assert paths == []
    await llm.achat([ChatMessage(content="Hello")], max_tokens=1)
    assert llm.to_payload()["model"] == "random"
    assert paths == []  # awaited calls ask with connections of their own
    await llm.aclose()


async def test_an_awaited_probe_fails_as_quietly(make_llm):
    llm = make_llm(f"http://127.0.0.1:{refusing_port()}")
    with pytest.raises(ConnectionError, match=r"connection refused.*llama-server -m"):
        await llm.achat([ChatMessage(content="Hello")])
    await llm.aclose()


def test_another_address_is_queried_separately(make_llm, chat_server, thinker):
    llm = make_llm(chat_server)
    assert llm.metadata.context_window == 2048
    llm.base_url = thinker.base_url
    assert llm.metadata.context_window == 4096


def test_payload_names_model_and_parameters_and_no_secret(make_llm, chat_server):
    llm = make_llm(chat_server, api_key="sesame", temperature=0.3, default_headers={"X-A": "sesame"})
    payload = llm.to_payload()
    assert (payload["class_name"], payload["model"], payload["temperature"]) == ("LlamaServer", "random", 0.3)
    assert "sesame" not in str(payload)
    assert make_llm(chat_server).to_payload()["temperature"] is None


def test_events_show_all_of_the_metadata(chat_server, make_llm):
    for llm in (make_llm(chat_server), make_llm(chat_server, max_tokens=5, model="m")):
        llm.server_info()
        shown, metadata = llm.to_payload(), llm.metadata.model_dump()
        assert {name: shown[name] for name in metadata} == metadata
