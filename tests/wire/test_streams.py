"""Faults in the middle of an answer: each is the right error with what had come, or the right answer, never less."""

import json
import time
from contextlib import suppress

import pytest

from llamacpp_server import (
    ChatRequest,
    CompletionRequest,
    ContextOverflowError,
    LlamaServerError,
    MalformedReplyError,
    RequestTimeoutError,
    ServerFaultError,
    StreamCutOffError,
    ToolCall,
)
from tests.unit.events import DONE, TOP, call, chunk, event, role, text, usage
from tests.waiting import LONG, TIMEOUTS
from tests.wire.scripted_server import Answer, ScriptedServer, cut_stream, head, reply, stream
from tests.wire.scripted_server import chunk as piece

CHAT = ChatRequest(messages=[{"role": "user", "content": "Hello"}])
EVENTS = [role(), text("Hello "), text("wörld 🦙"), call(0, '{"a"', id="A", name="f"), call(0, ":1}"),
          chunk(finish="tool_calls"), usage(5, 3), DONE]  # fmt: skip
STREAM = b"".join(EVENTS)


def read_all(client, request=CHAT, name="stream_chat"):
    """Deltas that came before the end or the error, and the error."""
    deltas, stream_ = [], client.start(name, request)
    try:
        while (delta := client.next(stream_)) is not None:
            deltas.append(delta)
    except LlamaServerError as error:
        return deltas, error
    return deltas, None


def test_the_complete_stream_is_the_complete_answer(connect):
    with ScriptedServer(stream(*EVENTS)) as server:
        reply_ = connect(server.url).chat(CHAT)
    assert reply_.content == "Hello wörld 🦙"
    assert reply_.tool_calls == (ToolCall("A", "f", '{"a":1}'),)


# In the middle of an event, between events, inside a character, before the end mark, inside the end mark.
INSIDE = STREAM.index("🦙".encode()) + 2
CUTS = [1, len(EVENTS[0]) - 1, len(EVENTS[0] + EVENTS[1]), len(EVENTS[0] + EVENTS[1]) + 9, INSIDE,
        len(b"".join(EVENTS[:5])), len(b"".join(EVENTS[:6])), len(STREAM) - len(DONE), len(STREAM) - 4]  # fmt: skip


@pytest.mark.parametrize("chunked", [True, False], ids=["chunked", "until-close"])
@pytest.mark.parametrize("cut", CUTS)
def test_a_stream_that_is_cut_off_is_an_error_with_what_came(connect, cut, chunked):
    with ScriptedServer(cut_stream(STREAM[:cut], chunked=chunked)) as server:
        deltas, error = read_all(connect(server.url, max_retries=5))
        assert len(server.requests) == 1, "an answer that had begun was asked for again"
    assert isinstance(error, StreamCutOffError)
    complete_events = STREAM[:cut].count(b"\n\n")
    came = "".join(delta.content for delta in deltas)
    assert came == "".join(["", "Hello ", "wörld 🦙"][:complete_events])
    if complete_events:
        assert error.partial is not None
        assert error.partial.choices[0].content == came
        assert error.partial.choices[0].finish_reason == ("tool_calls" if complete_events >= 6 else None)
    else:
        assert error.partial is None or error.partial.choices[0].content == ""
    assert error.url == f"{server.url}/v1/chat/completions"


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_connection_that_breaks_is_a_cut_too(connect, how):
    with ScriptedServer(Answer((head(), piece(EVENTS[0] + EVENTS[1]), 0.02), how)) as server:
        _, error = read_all(connect(server.url))
    assert isinstance(error, StreamCutOffError)
    assert error.partial is not None
    assert error.partial.choices[0].content == "Hello "
    assert error.__cause__ is not None


