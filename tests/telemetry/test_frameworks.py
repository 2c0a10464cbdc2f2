"""The client's own spans in both frameworks, beside the instrumentations of others."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.runnables import RunnableLambda
from llama_index.core.llms import ChatMessage
from openinference.instrumentation.langchain import LangChainInstrumentor as OpenInferenceLangChain
from openinference.instrumentation.llama_index import LlamaIndexInstrumentor as OpenInferenceLlamaIndex
from opentelemetry.instrumentation.langchain import LangchainInstrumentor as GenAI
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from langchain_llamacpp_server import ChatLlamaServer, LlamaServerEmbeddings, LlamaServerReranker
from llamacpp_server import ChatRequest, LocalServer
from llamacpp_server.telemetry import instrument, uninstrument
from llamaindex_llamacpp_server import LlamaServer
from tests.spans import traced

# OpenInference calls `.json()` of pydantic objects.
pytestmark = pytest.mark.filterwarnings("ignore:The `json` method is deprecated")

SECRET = "a secret of the user"
SHORT: dict[str, Any] = {"max_tokens": 3, "model": "mine", "ignore_eos": True}
CHAT = [ChatMessage(role="user", content=SECRET)]


class Ours:
    """Spans and names of metrics of the client's own."""

    def __init__(self, exporter: InMemorySpanExporter, reader: InMemoryMetricReader) -> None:
        self.exporter, self.reader = exporter, reader

    def span(self) -> ReadableSpan:
        (span,) = self.exporter.get_finished_spans()
        self.exporter.clear()
        assert SECRET not in span.to_json()
        return span

    def attributes(self) -> dict[str, Any]:
        return dict(self.span().attributes or {})

    def metrics(self) -> set[str]:
        data = self.reader.get_metrics_data()
        assert data is not None
        return {m.name for r in data.resource_metrics for scope in r.scope_metrics for m in scope.metrics}


@contextmanager
def instrumented(*, genai: bool = True) -> Iterator[Ours]:
    exporter, tracers, reader = InMemorySpanExporter(), TracerProvider(), InMemoryMetricReader()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    meters = MeterProvider([reader])
    instrument(tracers, meters, genai=genai)
    try:
        yield Ours(exporter, reader)
    finally:
        uninstrument()
        tracers.shutdown()
        meters.shutdown()


@pytest.fixture
def ours() -> Iterator[Ours]:
    with instrumented() as found:
        yield found


def calls_of_langchain(url: str) -> list[Any]:
    llm = ChatLlamaServer(base_url=url, **SHORT)
    return [lambda: llm.invoke(SECRET), lambda: list(llm.stream(SECRET))]


def calls_of_llamaindex(url: str) -> list[Any]:
    llm = LlamaServer(base_url=url, **SHORT)
    return [lambda: llm.chat(CHAT), lambda: list(llm.stream_chat(CHAT)), lambda: llm.complete(SECRET)]


@pytest.mark.parametrize("calls", [calls_of_langchain, calls_of_llamaindex])
def test_each_call_of_a_framework_is_one_span(ours: Ours, chat_server: LocalServer, calls: Any) -> None:
    for call in calls(chat_server.base_url):
        call()
        found = ours.attributes()
        assert found["gen_ai.request.model"] == "mine"
        assert found["gen_ai.usage.output_tokens"] == 3
        assert found["gen_ai.response.id"]


async def test_each_awaited_call_of_a_framework_is_one_span(ours: Ours, chat_server: LocalServer) -> None:
    llm = ChatLlamaServer(base_url=chat_server.base_url, **SHORT)
    await llm.ainvoke(SECRET)
    assert ours.attributes()["gen_ai.usage.output_tokens"] == 3
    assert [chunk async for chunk in llm.astream(SECRET)]
    assert ours.attributes()["gen_ai.response.time_to_first_chunk"] > 0
    await llm.aclose()
    other = LlamaServer(base_url=chat_server.base_url, **SHORT)
    await other.achat(CHAT)
    assert ours.attributes()["gen_ai.usage.output_tokens"] == 3
    assert [chunk async for chunk in await other.astream_chat(CHAT)]
    assert ours.attributes()["gen_ai.response.time_to_first_chunk"] > 0
    await other.async_client.aclose()


def test_embeddings_and_rankings_of_a_framework_are_spans(
    ours: Ours, embedding_server: LocalServer, rerank_server: LocalServer
) -> None:
    LlamaServerEmbeddings(base_url=embedding_server.base_url).embed_documents([SECRET, "b"])
    assert ours.attributes()["gen_ai.operation.name"] == "embeddings"
    documents = [Document(SECRET), Document("b")]
    LlamaServerReranker(base_url=rerank_server.base_url).compress_documents(documents, SECRET)
    assert ours.attributes()["gen_ai.operation.name"] == "rerank"


