"""Tools and a form for the answer, in one request."""

from typing import Any

import pytest

from langchain_llamacpp_server._answers import answer_tool, answered
from langchain_llamacpp_server._calls import Defaults, prepare
from langchain_llamacpp_server._chunks import StreamConverter
from llamacpp_server import ChatChoice, ChatDelta, ChatReply, ToolCall, ToolCallFragment

TOOL: Any = {"type": "function", "function": {"name": "Weather"}}
FORMAT: Any = {"type": "json_schema", "json_schema": {"name": "Weather", "schema": {"type": "object", "title": "W"}}}


def prepared(**kwargs: Any) -> Any:
    return prepare([], None, kwargs, Defaults(params={}))


def test_the_schema_becomes_a_tool_of_its_own_name() -> None:
    call = prepared(tools=[TOOL], response_format=FORMAT)
    assert [tool["function"]["name"] for tool in call.request.tools] == ["Weather", "Weather_answer"]
    assert call.request.tools[1]["function"]["parameters"] == {"type": "object", "title": "W"}
    assert (call.request.tool_choice, call.answer) == ("required", "Weather_answer")
    assert call.request.missing_call_is_error
    assert "response_format" not in call.request.params


@pytest.mark.parametrize(
    ("kwargs", "choice", "formatted"),
    [
        ({"tool_choice": "none"}, "none", True),
        ({"tool_choice": "any"}, "any", False),
        ({"tool_choice": "Weather"}, "Weather", False),
        ({"response_format": {"type": "text"}}, None, True),
        ({"tools": []}, None, True),
    ],
)
def test_where_there_is_nothing_to_reconcile(kwargs: Any, choice: Any, formatted: bool) -> None:
    call = prepared(**{"tools": [TOOL], "response_format": FORMAT, **kwargs})
    assert call.answer is None
    assert call.request.tool_choice == choice
    assert ("response_format" in call.request.params) is formatted


def test_any_json() -> None:
    tool = answer_tool({"type": "json_object"}, [])
    assert tool is not None
    assert tool["function"]["parameters"] == {"type": "object"}


def parts(*fragments: ToolCallFragment, reason: str = "tool_calls", said: str = "") -> tuple[str, list[Any], str]:
    converter = StreamConverter(answer="answer")
    deltas = [ChatDelta(said), *(ChatDelta(tool_calls=(f,)) for f in fragments), ChatDelta(finish_reason=reason)]
    chunks = [chunk for delta in deltas if (chunk := converter.add(delta)) is not None]
    first, *rest = [chunk.message for chunk in [*chunks, converter.last()]]
    message = first + rest if rest else first  # type: ignore[operator]
    return message.content, message.tool_calls, message.response_metadata["finish_reason"]


ANSWER = (ToolCallFragment(0, "1", "answer", '{"a"'), ToolCallFragment(0, arguments=": 1}"))
OTHER = ToolCallFragment(1, "2", "add", "{}")


def test_the_call_is_the_answer() -> None:
    assert parts(*ANSWER, said="Here: ") == ('{"a": 1}', [], "stop")
    assert parts(*ANSWER[:1], reason="length") == ('{"a"', [], "length")


def test_other_calls_stay_calls_and_keep_what_was_said() -> None:
    text, calls, reason = parts(OTHER, said="Let me add.")
    assert (text, [call["name"] for call in calls], reason) == ("Let me add.", ["add"], "tool_calls")
    text, calls, reason = parts(*ANSWER, OTHER)
    assert (text, [call["name"] for call in calls], reason) == ('{"a": 1}', ["add"], "tool_calls")


def test_a_whole_reply() -> None:
    calls = (ToolCall("1", "answer", '{"a": 1}'), ToolCall("2", "add", "{}"))
    both = answered(ChatReply((ChatChoice("Here: ", "", calls, "tool_calls"),)), "answer")
    assert (both.content, both.tool_calls, both.finish_reason) == ('{"a": 1}', calls[1:], "tool_calls")
    alone = answered(ChatReply((ChatChoice("", "", calls[:1], "tool_calls"),)), "answer")
    assert (alone.content, alone.tool_calls, alone.finish_reason) == ('{"a": 1}', (), "stop")
    none = ChatReply((ChatChoice("Hi", "", calls[1:], "tool_calls"),))
    assert answered(none, "answer") == none
