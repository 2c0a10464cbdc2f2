"""Long runs of LangGraph agents: each turn's prompt starts with that of the turn before, so the cache holds."""

import json
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from langchain_llamacpp_server import ChatLlamaServer
from llamacpp_server import LocalServer
from llamacpp_server._history import (
    NO_RESULT,
)
from tests.langchain.conftest import OSLO, ROME, get_weather
from tests.models import Script, tool_call
from tests.prefixes import assert_grow
from tests.wiretap import Wiretap


def get_time(city: str, zone: str = "UTC") -> str:
    """The time in a city."""
    return f"noon in {city}, {zone}"


@pytest.fixture(scope="module")
def worker(scripted_server: Any) -> LocalServer:
    """Thinks before each answer; calls one tool or two."""
    return scripted_server(
        {
            "time": Script(thinks="What time?", says=tool_call("get_time", '{"city": "Ålesund", "zone": "CET"}')),
            "quiet": Script(thinks="Nothing to say.", says=" "),
            "thanks": Script(thinks="How polite.", says="You are welcome.\n\n  1. Really."),
            "tool": Script(thinks="Now I know.\n\nAll of it.", says="It is sunny 🌞."),
            "user": Script(thinks="Two cities.", says=f"Let me look.{OSLO}\n{ROME}"),
        },
        ctx_size=32768,
    )


QUESTIONS = ["weather?", "time?", "thanks", "weather again?", "thanks", "time again?"]


@pytest.mark.parametrize("thinking", [None, True, False])
def test_an_agent_with_tools_thinking_and_a_checkpointer(
    worker: LocalServer, chat_server: LocalServer, wire: Wiretap, thinking: Any
) -> None:
    llm = ChatLlamaServer(base_url=worker.base_url, thinking=thinking, temperature=0, **wire.clients)
    saver = InMemorySaver(serde=JsonPlusSerializer())
    agent = create_agent(llm, [get_weather, get_time], system_prompt="Use the tools.", checkpointer=saver)
    for question in QUESTIONS:
        agent.invoke({"messages": [HumanMessage(question)]}, {"configurable": {"thread_id": "1"}})
    bodies = wire.bodies("/v1/chat/completions")
    assert len({len(body["messages"]) for body in bodies}) == 10
    assert any("reasoning_content" in message for message in bodies[-1]["messages"]) == (thinking is not False)
    assert_grow(chat_server.client(), bodies)


async def test_awaited_streamed_and_with_another_agent_object_each_turn(
    worker: LocalServer, chat_server: LocalServer, wire: Wiretap
) -> None:
    """As in a web service: nothing but the checkpointer lives on."""
    saver = InMemorySaver(serde=JsonPlusSerializer())
    for question in QUESTIONS:
        llm = ChatLlamaServer(base_url=worker.base_url, streaming=True, **wire.clients)
        agent = create_agent(llm, [get_weather, get_time], system_prompt="Use the tools.", checkpointer=saver)
        config: Any = {"configurable": {"thread_id": "1"}}
        async for _ in agent.astream({"messages": [HumanMessage(question)]}, config, stream_mode="messages"):
            pass
    assert_grow(chat_server.client(), wire.bodies("/v1/chat/completions"))


def test_what_is_repaired_stays_repaired_the_same_way(
    worker: LocalServer, chat_server: LocalServer, wire: Wiretap
) -> None:
    """Arguments that are no JSON, a call without an id and without a result, and answers without a word."""
    llm = ChatLlamaServer(base_url=worker.base_url, thinking=False, **wire.clients).bind_tools([get_weather, get_time])
    broken: Any = {"type": "invalid_tool_call", "name": "get_time", "args": '{"city": ', "id": "1", "error": None}
    nameless: Any = {"type": "tool_call", "name": "get_time", "args": {}, "id": None}
    history: list[Any] = [
        HumanMessage("hi"),
        AIMessage("", invalid_tool_calls=[broken]),
        HumanMessage("hi?"),
        AIMessage("", tool_calls=[nameless]),
    ]
    for question in ("time?", "quiet", "thanks"):
        history.append(HumanMessage(question))
        reply = llm.invoke(history)
        history += [reply, *(ToolMessage("noon", tool_call_id=call["id"]) for call in reply.tool_calls)]
    bodies = wire.bodies("/v1/chat/completions")
    sent = json.dumps(bodies[-1]["messages"])
    assert "invalid_arguments" in sent
    assert NO_RESULT not in sent
    assert_grow(chat_server.client(), bodies)
