"""Recorded cassettes (vcrpy): what was recorded from a server is replayed without one, and LangChain's suite runs."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import vcr
from langchain_tests.conftest import base_vcr_config
from llama_index.core.llms import ChatMessage
from pydantic import BaseModel

from langchain_llamacpp_server import ChatLlamaServer, LlamaServerEmbeddings
from llamacpp_server import BadRequestError, LocalServer
from llamaindex_llamacpp_server import LlamaServer, LlamaServerEmbedding
from tests.standard.langchain_chat import MODEL, Standard


class City(BaseModel):
    """A city."""

    name: str


def get_weather(city: str) -> str:
    """Get the weather of a city."""
    return city


@pytest.fixture(scope="module")
def vcr_config(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return {**base_vcr_config(), "cassette_library_dir": str(tmp_path_factory.mktemp("cassettes"))}


class TestWithCassettes(Standard):
    """The test of the suite that records: first on the server, and then from what was recorded."""

    @property
    def enable_vcr_tests(self) -> bool:
        return True

    # The call that is recorded is not timed.
    @pytest.mark.filterwarnings("ignore:Benchmark fixture was not used:pytest_benchmark.logger.PytestBenchmarkWarning")
    @pytest.mark.benchmark
    @pytest.mark.vcr
    @pytest.mark.default_cassette("stream_time")
    @pytest.mark.parametrize("replayed", [False, True])
    def test_stream_time(self, model: Any, benchmark: Any, vcr: Any, replayed: bool) -> None:
        super().test_stream_time(model, benchmark, vcr)
        assert (vcr.play_count > 0) == replayed


for _name in [name for name in dir(Standard) if name.startswith("test_") and name != "test_stream_time"]:
    setattr(TestWithCassettes, _name, None)


def chat(url: str, **fields: Any) -> ChatLlamaServer:
    return ChatLlamaServer(base_url=url, temperature=0, max_tokens=12, **fields)


def index(url: str) -> LlamaServer:
    return LlamaServer(base_url=url, temperature=0, max_tokens=12)


async def _texts(stream: Any) -> list[str]:
    return [chunk.text async for chunk in stream]


ASKS: dict[str, Callable[[str], Any]] = {
    "invoke": lambda url: chat(url).invoke("Hi").text,
    "stream": lambda url: [chunk.text for chunk in chat(url).stream("Hi")],
    "ainvoke": lambda url: asyncio.run(chat(url).ainvoke("Hi")).text,
    "astream": lambda url: asyncio.run(_texts(chat(url).astream("Hi"))),
    "batch": lambda url: [reply.text for reply in chat(url).batch(["Hi", "Hello"], {"max_concurrency": 1})],
    "thinking switched off": lambda url: chat(url, thinking=False).invoke("Hi").text,
    "tools": lambda url: chat(url).bind_tools([get_weather]).invoke("Hi").text,
    "an object": lambda url: chat(url, max_retries=0).with_structured_output(City).invoke("Name a city"),
    "counted tokens": lambda url: chat(url).get_num_tokens("Hi"),
    "llama-index": lambda url: str(index(url).chat([ChatMessage("Hi")])),
    "llama-index, streamed": lambda url: [str(part) for part in index(url).stream_chat([ChatMessage("Hi")])],
    "llama-index, awaited": lambda url: str(asyncio.run(index(url).achat([ChatMessage("Hi")]))),
}
VECTORS: dict[str, Callable[[str], Any]] = {
    "embeddings": lambda url: LlamaServerEmbeddings(base_url=url).embed_documents(["a", "b"]),
    "llama-index's embeddings": lambda url: LlamaServerEmbedding(base_url=url).get_text_embedding("a"),
}


@pytest.fixture
def talker(serve: Any) -> LocalServer:
    started: LocalServer = serve(MODEL, parallel=2, ctx_size=8192)
    return started


@pytest.fixture
def cassette(tmp_path: Path) -> Callable[..., Any]:
    def use(mode: str) -> Any:
        return vcr.VCR(record_mode=mode).use_cassette(str(tmp_path / "cassette.yaml"))

    return use


def _gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be sent any more."""
    import httpcore

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("this was sent")

    monkeypatch.setattr(httpcore.ConnectionPool, "handle_request", refuse)
    monkeypatch.setattr(httpcore.AsyncConnectionPool, "handle_async_request", refuse)


@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)
def test_what_was_recorded_is_replayed_without_a_server(
    talker: LocalServer, cassette: Any, ask: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with cassette("once"):
        first = ask(talker.base_url)
    _gone(monkeypatch)
    with cassette("none") as played:
        assert ask(talker.base_url) == first
        assert played.play_count > 0


@pytest.mark.parametrize("ask", VECTORS.values(), ids=VECTORS)
def test_recorded_vectors_are_replayed(
    embedding_server: LocalServer, cassette: Any, ask: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with cassette("once"):
        first = ask(embedding_server.base_url)
    _gone(monkeypatch)
    with cassette("none"):
        assert ask(embedding_server.base_url) == first


def test_a_request_that_a_cassette_lacks_is_a_typed_error(talker: LocalServer, cassette: Any) -> None:
    with cassette("once"):
        chat(talker.base_url).invoke("Hi")
    with cassette("none"), pytest.raises(BadRequestError, match=r"not in the cassette.*record it again"):
        chat(talker.base_url).get_num_tokens("Hi")


def test_a_cassette_of_another_client_may_lack_further_requests(
    serve: Any, cassette: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ChatOpenAI never asks for `/props`, so its cassettes lack it."""
    talker = serve(MODEL, parallel=1, ctx_size=4096)  # of which this process knows nothing yet
    from langchain_openai import ChatOpenAI

    with cassette("once"):
        peer = ChatOpenAI(base_url=talker.base_url + "/v1", api_key="none", model="tiny", temperature=0, max_tokens=12)  # type: ignore[call-arg]  # its alias
        first = peer.bind_tools([get_weather]).invoke("Hi").text
    _gone(monkeypatch)
    with cassette("none"):
        assert chat(talker.base_url).bind_tools([get_weather]).invoke("Hi").text == first
