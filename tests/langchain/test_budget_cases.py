"""Odd threads under a budget: too long system prompts, huge tool results, parallel calls, images and sub-agents."""

import base64
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.exceptions import ContextOverflowError
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver

from langchain_llamacpp_server import ChatLlamaServer, LlamaServerMiddleware
from llamacpp_server import LocalServer
from tests.media import picture
from tests.models import Script, tool_call
from tests.readers import page_reader
from tests.wiretap import Wiretap

THREAD: Any = {"configurable": {"thread_id": "1"}}
SIZE = [0]


@tool
def look(page: int) -> str:
    """Look at a page."""
    return f"page {page}: " + "x" * SIZE[0]


@pytest.fixture(scope="module")
def small(scripted_server: Any) -> LocalServer:
    return page_reader(scripted_server, Delegate=Script(says=tool_call("helper", '{"question": "Look at page 7"}')))


@pytest.fixture
def llm(small: Any) -> ChatLlamaServer:
    return ChatLlamaServer(base_url=small.base_url, thinking=False)


def agent(llm: Any, *tools: Any, prompt: str = "You read pages.", **options: Any) -> Any:
    middleware = [LlamaServerMiddleware(**options)]
    return create_agent(
        llm, [*(tools or (look,))], middleware=middleware, system_prompt=prompt, checkpointer=InMemorySaver()
    )


def refuse(messages: Any) -> str:
    pytest.fail("nothing can be won by a summary")


def test_a_system_prompt_above_the_budget_is_an_error_that_names_it(llm: ChatLlamaServer) -> None:
    reader = agent(llm, prompt="Rule. " * 3000, summarizer=refuse)
    with pytest.raises(ContextOverflowError, match="system"):
        reader.invoke({"messages": [HumanMessage("Hi")]}, THREAD)


def test_a_tool_that_returns_far_too_much_is_an_error_that_names_it(llm: ChatLlamaServer) -> None:
    SIZE[0] = 100_000
    reader = agent(llm, summarizer=refuse)
    with pytest.raises(ContextOverflowError, match="tool") as caught:
        reader.invoke({"messages": [HumanMessage("Look at page 7")]}, THREAD)
    assert "limit what the tool returns" in str(caught.value)


def test_huge_results_of_earlier_turns_are_removed(llm: ChatLlamaServer) -> None:
    SIZE[0] = 10
    earlier: list[AnyMessage] = [
        HumanMessage("Look at page 1"),
        AIMessage("", tool_calls=[{"name": "look", "args": {"page": 1}, "id": "1"}]),
        ToolMessage("x" * 100_000, tool_call_id="1"),
        AIMessage("I read it."),
    ]
    state = agent(llm, keep_tool_results=0).invoke({"messages": [*earlier, HumanMessage("Thanks")]}, THREAD)
    report = state["messages"][-1].response_metadata["context"]
    assert report["removed_tool_results"] == 1
    assert report["prompt_tokens"][1] < 1000


async def test_results_of_parallel_calls_stay_with_their_calls(small: Any, wire: Wiretap) -> None:
    llm = ChatLlamaServer(base_url=small.base_url, thinking=False, **wire.clients)
    thread = list[AnyMessage]()
    for turn in range(8):
        calls: Any = [{"name": "look", "args": {"page": turn}, "id": f"{turn}-{part}"} for part in range(3)]
        thread += [HumanMessage(f"Pages of {turn}"), AIMessage("", tool_calls=calls)]
        thread += [ToolMessage("x" * 150, tool_call_id=call["id"]) for call in calls]
        thread.append(AIMessage("I read them."))
    state = await agent(llm).ainvoke({"messages": [*thread, HumanMessage("Thanks")]}, THREAD)
    assert state["messages"][-1].response_metadata["context"]["summarized_messages"] > 0
    sent = wire.bodies("/v1/chat/completions")[-1]["messages"]
    called = [call["id"] for message in sent for call in message.get("tool_calls") or ()]
    answered = [message["tool_call_id"] for message in sent if message["role"] == "tool"]
    assert called == answered, "no result without its call, no call without its result"


