"""Bytes of a completion stream, of `/v1/completions` and of the native endpoints, -> deltas -> a whole reply."""

import pytest

from llamacpp_server import (
    CompletionDelta,
    CompletionRequest,
    MalformedReplyError,
    PromptProgress,
    Repair,
    ServerFaultError,
    ServerSettings,
    StreamCutOffError,
    Timings,
    Usage,
    fold_completion,
)
from llamacpp_server._endpoints import (
    stream_complete,
)
from llamacpp_server._replies import (
    CompletionStreamDecoder,
)
from tests.unit.driver import decoder_of
from tests.unit.events import DONE, TOP, event

ENTRY = {"id": 66, "token": "?", "logprob": -4.8, "top_logprobs": []}


def decode(*pieces, prompt="x", **params):
    decoder = decoder_of(stream_complete(ServerSettings(), CompletionRequest(prompt=prompt, params=params)))
    return [delta for piece in pieces for delta in decoder.feed(piece)] + decoder.close()


def reply_of(*pieces, **request):
    return fold_completion(decode(*pieces, **request))


def piece(text, index=0, finish=None, **more):
    choice = {"text": text, "index": index, "logprobs": more.pop("logprobs", None), "finish_reason": finish}
    return event({**TOP, "object": "text_completion", "choices": [choice], **more})


def last(index=0, prompt=5, completion=3, finish="stop"):
    return piece(
        "", index, finish, usage={"prompt_tokens": prompt, "completion_tokens": completion}, timings={"prompt_n": 5}
    )


def native(text, index=0, **more):
    return event({"index": index, "content": text, "tokens": [], "stop": False, "id_slot": -1, **more})


def native_last(index=0, **more):
    full = {"index": index, "content": "", "stop": True, "model": "m", "tokens_predicted": 3, "tokens_evaluated": 5,
             "stop_type": "eos", "timings": {"cache_n": 4, "prompt_n": 1}, **more}  # fmt: skip
    return event(full)


# -- /v1/completions


def test_an_ordinary_completion():
    reply = reply_of(piece("Hel"), piece("lo"), last(), DONE)
    assert (reply.text, reply.finish_reason, reply.usage) == ("Hello", "stop", Usage(5, 3))
    assert (reply.start.id, reply.start.model, reply.timings) == ("chatcmpl-x", "m", Timings(prompt_n=5))


def test_a_batch_of_prompts_with_its_null_events():
    reply = reply_of(piece("a"), event(b"null"), piece("b", 1), last(1, 7, 2), piece("A"), last(0, 5, 3), DONE)
    assert [choice.text for choice in reply.choices] == ["aA", "b"]
    assert reply.usage == Usage(12, 5)


def test_log_probabilities_are_merged():
    reply = reply_of(piece("a", logprobs={"content": [ENTRY]}), piece("b", logprobs={"content": [ENTRY]}), last(), DONE)
    assert reply.choices[0].logprobs == {"content": [ENTRY, ENTRY]}


def test_a_chunk_without_choices_is_not_text():
    assert reply_of(event({**TOP, "choices": []}), piece("a"), last(), DONE).text == "a"


@pytest.mark.parametrize("end", [b"", last(), event(b"null"), b"data: {"])
def test_without_its_end_mark_it_is_cut_off_with_what_came(end):
    with pytest.raises(StreamCutOffError) as caught:
        decode(piece("so far"), end)
    assert caught.value.partial is not None
    assert caught.value.partial.choices[0].text == "so far"


def test_several_answers_to_a_prompt_count_its_tokens_once():
    ends = [last(index, 5, 3 + index) for index in range(4)]
    assert reply_of(*ends, DONE, prompt=["a", "b"], n=2).usage == Usage(10, 18, 0)
    assert reply_of(*map(native_last, range(4)), prompt=["a", "b"], n=2).usage == Usage(10, 12, 8)
    deltas = decode(*map(native_last, range(4)), prompt=["a", "b"], n=2)
    assert [delta.usage for delta in deltas] == [Usage(5, 3, 4), Usage(0, 3, 0)] * 2


