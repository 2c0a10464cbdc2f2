"""One call of the client as a span and as measurements."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any, Final

from opentelemetry import context, trace
from opentelemetry.metrics import Counter as Count
from opentelemetry.metrics import Histogram, MeterProvider, get_meter
from opentelemetry.trace import SpanKind, StatusCode, TracerProvider, get_tracer

from ..diagnostics import CacheSessions, compare
from ..integration import span_above
from ..replies import ChatReply, CompletionReply
from ..requests import ChatRequest
from ..settings import ServerSettings, WaitState
from .attributes import Attributes, of_reply, of_request, of_server, seconds_waited

__all__ = ["Instruments", "Operation"]

_PROVIDER: Final = "llamacpp-server"

# The boundaries that the conventions name.
_TOKENS: Final = [4**power for power in range(14)]
_SECONDS: Final = [0.01 * 2**power for power in range(14)]
_FIRST: Final = [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0]

# How instrumentations of frameworks say that they have written the call of the model already.
_SUPPRESSED: Final = ("suppress_language_model_instrumentation", "suppress_instrumentation")
_OF_LLAMAINDEX: Final = ("openinference.instrumentation.llama_index", "opentelemetry.instrumentation.llamaindex")
# Sessions of which the last request is kept, to find out what made the server read cached tokens again.
_MOST_SESSIONS: Final = 64
_MODEL_CALLS: Final = {"chat", "text_completion", "embeddings", "rerank", "LLM", "EMBEDDING", "RERANKER"}


class Instruments:
    """A tracer and the instruments of a meter.

    Args:
        tracers: Gives the tracer; None takes the global one.
        meters: Gives the meter; None takes the global one.
        version: Of this package.
        genai: Whether spans have the attributes of the GenAI conventions.
    """

    def __init__(
        self, tracers: TracerProvider | None, meters: MeterProvider | None, version: str, *, genai: bool
    ) -> None:
        self.genai = genai
        self.tracer = get_tracer("llamacpp_server", version, tracers)
        meter = get_meter("llamacpp_server", version, meters)

        def histogram(name: str, unit: str, about: str, bounds: Sequence[float]) -> Histogram:
            return meter.create_histogram(name, unit, about, explicit_bucket_boundaries_advisory=bounds)

        self.tokens = histogram("gen_ai.client.token.usage", "{token}", "Input and output tokens", _TOKENS)
        self.duration = histogram("gen_ai.client.operation.duration", "s", "Duration of operations", _SECONDS)
        self.first = histogram(
            "gen_ai.client.operation.time_to_first_chunk", "s", "Time to the first chunk of a stream", _FIRST
        )
        self.waited = histogram("llamacpp.client.wait.duration", "s", "Time before prompt processing", _SECONDS)
        self.prompt: Count = meter.create_counter(
            "llamacpp.client.prompt.tokens", "{token}", "Prompt tokens, by whether they were read or cached"
        )
        self.waits: Count = meter.create_counter("llamacpp.client.waits", "{wait}", "Requests that waited, by reason")
        self.retries: Count = meter.create_counter("llamacpp.client.retries", "{retry}", "Retried requests")
        self.read_again: Count = meter.create_counter(
            "llamacpp.client.prompt.tokens_read_again", "{token}", "Prompt tokens that an earlier turn had in the cache"
        )
        self._sessions, self._lock = CacheSessions(_MOST_SESSIONS), Lock()
        self.repairs: Count = meter.create_counter("llamacpp.client.repairs", "{repair}", "Repairs, by kind")
        # Ended in a finaliser, where neither a span nor an instrument may be touched: both have locks.
        self.lost: deque[tuple[Operation, object, int]] = deque()

    def cache_loss(self, request: ChatRequest, reply: ChatReply) -> Attributes:
        """Reprocessed tokens of a turn, and the reason; empty if there are none."""
        with self._lock:
            turn = self._sessions.add(request, reply.usage, reply.timings)
        if turn.before is None:
            return {}
        change = compare(turn.before, turn.now, lambda request: None, turn.others)
        return {"llamacpp.cache.tokens_read_again": turn.again, "llamacpp.cache.change": change.kind}

    def end_lost(self) -> None:
        """End the spans of streams that the garbage collector found, at the times when it did."""
        while self.lost:
            try:
                operation, reply, ended = self.lost.popleft()
            except IndexError:  # another thread was faster
                return
            operation.end(reply, at=ended)


class Caller:
    """Context of a call, captured immediately: its span may be over when the stream is read.

    Args:
        client: It may have a span that is not the current one.

    Attributes:
        context: The parent of the call's span.
        is_written: Whether the span around the call is another instrumentation's, of this very call.
    """

    __slots__ = ("context", "is_written")

    def __init__(self, client: object) -> None:
        current, above = context.get_current(), span_above(client)
        span: trace.Span = trace.get_current_span(current) if above is None else above
        self.is_written = above is not None or _is_model_call(span)
        of_span = span.get_span_context()
        # OpenInference's stand-in for a span loses its context with the end of the function that returns a stream.
        parent = trace.set_span_in_context(trace.NonRecordingSpan(of_span), current) if of_span.is_valid else current
        self.context = parent


class Operation:
    """A call that runs.

    Args:
        instruments: Where it is written.
        kind: `chat`, `text_completion`, `embeddings` or `rerank`.
        settings: Of the client.
        request: What was asked; its numbers are used, never its texts.
        stream: Whether the reply is streamed.
        caller: Where the call was made.
        model: Where the request names none.

    Attributes:
        over: Whether it has ended.
        span: Its span.
    """

    def __init__(
        self,
        instruments: Instruments,
        kind: str,
        settings: ServerSettings,
        request: object,
        *,
        stream: bool,
        caller: Caller,
        model: str | None = None,
    ) -> None:
        instruments.end_lost()
        self._instruments, self._stream, self._request = instruments, stream, request
        self._measured = not any(context.get_value(key, caller.context) for key in _SUPPRESSED)
        covered = not (instruments.genai and self._measured) or caller.is_written
        model = getattr(request, "model", None) or model or settings.model
        self._common: Attributes = {"gen_ai.operation.name": kind, "gen_ai.provider.name": _PROVIDER}
        if model:
            self._common["gen_ai.request.model"] = model
        self._common |= of_server(settings)
        self._covered = covered
        attributes = self._common | of_request(request)
        if stream:
            attributes["gen_ai.request.stream"] = True
        name = f"llamacpp {kind}" if covered else " ".join(filter(None, (kind, model)))
        self.span = instruments.tracer.start_span(
            name, caller.context, SpanKind.CLIENT, self._own_attributes(attributes)
        )
        self._begun, self._first = time.perf_counter(), 0.0
        self._waits: Counter[str] = Counter()
        self._slot_seconds = 0.0
        self._known = settings.on_wait
        self.over = False
        self._seconds = 0.0

    def on_wait(self, state: WaitState) -> None:
        """Note a wait and pass it on: an event where its reason is new, and for each retry."""
        if state.over:
            self._slot_seconds += state.elapsed
        elif state.reason in ("retry", "busy") or state.reason not in self._waits:
            self.span.add_event("llamacpp.wait", {"llamacpp.wait.reason": state.reason, "elapsed": state.elapsed})
        self._waits[state.reason] += not state.over
        if state.reason in ("loading", "refused"):
            self.span.set_attribute("llamacpp.wait.loading_seconds", state.elapsed)
        if self._known is not None:
            self._known(state)

    def first_chunk(self) -> None:
        """Note when the first token of a stream came."""
        if not self._first:
            self._first = time.perf_counter() - self._begun

    def end(self, reply: object = None, error: BaseException | None = None, at: int | None = None) -> None:
        """End the span and record the measurements; does nothing the second time.

        Args:
            reply: What came, or the beginning that was read.
            error: What it ended in.
            at: When it ended, in nanoseconds of Unix time; None is now.
        """
        if self.over:
            return
        self.over = True
        self._seconds = self._seconds or time.perf_counter() - self._begun
        found = of_reply(reply if reply is not None else getattr(error, "partial", None))
        if error is not None:
            found["error.type"] = type(error).__qualname__
            self.span.set_status(StatusCode.ERROR)
        if isinstance(self._request, ChatRequest) and isinstance(reply, ChatReply) and (reply.usage or reply.timings):
            found |= self._instruments.cache_loss(self._request, reply)
        if self._first:
            found["gen_ai.response.time_to_first_chunk"] = self._first
        if self._waits["slot"]:
            found["llamacpp.wait.slot_seconds"] = self._slot_seconds
        retries = self._waits["retry"] + self._waits["busy"]
        if retries:
            found["llamacpp.retries"] = retries
        self.span.set_attributes(self._own_attributes(found))
        self.span.end(at)
        self._measure(found, reply, retries)

    def lose(self, reply: object) -> None:
        """End it from a finaliser: it is only put aside, since spans and instruments have locks."""
        self._seconds = time.perf_counter() - self._begun
        self._instruments.lost.append((self, reply, time.time_ns()))

    def _own_attributes(self, attributes: Attributes) -> Attributes:
        """Attributes for the span: only our own if the parent span already has the others."""
        if not self._covered:
            return attributes
        own = ("llamacpp.", "server.", "error.", "gen_ai.response.id", "gen_ai.response.time_to_first_chunk")
        return {name: value for name, value in attributes.items() if name.startswith(own)}

    def _measure(self, found: Attributes, reply: object, retries: int) -> None:
        to, common = self._instruments, dict(self._common)
        for name in ("gen_ai.response.model", "error.type"):
            if name in found:
                common[name] = found[name]
        if self._measured:
            to.duration.record(self._seconds, common)
            for kind in ("input", "output"):
                if isinstance(count := found.get(f"gen_ai.usage.{kind}_tokens"), int):
                    to.tokens.record(count, common | {"gen_ai.token.type": kind})
        if self._first:
            to.first.record(self._first, common)
        for reason in self._waits:
            to.waits.add(1, common | {"llamacpp.wait.reason": reason})
        if retries:
            to.retries.add(retries, common)
        if isinstance(reply, ChatReply | CompletionReply):
            self._measure_reply(reply, found, common)

    def _measure_reply(self, reply: ChatReply | CompletionReply, found: Attributes, common: Attributes) -> None:
        to = self._instruments
        if isinstance(again := found.get("llamacpp.cache.tokens_read_again"), int):
            to.read_again.add(again, common | {"llamacpp.cache.change": found["llamacpp.cache.change"]})
        for kind, count in Counter(repair.name for repair in reply.start.repairs).items():
            to.repairs.add(count, common | {"llamacpp.repair": kind})
        if (waited := seconds_waited(reply.timings)) is not None:
            to.waited.record(waited, common)
        if reply.timings is not None:
            to.prompt.add(reply.timings.prompt_n, common | {"llamacpp.prompt.source": "read"})
            cached = reply.timings.cache_n or (reply.usage.cached_tokens if reply.usage else 0) or 0
            to.prompt.add(cached, common | {"llamacpp.prompt.source": "cache"})


def _is_model_call(span: trace.Span) -> bool:
    """Whether a span is another instrumentation's, of the call of a model.

    Those of LlamaIndex set their attributes when it ends, so their spans are known by the names of our classes.
    """
    attributes: Mapping[str, Any] = getattr(span, "attributes", None) or {}
    scope = getattr(getattr(span, "instrumentation_scope", None), "name", "")
    return (
        (scope in _OF_LLAMAINDEX and getattr(span, "name", "").startswith("LlamaServer"))
        or attributes.get("gen_ai.operation.name") in _MODEL_CALLS
        or attributes.get("openinference.span.kind") in _MODEL_CALLS
    )
