"""The answer to a forced round -> the call that it is; and what is asked for it."""

import pytest

from llamacpp_server import (
    ChatRequest,
    ContextOverflowError,
    MissingToolCallError,
    UnreadableOutputError,
    fold_chat,
)
from llamacpp_server._replies import (
    ChatStreamDecoder,
    Pipeline,
)
from llamacpp_server._tools import (
    AnswerAsToolCall,
    can_follow,
    forced_request,
    missing_call,
)
from tests.unit.events import DONE, call, chunk, role, text, usage

USER = {"role": "user", "content": "Go."}


def tool(name, **parameters):
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object", **parameters}}}


def ended(*events):
    """An error after these events, with what they said."""
    partial = fold_chat([delta for event in events for delta in ChatStreamDecoder().feed(event)])
    error = missing_call("required", "stop")
    error.partial = partial
    return error


def converted(pieces, forced="add", finish="stop", first=None):
    decoder = Pipeline(ChatStreamDecoder(), [AnswerAsToolCall(forced, first)])
    events = [role(), *map(text, pieces), chunk(finish=finish), usage(9, 4), DONE]
    return fold_chat([*(delta for event in events for delta in decoder.feed(event)), *decoder.close()])


@pytest.mark.parametrize("pieces", [['{"a": {"b": 1}}'], list('{"a": {"b": 1}}'), [" ", '\n{"a"', ': {"b": 1}', "}"]])
def test_the_answer_is_the_arguments_of_the_one_tool(pieces):
    reply = converted(pieces)
    (made,) = reply.tool_calls
    assert (made.name, made.arguments.strip(), reply.content) == ("add", '{"a": {"b": 1}}', "")
    assert len(made.id) == 9
    assert reply.finish_reason == "tool_calls"
    assert [repair.name for repair in reply.start.repairs] == ["forced_round"]


ANSWER = '{"name": "sub", "arguments": {"a": "}", "b": {"c": {}} } }'


@pytest.mark.parametrize("pieces", [[ANSWER], list(ANSWER), [ANSWER[:9], ANSWER[9:40], ANSWER[40:], "\n"]])
def test_the_answer_names_one_of_several_tools(pieces):
    (made,) = converted(pieces, forced="required").tool_calls
    assert (made.name, made.arguments.strip()) == ("sub", '{"a": "}", "b": {"c": {}} }')


def test_arguments_are_streamed_as_they_come():
    decoder = Pipeline(ChatStreamDecoder(), [AnswerAsToolCall("required", None)])
    decoder.feed(role())
    assert decoder.feed(text('{"name": "s')) == []
    (begun,) = decoder.feed(text('ub", "arguments": {"a"'))
    assert [(fragment.name, fragment.arguments) for fragment in begun.tool_calls] == [("sub", '{"a"')]
    (more,) = decoder.feed(text(": 1}"))
    assert more.tool_calls[0].arguments == ": 1"


@pytest.mark.parametrize(
    ("forced", "said"), [("add", "I would rather"), ("required", "No."), ("required", '{"nam' + "e" * 3000)]
)
def test_a_server_that_did_not_keep_to_the_schema_gives_no_call(forced, said):
    with pytest.raises(MissingToolCallError):
        converted([said], forced=forced)


@pytest.mark.parametrize("forced", ["add", "required"])
def test_an_answer_without_text_gives_no_call(forced):
    with pytest.raises(MissingToolCallError):
        converted([], forced=forced, finish="length")


def test_a_call_that_was_cut_off_says_so():
    reply = converted(['{"a": '], finish="length")
    assert (reply.finish_reason, reply.tool_calls[0].arguments) == ("length", '{"a": ')


def test_both_rounds_are_one_reply():
    """One start, the prompt of the second, and the tokens of both."""
    first = ended(role(), text("Hm."), chunk(finish="stop"), usage(5, 3))
    reply = converted(["{}"], first=first)
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (9, 7)
    decoder = Pipeline(ChatStreamDecoder(), [AnswerAsToolCall("add", first)])
    assert [delta.start for event in (role(), text("{}")) for delta in decoder.feed(event)] == [None, None]


# -- when, and what is asked


def test_what_is_worth_another_round():
    assert can_follow(missing_call("add", "stop"))
    assert can_follow(missing_call("add", None, 4096))
    assert not can_follow(missing_call("add", "length"), limited=True), "there is no room"
    assert can_follow(missing_call("add", "length")), "it ran on to the end of the context"
    unread = UnreadableOutputError("x")
    assert can_follow(unread)
    unread.partial = ended(role(), call(0, "{", id="A", name="add")).partial
    assert not can_follow(unread), "a call was passed on already"
    assert not can_follow(ContextOverflowError("x"))


def test_the_model_goes_on_from_its_text_and_the_roles_alternate():
    params = {"temperature": 0, "stop": ["x"], "chat_template_kwargs": {"k": 1}}
    request = ChatRequest(messages=[USER], tools=[tool("add")], tool_choice="add", params=params)
    asked = forced_request(request, request.tools, "Let me add.")
    assert [message["role"] for message in asked.messages] == ["user", "assistant", "user"]
    assert "'add'" in asked.messages[-1]["content"]
    assert asked.tool_choice == "none"
    assert asked.params["chat_template_kwargs"] == {"k": 1, "enable_thinking": False}
    assert asked.params["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert "stop" not in asked.params
    assert request.params == params, "the caller's own request is left alone"
    (only,) = forced_request(request, request.tools).messages
    assert only["content"].startswith("Go.\n\n")
    result = {"role": "tool", "tool_call_id": "A", "content": "3"}
    after = forced_request(ChatRequest(messages=[USER, result]), request.tools)
    assert [message["role"] for message in after.messages] == ["user", "tool", "user"]


def test_a_template_without_tools_gets_them_in_words():
    request = ChatRequest(messages=[USER])
    text_ = forced_request(request, [tool("add"), tool("sub")], tools_in_text=True).messages[-1]["content"]
    assert '{"name": "add", "parameters": {"type": "object"}}' in text_


def test_references_find_their_place_in_the_union():
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}}
    tools = [tool("add"), tool("walk", properties={"from": {"$ref": "#/$defs/Node"}}, **{"$defs": {"Node": node}})]
    asked = forced_request(ChatRequest(messages=[USER]), tools)
    schema = asked.params["response_format"]["json_schema"]["schema"]
    assert schema["anyOf"][0]["properties"] == {"name": {"const": "add"}, "arguments": {"type": "object"}}
    assert schema["anyOf"][1]["properties"]["arguments"] == {"$ref": "#/$defs/tool1"}
    moved = schema["$defs"]["tool1"]
    assert moved["properties"]["from"] == {"$ref": "#/$defs/tool1/$defs/Node"}
    assert moved["$defs"]["Node"]["properties"]["next"] == {"$ref": "#/$defs/tool1/$defs/Node"}
