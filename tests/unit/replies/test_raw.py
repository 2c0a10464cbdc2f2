"""What a server says beyond the typed attributes stays in `raw`, and odd values of it break nothing."""

import pytest

from llamacpp_server import MessagesEvent, MessagesReply, Usage, fold_chat, fold_completion
from llamacpp_server._replies import ChatStreamDecoder, CompletionStreamDecoder, chat_reply, completion_reply
from tests.unit.events import DONE, chunk, event, role, text

NATIVE = {"content": "x", "stop": True, "index": 0, "tokens": [1], "tokens_evaluated": 2, "tokens_predicted": 1}


def test_a_piece_of_text_has_no_raw_event():
    deltas = ChatStreamDecoder().feed(role() + text("a") + text("b") + text("c") + DONE)
    assert [delta.raw for delta in deltas] == [None] * 4


def test_an_event_that_has_every_field_with_an_attribute_has_no_raw_event():
    delta = {"role": "assistant", "content": "a", "reasoning_content": "b", "reasoning": "b", "tool_calls": []}
    choice = {"index": 0, "delta": delta, "message": {}, "text": "", "finish_reason": None, "logprobs": None}
    top = {"id": "x", "object": "x", "created": 1, "model": "m", "system_fingerprint": "b1-x"}
    counts = {"usage": {"prompt_tokens": 1}, "timings": {"cache_n": 1}, "prompt_progress": {"total": 1}}
    assert [delta.raw for delta in ChatStreamDecoder().feed(event({**top, "choices": [choice], **counts}))] == [None]
    more = {"tokens": [1], "id_slot": 0, "completion_probabilities": []}
    completed = CompletionStreamDecoder().feed(event({**top, **counts, **NATIVE, **more}))
    assert [delta.raw for delta in completed] == [None]


@pytest.mark.parametrize(
    "more",
    [
        {"__verbose": {"tokens": [1]}},
        {"choices": [{"index": 0, "delta": {"content": "c", "new": 1}, "finish_reason": None}]},
        {"choices": [{"index": 0, "delta": {"content": "c"}, "finish_reason": None, "new": 1}]},
    ],
    ids=["of the event", "of the piece", "of the choice"],
)
def test_a_field_without_an_attribute_is_in_the_raw_event_and_the_reply(more):
    """Also behind events that are read by their likeness to one another."""
    deltas = ChatStreamDecoder().feed(role() + text("a") + text("b") + text("c", **more) + text("d") + DONE)
    assert [delta.raw is None for delta in deltas] == [True, True, True, False, True]
    reply = fold_chat(deltas)
    assert reply.content == "abcd"
    assert {**reply.raw, **more} == dict(reply.raw)


def test_an_event_with_nothing_but_new_fields_is_a_delta():
    (_, delta) = ChatStreamDecoder().feed(role() + chunk({"audio": {"id": 1}}))
    assert delta.raw["choices"][0]["delta"] == {"audio": {"id": 1}}


def test_an_unstreamed_reply_keeps_its_body():
    body = {"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}], "new": 1}
    assert chat_reply(body).raw == body


def test_each_choice_of_native_completions_has_its_own():
    bodies = [{**NATIVE, "index": index, "stop_type": "word", "stopping_word": word} for index, word in enumerate("ab")]
    assert [choice.stopping_word for choice in completion_reply(bodies).choices] == ["a", "b"]
    deltas = CompletionStreamDecoder(2).feed(b"".join(map(event, bodies)))
    assert [choice.stopping_word for choice in fold_completion(deltas).choices] == ["a", "b"]


def test_odd_values_of_native_fields_say_nothing():
    odd = {"truncated": "yes", "stopping_word": 5, "tokens_cached": "1", "generation_settings": [], "prompt": None}
    (choice,) = completion_reply({**NATIVE, **odd}).choices
    assert (choice.truncated, choice.stopping_word, choice.tokens_cached, choice.prompt) == (False, None, None, None)
    assert choice.generation_settings == {}
    assert choice.raw["stopping_word"] == 5


def test_a_message_without_its_first_event_keeps_the_count_of_its_answer():
    """llama-server leaves the event out when the answer begins with a part of a character (b11434)."""
    events = [MessagesEvent("content_block_delta", text="a"), MessagesEvent("message_delta", usage=Usage(0, 4))]
    reply = MessagesReply.from_events(events)
    assert (reply.text, reply.usage) == ("a", Usage(0, 4))
