"""Whole replies -> values, and as the deltas that a stream of them would have had."""

import json

import pytest

from llamacpp_server import (
    ChatRequest,
    CompletionRequest,
    ContextOverflowError,
    MalformedReplyError,
    ReplyStart,
    ServerSettings,
    Timings,
    ToolCall,
    Usage,
    fold_chat,
    fold_completion,
)
from llamacpp_server._endpoints import (
    stream_chat,
    stream_complete,
)
from llamacpp_server._replies import (
    chat_reply,
    completion_reply,
    parse_embeddings,
    usage_or_none,
)
from tests.unit.driver import decoder_of

CALL = {"type": "function", "function": {"name": "get_w", "arguments": '{"city" : "a"\n}'}, "id": "uDddpp"}
REPLY = {
    "choices": [{"finish_reason": "tool_calls", "index": 0,
                 "message": {"role": "assistant", "content": "", "reasoning_content": "Hm", "tool_calls": [CALL]},
                 "logprobs": {"content": [{"token": "?", "logprob": -4.8}]}}],
    "created": 7, "model": "m", "system_fingerprint": "b1-x", "object": "chat.completion", "id": "chatcmpl-x",
    "usage": {"completion_tokens": 4, "prompt_tokens": 26, "total_tokens": 30,
              "prompt_tokens_details": {"cached_tokens": 25}},
    "timings": {"cache_n": 25, "prompt_n": 1, "prompt_ms": 0.4, "predicted_n": 4, "predicted_ms": 0.4},
}  # fmt: skip

NATIVE = {"index": 0, "content": "Hi", "tokens": [7, 8], "id_slot": 0, "stop": True, "model": "m", "stop_type": "limit",
          "tokens_predicted": 2, "tokens_evaluated": 5, "timings": {"cache_n": 3},
          "completion_probabilities": [{"token": "Hi", "logprob": -1.0}]}  # fmt: skip


def decode_body(body, pieces=1):
    request = ChatRequest(messages=[{"role": "user", "content": "x"}], extra_body={"stream": False})
    return decoded(decoder_of(stream_chat(ServerSettings(), request)), body, pieces)


def decode_completion(body, pieces=1):
    request = CompletionRequest(prompt="x", extra_body={"stream": False})
    return decoded(decoder_of(stream_complete(ServerSettings(), request)), body, pieces)


