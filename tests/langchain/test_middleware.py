"""`LlamaServerMiddleware`: agents whose prompts keep to a budget, on a real server with a small context."""

from collections.abc import Sequence
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import (
    ClearToolUsesEdit,
    ContextEditingMiddleware,
    ModelFallbackMiddleware,
    SummarizationMiddleware,
)
from langchain.agents.structured_output import ToolStrategy
from langchain_core.exceptions import ContextOverflowError
from langchain_core.language_models import FakeMessagesListChatModel
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, RemoveMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph.message import REMOVE_ALL_MESSAGES
from pydantic import BaseModel

from langchain_llamacpp_server import ChatLlamaServer, LlamaServerMiddleware
from llamacpp_server import LocalServer
from tests.models import Script, tool_call
from tests.readers import page_reader

THREAD: Any = {"configurable": {"thread_id": "1"}}


@tool
def look(page: int) -> str:
    """Look at a page."""
    return f"page {page}: " + "the llama of the village eats grass. " * 6


@pytest.fixture(scope="module")
def small(scripted_server: Any) -> LocalServer:
    return page_reader(scripted_server, Form=Script(says=tool_call("Page", '{"title": "Llamas", "words": 3}')))


@pytest.fixture
def llm(small: Any) -> ChatLlamaServer:
    return ChatLlamaServer(base_url=small.base_url, thinking=False)


def agent(llm: Any, *middleware: Any, **options: Any) -> Any:
    options = {"system_prompt": "You read pages.", "checkpointer": InMemorySaver()} | options
    return create_agent(llm, [look], middleware=middleware or [LlamaServerMiddleware()], **options)  # type: ignore[call-overload]


def said(*texts: str) -> dict[str, Any]:
    return {"messages": [HumanMessage(text) for text in texts]}


def answers(state: dict[str, Any], known: int = 0) -> list[AIMessage]:
    return [message for message in state["messages"][known:] if isinstance(message, AIMessage)]


def must_be_read(calls: Sequence[AIMessage]) -> int:
    """Tokens that are new in each call; the whole prompt where it was compacted."""
    must = known = 0
    for call in calls:
        assert call.usage_metadata is not None
        prompt = call.usage_metadata["input_tokens"]
        must += prompt if "context" in call.response_metadata else prompt - known
        known = call.usage_metadata["total_tokens"]
    return must


@pytest.mark.long
def test_an_agent_of_60_turns_never_overflows_and_reads_little_twice(llm: ChatLlamaServer) -> None:
    reader, calls = agent(llm), list[AIMessage]()
    for turn in range(60):
        known = 4 * turn
        calls += answers(reader.invoke(said(f"Look at page {turn}"), THREAD), known)
    assert len(calls) == 120
    assert calls[-1].text == "It was a page about llamas."
    assert all(call.usage_metadata["input_tokens"] <= 0.9 * 4096 - 512 for call in calls if call.usage_metadata)
    compactions = [call for call in calls if "context" in call.response_metadata]
    assert 5 <= len(compactions) <= 12
    read = sum(call.response_metadata["timings"]["prompt_n"] for call in calls)
    assert read <= 1.1 * must_be_read(calls)


async def test_awaited_and_streamed_it_does_the_same(llm: ChatLlamaServer) -> None:
    reader = agent(llm)
    for turn in range(12):
        state = await reader.ainvoke(said(f"Look at page {turn}"), THREAD)
    assert any("context" in call.response_metadata for call in answers(state))
    for turn in range(12):
        async for _ in reader.astream(said(f"Look at page {turn}"), THREAD, stream_mode="messages"):
            pass
    state = (await reader.aget_state(THREAD)).values
    assert len([call for call in answers(state) if "context" in call.response_metadata]) >= 2
    assert len(state["messages"]) == 96, "the thread keeps everything"


def called(number: int, text: str) -> list[AnyMessage]:
    call = {"name": "look", "args": {"page": number}, "id": f"c{number}"}
    return [AIMessage("", tool_calls=[call]), ToolMessage(text, tool_call_id=f"c{number}", name="look")]


def pages(count: int, length: int) -> list[AnyMessage]:
    found: list[AnyMessage] = [HumanMessage("Read some pages.")]
    for number in range(count):
        found += called(number, f"{number} " + "x" * length)
    return [*found, AIMessage("I read them."), HumanMessage("Thanks")]


def test_old_tool_results_are_removed_before_anything_is_summarized(llm: ChatLlamaServer) -> None:
    reader = agent(llm, LlamaServerMiddleware(target=0.7))
    state = reader.invoke({"messages": pages(6, 600)}, THREAD)
    (answer,) = answers(state, 15)
    report = answer.response_metadata["context"]
    assert (report["summarized_messages"], report["removed_tool_results"]) == (0, 4)
    before, after = report["prompt_tokens"]
    assert after < before
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["input_tokens"] == after
    assert [len(message.text) for message in state["messages"] if message.type == "tool"] == [602] * 6
    (later,) = answers(reader.invoke(said("Thanks again"), THREAD), 17)
    assert "context" not in later.response_metadata
    assert later.response_metadata["timings"]["cache_n"] >= 0.99 * after, "the same prefix is sent again"