def test_a_decoder_of_its_own_counts_the_prompt_of_each_answer():
    deltas = CompletionStreamDecoder(2).feed(native_last(0) + native_last(1))
    assert [delta.usage for delta in deltas] == [Usage(5, 3, 4)] * 2


def test_cached_tokens_that_only_the_timings_have():
    counts = {"usage": {"prompt_tokens": 5, "completion_tokens": 2}, "timings": {"cache_n": 4}}
    assert reply_of(piece("a", **counts), DONE).usage == Usage(5, 2, 4)


@pytest.mark.parametrize("make", [piece, native])
def test_the_start_comes_once_with_the_repairs_of_the_request(make):
    repair = Repair("fields", "prompt", "x")
    first, second = CompletionStreamDecoder(repairs=(repair,)).feed(make("a") + make("b"))
    assert first.start is not None
    assert (first.start.repairs, second.start) == ((repair,), None)


@pytest.mark.parametrize("make", [piece, native])
def test_progress_and_new_fields_come_with_their_event(make):
    first, second = decode(make("", prompt_progress={"total": 5}), make("a", new=1), native_last())[:2]
    assert (first.progress, first.raw) == (PromptProgress(5, 0, 0, 0), None)
    assert (second.progress, second.raw["new"]) == (None, 1)


def test_what_an_event_says_of_the_reply_stays_with_its_first_choice():
    choices = [{"text": "a", "index": 0}, {"text": "b", "index": 1}]
    more = {"usage": {"prompt_tokens": 1}, "timings": {"cache_n": 1}, "prompt_progress": {"total": 5}, "new": 1}
    first, second = CompletionStreamDecoder(2).feed(event({**TOP, "choices": choices, **more}))
    assert None not in (first.usage, first.timings, first.progress, first.start, first.raw)
    assert second == CompletionDelta("b", choice=1)


# -- the native endpoints


def test_a_native_stream_ends_with_its_last_object_and_no_mark():
    reply = reply_of(native("Hel", tokens=[1]), native("lo", tokens=[2]), native_last())
    assert (reply.text, reply.finish_reason, reply.usage) == ("Hello", "stop", Usage(5, 3, 4))
    assert reply.choices[0].tokens == (1, 2)
    assert reply.timings == Timings(cache_n=4, prompt_n=1)


def test_a_native_stream_with_an_end_mark_is_well_too():
    assert reply_of(native("Hi"), native_last(), DONE).text == "Hi"


@pytest.mark.parametrize(
    ("more", "finish"),
    [({"stop_type": "eos"}, "stop"), ({"stop_type": "word"}, "stop"), ({"stop_type": "limit"}, "length"),
     ({"stop_type": "none"}, "stop"), ({"stop_type": "brand_new"}, "brand_new")],
)  # fmt: skip
def test_the_native_reasons(more, finish):
    assert reply_of(native("x"), native_last(**more)).finish_reason == finish


@pytest.mark.parametrize(
    ("flag", "finish"), [("stopped_eos", "stop"), ("stopped_word", "stop"), ("stopped_limit", "length")]
)
def test_the_reasons_of_old_builds(flag, finish):
    old = {"content": "", "stop": True, "stopped_eos": False, "stopped_word": False, "stopped_limit": False, flag: True}
    assert reply_of(event({"content": "x", "stop": False}), event(old)).finish_reason == finish


def test_the_last_native_event_repeats_what_came_and_is_not_counted_twice():
    entries = {"completion_probabilities": [ENTRY]}
    reply = reply_of(native("a", tokens=[1], **entries), native_last(tokens=[1], **entries))
    assert reply.choices[0].tokens == (1,)
    assert reply.choices[0].logprobs == {"content": [ENTRY]}


@pytest.mark.parametrize("end", [b"", native("more"), b'data: {"content":"", "stop":tr'])
def test_a_native_stream_without_its_last_object_is_cut_off(end):
    with pytest.raises(StreamCutOffError) as caught:
        decode(native("so far"), end)
    assert caught.value.partial is not None
    assert caught.value.partial.choices[0].text.startswith("so far")


