"""Streams as programs: when an answer is begun anew, and that its place is given back."""

import pytest

from llamacpp_server import ChatChoice, ChatReply, ServerBusyError, ServerSettings
from llamacpp_server.transport import Call, Enter, Read, Relay, Send, begin, gate_for, stream_reply
from tests.unit.driver import Answer

SETTINGS = ServerSettings(base_url="http://streams:1", max_concurrency=1)
CALL = Call(method="POST", path="/v1/chat/completions", body={"stream": True}, takes_slot=True)


class Decoder:
    """Of an answer that no test decodes."""


def crowded(text=""):
    error = ServerBusyError("the context is full")
    error.shared_context = True
    error.partial = ChatReply((ChatChoice(text),)) if text else None
    return error


def streamed(collected):
    delivery = yield from begin(SETTINGS, CALL.path, collected)
    yield from stream_reply(delivery, CALL, Decoder)


def relays(program, *outcomes):
    """How many answers a program relays that end so: in an error, or (None) well."""
    count, error, left = 0, None, list(outcomes)
    try:
        effect = next(program)
        while True:
            result, error = None, None
            if isinstance(effect, Enter):
                effect.ticket.enter(effect.gate, effect.place)
            elif isinstance(effect, Send):
                result = Answer()
            elif isinstance(effect, Relay):
                count += 1
                assert gate_for(SETTINGS.base_url).running() == 1
                if effect.collected is not None:
                    effect.collected.append(f"text {count}")
                error = left.pop(0)
            elif isinstance(effect, Read):
                result = b"[]"  # type: ignore[assignment]
            effect = program.send(result) if error is None else program.throw(error)
    except StopIteration:
        return count
    finally:
        program.close()
        assert not gate_for(SETTINGS.base_url).state().held


def test_an_answer_that_showed_nothing_is_begun_again_when_it_is_crowded_out():
    assert relays(streamed(None), crowded(), None) == 2


def test_an_answer_whose_text_was_shown_is_not_begun_again():
    with pytest.raises(ServerBusyError, match="full"):
        relays(streamed(None), crowded("Hel"))


def test_what_was_collected_of_a_crowded_answer_is_dropped_and_what_came_before_is_kept():
    collected = ["an earlier round"]
    assert relays(streamed(collected), crowded("Hel"), None) == 2
    assert collected == ["an earlier round", "text 2"]


def test_another_error_is_raised():
    with pytest.raises(ServerBusyError, match="slots"):
        relays(streamed([]), ServerBusyError("no slots"))


def test_a_stream_that_is_left_gives_its_place_back():
    program = streamed(None)
    effect = next(program)
    while not isinstance(effect, Relay):
        result = None
        if isinstance(effect, Enter):
            effect.ticket.enter(effect.gate, effect.place)
        elif isinstance(effect, Send):
            result = Answer()
        elif isinstance(effect, Read):
            result = b"[]"  # type: ignore[assignment]
        effect = program.send(result)
    assert gate_for(SETTINGS.base_url).running() == 1
    program.close()
    assert not gate_for(SETTINGS.base_url).state().held
