"""`first_token_timeout` bounds the wait for a stream's first token, and `read_timeout` the silences after it."""

from contextlib import suppress

import pytest

from llamacpp_server import ChatRequest, CompletionRequest, RequestTimeoutError
from tests import behind_doors
from tests.unit.events import DONE, call, chunk, role, text
from tests.waiting import TIMEOUTS
from tests.wire.scripted_server import LOADING, Answer, ScriptedServer, head, reply, stream
from tests.wire.scripted_server import chunk as piece

CHAT = ChatRequest(messages=[{"role": "user", "content": "Hello"}])
SHORT, SILENCE, NEVER = 0.1, 0.3, 60.0
READING = b'data: {"choices":[],"prompt_progress":{"total":9,"cache":0,"processed":3,"time_ms":5}}\n\n'
REST = [text("Hi"), chunk(finish="stop"), DONE]
SLOW = {
    "before the head": Answer((NEVER,), "close"),
    "before the first event": Answer((head(), NEVER), "close"),
    "while the prompt is read": Answer((head(), *[piece(READING), 0.05] * 200), "close"),
    "after the role": Answer((head(), piece(role()), NEVER), "close"),
}


@pytest.mark.parametrize("answer", SLOW.values(), ids=SLOW)
def test_a_first_token_that_is_late_ends_the_request_and_names_the_setting(connect, answer):
    with ScriptedServer(answer) as server:
        with pytest.raises(RequestTimeoutError, match="no token came within first_token_timeout") as caught:
            connect(server.url, first_token_timeout=SHORT).chat(CHAT)
        # On a busy machine the client may be gone before the server has read a thing.
        assert not server.requests or server.wait_until_left(), "the connection was not closed"
        assert len(server.requests) <= 1
    error = caught.value
    assert (error.limit, error.url) == ("first_token_timeout", f"{server.url}/v1/chat/completions")
    assert "raise first_token_timeout" in error.remedy


# In one piece, or a busy machine could be silent for longer within it.
REST_AT_ONCE = piece(b"".join(REST)) + b"0\r\n\r\n"
LATE = {
    "before the head": Answer((SILENCE, head() + REST_AT_ONCE)),
    "after it": Answer((head(), SILENCE, REST_AT_ONCE)),
}


@pytest.mark.parametrize("answer", LATE.values(), ids=LATE)
def test_a_first_token_may_be_later_than_any_other_silence(connect, answer):
    with ScriptedServer(answer) as server:
        patient = connect(server.url, read_timeout=SHORT, first_token_timeout=NEVER)
        assert patient.chat(CHAT).content == "Hi"


SPOKEN = {
    "text": text("Hi"),
    "reasoning": chunk({"reasoning_content": "Hm"}),
    "a call": call(0, "{", id="a", name="f"),
}


@pytest.mark.parametrize("spoken", SPOKEN.values(), ids=SPOKEN)
def test_after_the_first_token_silence_is_bounded_by_the_read_timeout(connect, spoken):
    with ScriptedServer(Answer((head(), piece(role()), piece(spoken), NEVER), "close")) as server:
        with pytest.raises(RequestTimeoutError, match="sent nothing for longer than read_timeout") as caught:
            connect(server.url, read_timeout=SHORT, first_token_timeout=NEVER).chat(CHAT)
        assert server.wait_until_left(), "the connection was not closed"
    assert caught.value.limit == "read_timeout"
    assert caught.value.partial is not None


def test_with_no_read_timeout_only_the_first_token_has_a_limit(connect):
    for seconds in TIMEOUTS:
        late = stream(text("Hi"), 2 * seconds, chunk(finish="stop"), DONE)
        with ScriptedServer(late) as server, suppress(RequestTimeoutError):
            assert connect(server.url, read_timeout=None, first_token_timeout=seconds).chat(CHAT).content == "Hi"
            break
    else:
        pytest.fail("a silence after the first token ended the stream")


def test_the_total_timeout_ends_a_request_before_its_first_token_is_due(connect):
    with ScriptedServer(SLOW["before the head"]) as server, pytest.raises(RequestTimeoutError) as caught:
        connect(server.url, first_token_timeout=NEVER, total_timeout=SHORT).chat(CHAT)
    assert caught.value.limit == "total_timeout"


def test_a_late_first_token_is_not_retried_where_silence_is(connect):
    with ScriptedServer(SLOW["before the head"], stream(*REST)) as server:
        with pytest.raises(RequestTimeoutError, match="first_token_timeout"):
            connect(server.url, first_token_timeout=SHORT, retry_read_timeout=True).chat(CHAT)
        assert len(server.requests) <= 1


def test_each_attempt_has_the_time_for_its_first_token(connect, monkeypatch):
    for seconds in (0.1, 0.9):  # no pause is longer than 2 s
        monkeypatch.setattr(behind_doors.FIRST_POLL, 2 * seconds)
        with ScriptedServer(LOADING, stream(*REST)) as server, suppress(RequestTimeoutError):
            assert connect(server.url, first_token_timeout=seconds, load_timeout=NEVER).chat(CHAT).content == "Hi"
            assert len(server.requests) == 2
            break
    else:
        pytest.fail("the pause took from the time of the second attempt")


def test_text_completions_have_it_too_and_an_unstreamed_answer_does_not(connect):
    tokens = Answer((SILENCE, *reply({"tokens": [1, 2]}).parts))
    with ScriptedServer(tokens) as server:
        assert connect(server.url, first_token_timeout=SHORT).tokenize("x") == [1, 2]
    with ScriptedServer(SLOW["before the head"]) as server, pytest.raises(RequestTimeoutError) as caught:
        connect(server.url, first_token_timeout=SHORT).complete(CompletionRequest(prompt="Once"))
    assert caught.value.limit == "first_token_timeout"