def test_a_thread_of_many_short_messages_is_summarized_in_parts(small: Any, wire: Wiretap) -> None:
    llm = ChatLlamaServer(base_url=small.base_url, thinking=False, **wire.clients)
    thread = list[AnyMessage]()
    for turn in range(80):
        thread += [HumanMessage(f"Question {turn}. " + "x" * 80), AIMessage(f"Answer {turn}. " + "y" * 80)]
    state = agent(llm).invoke({"messages": [*thread, HumanMessage("Thanks")]}, THREAD)
    report = state["messages"][-1].response_metadata["context"]
    *summaries, sent = [body["messages"] for body in wire.bodies("/v1/chat/completions")]
    assert len(summaries) > 1
    text = "".join(str(messages) for messages in summaries)
    first = len(thread) // 2 - (len(sent) - 1) // 2
    assert report["summarized_messages"] >= 2 * (first - 1)
    for turn in range(first - 1):
        assert f"Question {turn}." in text
        assert f"Answer {turn}." in text
    assert "Pages about llamas were read." in str(summaries[-1]), "each summary has the last one"


def test_long_arguments_of_a_call_are_shortened_for_a_summary(small: Any, wire: Wiretap) -> None:
    llm = ChatLlamaServer(base_url=small.base_url, thinking=False, **wire.clients)
    call: Any = {"name": "look", "args": {"page": 1, "text": "x" * 100_000}, "id": "1"}
    thread = [HumanMessage("Look"), AIMessage("", tool_calls=[call]), ToolMessage("A page.", tool_call_id="1")]
    agent(llm).invoke({"messages": [*thread, AIMessage("I read it."), HumanMessage("Thanks")]}, THREAD)
    summary, sent = [body["messages"] for body in wire.bodies("/v1/chat/completions")]
    assert "look" in str(summary)
    assert len(str(summary)) < 20_000
    assert len(sent) < 5


def test_a_sub_agent_keeps_a_budget_of_its_own(llm: ChatLlamaServer) -> None:
    SIZE[0] = 300
    inner = agent(llm)

    @tool
    def helper(question: str) -> str:
        """Ask a helper."""
        found = inner.invoke({"messages": [HumanMessage(question)]}, {"configurable": {"thread_id": "inner"}})
        return str(found["messages"][-1].text)

    outer = agent(llm, helper)
    for turn in range(12):
        state = outer.invoke({"messages": [HumanMessage(f"Delegate {turn}: " + "y" * 200)]}, THREAD)
        assert state["messages"][-1].text == "It was a page about llamas."
    assert any("context" in message.response_metadata for message in state["messages"])
    inner_state = inner.get_state({"configurable": {"thread_id": "inner"}}).values["messages"]
    assert any("context" in message.response_metadata for message in inner_state)


def test_images_are_counted_and_go_with_what_is_summarized(vision_server: Any) -> None:
    llm = ChatLlamaServer(base_url=vision_server.base_url, thinking=False, max_tokens=5)
    url = "data:image/png;base64," + base64.b64encode(picture()).decode()
    thread = list[AnyMessage]()
    for turn in range(6):
        thread.append(
            HumanMessage(
                [{"type": "text", "text": f"{turn} " + "y" * 300}, {"type": "image_url", "image_url": {"url": url}}]
            )
        )
        thread.append(AIMessage("I see."))
    state = agent(llm, summarizer=lambda _: "Pictures.").invoke({"messages": [*thread, HumanMessage("And?")]}, THREAD)
    report = state["messages"][-1].response_metadata["context"]
    assert report["summarized_messages"] > 0
    assert state["messages"][-1].usage_metadata["input_tokens"] == report["prompt_tokens"][1]
