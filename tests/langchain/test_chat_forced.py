"""Demanded calls, and calls that were cut off, through LangChain on real servers."""

import json
from typing import Any

import langchain_core.exceptions as core
import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage

from langchain_llamacpp_server import ChatLlamaServer, MissingToolCallError
from llamacpp_server import ChatDelta, LocalServer, ToolCallFragment
from tests.langchain.behind_doors import StreamConverter, marks, unmarked
from tests.langchain.conftest import get_weather
from tests.models import Script, tool_call

FORMS: list[Any] = [
    "get_weather", "any", "required", True, {"type": "function", "function": {"name": "get_weather"}},
    {"type": "tool", "name": "get_weather"}, {"type": "any"},
]  # fmt: skip


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@pytest.fixture(scope="module")
def rambler(scripted_server: Any) -> LocalServer:
    """Talks on where it should call."""
    says = {
        "Call the tool": '{"city": "Oslo"}',
        "Call one of": '{"name": "add", "arguments": {"a": 1, "b": 2}}',
        "user": Script(says=["Well, ", "so "], endless=True),
    }
    return scripted_server(says)


def reply_of(llm: Any, how: str) -> AIMessage:
    if how == "invoke":
        return llm.invoke("Go.")
    chunks = list(llm.stream("Go."))
    assert [chunk.chunk_position for chunk in chunks if chunk.chunk_position] == ["last"]
    return sum(chunks[1:], chunks[0])


@pytest.mark.parametrize("how", ["invoke", "stream"])
@pytest.mark.parametrize("choice", FORMS, ids=str)
def test_every_form_of_tool_choice_returns_a_required_call(rambler: LocalServer, how: str, choice: Any) -> None:
    llm = ChatLlamaServer(base_url=rambler.base_url, forced_call_within=5, thinking=False)
    answer = reply_of(llm.bind_tools([get_weather], tool_choice=choice), how)
    assert [(call["name"], call["args"]) for call in answer.tool_calls] == [("get_weather", {"city": "Oslo"})]
    assert answer.text == "", "what ran on is not the answer"
    metadata = answer.response_metadata
    assert [repair["name"] for repair in metadata["llamacpp"]["repairs"]] == ["forced_round"]
    assert metadata["finish_reason"] == "tool_calls"
    assert metadata["model_name"].count("script") == 1
    assert metadata["id"].count("chatcmpl") == 1


async def test_one_of_several_awaited(rambler: LocalServer) -> None:
    llm = ChatLlamaServer(base_url=rambler.base_url, forced_call_within=5, thinking=False)
    bound = llm.bind_tools([get_weather, add], tool_choice="any")
    (call,) = (await bound.ainvoke("Go.")).tool_calls
    assert (call["name"], call["args"]) == ("add", {"a": 1, "b": 2})
    total: Any = None
    async for chunk in bound.astream("Go."):
        total = chunk if total is None else total + chunk
    assert [call["args"] for call in total.tool_calls] == [{"a": 1, "b": 2}]
    await llm.aclose()


@pytest.mark.parametrize("how", ["invoke", "stream"])
def test_without_another_round_it_is_an_error_of_both_kinds(rambler: LocalServer, how: str) -> None:
    llm = ChatLlamaServer(base_url=rambler.base_url, forced_call_within=5, forced_round=False, thinking=False)
    with pytest.raises(MissingToolCallError, match="its text is 'Well, so") as caught:
        reply_of(llm.bind_tools([get_weather], tool_choice="any"), how)
    assert isinstance(caught.value, core.ModelError)
    assert caught.value.partial is not None


@pytest.mark.parametrize("how", ["invoke", "stream"])
def test_one_call_where_one_is_allowed(llm: ChatLlamaServer, how: str) -> None:
    bound = llm.bind_tools([get_weather], parallel_tool_calls=False)
    message = HumanMessage("weather")
    answer: Any = bound.invoke([message])
    if how == "stream":
        chunks = list(bound.stream([message]))
        answer = sum(chunks[1:], chunks[0])
    assert [call["args"] for call in answer.tool_calls] == [{"city": "Oslo"}]
    assert [repair["name"] for repair in answer.response_metadata["llamacpp"]["repairs"]] == ["one_call"]


# -- calls that were cut off


ARGUMENTS = '{"city": "a\\"b", "at": [{"x": -1.5}, null, true], "{": "}]"}'


@pytest.mark.parametrize("cut", range(1, len(ARGUMENTS)))
def test_a_call_that_is_cut_off_anywhere_is_invalid_and_sent_back_as_it_was(cut: int) -> None:
    text = ARGUMENTS[:cut]
    converter = StreamConverter()
    deltas = [
        ChatDelta(tool_calls=(ToolCallFragment(0, "A", "f", "{}"), ToolCallFragment(1, "B", "g", text[:7]))),
        ChatDelta(tool_calls=(ToolCallFragment(1, arguments=text[7:]),)),
        ChatDelta(finish_reason="length"),
    ]
    chunks = [made.message for delta in deltas if (made := converter.add(delta)) is not None]
    total: Any = sum([*chunks[1:], converter.last().message], chunks[0])
    assert [call["name"] for call in total.tool_calls] == ["f"]
    (invalid,) = total.invalid_tool_calls
    assert unmarked(invalid["args"]) == text


def test_calls_that_are_complete_have_no_mark() -> None:
    assert marks({0: ARGUMENTS, 1: "", 2: '{"a": "two\nlines"}'}) == []
    assert [mark["index"] for mark in marks({0: "{}", 1: "[1]", 2: "nonsense", 3: '{"a": 1,}'})] == [1, 2, 3]
    assert unmarked(ARGUMENTS) == ARGUMENTS


@pytest.fixture(scope="module")
def writer(scripted_server: Any) -> LocalServer:
    path = '{"city": "Oslo and all the cities around it"}'
    return scripted_server({"tool": "It is sunny.", "user": tool_call("get_weather", path)})


@pytest.mark.parametrize("version", ["v0", "v1"])
def test_a_streamed_call_that_was_cut_off_is_not_carried_out(writer: LocalServer, version: str) -> None:
    """LangChain would fill in the rest: the weather of "Oslo and"."""
    llm = ChatLlamaServer(base_url=writer.base_url, thinking=False, output_version=version)
    bound = llm.bind_tools([get_weather])
    chunks: list[Any] = list(bound.stream("Go.", max_tokens=6))
    total = sum(chunks[1:], chunks[0])
    assert isinstance(total, AIMessageChunk)
    assert total.tool_calls == []
    (invalid,) = total.invalid_tool_calls
    assert json.loads(unmarked(invalid["args"]) + '"}')["city"].startswith("Oslo")
    result = ToolMessage("cut off", tool_call_id=invalid["id"])
    assert bound.invoke([HumanMessage("Go."), total, result]).text == "It is sunny."


def test_a_cut_off_call_in_the_events_of_version_3(writer: LocalServer) -> None:
    llm = ChatLlamaServer(base_url=writer.base_url, thinking=False)
    stream = llm.bind_tools([get_weather]).stream_events("Go.", version="v3", max_tokens=6)  # type: ignore[call-overload]
    output = stream.output  # type: ignore[attr-defined]
    assert output.tool_calls == []
    assert len(output.invalid_tool_calls) == 1
