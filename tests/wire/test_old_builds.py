"""Servers that lack what this build has: older llama-servers, and others that speak the same language."""

import pytest

from llamacpp_server import (
    BadRequestError,
    ChatRequest,
    CompletionRequest,
    ContextOverflowError,
    Health,
    NotFoundError,
    NotSupportedError,
    ServerFaultError,
    ServerLoadingError,
    Usage,
)
from tests.unit.events import DONE, call, chunk, event, text, usage
from tests.wire.scripted_server import LOADING, MISSING, Answer, ScriptedServer, error, head, reply, stream
from tests.wire.scripted_server import chunk as chunk_of

CHAT = ChatRequest(messages=[{"role": "user", "content": "Hello"}])


def paths(server):
    return [request.path for request in server.requests]


# -- health and models


@pytest.mark.parametrize(
    "body", [{"status": "ok", "slots_idle": 1, "slots_processing": 0}, b"OK", b"", {"status": "ok"}, []]
)
def test_any_200_is_healthy(connect, body):
    with ScriptedServer(reply(body)) as server:
        assert connect(server.url).health().ready is True


def test_without_health_the_models_are_asked_for(connect):
    with ScriptedServer(MISSING, reply({"data": [{"id": "m"}]})) as server:
        assert connect(server.url).health() == Health(True, "ok")
        assert paths(server) == ["/health", "/v1/models"]


def test_the_health_of_2024_waits_and_becomes_ready(connect):
    loading = reply({"status": "loading model"}, 503)
    with ScriptedServer(loading, loading, reply({"status": "ok"})) as server:
        assert connect(server.url).wait_until_ready(5).ready
        assert len(server.requests) == 3


def test_a_server_without_props_still_has_a_name(connect):
    with ScriptedServer(reply([{"id": "m"}]), MISSING) as server:
        info = connect(server.url).info()
        assert (info.model, info.n_ctx, info.tools, info.total_slots) == ("m", None, None, None)


@pytest.mark.parametrize("body", [{"data": [{"id": "m"}]}, [{"id": "m"}], {"models": [{"name": "m", "model": "m"}]}])
def test_models_come_wrapped_bare_and_as_ollama_has_them(connect, body):
    with ScriptedServer(reply(body)) as server:
        assert [card.id for card in connect(server.url).models()] == ["m"]


# -- tokens


def test_tokens_are_counted_from_the_rendered_prompt(connect):
    with ScriptedServer(MISSING, reply({"prompt": "<user>"}), reply({"tokens": [1, 2, 3]}), lacks=()) as server:
        assert connect(server.url).count_tokens(CHAT) == 3
        assert paths(server) == ["/v1/chat/completions/input_tokens", "/apply-template", "/tokenize"]
        assert server.requests[2].json == {"content": "<user>", "add_special": True, "parse_special": True}


def test_a_server_that_cannot_render_either_says_so(connect):
    with ScriptedServer(MISSING, lacks=()) as server:
        with pytest.raises(NotFoundError):
            connect(server.url).count_tokens(CHAT)
        assert paths(server) == ["/v1/chat/completions/input_tokens", "/apply-template"]


# -- completion


def test_a_server_with_the_native_family_only_completes(connect):
    last = {"content": "", "stop": True, "stopped_limit": True, "tokens_predicted": 1, "tokens_evaluated": 2}
    with ScriptedServer(MISSING, stream(event({"content": "Hi", "stop": False}), event(last))) as server:
        done = connect(server.url).complete(CompletionRequest(prompt="x", params={"max_tokens": 1}))
        assert (done.text, done.finish_reason, done.usage) == ("Hi", "length", Usage(2, 1))
        assert paths(server) == ["/v1/completions", "/completion"]
        assert server.requests[0].body == server.requests[1].body


def test_v1_completions_that_answers_natively_is_read(connect):
    events = [event({"content": "Hi", "stop": False}), event({"content": "", "stop": True, "stop_type": "word"})]
    with ScriptedServer(stream(*events)) as server:
        done = connect(server.url).complete(CompletionRequest(prompt="x"))
        assert (done.text, done.finish_reason) == ("Hi", "stop")