@pytest.mark.parametrize(
    "pieces",
    [
        [native("a"), native_last(0)],
        [native("a"), native_last(0), native("b", 1)],
        [native("a"), native("b", 1), native_last(1)],
        [native_last(0), event(b"null"), native("b", 1)],
    ],
)
def test_a_native_batch_is_complete_when_every_prompt_is(pieces):
    with pytest.raises(StreamCutOffError):
        decode(*pieces, prompt=["a", "b"])
    end = [native_last(1)] if pieces[-1] != native_last(1) else [native_last(0)]
    reply = reply_of(*pieces, *end, prompt=["a", "b"])
    assert len(reply.choices) == 2
    assert reply.usage == Usage(10, 6, 8)


@pytest.mark.parametrize(
    ("prompt", "params", "answers"),
    [("text", {}, 1), ("text", {"n": 3}, 3), (["a", "b"], {}, 2), (["a", "b"], {"n": 2}, 4), ([1, 2, 3], {}, 1),
     ([[1], [2]], {}, 2), ([1, "mixed", 2], {}, 1), ([[1, 2]], {}, 1)],
)  # fmt: skip
def test_how_many_answers_a_request_has(prompt, params, answers):
    ends = [native_last(index) for index in range(answers)]
    assert len(reply_of(*ends, prompt=prompt, **params).choices) == answers
    if answers > 1:
        with pytest.raises(StreamCutOffError):
            decode(*ends[:-1], prompt=prompt, **params)


def test_missing_token_ids_are_logged_only_for_who_asked_for_them(caplog, fresh_notices):
    decode(native("a"), native_last())
    CompletionStreamDecoder().feed(native("a") + native_last())
    decode(native("a", tokens=[1, 2]), native("b", tokens=[3]), native_last(), return_tokens=True)
    assert caplog.messages == []
    decode(native("a", tokens=[1]), native("b", tokens=[2]), native_last(), return_tokens=True)
    assert "`complete` returns them all" in caplog.text


# -- errors


@pytest.mark.parametrize("before", [piece("so far"), native("so far")])
def test_an_error_event(before):
    with pytest.raises(ServerFaultError, match="boom") as caught:
        decode(before, event({"error": {"code": 500, "message": "boom"}}))
    assert caught.value.partial is not None
    assert caught.value.partial.choices[0].text == "so far"


@pytest.mark.parametrize(
    "payload", [b"{", b'{"choices": 5}', b'{"choices": ["x"]}', b'{"content": 5}', b'{"choices": [{"text": 5}]}',
                b'{"content": "x", "tokens": 5}', b'{"choices": [], "usage": "x"}']
)  # fmt: skip
def test_an_event_that_is_not_a_chunk_is_malformed(payload):
    with pytest.raises(MalformedReplyError):
        decode(piece("so far"), event(payload))


def test_every_cut_of_a_native_stream_is_noticed():
    stream = native("Hel") + native("lo") + native_last()
    full = len(stream) - 2
    for cut in range(full):
        with pytest.raises(StreamCutOffError):
            decode(stream[:cut])
    assert reply_of(stream[:full]).text == "Hello"


def test_folding_nothing_gives_one_empty_answer():
    reply = fold_completion([])
    assert (len(reply.choices), reply.text, reply.usage) == (1, "", None)


def test_a_decoder_of_its_own_expects_one_answer():
    decoder = CompletionStreamDecoder()
    decoder.feed(native_last())
    assert decoder.close() == []


def test_what_came_of_a_long_stream_is_in_the_error_that_ends_it():
    decoder = CompletionStreamDecoder(with_ids=True)
    pieces = [event({"content": f"word {number} ", "tokens": [number], "stop": False}) for number in range(700)]
    deltas = [delta for one in pieces for delta in decoder.feed(one)]
    with pytest.raises(StreamCutOffError) as caught:
        decoder.close()
    assert caught.value.partial == fold_completion(deltas)
    assert caught.value.partial.choices[0].tokens == tuple(range(700))
