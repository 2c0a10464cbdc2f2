"""Progress as events of LlamaIndex's instrumentation, and as a callback of the model."""

from typing import Any

import pytest
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.llms import ChatMessage

from llamaindex_llamacpp_server import LlamaServerProgressEvent

LONG = [ChatMessage(content="word " * 300)]
FIELDS = {"max_tokens": 2, "cache_prompt": False, "thinking": False}


class Listener(BaseEventHandler):
    heard: list[Any]

    @classmethod
    def class_name(cls):
        return "Listener"

    def handle(self, event, **_):
        if isinstance(event, LlamaServerProgressEvent):
            self.heard.append(event)


@pytest.fixture
def heard():
    root, listener = get_dispatcher(), Listener(heard=[])
    root.add_event_handler(listener)
    yield listener.heard
    root.event_handlers.remove(listener)


async def test_event_handlers_receive_it(make_llm, chat_server, heard):
    llm = make_llm(chat_server, **FIELDS)
    for ask in (
        lambda: llm.chat(LONG),
        lambda: list(llm.stream_chat(LONG)),
        lambda: llm.complete("word " * 300, formatted=True),
    ):
        heard.clear()
        ask()
        assert heard[-1].progress.fraction == 1.0
        assert heard[-1].progress.total > 1000
    heard.clear()
    await llm.achat(LONG)
    assert heard[-1].progress.fraction == 1.0
    assert heard[-1].model_dump()["class_name"] == "LlamaServerProgressEvent"
    await llm.aclose()


def test_a_function_gets_progress_and_the_stream_is_unchanged(make_llm, chat_server):
    reports = []
    llm = make_llm(chat_server, on_progress=reports.append, **FIELDS)
    items = list(llm.stream_chat(LONG))
    assert reports[-1].fraction == 1.0
    assert not any("prompt_progress" in item.additional_kwargs for item in items)


def test_nothing_is_asked_for_where_nobody_listens(recorded, chat_server, heard):
    llm, bodies = recorded(chat_server, **FIELDS)
    llm.chat(LONG)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(get_dispatcher(), "event_handlers", [])
        llm.chat(LONG)
    chats = [body for body in bodies if "messages" in body]
    # A kept connection that the server has just closed costs a request more.
    assert ["return_progress" in body for body in chats] == [True, False, *[False] * (len(chats) - 2)]
