"""Values -> request bodies: the quirks of the server that a caller never meets."""

import json
import logging
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamacpp_server import BadRequestError, ChatRequest, CompletionRequest, InfillRequest
from llamacpp_server._endpoints import (
    chat_body,
    completion_body,
    infill_body,
)
from llamacpp_server._tools import (
    resolve_tool_choice,
)
from llamacpp_server.transport import (
    encode,
)

USER = {"role": "user", "content": "Hello"}


def tool(name):
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}


def body_of(**fields):
    return chat_body(ChatRequest(messages=fields.pop("messages", [USER]), **fields))


@pytest.fixture
def said(caplog, fresh_notices):
    """The notices that a test causes, each of them once again."""
    with caplog.at_level(logging.WARNING, logger="llamacpp_server"):
        yield lambda: [record.getMessage() for record in caplog.records]


def test_a_plain_chat_is_streamed_with_usage_and_nothing_else():
    assert body_of() == {"messages": [USER], "stream": True, "stream_options": {"include_usage": True}}


# -- tool_choice


def test_a_named_tool_is_forced_by_sending_it_alone_with_required():
    body = body_of(tools=[tool("a"), tool("b"), tool("c")], tool_choice="b")
    assert body["tools"] == [tool("b")]
    assert body["tool_choice"] == "required"


@pytest.mark.parametrize("choice", ["auto", "none", "required"])
def test_the_servers_own_words_pass_with_all_tools(choice):
    body = body_of(tools=[tool("a"), tool("b")], tool_choice=choice)
    assert (body["tools"], body["tool_choice"]) == ([tool("a"), tool("b")], choice)


def test_no_choice_sends_none():
    body = body_of(tools=[tool("a")])
    assert "tool_choice" not in body
    assert body["tools"] == [tool("a")]


@pytest.mark.parametrize("choice", ["c", "AUTO", ""])
def test_a_name_that_is_not_a_tool_is_refused_with_the_names_that_are(choice):
    with pytest.raises(BadRequestError, match=r"tool_choice.*'a', 'b'"):
        body_of(tools=[tool("a"), tool("b")], tool_choice=choice)


@pytest.mark.parametrize("choice", ["required", "a"])
def test_a_forced_choice_without_tools_is_refused(choice):
    with pytest.raises(BadRequestError, match="without tools"):
        body_of(tool_choice=choice)


@pytest.mark.parametrize("choice", ["auto", "none", None])
def test_a_choice_that_asks_for_nothing_is_left_out_without_tools(choice):
    body = body_of(tool_choice=choice)
    assert "tools" not in body
    assert "tool_choice" not in body


def test_two_tools_of_one_name_stay_two():
    tools, choice, *_ = resolve_tool_choice([tool("a"), tool("a"), tool("b")], "a")
    assert (len(tools), choice) == (2, "required")


@pytest.mark.parametrize("wanted", [True, False])
def test_parallel_tool_calls_is_sent_with_tools_only(wanted):
    assert body_of(tools=[tool("a")], parallel_tool_calls=wanted)["parallel_tool_calls"] is wanted
    assert "parallel_tool_calls" not in body_of(tools=[tool("a")])
    assert "parallel_tool_calls" not in body_of(parallel_tool_calls=wanted)


def test_a_grammar_with_tools_is_refused_as_the_server_would():
    with pytest.raises(BadRequestError, match="grammar or tools"):
        body_of(tools=[tool("a")], params={"grammar": 'root ::= "a"'})
    assert body_of(tools=[tool("a")], params={"json_schema": {}})["json_schema"] == {}


@pytest.mark.parametrize("params", [{"logprobs": True}, {"n_probs": 2}, {"top_logprobs": 2}, {"logprobs": 2}])
def test_log_probabilities_with_tools_are_asked_for_in_one_piece(params):
    assert "stream" not in body_of(tools=[tool("a")], params=params)
    assert body_of(params=params)["stream"] is True


# -- stop, formats, names of parameters


@pytest.mark.parametrize(
    ("stop", "sent"),
    [
        ("END", ["END"]),
        (["a", "b"], ["a", "b"]),
        (["a", "", "b"], ["a", "b"]),
        ([], []),
        ([" "], [" "]),
        ("\n", ["\n"]),
    ],
)
def test_stop_texts_are_sent_without_empty_ones(stop, sent):
    assert body_of(params={"stop": stop})["stop"] == sent


@pytest.mark.parametrize("stop", ["", [""], ["", ""]])
def test_a_stop_of_empty_texts_alone_is_left_out_and_reported(stop, said):
    assert "stop" not in body_of(params={"stop": stop})
    assert any("empty strings in `stop`" in line for line in said())


def test_a_flat_json_schema_is_nested_because_the_server_ignores_it_otherwise():
    schema = {"type": "object"}
    nested = {"type": "json_schema", "json_schema": {"schema": schema}}
    assert body_of(params={"response_format": {"type": "json_schema", "schema": schema}})["response_format"] == nested
    assert body_of(params={"response_format": nested})["response_format"] == nested
    for other in ({"type": "text"}, {"type": "json_object", "schema": schema}, {}):
        assert body_of(params={"response_format": other})["response_format"] == other


def test_top_logprobs_brings_logprobs_and_respects_a_given_one():
    assert body_of(params={"top_logprobs": 3})["logprobs"] is True
    assert body_of(params={"top_logprobs": 3, "logprobs": 5})["logprobs"] == 5


# -- messages


