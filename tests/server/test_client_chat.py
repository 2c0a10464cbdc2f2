"""Chats on the real server: text, thinking, tools, constraints, and that a stream adds up to the whole reply."""

import json
import re

import pytest

from llamacpp_server import (
    BadRequestError,
    ChatRequest,
    NotSupportedError,
    PromptProgress,
    ServerFaultError,
    fold_chat,
)
from tests.models import Script, build_random, tool_call

MESSAGES = [{"role": "user", "content": "Hello"}]
ODD = "a\u2028b\u2029c\u0085d 🦙 é\u0301 \u202e \t\x0b"


def tool(name, **properties):
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": name, "parameters": schema}}


WEATHER, TIME = tool("get_weather", city={"type": "string"}), tool("get_time", zone={"type": "string"})

SCRIPTS = {
    "odd": Script(
        says=["Say: ", "a\u2028b", "\u2029c\u0085d", " \U0001f999"[:1], b"\xf0\x9f", b"\xa6\x99", " é\u0301"]
    ),
    "two": Script(
        thinks="I need both of them.",
        says=tool_call("get_weather", '{"city": "Köln\u2028"}') + "\n" + tool_call("get_time", '{"zone": "CET"}'),
    ),
    "one": Script(says=tool_call("get_weather", '{"city": "Ulm"}')),
    # A call without a name or arguments: the grammar of the server fails over it.
    "garbled": Script(says=["So: ", "<tool_call>", "\n</tool_call>"]),
    "tool": Script(says="It is sunny."),
    "user": Script(says="The answer is 42.", thinks="Let me think about it."),
}


@pytest.fixture(scope="module")
def scripted(scripted_server):
    return scripted_server(SCRIPTS)


def ask(text, *tools, thinking=False, **params):
    params = {"chat_template_kwargs": {"enable_thinking": thinking}, "temperature": 0, **params}
    return ChatRequest(messages=[{"role": "user", "content": text}], tools=tools, params=params)


def unstreamed(request):
    """The same request, answered in one piece."""
    changes = {"stream": False, "stream_options": None}
    return ChatRequest(
        messages=request.messages, tools=request.tools, tool_choice=request.tool_choice, params=request.params,
        extra_body=changes,
    )  # fmt: skip


def same(reply):
    """What two replies to one request have in common: not the ids, which are random, nor the time it took."""
    return [
        (c.content, c.reasoning_content, [(t.name, t.arguments) for t in c.tool_calls], c.finish_reason, tokens_of(c))
        for c in reply.choices
    ]


def tokens_of(choice):
    """Tokens with log probabilities (whose last digits depend on the cache), but the end token, which no stream has."""
    entries = (choice.logprobs or {"content": []})["content"]
    return [(entry["token"], len(entry["top_logprobs"])) for entry in entries if entry["token"]]


# -- what is said


def test_text(connect, scripted):
    reply = connect(scripted).chat(ask("Hello"))
    assert (reply.content, reply.reasoning_content, reply.finish_reason) == ("The answer is 42.", "", "stop")
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 5
    assert reply.start.id.startswith("chatcmpl-")
    assert reply.timings is not None
    assert reply.timings.predicted_n == 5


def test_thinking_and_its_switch(connect, scripted):
    client = connect(scripted)
    reply = client.chat(ask("Hello", thinking=True))
    assert (reply.reasoning_content.strip(), reply.content) == ("Let me think about it.", "The answer is 42.")
    deltas = client.read("stream_chat", ask("Hello", thinking=True))
    kinds = ["thinking" if d.reasoning_content else "text" for d in deltas if d.content or d.reasoning_content]
    assert kinds == sorted(kinds, reverse=True)
    assert len(kinds) > 5


def test_thinking_left_in_the_text(connect, scripted):
    reply = connect(scripted).chat(ask("Hello", thinking=True, reasoning_format="none"))
    assert reply.reasoning_content == ""
    assert "Let me think about it." in reply.content
    assert "</think>" in reply.content


