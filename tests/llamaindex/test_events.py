"""What callbacks and traces see: one pair of events for each call, whole, and without secrets."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload, LlamaDebugHandler
from llama_index.core.llms import ChatMessage
from llama_index.core.llms import callbacks as of_llamaindex
from llama_index.core.rate_limiter import TokenBucketRateLimiter
from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.span_handlers import SimpleSpanHandler

from llamacpp_server import BadRequestError, LocalServer
from llamaindex_llamacpp_server import LlamaServer, LlamaServerProgressEvent
from tests.llamaindex.tools import TOOLS, Listener, heard_events

HELLO = [ChatMessage(content="Hello")]


@pytest.fixture
def events():
    with heard_events() as heard:
        yield heard


@pytest.fixture
def debug():
    return LlamaDebugHandler(print_trace_on_end=False)


@pytest.fixture
def observed(thinker, debug):
    llm = LlamaServer(
        base_url=thinker.base_url, temperature=0.25, api_key="sesame", callback_manager=CallbackManager([debug])
    )
    assert llm.metadata.model_name != "unknown"  # asked here, as nobody asks on an event loop
    yield llm
    llm.close()


def _names(events) -> list[str]:
    names = [event.class_name() for event in events if not isinstance(event, LlamaServerProgressEvent)]
    return [name for number, name in enumerate(names) if number == 0 or name != names[number - 1]]


async def _call(llm: LlamaServer, method: str) -> None:
    given = "Hello" if "complete" in method else HELLO
    result = getattr(llm, method)(given)
    if method.startswith("a"):
        result = await result
    if "stream" in method:
        _ = [item async for item in result] if method.startswith("a") else list(result)
    await llm.aclose()


@pytest.mark.parametrize(
    "method",
    ["chat", "achat", "stream_chat", "astream_chat", "complete", "acomplete", "stream_complete", "astream_complete"],
)
async def test_one_pair_of_events_with_model_temperature_and_usage(observed, debug, events, method):
    _ = observed.metadata
    await _call(observed, method)
    kind = "Completion" if "complete" in method else "Chat"
    progress = [f"LLM{kind}InProgressEvent"] if "stream" in method else []
    assert _names(events) == [f"LLM{kind}StartEvent", *progress, f"LLM{kind}EndEvent"]
    start, *_, end = events
    assert start.model_dict["model"] == observed.metadata.model_name
    assert start.model_dict["temperature"] == 0.25
    assert end.response.raw["usage"]["completion_tokens"] > 0
    assert end.response.raw["timings"]["predicted_n"] > 0
    assert end.response.additional_kwargs["finish_reason"] == "stop"
    text = end.response.text if "complete" in method else end.response.message.content
    assert text == "The answer is 42."
    assert start.span_id == end.span_id is not None
    assert "sesame" not in str([event.model_dump() for event in events])
    ((first, last),) = debug.get_llm_inputs_outputs()
    assert first.payload[EventPayload.SERIALIZED]["temperature"] == 0.25
    assert last.payload.keys() & {EventPayload.RESPONSE, EventPayload.COMPLETION}


def test_items_of_a_stream_are_kept_as_they_were(observed, events):
    list(observed.stream_chat(HELLO))
    texts = [event.response.message.content for event in events if event.class_name() == "LLMChatInProgressEvent"]
    assert texts[0] == ""
    assert texts[-1] == "The answer is 42."
    assert texts == sorted(texts, key=len)


def test_the_tools_are_in_the_event(make_llm, caller, events):
    llm = make_llm(caller)
    llm.chat_with_tools(TOOLS, "go", tool_required=True)
    sent = events[0].additional_kwargs
    assert [tool["function"]["name"] for tool in sent["tools"]] == ["add", "weather"]
    assert copy.deepcopy(sent)["tool_required"] is True


def test_a_refused_call_ends_its_event_with_the_error(observed, debug):
    with pytest.raises(BadRequestError):
        observed.chat(HELLO, temprature=1)
    ((_, last),) = debug.get_llm_inputs_outputs()
    assert isinstance(last.payload[EventPayload.EXCEPTION], BadRequestError)


def test_a_stream_that_is_left_ends_its_event(observed, debug, events):
    stream = observed.stream_chat(HELLO)
    next(stream)
    stream.close()
    assert "ExceptionEvent" in _names(events)
    assert len(debug.get_event_pairs(CBEventType.LLM)) == 1


def test_infill_has_events_too(make_llm, serve, events):
    llm = make_llm(serve("fim.gguf", parallel=1, ctx_size=1024), max_tokens=1)
    llm.infill("before", "after")
    assert _names(events) == ["LLMCompletionStartEvent", "LLMCompletionEndEvent"]
    assert events[0].prompt == "before"


async def test_a_rate_limiter_is_asked_once_for_each_call(make_llm, thinker):
    asked = []

    class Limiter(TokenBucketRateLimiter):
        def acquire(self, num_tokens: int = 0) -> None:
            asked.append("sync")

        async def async_acquire(self, num_tokens: int = 0) -> None:
            asked.append("async")

    llm = make_llm(thinker, rate_limiter=Limiter(requests_per_minute=60))
    llm.complete("Hello")
    await llm.achat(HELLO)
    list(llm.stream_chat(HELLO))
    assert asked == ["sync", "async", "sync"]
    await llm.aclose()


def _make_events_impossible(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> None:
        raise AssertionError("an event was made")

    for name in ("LLMChatStartEvent", "LLMChatInProgressEvent", "LLMCompletionStartEvent"):
        monkeypatch.setattr(of_llamaindex, name, refuse)


@pytest.mark.parametrize("method", ["achat", "stream_chat", "astream_chat", "complete", "acomplete"])
async def test_a_call_that_nothing_observes_makes_no_events(
    make_llm: Callable[..., LlamaServer], thinker: LocalServer, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    _make_events_impossible(monkeypatch)
    await _call(make_llm(thinker), method)


async def test_a_call_by_names_as_agents_make_it_makes_no_events_either(
    make_llm: Callable[..., LlamaServer], thinker: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    _make_events_impossible(monkeypatch)
    llm = make_llm(thinker)
    assert llm.chat(messages=HELLO).message.content == "The answer is 42."
    assert llm.complete(prompt="Hello").text == "The answer is 42."
    *_, last = llm.stream_chat_with_tools(TOOLS, chat_history=HELLO)
    assert last.message.content == "The answer is 42."
    assert (await llm.achat_with_tools(TOOLS, chat_history=HELLO)).message.content == "The answer is 42."
    with _event_handler("root"), pytest.raises(AssertionError, match="an event was made"):
        llm.chat(messages=HELLO)
    await llm.aclose()


def test_a_call_without_its_argument_is_refused(make_llm: Callable[..., LlamaServer], thinker: LocalServer) -> None:
    with pytest.raises(TypeError, match="messages"):
        make_llm(thinker).chat()
    with pytest.raises(ValueError, match="prompt"):
        make_llm(thinker).complete()


@contextmanager
def _event_handler(name: str) -> Iterator[None]:
    listener = Listener()
    get_dispatcher(name).add_event_handler(listener)
    try:
        yield
    finally:
        get_dispatcher(name).event_handlers.remove(listener)


@contextmanager
def _span_handler(name: str) -> Iterator[SimpleSpanHandler]:
    handler = SimpleSpanHandler()
    get_dispatcher(name).add_span_handler(handler)
    try:
        yield handler
    finally:
        get_dispatcher(name).span_handlers.remove(handler)


@pytest.mark.parametrize("handler", [_event_handler, _span_handler])
@pytest.mark.parametrize("at", ["root", "llama_index.core.llms.callbacks", LlamaServer.__module__])
def test_any_handler_makes_the_next_call_observed(
    make_llm: Callable[..., LlamaServer], thinker: LocalServer, monkeypatch: pytest.MonkeyPatch, handler: Any, at: str
) -> None:
    llm = make_llm(thinker)
    _make_events_impossible(monkeypatch)
    assert llm.chat(HELLO).message.content == "The answer is 42."
    with handler(at), pytest.raises(AssertionError, match="an event was made"):
        llm.chat(HELLO)
    assert llm.chat(HELLO).message.content == "The answer is 42."


def test_a_callback_handler_that_is_added_later_gets_the_next_call(
    make_llm: Callable[..., LlamaServer], thinker: LocalServer, debug: LlamaDebugHandler
) -> None:
    llm = make_llm(thinker)
    llm.chat(HELLO)
    llm.callback_manager.add_handler(debug)
    llm.chat(HELLO)
    llm.callback_manager.remove_handler(debug)
    llm.chat(HELLO)
    assert len(debug.get_event_pairs(CBEventType.LLM)) == 1


def test_a_callback_manager_of_ones_own_class_gets_every_call(
    make_llm: Callable[..., LlamaServer], thinker: LocalServer
) -> None:
    class Counting(CallbackManager):
        started = 0

        def on_event_start(self, *args: Any, **kwargs: Any) -> str:
            self.started += 1
            return super().on_event_start(*args, **kwargs)

    llm = make_llm(thinker, callback_manager=(manager := Counting()))
    llm.chat(HELLO)
    assert manager.started == 1


@pytest.mark.parametrize("method", ["chat", "achat", "stream_chat", "complete", "acomplete"])
async def test_each_call_has_one_span_also_in_a_subclass(thinker: LocalServer, method: str) -> None:
    class Own(LlamaServer):
        """Inherits its methods."""

    for model in (LlamaServer, Own):
        llm = model(base_url=thinker.base_url)
        with _span_handler("root") as handler:
            await _call(llm, method)
        (span,) = handler.completed_spans
        assert span.id_.startswith(f"{model.__name__}.{method}-")