def test_a_stream_cut_before_its_first_event_is_not_asked_for_again(connect):
    with ScriptedServer(Answer((head(),), "close"), stream(*EVENTS)) as server:
        with pytest.raises(StreamCutOffError) as caught:
            connect(server.url, max_retries=5).chat(CHAT)
        assert len(server.requests) == 1
    assert caught.value.partial is None


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_the_sizes_of_the_pieces_do_not_matter(connect, size):
    pieces = [STREAM[start : start + size] for start in range(0, len(STREAM), size)]
    with ScriptedServer(stream(*pieces)) as server:
        reply_ = connect(server.url).chat(CHAT)
    assert (reply_.content, reply_.tool_calls) == ("Hello wörld 🦙", (ToolCall("A", "f", '{"a":1}'),))


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\u0085"])
def test_odd_separators_arrive_raw(connect, separator):
    said = f"a{separator}b"
    with ScriptedServer(stream(text(said), call(0, json.dumps({"x": said}, ensure_ascii=False), id="A", name="f"),
                               chunk(finish="tool_calls"), DONE)) as server:  # fmt: skip
        reply_ = connect(server.url).chat(CHAT)
    assert reply_.content == said
    assert json.loads(reply_.tool_calls[0].arguments) == {"x": said}


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        (event({"error": {"code": 500, "message": "boom", "type": "server_error"}}), ServerFaultError),
        (b'error: {"code":500,"message":"boom","type":"server_error"}\n\n', ServerFaultError),
        (event({"error": {"code": 400, "message": "boom", "type": "exceed_context_size_error", "n_prompt_tokens": 9,
                          "n_ctx": 8}}), ContextOverflowError),
    ],
)  # fmt: skip
@pytest.mark.parametrize("pause", [0, 0.02])
def test_an_error_in_the_middle_is_typed_and_has_what_came(connect, wire, expected, pause):
    with ScriptedServer(stream(text("so "), text("far"), pause, wire)) as server:
        _, error = read_all(connect(server.url, max_retries=5))
        assert len(server.requests) == 1
    assert type(error) is expected
    assert error.partial is not None
    assert error.partial.choices[0].content == "so far"
    assert error.url == f"{server.url}/v1/chat/completions"
    assert error.status is None


def test_one_bad_event_is_an_error_that_says_so_and_not_a_gap(connect):
    with ScriptedServer(
        stream(text("so far"), event(b"{not json"), text(" and on"), chunk(finish="stop"), DONE)
    ) as server:
        _, error = read_all(connect(server.url))
    assert isinstance(error, MalformedReplyError)
    assert "{not json" in str(error)
    assert error.partial is not None
    assert error.partial.choices[0].content == "so far"


def test_silence_in_the_middle_is_a_timeout_with_what_came(connect):
    for seconds in TIMEOUTS:
        with ScriptedServer(Answer((head(), piece(text("so far"))), "hang")) as server:
            deltas, error = read_all(connect(server.url, read_timeout=seconds, max_retries=5))
            assert server.wait_until_left(), "the connection was not closed"
            assert len(server.requests) == 1
        assert isinstance(error, RequestTimeoutError)
        if deltas:
            break
    assert [delta.content for delta in deltas] == ["so far"]
    assert error.partial is not None


def test_signs_of_life_keep_a_slow_stream_alive(connect):
    for seconds in TIMEOUTS:
        slow = [part for _ in range(12) for part in (b":\n\n", seconds / 8)]
        late = stream(*slow, text("late"), chunk(finish="stop"), DONE)
        with ScriptedServer(late) as server, suppress(RequestTimeoutError):
            assert connect(server.url, read_timeout=seconds).chat(CHAT).content == "late"
            break
    else:
        pytest.fail("signs of life do not count")


@pytest.mark.parametrize("call_name", ["chat", "tokenize"])
def test_a_slow_drip_ends_with_total_timeout(connect, call_name):
    body = json.dumps({"tokens": list(range(200))}).encode()
    drip = stream(*[part for _ in range(60) for part in (text("x"), 0.05)], 2 * LONG, chunk(finish="stop"), DONE)
    if call_name == "tokenize":
        top = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nContent-Type: application/json\r\n\r\n".encode()
        drip = Answer((top, *[part for byte in body for part in (bytes([byte]), 0.05)]))
    for seconds in TIMEOUTS:
        began = time.monotonic()
        with ScriptedServer(drip) as server:
            client = connect(server.url, total_timeout=seconds, read_timeout=60)
            with pytest.raises(RequestTimeoutError, match="total_timeout") as caught:
                client.chat(CHAT) if call_name == "chat" else client.tokenize("x")
            assert seconds - 0.05 <= time.monotonic() - began < seconds + LONG
            if not server.requests or (call_name == "chat" and caught.value.partial is None):
                continue
            assert server.wait_until_left(), "the connection was not closed"
            break
    assert server.requests
    if call_name == "chat":
        assert caught.value.partial is not None


def test_total_timeout_bounds_one_silence_too(connect):
    began = time.monotonic()
    with ScriptedServer(Answer(then="hang")) as server, pytest.raises(RequestTimeoutError):
        connect(server.url, total_timeout=0.1, read_timeout=None).chat(CHAT)
    assert 0.05 <= time.monotonic() - began < 15


def test_total_timeout_counts_the_waits_for_a_loading_server(connect):
    began = time.monotonic()
    loading = reply({"error": {"message": "Loading model"}}, 503)
    with ScriptedServer(loading) as server, pytest.raises(LlamaServerError):
        connect(server.url, total_timeout=0.1, load_timeout=60).chat(CHAT)
    assert time.monotonic() - began < 15


