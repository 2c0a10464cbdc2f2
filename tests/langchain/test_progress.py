"""Progress as LangChain's custom events, and as a callback of the model or of a call."""

from contextvars import ContextVar
from typing import Any, TypedDict

import pytest
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.tracers.context import register_configure_hook
from langgraph.config import get_stream_writer
from langgraph.graph import START, StateGraph

from langchain_llamacpp_server import ChatLlamaServer, LlamaServerLLM
from llamacpp_server import LocalServer, Progress

LONG = "word " * 300


class Listener(BaseCallbackHandler):
    def __init__(self) -> None:
        self.heard: list[tuple[str, Any]] = []

    def on_custom_event(self, name: str, data: Any, **_: Any) -> None:
        self.heard.append((name, data))


class AwaitingListener(AsyncCallbackHandler):
    def __init__(self) -> None:
        self.heard: list[tuple[str, Any]] = []

    async def on_custom_event(self, name: str, data: Any, **_: Any) -> None:
        self.heard.append((name, data))


@pytest.fixture
def llm(chat_server: LocalServer) -> ChatLlamaServer:
    return ChatLlamaServer(base_url=chat_server.base_url, max_tokens=2, cache_prompt=False, thinking=False)


def is_complete(heard: list[tuple[str, Any]]) -> bool:
    names, last = {name for name, _ in heard}, heard[-1][1]
    return names == {"llamacpp_progress"} and last["stage"] == "reading" and last["done"] == last["total"] > 1000


async def test_callbacks_receive_it(llm: ChatLlamaServer, chat_server: LocalServer) -> None:
    for ask in (
        lambda listener: llm.invoke(LONG, {"callbacks": [listener]}),
        lambda listener: list(llm.stream(LONG, {"callbacks": [listener]})),
        lambda listener: LlamaServerLLM(base_url=chat_server.base_url, max_tokens=2, cache_prompt=False).invoke(
            LONG, {"callbacks": [listener]}
        ),
    ):
        listener = Listener()
        ask(listener)
        assert is_complete(listener.heard)
    for kind in (Listener, AwaitingListener):
        heard = kind()
        await llm.ainvoke(LONG, {"callbacks": [heard]})
        assert is_complete(heard.heard)
    await llm.aclose()


def test_a_callback_added_by_a_hook_receives_it(llm: ChatLlamaServer) -> None:
    for_all: ContextVar[Listener | None] = ContextVar("for_all", default=None)
    register_configure_hook(for_all, inheritable=True)
    token = for_all.set(listener := Listener())
    try:
        list(llm.stream(LONG))
    finally:
        for_all.reset(token)
    assert is_complete(listener.heard)


async def test_it_is_among_the_events_of_a_stream(llm: ChatLlamaServer) -> None:
    events = [event async for event in llm.astream_events(LONG, version="v2")]
    steps = [event for event in events if event["event"] == "on_custom_event"]
    assert is_complete([(event["name"], event["data"]) for event in steps])
    kinds = [event["event"] for event in events]
    assert kinds.index("on_custom_event") < kinds.index("on_chat_model_end")
    await llm.aclose()


def test_a_function_gets_progress(llm: ChatLlamaServer) -> None:
    reports: list[Progress] = []
    llm.invoke(LONG, on_progress=reports.append)
    assert reports[-1].fraction == 1.0
    reports.clear()
    chunks = list(llm.model_copy(update={"on_progress": reports.append}).stream(LONG))
    assert reports[-1].fraction == 1.0
    assert not any("prompt_progress" in chunk.response_metadata for chunk in chunks)


def test_nothing_is_asked_for_where_nobody_listens(recorded: Any, chat_server: LocalServer) -> None:
    class Deaf(BaseCallbackHandler):
        pass

    llm, requests = recorded(chat_server, max_tokens=1)
    llm.invoke("Hi", {"callbacks": [Deaf()]})
    llm.invoke("Hi", {"callbacks": [Listener()]})
    assert ["return_progress" in request for request in requests] == [False, True]


def test_a_graph_streams_it(llm: ChatLlamaServer) -> None:
    class State(TypedDict):
        text: str

    def node(state: State) -> State:
        write = get_stream_writer()
        return {"text": llm.invoke(state["text"], on_progress=lambda step: write(step.as_dict())).text}

    graph = StateGraph(State).add_node("node", node).add_edge(START, "node").compile()
    steps = list(graph.stream({"text": LONG}, stream_mode="custom"))
    assert steps[-1]["done"] == steps[-1]["total"] > 1000