def test_a_message_that_is_too_long_alone_is_an_error_and_nothing_is_summarized(llm: ChatLlamaServer) -> None:
    asked = list[Any]()

    def summarize(messages: Any) -> str:
        asked.append(messages)
        return "short"

    reader = agent(llm, LlamaServerMiddleware(summarizer=summarize))
    with pytest.raises(ContextOverflowError, match="does not help"):
        reader.invoke(said("Thanks", "x" * 5000), THREAD)
    assert asked == []


async def test_a_summary_that_is_too_long_is_an_error(llm: ChatLlamaServer) -> None:
    reader = agent(llm, LlamaServerMiddleware(summarizer=lambda _: "long " * 1000))
    with pytest.raises(ContextOverflowError, match="does not help"):
        await reader.ainvoke(said(*["x" * 500] * 8), THREAD)


def test_a_summarizer_of_the_program_gets_the_oldest_messages(llm: ChatLlamaServer) -> None:
    asked = list[Any]()

    def summarize(messages: Any) -> str:
        asked.append([message.text for message in messages])
        return "They counted."

    reader = agent(llm, LlamaServerMiddleware(summarizer=summarize))
    state = reader.invoke(said(*[f"{number} " + "x" * 500 for number in range(8)]), THREAD)
    (texts,) = asked
    assert [text.split()[0] for text in texts] == [str(number) for number in range(len(texts))]
    assert answers(state)[0].response_metadata["context"]["summarized_messages"] == len(texts)


def test_a_summary_of_more_than_a_slot_holds_is_written_of_shortened_messages(llm: ChatLlamaServer) -> None:
    reader = agent(llm)
    state = reader.invoke({"messages": pages(3, 2500)}, THREAD)
    (answer,) = answers(state, 9)
    assert answer.response_metadata["context"]["prompt_tokens"][0] > 4096


def test_a_number_of_tokens_is_a_budget_too(llm: ChatLlamaServer) -> None:
    reader = agent(llm, LlamaServerMiddleware(limit=1500, answer_tokens=100))
    state = reader.invoke(said(*["x" * 300] * 6), THREAD)
    usage = answers(state)[0].usage_metadata
    assert usage is not None
    assert usage["input_tokens"] <= 1400


def test_the_tools_of_a_structured_answer_are_counted(llm: ChatLlamaServer) -> None:
    class Page(BaseModel):
        """What is on a page."""

        title: str
        words: int

    reader = agent(llm, LlamaServerMiddleware(limit=1600, answer_tokens=100), response_format=ToolStrategy(Page))
    state = reader.invoke(said(*["x" * 300] * 5, "Form"), THREAD)
    assert state["structured_response"] == Page(title="Llamas", words=3)
    (answer,) = answers(state)
    assert answer.usage_metadata is not None
    assert answer.response_metadata["context"]["prompt_tokens"][1] == answer.usage_metadata["input_tokens"]


def test_a_thread_whose_summarized_messages_are_gone_is_sent_as_it_is(llm: ChatLlamaServer) -> None:
    reader = agent(llm)
    state = reader.invoke(said(*["x" * 500] * 8), THREAD)
    assert "context" in answers(state)[0].response_metadata
    state = reader.invoke({"messages": [RemoveMessage(REMOVE_ALL_MESSAGES), HumanMessage("Thanks")]}, THREAD)
    (answer,) = answers(state)
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["input_tokens"] < 400


def test_it_composes_with_langchains_own_middleware(llm: ChatLlamaServer) -> None:
    own = SummarizationMiddleware(llm, trigger=("messages", 30), keep=("messages", 10))
    edits = ContextEditingMiddleware(edits=[ClearToolUsesEdit(trigger=1500, keep=1)])
    reader = agent(llm, own, LlamaServerMiddleware(), edits)
    for turn in range(14):
        state = reader.invoke(said(f"Look at page {turn}"), THREAD)
    assert state["messages"][-1].text == "It was a page about llamas."


def test_a_model_of_another_kind_gets_the_thread_as_it_is(llm: ChatLlamaServer) -> None:
    other = FakeMessagesListChatModel(responses=[AIMessage("Hello")])
    reader = create_agent(other, middleware=[LlamaServerMiddleware()])
    assert reader.invoke(said("x" * 9000))["messages"][-1].text == "Hello"  # type: ignore[call-overload]


def test_a_fallback_model_answers_where_compacting_does_not_help(llm: ChatLlamaServer) -> None:
    other = FakeMessagesListChatModel(responses=[AIMessage("Hello")])
    reader = create_agent(llm, middleware=[ModelFallbackMiddleware(other), LlamaServerMiddleware()])
    assert reader.invoke(said("Hi", "x" * 9000))["messages"][-1].text == "Hello"  # type: ignore[call-overload]