OVERFLOW = {"code": 400, "type": "exceed_context_size_error", "message": "too long", "n_prompt_tokens": 9, "n_ctx": 8}


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream", "text/plain"])
def test_an_error_with_status_200_in_place_of_a_stream_is_that_error(connect, kind):
    with ScriptedServer(reply({"error": OVERFLOW}, kind=kind)) as server, pytest.raises(ContextOverflowError) as caught:
        connect(server.url).chat(CHAT)
    assert caught.value.n_ctx == 8
    assert caught.value.url == f"{server.url}/v1/chat/completions"


A_CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
REPLY = {
    **TOP,
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello", "reasoning_content": "Hm.", "tool_calls": [A_CALL]},
            "finish_reason": "tool_calls",
        }
    ],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2},
}


def test_one_json_object_in_place_of_a_stream_is_read_as_the_reply_that_it_is(connect):
    with ScriptedServer(reply(REPLY)) as server:
        found = connect(server.url).chat(CHAT)
    assert (found.content, found.choices[0].reasoning_content, found.finish_reason) == ("Hello", "Hm.", "tool_calls")
    assert [(call.id, call.name, call.arguments) for call in found.tool_calls] == [("c1", "f", "{}")]
    assert found.usage.completion_tokens == 2


@pytest.mark.parametrize("body", [[{"content": "Hello", "tokens_predicted": 1}], {"content": "Hello", "stop": True}])
def test_an_unstreamed_native_reply_in_place_of_a_stream_is_read(connect, body):
    with ScriptedServer(reply(body)) as server:
        assert connect(server.url).complete(CompletionRequest(prompt="x")).text == "Hello"


def test_an_unstreamed_completion_in_place_of_a_stream_is_read(connect):
    with ScriptedServer(reply({**TOP, "choices": [{"text": "Hello", "finish_reason": "stop"}]})) as server:
        assert connect(server.url).complete(CompletionRequest(prompt="x")).text == "Hello"


def test_a_stream_of_events_under_the_name_of_json_is_read(connect):
    with ScriptedServer(stream(text("Hello"), chunk(finish="stop") + DONE, kind="application/json")) as server:
        assert connect(server.url).chat(CHAT).content == "Hello"


def test_half_a_json_object_in_place_of_a_stream_is_malformed(connect):
    half = json.dumps(REPLY).encode()[:-20]
    with ScriptedServer(reply(half)) as server, pytest.raises(MalformedReplyError, match="chatcmpl-x"):
        connect(server.url).chat(CHAT)


def test_an_unstreamed_reply_in_the_name_of_a_stream_is_named_and_shown(connect):
    answer = reply(REPLY, kind="text/event-stream")
    with ScriptedServer(answer) as server, pytest.raises(MalformedReplyError, match="chatcmpl-x"):
        connect(server.url).chat(CHAT)


@pytest.mark.parametrize("then", ["close", "reset"])
def test_a_connection_that_breaks_after_the_end_mark_ends_a_complete_reply(connect, then):
    ended = Answer((head(), piece(text("Hello")), piece(chunk(finish="stop") + DONE), 0.1), then)
    with ScriptedServer(ended) as server:
        found = connect(server.url).chat(CHAT)
    assert (found.content, found.finish_reason) == ("Hello", "stop")


def test_silence_after_the_end_mark_ends_a_complete_reply(connect):
    ended = Answer((head(), piece(text("Hello")), piece(chunk(finish="stop") + DONE)), "hang")
    for seconds in TIMEOUTS:
        with ScriptedServer(ended) as server, suppress(RequestTimeoutError):
            assert connect(server.url, total_timeout=seconds).chat(CHAT).content == "Hello"
            break
    else:
        pytest.fail("the complete reply is lost")


def test_a_native_stream_needs_no_end_mark_and_a_cut_one_is_noticed(connect):
    events = [event({"content": "Hel", "stop": False}), event({"content": "lo", "stop": False})]
    last = event({"content": "", "stop": True, "stop_type": "eos", "tokens_evaluated": 1, "tokens_predicted": 2})
    missing = reply({"error": {"code": 404, "message": "File Not Found"}}, 404)
    with ScriptedServer(missing, stream(*events, last), missing, stream(*events)) as server:
        client = connect(server.url)
        assert client.complete(CompletionRequest(prompt="x")).text == "Hello"
        with pytest.raises(StreamCutOffError) as caught:
            client.complete(CompletionRequest(prompt="x"))
        assert [request.path for request in server.requests] == ["/v1/completions", "/completion"] * 2
    assert caught.value.partial is not None


def test_leaving_a_stream_closes_the_connection_at_once(connect):
    with ScriptedServer(stream(text("one"), text("two"), 30.0, DONE)) as server:
        client = connect(server.url)
        stream_ = client.start("stream_chat", CHAT)
        assert client.next(stream_).content == "one"
        client.leave(stream_)
        assert server.wait_until_left(), "the server was left to go on"