def test_a_conversation_with_thinking_and_calls_goes_back_in(connect, scripted):
    client = connect(scripted)
    asked = ask("one", WEATHER)
    (call,) = client.chat(asked).tool_calls
    history = [
        *asked.messages,
        {"role": "assistant", "content": None, "reasoning_content": "Hm", "name": None,
         "tool_calls": [{"id": call.id, "type": "function",
                         "function": {"name": call.name, "arguments": call.arguments}}]},
        {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
    ]  # fmt: skip
    request = ChatRequest(messages=history, tools=[WEATHER], params=asked.params)
    assert client.chat(request).content == "It is sunny."
    prompt = client.apply_template(request)
    assert "Hm" in prompt
    assert '{"name": "get_weather", "arguments": {"city": "Ulm"}}' in prompt


def test_odd_characters_survive_raw_and_in_pieces(connect, scripted):
    client = connect(scripted)
    said = "Say: a\u2028b\u2029c\u0085d 🦙 é\u0301"
    assert client.chat(ask("odd")).content == said
    deltas = client.read("stream_chat", ask("odd"))
    assert "".join(delta.content for delta in deltas) == said
    assert not any("\ufffd" in delta.content for delta in deltas)


def test_odd_characters_arrive_at_the_server(connect, scripted):
    prompt = connect(scripted).apply_template(ask(ODD))
    assert ODD in prompt


# -- tools


def test_a_call(connect, scripted):
    reply = connect(scripted).chat(ask("one", WEATHER, TIME))
    (call,) = reply.tool_calls
    assert (call.name, json.loads(call.arguments), reply.finish_reason) == (
        "get_weather",
        {"city": "Ulm"},
        "tool_calls",
    )
    assert call.id
    assert reply.content == ""


def test_two_calls_after_a_thought(connect, scripted):
    request = ask("two", WEATHER, TIME, thinking=True)
    reply = connect(scripted).chat(request)
    assert reply.reasoning_content.strip() == "I need both of them."
    first, second = reply.tool_calls
    assert (first.name, json.loads(first.arguments)) == ("get_weather", {"city": "Köln\u2028"})
    assert (second.name, json.loads(second.arguments)) == ("get_time", {"zone": "CET"})
    assert len({first.id, second.id}) == 2


def test_calls_come_in_fragments_with_one_name_and_id_each(connect, scripted):
    deltas = connect(scripted).read("stream_chat", ask("two", WEATHER, TIME))
    fragments = [fragment for delta in deltas for fragment in delta.tool_calls]
    assert [fragment.call_index for fragment in fragments] == sorted(fragment.call_index for fragment in fragments)
    for index, name in enumerate(["get_weather", "get_time"]):
        own = [fragment for fragment in fragments if fragment.call_index == index]
        assert len(own) > 1
        assert "".join(fragment.name for fragment in own) == name
        assert sum(bool(fragment.id) for fragment in own) == 1
        assert own[0].id


def test_no_tool_may_be_called(connect, scripted):
    request = ask("one", WEATHER)
    reply = connect(scripted).chat(ChatRequest(messages=request.messages, tools=[WEATHER], tool_choice="none",
                                               params=request.params))  # fmt: skip
    assert reply.tool_calls == ()
    assert "<tool_call>" in reply.content


def test_a_named_tool_is_really_forced(connect, scripted):
    # The model wants to call get_weather, and the server's grammar lets it call what was named.
    zoned = tool("get_time", zone={"type": "string", "enum": ["CET"]})
    asked = ask("one", max_tokens=100)
    request = ChatRequest(messages=asked.messages, tools=[WEATHER, zoned], tool_choice="get_time", params=asked.params)
    (call,) = connect(scripted).chat(request).tool_calls
    assert (call.name, json.loads(call.arguments)) == ("get_time", {"zone": "CET"})


def test_half_a_call_is_given_as_it_came(connect, scripted):
    request = ask("one", WEATHER, max_tokens=5)
    reply = connect(scripted).chat(request)
    assert reply.finish_reason == "length"
    (call,) = reply.tool_calls
    assert call.name == "get_weather"
    with pytest.raises(json.JSONDecodeError):
        json.loads(call.arguments)


def test_a_fault_of_the_real_server_in_mid_stream_is_typed_and_has_what_came(connect, scripted):
    deltas = []
    client = connect(scripted)
    stream = client.start("stream_chat", ask("garbled", WEATHER))
    with pytest.raises(ServerFaultError) as caught:
        while delta := client.next(stream):
            deltas.append(delta)
    assert caught.value.partial is not None
    assert caught.value.partial.choices[0].content == "So: "
    with pytest.raises(ServerFaultError, match=re.escape(caught.value.server_message.replace("\n", "\\n"))) as refused:
        client.chat(unstreamed(ask("garbled", WEATHER)))
    assert refused.value.status == 500


def test_nulls_in_tools_and_messages_do_not_reach_the_server(connect, scripted):
    function = {"name": "get_weather", "description": None, "parameters": None, "strict": None}
    message = {"role": "user", "content": "Hello", "name": None, "tool_call_id": None, "reasoning_content": None}
    request = ChatRequest(messages=[message], tools=[{"type": "function", "function": function}],
                          params=ask("x").params)  # fmt: skip
    assert connect(scripted).chat(request).content == "The answer is 42."


# -- a stream adds up to the whole


@pytest.mark.parametrize(
    "request_",
    [ask("Hello"), ask("Hello", thinking=True), ask("odd"), ask("one", WEATHER), ask("two", WEATHER, TIME),
     ask("two", WEATHER, TIME, thinking=True), ask("Hello", max_tokens=3), ask("Hello", stop=["is"]),
     ask("Hello", logprobs=True, top_logprobs=3), ask("Hello", n=2), ask("tool")],
    ids=range(11),
)  # fmt: skip
def test_deltas_add_up_to_the_unstreamed_reply(connect, scripted, request_):
    client = connect(scripted)
    deltas = client.read("stream_chat", request_)
    assert same(fold_chat(deltas)) == same(client.chat(unstreamed(request_)))
    assert deltas[0].start is not None
    assert [delta.start for delta in deltas[1:] if delta.start] == []


@pytest.mark.parametrize(
    "params", [{"logprobs": True, "top_logprobs": 2}, {"n": 2}, {"stop": ["e"]}, {"max_tokens": 1}]
)
def test_a_random_model_streams_what_it_says_unstreamed(connect, chat_server, params):
    client = connect(chat_server)
    fixed = {"max_tokens": 24, "temperature": 0, "seed": 3, "grammar": "root ::= [a-z ]+", "cache_prompt": False,
             "chat_template_kwargs": {"enable_thinking": False}, **params}  # fmt: skip
    request = ChatRequest(messages=MESSAGES, params=fixed)
    streamed, at_once = client.chat(request), client.chat(unstreamed(request))
    assert [choice[:4] for choice in same(streamed)] == [choice[:4] for choice in same(at_once)]
    assert len(streamed.choices) == params.get("n", 1)
    if "n" not in params:
        assert streamed.usage == at_once.usage


def test_log_probabilities_with_tools_come_in_one_piece(connect, scripted):
    deltas = connect(scripted).read("stream_chat", ask("one", WEATHER, logprobs=True, top_logprobs=2))
    (delta,) = deltas
    assert delta.logprobs is not None
    assert delta.tool_calls[0].name == "get_weather"
    assert delta.usage is not None


# -- extras of a stream


def test_the_reading_of_the_prompt_is_reported(connect, chat_server):
    request = ChatRequest(messages=MESSAGES, params={"max_tokens": 1, "return_progress": True, "cache_prompt": False})
    reports = [delta.progress for delta in connect(chat_server).read("stream_chat", request) if delta.progress]
    assert reports
    assert isinstance(reports[-1], PromptProgress)
    assert reports[-1].processed == reports[-1].total > 10


def test_timings_come_with_each_token_when_asked(connect, chat_server):
    params = {"max_tokens": 6, "timings_per_token": True, "grammar": "root ::= [a-z] [a-z] [a-z] [a-z] [a-z] [a-z]"}
    deltas = connect(chat_server).read("stream_chat", ChatRequest(messages=MESSAGES, params=params))
    with_text = [delta for delta in deltas if delta.content or delta.reasoning_content]
    assert len(with_text) > 2
    assert all(delta.timings is not None for delta in with_text)


def test_usage_and_cached_tokens(connect, scripted):
    client = connect(scripted)
    client.chat(ask("Hello", id_slot=0))
    usage = client.chat(ask("Hello", id_slot=0)).usage
    assert usage is not None
    assert usage.cached_tokens is not None
    assert 0 < usage.cached_tokens < usage.prompt_tokens


@pytest.fixture(scope="module")
def endless_thinker(serve, tmp_path_factory):
    """A random model with room for seconds of thinking."""
    return serve(build_random(tmp_path_factory.mktemp("long") / "long.gguf", context_length=65536), ctx_size=65536)


def test_thinking_is_ended_while_it_runs(connect, endless_thinker):
    # Left alone, the model would think to the last token: the end of its thought is banned.
    params = {"max_tokens": 60000, "ignore_eos": True, "reasoning_control": True, "logit_bias": {"</think>": False},
              "chat_template_kwargs": {"enable_thinking": True}}  # fmt: skip
    client = connect(endless_thinker)
    stream = client.start("stream_chat", ChatRequest(messages=MESSAGES, params=params))
    started = client.next(stream)
    client.end_reasoning(started.start.id)
    while not (delta := client.next(stream)).content:
        assert delta.reasoning_content
    client.leave(stream)
    with pytest.raises(BadRequestError, match="no active completion"):
        client.end_reasoning("chatcmpl-of-nobody")


# -- constraints and errors


def test_a_json_schema_is_enforced_in_both_of_its_forms(connect, chat_server):
    schema = {"type": "object", "properties": {"n": {"type": "integer", "maximum": 9, "minimum": 0}}, "required": ["n"]}
    for params in ({"json_schema": schema}, {"response_format": {"type": "json_schema", "schema": schema}}):
        params |= {"max_tokens": 400, "temperature": 0, "reasoning_format": "none", "reasoning_effort": "none"}
        reply = connect(chat_server).chat(ChatRequest(messages=MESSAGES, params=params))
        assert set(json.loads(reply.content)) == {"n"}


@pytest.mark.parametrize(
    ("params", "words"),
    [({"grammar": "root ::= ["}, "grammar"), ({"json_schema": {"type": "wat"}}, "schema"),
     ({"n": 9999}, "Field 'n'")],
)  # fmt: skip
def test_a_constraint_that_the_server_refuses_is_a_bad_request(connect, chat_server, params, words):
    with pytest.raises(BadRequestError, match=words) as caught:
        connect(chat_server).chat(ChatRequest(messages=MESSAGES, params=params, clean_schemas=False))
    assert caught.value.status in (400, 500)


def test_two_constraints_at_once_are_refused_before_sending(connect, chat_server):
    params = {"grammar": 'root ::= "a"', "json_schema": {}}
    with pytest.raises(BadRequestError, match="only one constraint, but grammar and json_schema") as caught:
        connect(chat_server).chat(ChatRequest(messages=MESSAGES, params=params))
    assert caught.value.status is None


def test_an_image_for_a_server_without_eyes_names_the_flag(connect, chat_server):
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    with pytest.raises(NotSupportedError, match="--mmproj"):
        connect(chat_server).chat(ChatRequest(messages=[{"role": "user", "content": [image]}]))


def test_empty_stop_texts_do_not_end_the_answer(connect, scripted):
    assert connect(scripted).chat(ask("Hello", stop=["", "zzz"])).content == "The answer is 42."
