"""Tools and a form for the answer, in one request."""

import pytest

from llamacpp_server import ChatChoice, ChatDelta, ChatReply, ChatRequest, StreamCutOffError, ToolCall, ToolCallFragment
from llamacpp_server._tools import AnswerFilter, tool_for_answer, with_answer_tool

TOOL = {"type": "function", "function": {"name": "Weather"}}
SCHEMA = {"type": "object", "title": "W"}
FORMAT = {"type": "json_schema", "json_schema": {"name": "Weather", "schema": SCHEMA}}


def asked(form=FORMAT, choice=None, **more):
    params = {"response_format": form, "temperature": 0, **more}
    return with_answer_tool(ChatRequest(messages=[], tools=[TOOL], tool_choice=choice, params=params))


@pytest.mark.parametrize("choice", [None, "auto"])
def test_the_schema_becomes_a_tool_of_its_own_name(choice):
    request, chosen, repairs = asked(choice=choice)
    assert [tool["function"]["name"] for tool in request.tools] == ["Weather", "Weather_answer"]
    assert request.tools[1]["function"]["parameters"] == SCHEMA
    assert (request.tool_choice, chosen.forced, chosen.answer) == ("required", "required", "Weather_answer")
    assert request.params == {"temperature": 0}
    assert [(repair.name, repair.where) for repair in repairs] == [("answer_tool", "response_format")]


def test_a_native_schema_is_one_too():
    request, chosen, repairs = asked(form=None, json_schema=SCHEMA)
    assert (chosen.answer, request.tools[1]["function"]["parameters"]) == ("W", SCHEMA)
    assert (request.params, repairs[0].where) == ({"temperature": 0}, "json_schema")


@pytest.mark.parametrize("form", [{"type": "text"}, None, {}])
def test_text_is_not_a_form(form):
    request, chosen, repairs = asked(form)
    assert (request.tools, chosen.answer, repairs) == ([TOOL], None, ())


def test_without_a_choice_of_tools_the_server_holds_the_answer_itself():
    request, chosen, repairs = asked(choice="none")
    assert (request.params["response_format"], request.tools, chosen.answer, repairs) == (FORMAT, [TOOL], None, ())


@pytest.mark.parametrize("choice", ["any", "Weather"])
def test_where_a_call_is_required_the_form_is_left_out_and_a_repair_says_so(choice):
    request, chosen, repairs = asked(choice=choice)
    assert (request.params, request.tools, chosen.answer) == ({"temperature": 0}, [TOOL], None)
    assert [repair.name for repair in repairs] == ["answer_tool"]


def test_any_json():
    tool = tool_for_answer("response_format", {"type": "json_object"}, [])
    assert tool["function"]["parameters"] == {"type": "object"}


def parts(*fragments, reason="tool_calls", said=""):
    deltas = [ChatDelta(said), *(ChatDelta(tool_calls=(one,)) for one in fragments), ChatDelta(finish_reason=reason)]
    passes = AnswerFilter("answer")
    made = [one for delta in deltas for one in passes.add([delta])] + passes.end()
    names = [one.name for delta in made for one in delta.tool_calls if one.name]
    return "".join(delta.content for delta in made), names, made[-1].finish_reason


ANSWER = (ToolCallFragment(0, "1", "answer", '{"a"'), ToolCallFragment(0, arguments=": 1}"))
OTHER = ToolCallFragment(1, "2", "add", "{}")


def test_the_call_is_the_answer():
    assert parts(*ANSWER, said="Here: ") == ('{"a": 1}', [], "stop")
    assert parts(*ANSWER[:1], reason="length") == ('{"a"', [], "length")


def test_other_calls_stay_calls_and_keep_what_was_said():
    assert parts(OTHER, said="Let me add.") == ("Let me add.", ["add"], "tool_calls")
    assert parts(*ANSWER, OTHER, said="Here: ") == ('{"a": 1}', ["add"], "tool_calls")


def test_a_partial_reply_has_its_answer_as_text():
    error = StreamCutOffError("cut")
    error.partial = ChatReply((ChatChoice("", "", (ToolCall("1", "answer", '{"a"'), ToolCall("2", "add", "{}"))),))
    partial = AnswerFilter("answer").with_partial(error).partial
    assert (partial.content, [call.name for call in partial.tool_calls]) == ('{"a"', ["add"])
