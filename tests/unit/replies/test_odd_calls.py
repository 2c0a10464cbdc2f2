"""Shapes of streamed replies that other servers in front of the model send."""

import json

from llamacpp_server import fold_chat
from llamacpp_server._replies import ChatStreamDecoder, chat_reply


def streamed(*deltas):
    decoder, made = ChatStreamDecoder(), []
    for delta in deltas:
        event = {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        made += decoder.feed(b"data: " + json.dumps(event).encode() + b"\n\n")
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    made += decoder.feed(b"data: " + json.dumps(end).encode() + b"\n\ndata: [DONE]\n\n")
    return fold_chat([*made, *decoder.close()])


def one_call(name, arguments):
    return {"tool_calls": [{"function": {"name": name, "arguments": arguments}}]}


def calls(reply):
    return [(call.name, call.arguments) for call in reply.tool_calls]


def test_complete_calls_with_neither_id_nor_number_are_calls_of_their_own():
    reply = streamed(one_call("a", '{"x": 1}'), one_call("b", "{}"), one_call("b", "{}"))
    assert calls(reply) == [("a", '{"x": 1}'), ("b", "{}"), ("b", "{}")]
    assert len({call.id for call in reply.tool_calls}) == 3


def test_pieces_of_a_call_without_a_number_stay_together():
    more = {"tool_calls": [{"function": {"arguments": "1}"}}]}
    assert calls(streamed(one_call("a", '{"x": '), more, one_call("b", "{}"))) == [("a", '{"x": 1}'), ("b", "{}")]
    again = one_call("a", "1}")
    assert calls(streamed(one_call("a", '{"x": '), again)) == [("a", '{"x": 1}')]
    named = {"tool_calls": [{"index": 0, "function": {"name": "a", "arguments": "{}"}}]}
    again = {"tool_calls": [{"index": 0, "function": {"name": "a", "arguments": ""}}]}
    assert calls(streamed(named, again)) == [("a", "{}")]


def test_calls_that_all_have_the_number_0_are_separated_by_their_ids():
    def piece(arguments, **more):
        return {"tool_calls": [{"index": 0, "function": {"arguments": arguments, **more.pop("function", {})}, **more}]}

    starts = [piece('{"n"', id=name, function={"name": name}) for name in "abcd"]
    pieces = [one for number, start in enumerate(starts) for one in (start, piece(f": {number}}}"))]
    assert calls(streamed(*pieces)) == [(name, f'{{"n": {number}}}') for number, name in enumerate("abcd")]


def test_arguments_may_be_an_object_and_content_a_list():
    reply = streamed({"content": [{"type": "text", "text": "Hi"}, " there"]}, one_call("a", {"x": "\u00e9"}))
    assert (reply.content, calls(reply)) == ("Hi there", [("a", '{"x": "\u00e9"}')])
    message = {"content": [{"type": "text", "text": "Hi"}], **one_call("a", {"x": 1})}
    reply = chat_reply({"choices": [{"message": message}]})
    assert (reply.content, calls(reply)) == ("Hi", [("a", '{"x": 1}')])