def test_the_native_endpoint_is_waited_for_too(connect):
    last = event({"content": "Hi", "stop": True})
    with ScriptedServer(MISSING, LOADING, stream(last)) as server:
        assert connect(server.url).complete(CompletionRequest(prompt="x")).text == "Hi"
        assert paths(server) == ["/v1/completions", "/completion", "/completion"]


# -- chats


def test_usage_on_the_last_chunk_or_nowhere(connect):
    counts = {"prompt_tokens": 5, "completion_tokens": 1}
    with_usage, without = chunk(finish="stop", usage=counts), chunk(finish="stop")
    with ScriptedServer(stream(text("a"), with_usage, DONE), stream(text("a"), without, DONE)) as server:
        client = connect(server.url)
        assert client.chat(CHAT).usage == Usage(5, 1)
        assert client.chat(CHAT).usage is None


def test_a_usage_chunk_after_a_usage_that_was_sent_already(connect):
    counts = {"prompt_tokens": 5, "completion_tokens": 1}
    with ScriptedServer(stream(text("a"), chunk(finish="stop", usage=counts), usage(5, 1), DONE)) as server:
        assert connect(server.url).chat(CHAT).usage == Usage(5, 1)


def test_a_complete_call_in_one_delta_with_an_empty_id(connect):
    with ScriptedServer(stream(call(0, "{}", id="", name="f"), chunk(finish="tool_calls"), DONE)) as server:
        (made,) = connect(server.url).chat(CHAT).tool_calls
        assert (made.name, made.arguments) == ("f", "{}")
        assert made.id


# -- errors in older words


@pytest.mark.parametrize(
    ("answer", "expected", "remedy"),
    [
        (error(500, "tools param requires --jinja flag"), NotSupportedError, "--jinja"),
        (error(400, "Cannot use tools with stream", "invalid_request_error"), BadRequestError, ""),
        (error(400, "the request exceeds the available context size. try increasing the context size or enable context "
               "shift", "invalid_request_error"), ContextOverflowError, "-c"),
        (error(500, "Context size has been exceeded."), ContextOverflowError, "-c"),
        (reply({"status": "loading model"}, 503), ServerLoadingError, ""),
    ],
)  # fmt: skip
def test_older_words_mean_the_same(connect, answer, expected, remedy):
    with ScriptedServer(answer) as server, pytest.raises(expected) as caught:
        connect(server.url, wait_while_loading=False).chat(CHAT)
    assert type(caught.value) is expected
    assert remedy in str(caught.value)


def test_an_error_line_with_status_200(connect):
    wire = b'error: {"code":500,"message":"Context size has been exceeded.","type":"server_error"}\n\n'
    with ScriptedServer(stream(text("so far"), wire)) as server, pytest.raises(ContextOverflowError) as caught:
        connect(server.url).chat(CHAT)
    assert caught.value.partial is not None
    assert caught.value.partial.choices[0].content == "so far"


def test_slots_with_a_state_in_place_of_a_flag(connect):
    with ScriptedServer(reply([{"id": 0, "state": 1}, {"id": 1, "state": 0}])) as server:
        assert [slot.is_processing for slot in connect(server.url).slots()] == [True, False]


def test_vectors_of_a_build_that_knows_no_base64(connect):
    entries = [{"index": 1, "embedding": [0.0, 1.0]}, {"index": 0, "embedding": [1.0, 0.0]}]
    with ScriptedServer(reply({"data": entries, "model": "m"})) as server:
        assert connect(server.url, max_concurrency=None).embed(["a", "b"]).vectors == [[1.0, 0.0], [0.0, 1.0]]


def test_the_events_of_a_load_that_could_not_begin_are_left(connect):
    """They never end by themselves, and held a connection until the collector came."""
    cards = reply({"data": [{"id": "m", "status": {"value": "unloaded"}}]})
    events = Answer((head(), 30.0, chunk_of(b": x\n\n")))
    with ScriptedServer(cards, events, error(500, "no memory")) as server:
        with pytest.raises(ServerFaultError, match="no memory"):
            connect(server.url, on_progress=lambda progress: None).load_model("m")
        assert paths(server) == ["/v1/models", "/models/sse", "/models/load"]
        assert server.wait_until_left()