def test_tokens_that_an_instrumentation_of_langchain_writes_are_not_written_again(
    ours: Ours, chat_server: LocalServer
) -> None:
    with traced(GenAI()) as exporter:
        for call in calls_of_langchain(chat_server.base_url):
            call()
            (theirs,) = exporter.get_finished_spans()
            exporter.clear()
            assert (theirs.attributes or {})["gen_ai.usage.output_tokens"] == 3
            span = ours.span()
            assert span.name == "llamacpp chat"
            mine = dict(span.attributes or {})
            assert mine["llamacpp.prompt.tokens_read"] > 0
            assert set(mine) & set(theirs.attributes or {}) <= {"gen_ai.response.id"}
    assert not ours.metrics() & {"gen_ai.client.token.usage", "gen_ai.client.operation.duration"}


def left_to(theirs: ReadableSpan, mine: ReadableSpan) -> None:
    """The tokens are in one span only, and ours is in it."""
    assert (theirs.attributes or {})["llm.token_count.completion"] == 3
    assert mine.parent is not None
    assert theirs.context is not None
    assert mine.parent.span_id == theirs.context.span_id
    assert mine.name.startswith("llamacpp ")
    assert (mine.attributes or {})["llamacpp.prompt.tokens_read"] > 0  # type: ignore[operator]
    assert not [name for name in mine.attributes or {} if "usage" in name or "model" in name]


def test_tokens_that_openinference_writes_for_langchain_are_not_written_again(
    ours: Ours, chat_server: LocalServer
) -> None:
    with traced(OpenInferenceLangChain()) as exporter:
        for call in calls_of_langchain(chat_server.base_url):
            call()
            (theirs,) = exporter.get_finished_spans()
            exporter.clear()
            left_to(theirs, ours.span())
    ChatLlamaServer(base_url=chat_server.base_url, **SHORT).invoke(SECRET)
    assert ours.attributes()["gen_ai.usage.output_tokens"] == 3, "nobody else writes it any more"


async def test_tokens_that_openinference_writes_for_awaited_calls_are_not_written_again(
    ours: Ours, chat_server: LocalServer
) -> None:
    llm, other = (
        ChatLlamaServer(base_url=chat_server.base_url, **SHORT),
        LlamaServer(base_url=chat_server.base_url, **SHORT),
    )
    with traced(OpenInferenceLangChain()) as exporter:
        await llm.ainvoke(SECRET)
        left_to(exporter.get_finished_spans()[0], ours.span())
        exporter.clear()
        assert [chunk async for chunk in llm.astream(SECRET)]
        left_to(exporter.get_finished_spans()[0], ours.span())
    with traced(OpenInferenceLlamaIndex()) as exporter:
        await other.achat(CHAT)
        left_to(exporter.get_finished_spans()[0], ours.span())
        exporter.clear()
        assert [chunk async for chunk in await other.astream_chat(CHAT)]
        left_to(exporter.get_finished_spans()[0], ours.span())
    await llm.aclose()
    await other.async_client.aclose()


def test_a_call_in_a_tool_next_to_a_traced_model_is_written_in_full(ours: Ours, chat_server: LocalServer) -> None:
    """The span of a chain is not that of a model: a bare client in it is written by nobody else."""
    with traced(OpenInferenceLangChain()) as exporter, chat_server.client() as client:
        request = ChatRequest(
            messages=[{"role": "user", "content": SECRET}], params={"max_tokens": 3, "ignore_eos": True}
        )
        RunnableLambda(lambda _: client.chat(request).choices[0].finish_reason).invoke(None)
        assert len(exporter.get_finished_spans()) == 1
        assert ours.attributes()["gen_ai.usage.output_tokens"] == 3


def test_without_genai_only_our_own_attributes_are_next_to_those_of_openinference(chat_server: LocalServer) -> None:
    with instrumented(genai=False) as ours, traced(OpenInferenceLangChain()) as exporter:
        for call in calls_of_langchain(chat_server.base_url):
            call()
            (theirs,) = exporter.get_finished_spans()
            exporter.clear()
            assert (theirs.attributes or {})["llm.token_count.completion"] == 3
            found = ours.attributes()
            assert found["llamacpp.prompt.tokens_read"] > 0
            assert not [name for name in found if "usage" in name or "model" in name]
        assert "gen_ai.client.token.usage" in ours.metrics()


def test_our_span_is_in_that_of_openinference_of_llamaindex_and_leaves_the_tokens_to_it(
    ours: Ours, chat_server: LocalServer
) -> None:
    with traced(OpenInferenceLlamaIndex()) as exporter:
        for call in calls_of_llamaindex(chat_server.base_url):
            call()
            (theirs,) = exporter.get_finished_spans()
            exporter.clear()
            left_to(theirs, ours.span())