def decoded(decoder, body, pieces):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    size = -(-len(data) // pieces)
    for start in range(0, len(data), max(size, 1)):
        assert decoder.feed(data[start : start + size]) == []
    return decoder.close()


def test_a_chat_reply():
    reply = chat_reply(REPLY)
    assert (reply.content, reply.reasoning_content, reply.finish_reason) == ("", "Hm", "tool_calls")
    assert reply.tool_calls == (ToolCall("uDddpp", "get_w", '{"city" : "a"\n}'),)
    assert reply.usage == Usage(26, 4, 25)
    assert reply.usage.total_tokens == 30
    assert reply.timings == Timings(cache_n=25, prompt_n=1, prompt_ms=0.4, predicted_n=4, predicted_ms=0.4)
    assert reply.start == ReplyStart("chatcmpl-x", "m", 7, "b1-x")
    assert reply.logprobs == {"content": [{"token": "?", "logprob": -4.8}]}


def test_answers_come_by_index():
    choices = [{"index": 1, "message": {"content": "b"}}, {"index": 0, "message": {"content": "a"}}]
    assert [choice.content for choice in chat_reply({"choices": choices}).choices] == ["a", "b"]


def test_a_reply_of_an_old_build_says_less():
    reply = chat_reply({"choices": [{"message": {"content": None, "reasoning": "Hm"}}]})
    assert (reply.content, reply.reasoning_content, reply.finish_reason) == ("", "Hm", None)
    assert (reply.usage, reply.timings, reply.start) == (None, None, ReplyStart())


def test_calls_without_ids_get_different_ones():
    calls = [{"function": {"name": "a"}}, {"id": "", "function": {"name": "b", "arguments": "{}"}}]
    reply = chat_reply({"id": "chatcmpl-x", "choices": [{"message": {"tool_calls": calls}}]})
    first, second = reply.tool_calls
    assert (first.name, first.arguments, second.arguments) == ("a", "", "{}")
    assert first.id
    assert second.id
    assert first.id != second.id


@pytest.mark.parametrize("pieces", [1, 2, 7, 300])
def test_an_unstreamed_chat_reply_becomes_deltas_that_fold_back(pieces):
    deltas = decode_body(REPLY, pieces)
    assert fold_chat(deltas) == chat_reply(REPLY)


def test_several_unstreamed_answers_fold_back_with_the_usage_of_the_first():
    two = {**REPLY, "choices": [*REPLY["choices"], {"index": 1, "finish_reason": "stop", "message": {"content": "b"}}]}
    assert fold_chat(decode_body(two)) == chat_reply(two)


@pytest.mark.parametrize(
    "body", [{}, [], None, {"choices": []}, {"choices": None}, {"choices": [{}]}, {"choices": [{"message": None}]},
             {"choices": [5]}, b"", b"{", b"<html>", b"data: {}\n\n", b"\xff",
             {"choices": [{"message": {"content": 5}, "text": 5}]}, {**REPLY, "usage": {"prompt_tokens": "7"}},
             {"choices": [{"message": {}, "text": "", "logprobs": [1]}]}, {"choices": [{"message": {"tool_calls": [
                 {"id": "x", "function": {"name": "f", "arguments": [1]}}]}, "text": {}}]}]
)  # fmt: skip
def test_a_body_that_is_not_a_reply_is_malformed(body):
    with pytest.raises(MalformedReplyError):
        decode_body(body)
    with pytest.raises(MalformedReplyError):
        decode_completion(body)


def test_an_error_at_200_is_that_error():
    error = {
        "error": {"code": 400, "type": "exceed_context_size_error", "message": "m", "n_prompt_tokens": 9, "n_ctx": 8}
    }
    for decode in (decode_body, decode_completion):
        with pytest.raises(ContextOverflowError) as caught:
            decode(error)
        assert (caught.value.n_prompt_tokens, caught.value.n_ctx) == (9, 8)


def test_a_native_completion():
    reply = completion_reply(NATIVE)
    assert (reply.text, reply.finish_reason, reply.usage) == ("Hi", "length", Usage(5, 2, 3))
    assert reply.choices[0].tokens == (7, 8)
    assert reply.choices[0].logprobs == {"content": [{"token": "Hi", "logprob": -1.0}]}
    assert reply.start.model == "m"


def test_a_native_batch_is_an_array():
    batch = [{**NATIVE, "index": 1, "content": "b"}, {**NATIVE, "content": "a"}]
    reply = completion_reply(batch)
    assert [choice.text for choice in reply.choices] == ["a", "b"]
    assert reply.usage == Usage(10, 4, 3)


def test_an_openai_completion():
    wire = {"id": "x", "choices": [{"text": "b", "index": 1}, {"text": "a", "index": 0, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 5, "completion_tokens": 2}}  # fmt: skip
    reply = completion_reply(wire)
    assert ([choice.text for choice in reply.choices], reply.finish_reason) == (["a", "b"], "stop")
    assert reply.usage == Usage(5, 2)


@pytest.mark.parametrize("body", [NATIVE, [NATIVE, {**NATIVE, "index": 1}], {"choices": [{"text": "a", "index": 0}]}])
def test_an_unstreamed_completion_becomes_deltas_that_fold_back(body):
    assert fold_completion(decode_completion(body)) == completion_reply(body)


def test_tokens_of_the_thinking_as_a_newer_server_may_say_them():
    usage = {**REPLY["usage"], "completion_tokens_details": {"reasoning_tokens": 3}}
    assert chat_reply(REPLY).usage.reasoning_tokens is None
    assert chat_reply({**REPLY, "usage": usage}).usage.reasoning_tokens == 3


@pytest.mark.parametrize(
    ("parse", "answer"), [(chat_reply, {"message": {"content": "a"}}), (completion_reply, {"text": "a"})]
)
def test_builds_that_count_cached_tokens_in_the_timings_only(parse, answer):
    counts = {"usage": {"prompt_tokens": 5, "completion_tokens": 2}, "timings": {"cache_n": 3}}
    reply = parse({"choices": [answer], **counts})
    assert (reply.usage, reply.timings) == (Usage(5, 2, 3), Timings(cache_n=3))


def test_a_completion_keeps_its_body_and_timings():
    wire = {"choices": [{"text": "a"}], "new": 1, "timings": {"prompt_n": 2}}
    reply = completion_reply(wire)
    assert (reply.choices[0].raw, reply.timings) == (wire, Timings(prompt_n=2))
    assert completion_reply(NATIVE).timings == Timings(cache_n=3)


def test_a_native_completion_without_probabilities_has_none():
    plain = {key: value for key, value in NATIVE.items() if key != "completion_probabilities"}
    assert completion_reply(plain).choices[0].logprobs is None


def test_calls_without_ids_in_other_choices_and_other_replies_get_other_ids():
    call = {"message": {"tool_calls": [{"function": {"name": "a"}}]}}
    replies = [{"id": "x"}, {"id": "y"}, {"created": 7}, {"created": 8}]
    choices = [call, {**call, "index": 1}]
    made = [one.tool_calls[0].id for top in replies for one in chat_reply({**top, "choices": choices}).choices]
    assert len(set(made)) == 8


def test_a_reply_whose_counts_are_not_numbers_may_have_no_usage():
    assert usage_or_none({"prompt_tokens": 5, "completion_tokens": 0}) == Usage(5, 0)
    assert usage_or_none({"prompt_tokens": "5"}) is None
    assert usage_or_none([5]) is None


def test_embeddings_in_base64_become_their_bytes():
    body = b'{"data": [{"index": 0, "embedding": "AACAPw=="}, {"index": 1, "embedding": [1.0]}], "new": 1}'
    parsed = parse_embeddings(body)
    assert [one["embedding"] for one in parsed["data"]] == [b"\x00\x00\x80?", [1.0]]
    for broken in (b"{", b"{}", b'{"data": [{"index": 0}]}'):
        with pytest.raises(ValueError, match="validation error"):
            parse_embeddings(broken)
