"""Agents of LangGraph on a real server, whose model says what each test needs."""

from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware, SummarizationMiddleware
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from pydantic import BaseModel, field_validator

from langchain_llamacpp_server import ChatLlamaServer, ContextOverflowError
from llamacpp_server import LocalServer
from tests.langchain.conftest import get_weather
from tests.models import Script, tool_call

ASK: Any = {"messages": [HumanMessage("How is the weather?")]}
THREAD: Any = {"configurable": {"thread_id": "1"}}


def kinds(state: dict[str, Any]) -> list[str]:
    return [message.type for message in state["messages"]]


def test_calls_two_tools_and_answers(llm: ChatLlamaServer) -> None:
    state = create_agent(llm, [get_weather]).invoke(ASK)
    assert kinds(state) == ["human", "ai", "tool", "tool", "ai"]
    assert [m.content for m in state["messages"] if isinstance(m, ToolMessage)] == ["sunny in Oslo", "sunny in Rome"]
    assert state["messages"][-1].text == "It is sunny."


async def test_awaited(llm: ChatLlamaServer) -> None:
    state = await create_agent(llm, [get_weather]).ainvoke(ASK)
    assert kinds(state) == ["human", "ai", "tool", "tool", "ai"]


def test_remembers_a_thread(llm: ChatLlamaServer) -> None:
    agent = create_agent(llm, [get_weather], checkpointer=InMemorySaver())
    agent.invoke(ASK, THREAD)
    state = agent.invoke({"messages": [HumanMessage("Thanks")]}, THREAD)
    assert kinds(state) == ["human", "ai", "tool", "tool", "ai", "human", "ai"]
    assert agent.invoke(ASK, {"configurable": {"thread_id": "2"}})["messages"][0].text == "How is the weather?"


def test_waits_for_a_person_and_resumes(llm: ChatLlamaServer) -> None:
    agent = create_agent(
        llm,
        [get_weather],
        middleware=[HumanInTheLoopMiddleware(interrupt_on={"get_weather": True})],
        checkpointer=InMemorySaver(),
    )
    stopped = agent.invoke(ASK, THREAD)
    assert len(stopped["__interrupt__"][0].value["action_requests"]) == 2
    decisions = [{"type": "approve"}, {"type": "reject", "message": "Not Rome."}]
    state = agent.invoke(Command(resume={"decisions": decisions}), THREAD)
    results = [message.content for message in state["messages"] if isinstance(message, ToolMessage)]
    assert any("Not Rome." in result for result in results)
    assert "sunny in Oslo" in results
    assert state["messages"][-1].text == "It is sunny."


class Weather(BaseModel):
    """The weather."""

    city: str
    sunny: bool


def test_answers_in_a_schema(scripted_server: Any) -> None:
    server: LocalServer = scripted_server('{"city": "Oslo", "sunny": true}')
    llm = ChatLlamaServer(base_url=server.base_url, thinking=False)
    agent = create_agent(llm, response_format=Weather)
    state = agent.invoke(ASK)
    assert state["structured_response"] == Weather(city="Oslo", sunny=True)
    assert kinds(state) == ["human", "ai"], "the server's own structured output, not a tool"


class Northern(Weather):
    """The weather up north."""

    @field_validator("city")
    @classmethod
    def _up_north(cls, city: str) -> str:
        assert city == "Oslo", "not in the north"
        return city


@pytest.mark.parametrize("strategy", [ToolStrategy(Northern), ProviderStrategy(Northern, strict=True), Northern])
async def test_each_strategy_of_langchain(scripted_server: Any, strategy: Any) -> None:
    right, wrong = '{"city": "Oslo", "sunny": true}', '{"city": "Rome", "sunny": true}'
    if isinstance(strategy, ToolStrategy):  # LangChain tells the model what is wrong, and asks again
        says = {"not in the north": tool_call("Northern", right), "user": tool_call("Northern", wrong)}
    else:
        says = {"user": right}
    llm = ChatLlamaServer(base_url=scripted_server(says).base_url, thinking=False)
    agent = create_agent(llm, response_format=strategy)
    for state in (agent.invoke(ASK), await agent.ainvoke(ASK)):
        assert state["structured_response"] == Northern(city="Oslo", sunny=True)
        assert ("tool" in kinds(state)) is isinstance(strategy, ToolStrategy)


