"""What tracers and events see of a call: a real instrumentation, LlamaIndex's own events, and no secrets."""

import asyncio
from typing import Any

import pytest
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events.llm import LLMChatEndEvent, LLMChatStartEvent
from llama_index.core.llms import ChatMessage
from openinference.instrumentation.llama_index import LlamaIndexInstrumentor

from llamaindex_llamacpp_server import RequestTimeoutError
from tests.spans import taken, traced

# The instrumentation calls `.json()` of pydantic objects.
pytestmark = pytest.mark.filterwarnings("ignore:The `json` method is deprecated")

SECRET = "sk-very-secret"
HELLO = [ChatMessage(content="Hello")]


def watched(make_llm, server):
    address = server.base_url.replace("//", f"//user:{SECRET}@")
    return make_llm(
        address, api_key=SECRET, default_headers={"X-Key": SECRET}, temperature=0.25, max_tokens=4, ignore_eos=True,
        thinking=False,
    )  # fmt: skip


def test_a_first_token_that_is_late_is_an_error_of_its_own(make_llm, slow_server):
    """Both slots are taken and nothing limits this process, so the server itself queues the third request."""
    llm = make_llm(slow_server.base_url, max_tokens=20_000, max_concurrency=None, first_token_timeout=60)
    running = [llm.stream_chat(HELLO), llm.stream_chat(HELLO)]
    for stream in running:
        next(stream)
    hasty = llm.model_copy(update={"first_token_timeout": 0.2})
    with pytest.raises(RequestTimeoutError, match="no token came within first_token_timeout"):
        asyncio.run(hasty.achat(HELLO))
    for stream in running:
        assert next(stream).delta
        stream.close()


def test_the_attributes_of_openinference_are_those_of_the_call(make_llm, chat_server):
    llm = watched(make_llm, chat_server)
    with traced(LlamaIndexInstrumentor()) as exporter:
        usage = llm.chat(HELLO).raw["usage"]
        spans = [taken(exporter)]
        list(llm.stream_chat(HELLO))
        spans.append(taken(exporter))
        asyncio.run(llm.achat(HELLO))
        spans.append(taken(exporter))
        llm.complete("Hello")
        spans.append(taken(exporter))
        for span in spans:
            seen = dict(span.attributes)
            assert seen["llm.model_name"] == "random"
            assert seen["llm.token_count.prompt"] == usage["prompt_tokens"]
            assert seen["llm.token_count.completion"] == 4
            assert seen["llm.finish_reason"] == "length"
            assert SECRET not in span.to_json()
        assert seen["llm.token_count.prompt_details.cache_read"] > 0


class Recorder(BaseEventHandler):
    events: list[Any]

    @classmethod
    def class_name(cls):
        return "Recorder"

    def handle(self, event, **kwargs):
        self.events.append(event)


def test_events_see_speed_cache_first_token_and_build(make_llm, chat_server):
    llm, recorder, dispatcher = watched(make_llm, chat_server), Recorder(events=[]), get_dispatcher()
    dispatcher.add_event_handler(recorder)
    try:
        llm.chat(HELLO)
        list(llm.stream_chat(HELLO))
    finally:
        dispatcher.event_handlers.remove(recorder)
    starts = [event for event in recorder.events if isinstance(event, LLMChatStartEvent)]
    ends = [event for event in recorder.events if isinstance(event, LLMChatEndEvent)]
    assert len(starts) == len(ends) == 2
    for event in starts:
        assert event.model_dict["model"] == "random"
        assert event.model_dict["temperature"] == 0.25
        assert SECRET not in event.model_dump_json()
    for event in ends:  # type: ignore[assignment]
        details = event.response.additional_kwargs  # type: ignore[attr-defined]
        assert details["timings"]["first_token_ms"] > 0
        assert details["timings"]["predicted_per_second"] > 0
        assert details["finish_reason"] == "length"
        assert details["build"] == event.response.raw["system_fingerprint"] != ""  # type: ignore[attr-defined]
    assert ends[1].response.additional_kwargs["cached_tokens"] > 0
