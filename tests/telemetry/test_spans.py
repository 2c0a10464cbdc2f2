"""Spans and metrics of the client's own, on a real server, with OpenTelemetry's SDK."""

import gc
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from llamacpp_server import (
    AsyncLlamaServerClient,
    BadRequestError,
    ChatRequest,
    Choice,
    CompletionRequest,
    EmbedRequest,
    LlamaServerClient,
    LlamaServerError,
    LocalServer,
    MessagesRequest,
    RankRequest,
    ResponsesRequest,
)
from llamacpp_server.telemetry import instrument, uninstrument
from tests.media import sound
from tests.models import Script

SECRET = "a secret of the user"
SHORT = {"max_tokens": 3, "ignore_eos": True}
CHAT = ChatRequest(messages=[{"role": "user", "content": SECRET}], params={**SHORT, "timings_per_token": True})


class Seen:
    """What was exported."""

    def __init__(self) -> None:
        self.exporter, self.tracers = InMemorySpanExporter(), TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])

    def spans(self) -> tuple[ReadableSpan, ...]:
        found = self.exporter.get_finished_spans()
        self.exporter.clear()
        return found

    def span(self) -> dict[str, Any]:
        (span,) = self.spans()
        assert SECRET not in span.to_json()
        return {**(span.attributes or {}), "name": span.name}

    def metrics(self) -> dict[str, list[Any]]:
        data = self.reader.get_metrics_data()
        if data is None:
            return {}
        assert SECRET not in data.to_json()
        return {
            metric.name: list(metric.data.data_points)
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


@pytest.fixture
def seen() -> Iterator[Seen]:
    found = Seen()
    instrument(found.tracers, found.meters)
    try:
        yield found
    finally:
        uninstrument()
        found.tracers.shutdown()
        found.meters.shutdown()


@pytest.fixture
def client(chat_server: LocalServer) -> Iterator[LlamaServerClient]:
    with LlamaServerClient(chat_server.base_url, model="mine") as client:
        yield client


def holds_a_chat(found: dict[str, Any]) -> None:
    assert found["name"] == "chat mine"
    assert found["gen_ai.operation.name"] == "chat"
    assert found["gen_ai.provider.name"] == "llamacpp-server"
    assert found["gen_ai.request.model"] == "mine"
    assert found["gen_ai.request.max_tokens"] == 3
    assert found["gen_ai.response.model"]
    assert found["gen_ai.response.id"].startswith("chatcmpl")
    assert found["gen_ai.response.finish_reasons"] == ("length",)
    assert found["gen_ai.usage.output_tokens"] == 3
    assert found["gen_ai.usage.input_tokens"] == (
        found["llamacpp.prompt.tokens_read"] + found["gen_ai.usage.cache_read.input_tokens"]
    )
    assert found["server.address"] and found["server.port"]
    assert found["llamacpp.wait.seconds"] >= 0


def test_a_chat_at_once_or_streamed_is_a_span_with_its_numbers(seen: Seen, client: LlamaServerClient) -> None:
    reply = client.chat(CHAT)
    found = seen.span()
    holds_a_chat(found)
    assert found["gen_ai.response.id"] == reply.start.id
    assert "gen_ai.request.stream" not in found
    list(client.stream_chat(CHAT))
    found = seen.span()
    holds_a_chat(found)
    assert found["gen_ai.request.stream"] is True
    assert found["gen_ai.response.time_to_first_chunk"] > 0


async def test_an_awaited_chat_at_once_or_streamed_is_a_span_with_its_numbers(
    seen: Seen, chat_server: LocalServer
) -> None:
    async with AsyncLlamaServerClient(chat_server.base_url, model="mine") as client:
        await client.chat(CHAT)
        holds_a_chat(seen.span())
        assert [delta async for delta in client.stream_chat(CHAT)]
        found = seen.span()
        holds_a_chat(found)
        assert found["gen_ai.response.time_to_first_chunk"] > 0


def test_completions_are_spans(seen: Seen, client: LlamaServerClient) -> None:
    request = CompletionRequest(prompt=SECRET, params=SHORT)
    client.complete(request)
    list(client.stream_complete(request))
    for span in seen.spans():
        assert SECRET not in span.to_json()
        assert span.name == "text_completion mine"
        assert (span.attributes or {})["gen_ai.usage.output_tokens"] == 3


def test_embeddings_and_rankings_are_spans(
    seen: Seen, embedding_server: LocalServer, rerank_server: LocalServer
) -> None:
    with LlamaServerClient(embedding_server.base_url) as client:
        vectors = client.embed_texts(EmbedRequest(inputs=[SECRET, "b"])).vectors
        found = seen.span()
        assert found["gen_ai.operation.name"] == "embeddings"
        assert found["llamacpp.input.count"] == 2
        assert found["gen_ai.usage.input_tokens"] > 0
        assert found["gen_ai.embeddings.dimension.count"] == len(vectors[0])
        client.embed([SECRET], model="other")
        assert seen.span()["gen_ai.request.model"] == "other"
    with LlamaServerClient(rerank_server.base_url) as client:
        client.rank(RankRequest(query=SECRET, documents=["a", "b", "c"]))
        found = seen.span()
        assert found["gen_ai.operation.name"] == "rerank"
        assert found["llamacpp.input.count"] == 3


def test_responses_messages_transcriptions_and_decisions_are_spans(
    seen: Seen, client: LlamaServerClient, vision_server: LocalServer
) -> None:
    hello: Any = [{"role": "user", "content": SECRET}]
    response = client.create_response(ResponsesRequest(input=SECRET, max_output_tokens=3))
    found = seen.span()
    assert (found["gen_ai.operation.name"], found["gen_ai.response.id"]) == ("chat", response.id)
    assert found["gen_ai.response.time_to_first_chunk"] > 0
    message = client.create_message(MessagesRequest(messages=hello, max_tokens=3))
    found = seen.span()
    assert (found["gen_ai.response.id"], found["gen_ai.response.finish_reasons"]) == (message.id, ("max_tokens",))
    assert message.usage is not None
    assert found["gen_ai.usage.input_tokens"] == message.usage.prompt_tokens
    client.decide(SECRET, {"team": Choice("Which team?", ["billing", "shipping"])})
    found = seen.span()
    assert (found["gen_ai.operation.name"], found["llamacpp.decision.engine"]) == ("decide", "logits")
    assert found["gen_ai.usage.input_tokens"] > 0
    with vision_server.client() as hearing:
        hearing.transcribe(sound(), max_tokens=3)
    found = seen.span()
    assert (found["gen_ai.operation.name"], found["gen_ai.usage.output_tokens"]) == ("transcription", 3)


@pytest.mark.usefixtures("patient")
def test_a_wait_for_a_slot_is_timed(seen: Seen, serve: Any) -> None:
    waits = Event()
    with serve("random.gguf", parallel=1, ctx_size=2048).client() as client:
        running = client.stream_chat(replace(CHAT, params={"max_tokens": 500, "ignore_eos": True}))
        next(running)
        waiting = client.with_settings(on_wait=lambda state: waits.set())
        with ThreadPoolExecutor() as pool:
            answer = pool.submit(waiting.chat, CHAT)
            assert waits.wait(60)
            running.close()
            answer.result(60)
    first, second = ({**(span.attributes or {})} for span in seen.spans())
    assert "llamacpp.wait.slot_seconds" not in first
    assert 0 < second["llamacpp.wait.slot_seconds"] <= second["llamacpp.wait.seconds"]
    (point,) = seen.metrics()["llamacpp.client.waits"]
    assert (point.attributes["llamacpp.wait.reason"], point.value) == ("slot", 1)


def test_cached_tokens_that_are_read_again_are_counted_with_what_changed(seen: Seen, client: LlamaServerClient) -> None:
    def turn(clock: str) -> dict[str, Any]:
        system = f"It is {clock}. " + "Answer in one short sentence. " * 20
        messages = [{"role": "system", "content": system}, {"role": "user", "content": SECRET}]
        client.chat(ChatRequest(messages=messages, params=SHORT))
        return seen.span()

    assert "llamacpp.cache.change" not in turn("9:00")
    assert "llamacpp.cache.change" not in turn("9:00")
    found = turn("9:01")
    assert found["llamacpp.cache.change"] == "clock"
    assert found["llamacpp.cache.tokens_read_again"] > 50
    (point,) = seen.metrics()["llamacpp.client.prompt.tokens_read_again"]
    assert point.value == found["llamacpp.cache.tokens_read_again"]
    assert point.attributes["llamacpp.cache.change"] == "clock"


def test_the_metrics_hold_tokens_durations_and_the_cache(seen: Seen, client: LlamaServerClient) -> None:
    usage = client.chat(CHAT).usage
    assert usage is not None
    list(client.stream_chat(CHAT))
    found = seen.metrics()
    sums = {point.attributes["gen_ai.token.type"]: point.sum for point in found["gen_ai.client.token.usage"]}
    assert sums == {"input": 2 * usage.prompt_tokens, "output": 6}
    (duration,) = found["gen_ai.client.operation.duration"]
    assert duration.count == 2
    assert duration.attributes["gen_ai.operation.name"] == "chat"
    (first,) = found["gen_ai.client.operation.time_to_first_chunk"]
    assert 0 < first.sum <= duration.sum
    assert sum(point.value for point in found["llamacpp.client.prompt.tokens"]) == 2 * usage.prompt_tokens
    assert found["llamacpp.client.wait.duration"][0].count == 2


def test_an_error_is_named_and_its_words_are_left_out(seen: Seen, client: LlamaServerClient) -> None:
    with pytest.raises(LlamaServerError):
        client.chat(ChatRequest(messages=[{"role": "user", "content": "a"}], params={"grammar": SECRET}))
    assert seen.span()["error.type"] == BadRequestError.__name__
    (duration,) = seen.metrics()["gen_ai.client.operation.duration"]
    assert duration.attributes["error.type"] == BadRequestError.__name__


def test_a_refused_connection_is_a_wait_and_a_retry(seen: Seen, unused_tcp_port: int) -> None:
    waits: list[str] = []
    with (
        LlamaServerClient(
            f"http://127.0.0.1:{unused_tcp_port}",
            wait_while_refused=True,
            load_timeout=1,
            on_wait=lambda state: waits.append(state.reason),
        ) as client,
        pytest.raises(LlamaServerError),
    ):
        client.chat(CHAT)
    assert set(waits) == {"refused"}
    (span,) = seen.spans()
    assert {event.name for event in span.events} == {"llamacpp.wait"}
    (point,) = seen.metrics()["llamacpp.client.waits"]
    assert (point.value, point.attributes["llamacpp.wait.reason"]) == (len(span.events), "refused")


def test_repairs_are_named_and_counted(seen: Seen, client: LlamaServerClient) -> None:
    messages: Any = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{"}}]},
        {"role": "tool", "tool_call_id": "1", "content": "b"},
    ]
    reply = client.chat(ChatRequest(messages=messages, params=SHORT))
    kinds = {repair.name for repair in reply.start.repairs}
    assert kinds
    assert set(seen.span()["llamacpp.repairs"]) == kinds
    assert {point.attributes["llamacpp.repair"] for point in seen.metrics()["llamacpp.client.repairs"]} == kinds


def test_a_forced_round_is_marked_in_replies_and_streams(seen: Seen, scripted_server: Any) -> None:
    says = {"Call the tool": '{"a": 1}', "user": Script(says=["Well, ", "so "], endless=True)}
    tool: Any = {
        "type": "function",
        "function": {"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}},
    }
    request = ChatRequest(
        messages=[{"role": "user", "content": "Go."}],
        tools=[tool],
        tool_choice="add",
        params={"chat_template_kwargs": {"enable_thinking": False}},
        forced_call_within=20,
    )
    with scripted_server(says, parallel=1).client() as client:
        client.chat(request)
        assert seen.span()["llamacpp.forced_round"] is True
        list(client.stream_chat(request))
        assert seen.span()["llamacpp.forced_round"] is True


def test_reasoning_tokens_are_in_the_span(seen: Seen, pondering_server: LocalServer) -> None:
    messages: Any = [{"role": "user", "content": "Hello"}]
    with pondering_server.client() as client:
        reply = client.chat(ChatRequest(messages=messages, params={"timings_per_token": True, "max_tokens": 32}))
    assert reply.usage is not None
    assert reply.usage.reasoning_tokens
    assert seen.span()["gen_ai.usage.reasoning.output_tokens"] == reply.usage.reasoning_tokens


def test_a_stream_that_is_left_early_ends_its_span(seen: Seen, client: LlamaServerClient) -> None:
    stream: Any = client.stream_chat(CHAT)
    next(stream)
    stream.close()
    assert "gen_ai.response.id" in seen.span()
    assert next(stream, None) is None


async def test_an_awaited_stream_that_is_left_early_ends_its_span(seen: Seen, chat_server: LocalServer) -> None:
    async with AsyncLlamaServerClient(chat_server.base_url) as client:
        stream: Any = client.stream_chat(CHAT)
        await anext(stream)
        await stream.aclose()
        assert "gen_ai.response.id" in seen.span()


def test_a_lost_stream_touches_no_span_in_its_finaliser(seen: Seen, client: LlamaServerClient) -> None:
    stream = client.stream_chat(CHAT)
    next(stream)
    del stream
    gc.collect()
    assert not seen.spans()
    client.chat(CHAT)
    lost, _ = seen.spans()
    assert (lost.attributes or {})["gen_ai.request.stream"] is True
    assert "gen_ai.response.id" in (lost.attributes or {})


def test_a_stream_that_is_never_read_has_no_span(seen: Seen, client: LlamaServerClient) -> None:
    client.stream_chat(CHAT).close()  # type: ignore[attr-defined]
    assert not seen.spans()


def test_a_span_belongs_to_the_span_of_its_caller(seen: Seen, client: LlamaServerClient) -> None:
    tracer = seen.tracers.get_tracer("mine")
    with tracer.start_as_current_span("outer") as outer:
        client.chat(CHAT)
        stream = client.stream_chat(CHAT)
    list(stream)
    parents = [span.parent.span_id if span.parent else None for span in seen.spans() if span.name != "outer"]
    assert parents == [outer.get_span_context().span_id] * 2


def test_uninstrument_leaves_the_clients_as_they_were(chat_server: LocalServer) -> None:
    before = [(cls, dict(vars(cls))) for cls in (LlamaServerClient, AsyncLlamaServerClient)]
    found = Seen()
    instrument(found.tracers, found.meters)
    instrument(found.tracers, found.meters)
    assert "chat" in vars(LlamaServerClient)
    uninstrument()
    assert [(cls, dict(vars(cls))) for cls, _ in before] == before
    with LlamaServerClient(chat_server.base_url) as client:
        client.chat(CHAT)
    assert not found.spans()


def test_opentelemetry_is_not_imported_where_it_is_off(chat_server: LocalServer) -> None:
    program = (
        "import sys, llamacpp_server as l, llamacpp_server.telemetry\n"
        "with l.LlamaServerClient(sys.argv[1]) as c:\n"
        "    c.chat(l.ChatRequest(messages=[{'role': 'user', 'content': 'a'}], params={'max_tokens': 1}))\n"
        "assert not [n for n in sys.modules if n.startswith('opentelemetry')]\n"
    )
    subprocess.run([sys.executable, "-c", program, chat_server.base_url], check=True, timeout=60)