@pytest.mark.parametrize("streamed", [False, True])
def test_calls_tools_and_then_answers_in_a_schema(scripted_server: Any, streamed: bool) -> None:
    """The server can't hold a schema and tools at once: it would never call one."""
    answer = "Done. " + tool_call("Weather", '{"city": "Oslo", "sunny": true}')
    server: LocalServer = scripted_server({"tool": answer, "user": tool_call("get_weather", '{"city": "Oslo"}')})
    llm = ChatLlamaServer(base_url=server.base_url, thinking=False, streaming=streamed)
    state = create_agent(llm, [get_weather], response_format=Weather).invoke(ASK)
    assert kinds(state) == ["human", "ai", "tool", "ai"]
    assert state["structured_response"] == Weather(city="Oslo", sunny=True)
    assert state["messages"][-1].text == '{"city": "Oslo", "sunny": true}'
    assert state["messages"][-1].response_metadata["finish_reason"] == "stop"
    assert state["messages"][-1].tool_calls == []


@pytest.mark.parametrize("mode", ["messages", "updates", "values", ["messages", "updates"]])
def test_streams_tokens_and_thinking_in_each_mode(llm: ChatLlamaServer, mode: Any) -> None:
    streamed = list(create_agent(llm, [get_weather]).stream(ASK, stream_mode=mode))
    if isinstance(mode, list):
        assert {name for name, _ in streamed} == set(mode)
        streamed = [value for name, value in streamed if name == "messages"]
    if mode in ("updates", "values"):
        assert len(streamed) in (4, 5)
        return
    chunks = [chunk for chunk, _ in streamed if isinstance(chunk, AIMessageChunk)]
    thoughts = "".join(chunk.additional_kwargs.get("reasoning_content", "") for chunk in chunks)
    assert thoughts == "Two cities.\nNow I know.\n"
    assert "".join(chunk.text for chunk in chunks).endswith("It is sunny.")
    assert len([chunk for chunk in chunks if chunk.tool_call_chunks]) > 2
    assert len([chunk for chunk in chunks if chunk.chunk_position == "last"]) == 2


async def test_streams_awaited(llm: ChatLlamaServer) -> None:
    agent = create_agent(llm, [get_weather])
    texts = [
        chunk.text async for chunk, _ in agent.astream(ASK, stream_mode="messages") if isinstance(chunk, AIMessage)
    ]
    assert "".join(texts).endswith("It is sunny.")


class Errors(BaseCallbackHandler):
    def __init__(self) -> None:
        self.seen: list[BaseException] = []

    def on_llm_error(self, error: BaseException, **kwargs: Any) -> None:
        self.seen.append(error)


def test_summarizes_at_a_fraction_of_the_context_and_survives_an_overflow(scripted_server: Any) -> None:
    """The profile says when to summarize; the whole history is too long for that, so it is cut and summarized then."""
    server: LocalServer = scripted_server({"primary": "A summary.", "user": "An answer."}, ctx_size=8192, parallel=1)
    errors = Errors()
    llm = ChatLlamaServer(base_url=server.base_url, thinking=False, callbacks=[errors])
    middleware = SummarizationMiddleware(
        llm,
        trigger=("fraction", 0.5),
        keep=("messages", 1),
        token_counter=llm.get_num_tokens_from_messages,
        trim_tokens_to_summarize=None,
    )
    agent = create_agent(llm, middleware=[middleware])
    assert kinds(agent.invoke({"messages": [HumanMessage("Hello?")]})) == ["human", "ai"]
    history = [HumanMessage("word " * 150) if n % 2 == 0 else AIMessage("word " * 150) for n in range(8)]
    state = agent.invoke({"messages": [*history, HumanMessage("And now?")]})
    assert state["messages"][-1].text == "An answer."
    assert "A summary." in state["messages"][0].text
    assert len(state["messages"]) == 3
    assert [type(error) for error in errors.seen] == [ContextOverflowError]


def test_a_supervisor_with_two_agents(scripted_server: Any) -> None:
    def agent(script: Any, *tools: Any) -> Any:
        server: LocalServer = scripted_server(script)
        return create_agent(ChatLlamaServer(base_url=server.base_url), list(tools))

    sky = agent(
        {"tool": "The sky is clear.", "user": Script(says=tool_call("get_weather", '{"city": "Oslo"}'))}, get_weather
    )
    sums = agent({"user": "It is 7."})

    @tool
    def ask_sky(question: str) -> str:
        """Ask the one who knows the sky."""
        return sky.invoke({"messages": [HumanMessage(question)]})["messages"][-1].text

    @tool
    def ask_sums(question: str) -> str:
        """Ask the one who can add."""
        return sums.invoke({"messages": [HumanMessage(question)]})["messages"][-1].text

    both = tool_call("ask_sky", '{"question": "Clear?"}') + "\n" + tool_call("ask_sums", '{"question": "3 + 4?"}')
    state = agent({"tool": "Clear, and 7.", "user": both}, ask_sky, ask_sums).invoke(ASK)
    assert kinds(state) == ["human", "ai", "tool", "tool", "ai"]
    assert [m.content for m in state["messages"] if isinstance(m, ToolMessage)] == ["The sky is clear.", "It is 7."]
    assert state["messages"][-1].text == "Clear, and 7."