def test_nulls_in_messages_are_left_out_at_every_depth():
    call = {"id": None, "type": "function", "function": {"name": "f", "arguments": "{}", "description": None}}
    messages = [
        {"role": "user", "name": None, "content": [{"type": "text", "text": "x", "cache": None}]},
        {"role": "assistant", "content": None, "reasoning_content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": None, "content": "7"},
    ]
    sent = body_of(messages=messages)["messages"]
    assert "null" not in json.dumps(sent)
    assert sent[0] == {"role": "user", "content": [{"type": "text", "text": "x"}]}
    assert sent[1]["content"] == ""
    assert sent[1]["tool_calls"] == [{"type": "function", "function": {"name": "f", "arguments": "{}"}}]
    assert call["id"] is None, "the caller's message was changed"


def test_a_null_among_the_arguments_of_a_call_is_a_value_and_stays():
    function = {"name": "f", "arguments": {"unit": None, "n": 0}}
    call = {"type": "function", "function": function}
    sent = body_of(messages=[{"role": "assistant", "tool_calls": [call]}])["messages"]
    assert sent[0]["tool_calls"][0]["function"] == function


def test_nulls_next_to_a_tools_schema_are_left_out_and_within_it_stay():
    schema = {"type": "object", "properties": {"a": {"default": None, "enum": [None, 1]}}}
    function = {"name": "f", "description": None, "strict": None, "parameters": schema}
    (sent,) = body_of(tools=[{"type": "function", "function": function}])["tools"]
    assert sent == {"type": "function", "function": {"name": "f", "parameters": schema}}
    assert function["strict"] is None, "the caller's tool was changed"


def test_a_message_without_content_gets_an_empty_one():
    assert body_of(messages=[{"role": "user"}])["messages"] == [{"role": "user", "content": ""}]


@pytest.mark.parametrize("value", ["", [], 0, False])
def test_falsy_values_in_a_message_stay(value):
    assert body_of(messages=[{"role": "user", "content": "x", "odd": value}])["messages"][0]["odd"] == value


# -- extra_body, model


@pytest.mark.parametrize(
    "extra",
    [{"temperature": 1.5}, {"stream": False}, {"messages": []}, {"tools": []}, {"model": "other"}, {"grammar": None},
     {"brand_new": {"deep": [None]}}, {"stop": [""]}],
)  # fmt: skip
def test_extra_body_wins_over_everything_and_is_sent_as_it_is(extra):
    body = body_of(model="m", tools=[tool("a")], params={"temperature": 0.1, "stop": "x"}, extra_body=extra)
    for name, value in extra.items():
        assert body[name] == value


def test_extra_body_wins_in_the_other_endpoints():
    extra = {"stream": False, "prompt": "other", "new": None}
    assert completion_body(CompletionRequest(prompt="x", extra_body=extra)) == extra
    sent = infill_body(InfillRequest(prefix="a", suffix="b", prompt="p", extra_body=extra))
    assert sent == {"input_prefix": "a", "input_suffix": "b", **extra}


def test_the_model_is_sent_when_it_is_named():
    assert body_of(model="qwen")["model"] == "qwen"
    assert completion_body(CompletionRequest(prompt="x", model="qwen"))["model"] == "qwen"
    assert infill_body(InfillRequest(prefix="a", suffix="b", model="qwen"))["model"] == "qwen"
    assert "model" not in body_of()


# -- completion and infill


@pytest.mark.parametrize("prompt", ["text", "", ["a", "b"], [1, 2], [[1], [2]], [1, "mixed", 2]])
def test_every_shape_of_prompt(prompt):
    assert completion_body(CompletionRequest(prompt=prompt)) == {"prompt": prompt, "stream": True}
    if not isinstance(prompt, str):
        assert completion_body(CompletionRequest(prompt=tuple(prompt)))["prompt"] == prompt


def test_infill_sends_what_was_given():
    plain = infill_body(InfillRequest(prefix="", suffix=""))
    assert plain == {"input_prefix": "", "input_suffix": "", "stream": True}
    full = infill_body(InfillRequest(prefix="a", suffix="b", prompt="c", extra=[("f.py", "text")]))
    assert full["prompt"] == "c"
    assert full["input_extra"] == [{"filename": "f.py", "text": "text"}]


# -- JSON


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, {1, 2}, b"bytes", object()])
def test_what_json_does_not_have_is_refused(value):
    with pytest.raises(BadRequestError, match="can't encode the request as JSON"):
        encode({"x": [value]})


def test_a_message_that_contains_itself_is_refused():
    loop: dict[str, object] = {}
    loop["self"] = loop
    with pytest.raises(BadRequestError, match="JSON"):
        encode(loop)


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", "\udc00\ud800"])
def test_lone_surrogates_become_replacement_characters_and_a_repair_says_so(text, said):
    sent = encode({"content": text, text: 1})
    assert json.loads(sent)["content"] == "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text)
    assert any("surrogates" in line for line in said())


@given(st.text())
def test_any_text_arrives_as_it_was(text):
    assert json.loads(encode({"x": text}).decode("utf-8", "strict"))["x"] == text


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20,
))  # fmt: skip
def test_any_json_arrives_as_it_was(value):
    assert json.loads(encode(value)) == value


def test_a_pair_of_surrogates_is_a_character_and_passes():
    assert encode({"x": "🦙"}) == '{"x":"🦙"}'.encode()


def test_a_field_that_current_builds_ignore_is_sent_and_said_once(said):
    assert body_of(params={"parse_tool_calls": False})["parse_tool_calls"] is False
    body_of(params={"parse_tool_calls": False})
    assert len(said()) == 1
    assert "parse_tool_calls" in said()[0]
