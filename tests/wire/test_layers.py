"""Retries of a framework on top of ours: how many requests reach the server. Theirs add to ours and don't multiply."""

import asyncio
from typing import TypedDict

import pytest
import tenacity
from langchain.agents import create_agent
from langchain.agents.middleware import ModelRetryMiddleware
from langchain_core.messages import HumanMessage
from langgraph.graph import START, StateGraph
from langgraph.types import RetryPolicy
from llama_index.core.llms import ChatMessage
from llama_index.core.workflow import StartEvent, StopEvent, Workflow, step

from langchain_llamacpp_server import ChatLlamaServer
from llamacpp_server import ChatRequest, LlamaServerClient, LlamaServerError, ServerBusyError
from llamaindex_llamacpp_server import LlamaServer
from tests import behind_doors
from tests.unit.events import DONE, chunk, text
from tests.wire.scripted_server import Answer, ScriptedServer, error, stream

HELLO = stream(text("Hello"), chunk(finish="stop"), DONE)
BUSY, BROKEN, UNANSWERED = error(503, "busy"), error(500, "boom"), Answer(then="close")
CHAT = ChatRequest(messages=[{"role": "user", "content": "Hello"}])


@pytest.fixture(autouse=True)
def _hasty(monkeypatch):
    monkeypatch.setattr(behind_doors.FIRST_BACKOFF, 0.01)


def alone(url):
    ChatLlamaServer(base_url=url).invoke("Hello")


def with_retry(url):
    ChatLlamaServer(base_url=url).with_retry(wait_exponential_jitter=False, stop_after_attempt=3).invoke("Hello")


def with_retry_awaited(url):
    llm = ChatLlamaServer(base_url=url).with_retry(wait_exponential_jitter=False, stop_after_attempt=3)
    asyncio.run(llm.ainvoke("Hello"))


class State(TypedDict):
    said: str


def langgraph(url):
    """A node with LangGraph's own choice of what is worth a repeat, which leaves out what is a ValueError."""
    llm = ChatLlamaServer(base_url=url)
    graph = StateGraph(State)
    policy = RetryPolicy(max_attempts=3, initial_interval=0.01, jitter=False)
    graph.add_node("ask", lambda state: {"said": llm.invoke(state["said"]).text}, retry_policy=policy)
    graph.add_edge(START, "ask")
    graph.compile().invoke({"said": "Hello"})


def middleware(url):
    again = ModelRetryMiddleware(max_retries=2, initial_delay=0.01, jitter=False, on_failure="error")
    agent = create_agent(ChatLlamaServer(base_url=url), middleware=[again])
    agent.invoke({"messages": [HumanMessage("Hello")]})


def with_tenacity(url):
    llm = LlamaServer(base_url=url)
    tenacity.Retrying(stop=tenacity.stop_after_attempt(3), reraise=True)(llm.chat, [ChatMessage("Hello")])


class ThreeAttempts:
    """LlamaIndex's protocol of a retry policy: old and new releases bring different ready-made ones."""

    def next(self, elapsed_time, attempts, error, *more):
        return 0.01 if attempts < 3 else None


class Asking(Workflow):
    """A step with a retry policy of LlamaIndex."""

    llm: LlamaServer

    @step(retry_policy=ThreeAttempts())
    async def ask(self, event: StartEvent) -> StopEvent:
        return StopEvent(result=str(await self.llm.achat([ChatMessage("Hello")])))


def workflow(url):
    async def main():
        asking = Asking()
        asking.llm = LlamaServer(base_url=url)
        try:
            await asking.run()
        finally:
            await asking.llm.aclose()

    asyncio.run(main())


LAYERS = [with_retry, with_retry_awaited, langgraph, middleware, with_tenacity, workflow]


def sent(layer, *answers):
    """Chats that reach a server which gives these answers."""
    with ScriptedServer(*answers) as server:
        with pytest.raises(LlamaServerError):
            layer(server.url)
        return [request.path for request in server.requests].count("/v1/chat/completions")


def test_without_a_layer_above_there_are_three_attempts():
    assert sent(alone, BUSY) == 3


@pytest.mark.parametrize("layer", LAYERS)
def test_three_attempts_of_theirs_add_two_to_our_three(layer):
    assert sent(layer, BUSY) == 5


@pytest.mark.parametrize("layer", LAYERS)
def test_a_server_that_closes_unanswered_is_asked_twice_and_then_once_a_time(layer):
    assert sent(layer, UNANSWERED) == 4


@pytest.mark.parametrize("layer", LAYERS)
def test_of_a_failure_that_repeats_itself_we_add_nothing(layer):
    """LangChain's middleware knows better as well: it asks the error whether a repeat can help."""
    assert sent(layer, BROKEN) == (1 if layer is middleware else 3)


@pytest.mark.parametrize("layer", [langgraph])
def test_a_request_that_is_wrong_is_not_even_repeated_by_langgraph(layer):
    assert sent(layer, error(400, "type must be string, but is number", "invalid_request_error")) == 1


def test_a_request_that_was_answered_since_has_all_its_attempts_again():
    with ScriptedServer(BUSY, BUSY, BUSY, HELLO, BUSY, HELLO) as server, LlamaServerClient(server.url) as client:
        with pytest.raises(ServerBusyError):
            client.chat(CHAT)
        assert [client.chat(CHAT).content for _ in range(2)] == ["Hello"] * 2
        assert len(server.requests) == 6


def test_another_request_has_all_its_attempts():
    other = ChatRequest(messages=[{"role": "user", "content": "Bye"}])
    with ScriptedServer(BUSY, BUSY, BUSY, BUSY, HELLO) as server, LlamaServerClient(server.url) as client:
        with pytest.raises(ServerBusyError):
            client.chat(CHAT)
        assert client.chat(other).content == "Hello"
