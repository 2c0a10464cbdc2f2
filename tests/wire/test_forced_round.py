"""A demanded call that a server did not make: asked for once more, blocking and awaiting, streamed and whole."""

import pytest

from llamacpp_server import (
    BadRequestError,
    ChatRequest,
    ContextOverflowError,
    MissingToolCallError,
    NotSupportedError,
    UnreadableOutputError,
    fold_chat,
)
from tests import behind_doors
from tests.unit.events import DONE, call, chunk, event, role, text, usage
from tests.wire.scripted_server import Answer, ScriptedServer, error, head, reply, stream
from tests.wire.scripted_server import chunk as piece

LACKS = ("/apply-template", "/props")


def tool(name):
    return {
        "type": "function",
        "function": {"name": name, "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}},
    }


def demand(choice="add", **more):
    messages = [{"role": "user", "content": "Go."}]
    return ChatRequest(messages=messages, tools=[tool("add"), tool("sub")], tool_choice=choice, **more)


TALK = stream(role(), text("I would "), text("rather talk."), chunk(finish="stop"), usage(5, 3), DONE)
CALL = stream(role(), call(0, "{}", id="A", name="add"), chunk(finish="tool_calls"), usage(5, 3), DONE)


def says(content, finish="stop"):
    return stream(role(), text(content), chunk(finish=finish), usage(9, 4), DONE)


def test_a_call_that_came_is_asked_for_once(connect):
    with ScriptedServer(CALL, lacks=LACKS) as server:
        assert connect(server.url).chat(demand()).tool_calls[0].id == "A"
        assert len(server.requests) == 1


def test_the_first_text_and_then_the_call_are_one_stream(connect):
    with ScriptedServer(TALK, says('{"a": 1}'), lacks=LACKS) as server:
        deltas = connect(server.url).read("stream_chat", demand())
        first, second = (request.json for request in server.requests)
    assert "".join(delta.content for delta in deltas) == "I would rather talk."
    full = fold_chat(deltas)
    assert [(c.name, c.arguments) for c in full.tool_calls] == [("add", '{"a": 1}')]
    assert [delta.finish_reason for delta in deltas if delta.finish_reason] == ["tool_calls"]
    assert len([delta for delta in deltas if delta.start]) == 1
    assert len([delta for delta in deltas if delta.usage]) == 1
    assert (full.usage.prompt_tokens, full.usage.completion_tokens) == (9, 7)
    assert [repair.name for repair in full.start.repairs] == ["forced_round"]
    assert (first["tool_choice"], second["tool_choice"]) == ("required", "none")
    assert first["tools"] == second["tools"], "the prompt stays the same, and so in the server's cache"
    assert second["messages"][1] == {"role": "assistant", "content": "I would rather talk."}


def test_one_of_several_tools(connect):
    with ScriptedServer(TALK, says('{"name": "sub", "arguments": {"a": 2}}'), lacks=LACKS) as server:
        (made,) = connect(server.url).chat(demand("any")).tool_calls
        assert len(server.requests[1].json["response_format"]["json_schema"]["schema"]["anyOf"]) == 2
    assert (made.name, made.arguments) == ("sub", '{"a": 2}')


@pytest.mark.parametrize(
    ("finish", "more", "requests"),
    [
        ("stop", {"forced_round": False}, 1),
        ("length", {"params": {"max_tokens": 9}}, 1),
        ("stop", {}, 2),
        ("length", {}, 2),
    ],
)
def test_without_another_round_or_after_a_bad_one_it_is_an_error_with_the_text(connect, finish, more, requests):
    with ScriptedServer(says("Not now.", finish), says("Never."), lacks=LACKS) as server:
        with pytest.raises(MissingToolCallError) as caught:
            connect(server.url).chat(demand(**more))
        assert len(server.requests) == requests
    said = "Not now." if requests == 1 else "Never."
    assert caught.value.partial.content == said
    assert said in str(caught.value)
    assert caught.value.finish_reason == (finish if requests == 1 else None)
    assert [type(e) for e in caught.value.earlier] == [MissingToolCallError] * (requests - 1)


def test_a_missing_call_that_is_not_an_error(connect):
    with ScriptedServer(says("Not now.", "length"), lacks=LACKS) as server:
        got = connect(server.url).chat(demand(missing_call_is_error=False, params={"max_tokens": 9}))
    assert (got.content, got.finish_reason, got.tool_calls) == ("Not now.", "length", ())


def test_unchecked_calls_are_taken_as_they_come(connect):
    with ScriptedServer(TALK, lacks=LACKS) as server:
        assert connect(server.url).chat(demand(check_calls=False)).content == "I would rather talk."
        assert len(server.requests) == 1


def test_a_refusal_of_the_second_round_names_the_first(connect):
    over = reply({"error": {"code": 400, "message": "too long", "type": "exceed_context_size_error"}}, 400)
    for answer, kind in ((error(400, "no"), BadRequestError), (over, ContextOverflowError)):
        with ScriptedServer(TALK, answer, lacks=LACKS) as server, pytest.raises(kind, match="earlier") as caught:
            connect(server.url).chat(demand())
        assert [type(e) for e in caught.value.earlier] == [MissingToolCallError]


def test_what_the_servers_parser_could_not_read_is_asked_for_once_more(connect):
    words = "Failed to parse input at pos 2: <tool_call>{"
    broken = stream(role(), text("So:"), event({"error": {"code": 500, "message": words, "type": "server_error"}}))
    with ScriptedServer(broken, says("{}"), lacks=LACKS) as server:
        got = connect(server.url).chat(demand())
    assert (got.content, got.tool_calls[0].name) == ("", "add")
    with ScriptedServer(broken, says("{}"), lacks=LACKS) as server:
        with pytest.raises(UnreadableOutputError) as caught:
            connect(server.url).chat(demand("auto"))
        assert len(server.requests) == 1, "nothing was demanded"
    assert (caught.value.raw, caught.value.partial.content) == ("<tool_call>{", "So:")


def test_a_reply_that_runs_on_is_left_and_the_call_asked_for(connect):
    going_on = Answer((head(), piece(role()), *(piece(text("word ")) for _ in range(9)), 60.0))
    with ScriptedServer(going_on, says("{}"), lacks=LACKS) as server:
        got = connect(server.url).chat(demand(forced_call_within=4))
        assert server.wait_until_left(), "its slot is free"
    assert got.content == ""
    assert got.usage.completion_tokens == 4 + 5, "those of the text that was left count"
    assert len(got.tool_calls) == 1
    with ScriptedServer(going_on, lacks=LACKS) as server:
        with pytest.raises(MissingToolCallError, match="stopped after 5 tokens"):
            connect(server.url).chat(demand(forced_call_within=4, forced_round=False))
        assert server.wait_until_left()


def test_the_template_is_looked_at_once_and_only_for_tools(connect):
    props = reply({"chat_template_caps": {"supports_tools": True}})
    with ScriptedServer(TALK, props, CALL, CALL, lacks=("/apply-template",)) as server:
        client = connect(server.url)
        client.chat(ChatRequest(messages=demand().messages))
        client.chat(demand())
        client.chat(demand())
        paths = [request.path.split("?")[0] for request in server.requests]
    assert paths == ["/v1/chat/completions", "/props", "/v1/chat/completions", "/v1/chat/completions"]


def test_a_template_without_tools_is_reported_and_goes_straight_to_the_call(connect, monkeypatch):
    # How long an answer of /props is trusted has tests of its own (tests/server/test_learning.py).
    monkeypatch.setattr(behind_doors.SECONDS_PROPS_ARE_TRUSTED, 60.0)
    props = reply({"chat_template_caps": {"supports_tools": False}})
    with ScriptedServer(props, says("{}"), TALK, lacks=("/apply-template",)) as server:
        client = connect(server.url)
        assert client.chat(demand()).tool_calls[0].name == "add"
        assert '"name": "add"' in server.requests[1].json["messages"][-1]["content"]
        assert [repair.name for repair in client.chat(demand("auto")).start.repairs] == ["no_tools"]
        with pytest.raises(NotSupportedError, match="does not support tools"):
            client.chat(demand(forced_round=False))
        assert len(server.requests) == 3
