"""Thinking that a server leaves in the text, told apart under every split."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamacpp_server import ChatRequest, ServerSettings, StreamCutOffError, ToolCall, fold_chat
from llamacpp_server._endpoints import (
    stream_chat,
)
from llamacpp_server._replies import (
    ThoughtSplitter,
)
from tests.unit.driver import decoder_of
from tests.unit.events import DONE, call, chunk, role, text, usage

MESSAGES = [{"role": "user", "content": "Hello"}]


def split(*pieces):
    splitter = ThoughtSplitter()
    found = [splitter.feed(piece) for piece in pieces] + [splitter.end()]
    return "".join(thinking for thinking, _ in found), "".join(said for _, said in found)


def decode(*events, n=1, **params):
    params = {"n": n, **params} if n > 1 else params
    decoder = decoder_of(stream_chat(ServerSettings(), ChatRequest(messages=MESSAGES, params=params)))
    return [delta for piece in events for delta in decoder.feed(piece)] + decoder.close()


CASES = [
    ("Hello", "", "Hello"),
    ("<think>Hm</think>Hello", "Hm", "Hello"),
    ("<think>\nHm\n</think>\n\nHello", "\nHm\n", "Hello"),
    ("\n <think>Hm</think> Hello <think>no</think>", "Hm", "Hello <think>no</think>"),
    ("<think></think>\n\nHello", "", "Hello"),
    ("<think>Hm", "Hm", ""),
    ("<think>Hm</thi", "Hm</thi", ""),
    ("<think>Hm</think>", "Hm", ""),
    ("<think>Hm</think>\n\n", "Hm", ""),
    ("<think>a < b </ c</think>d", "a < b </ c", "d"),
    ("<think>a</thinking>b</think>c", "a</thinking>b", "c"),
    ("<thinking>Hm</thinking>Hello", "", "<thinking>Hm</thinking>Hello"),
    ("<tool_call>{}", "", "<tool_call>{}"),
    ("Hello <think>no</think>", "", "Hello <think>no</think>"),
    ("  indented", "", "  indented"),
    ("<thi", "", "<thi"),
    ("  ", "", "  "),
    ("", "", ""),
]


@pytest.mark.parametrize(("said", "thinking", "answer"), CASES)
def test_reasoning_tags_count_only_at_the_start_of_an_answer(said, thinking, answer):
    assert split(said) == (thinking, answer)
    assert split(*said) == (thinking, answer)


@given(
    st.lists(
        st.sampled_from(["<think>", "</think>", "<", "</", "think>", "x", " ", "\n", "<thi", "nk>", "é"]), max_size=12
    ),
    st.lists(st.integers(0, 60), max_size=6),
)
def test_every_split_gives_the_same(parts, cuts):
    said = "".join(parts)
    edges = [0, *sorted(min(cut, len(said)) for cut in cuts), len(said)]
    assert split(*(said[a:b] for a, b in itertools.pairwise(edges))) == split(said) == split(*said)


def test_a_settled_answer_holds_nothing_back():
    splitter = ThoughtSplitter()
    assert splitter.feed("Hel") == ("", "Hel")
    assert splitter.settled


def test_a_stream_of_an_older_build():
    deltas = decode(role(), text("<thi"), text("nk>Hm"), text("m</think>\n"), text("\nHel"), text("lo"),
                    chunk(finish="stop"), usage(5, 6), DONE)  # fmt: skip
    assert [(d.reasoning_content, d.content) for d in deltas if d.content or d.reasoning_content] == [
        ("Hm", ""), ("m", ""), ("", "Hel"), ("", "lo")
    ]  # fmt: skip
    reply = fold_chat(deltas)
    assert (reply.reasoning_content, reply.content, reply.finish_reason) == ("Hmm", "Hello", "stop")
    assert reply.usage is not None
    assert deltas[0].start is not None


def test_reasoning_and_text_in_one_event_become_two_deltas():
    first, second = decode(text("<think>Hm</think>Hello"), chunk(finish="stop"), DONE)[:2]
    assert (first.reasoning_content, first.content, first.start is not None) == ("Hm", "", True)
    assert (second.reasoning_content, second.content, second.start) == ("", "Hello", None)


def test_a_server_that_separates_them_is_believed():
    deltas = decode(chunk({"reasoning_content": "Hm"}), text("<think>x</think>"), chunk(finish="stop"), DONE)
    assert (fold_chat(deltas).reasoning_content, fold_chat(deltas).content) == ("Hm", "<think>x</think>")


def test_a_call_ends_what_was_held_back():
    reply = fold_chat(decode(text("<think>Hm"), call(0, "{}", id="A", name="f"), chunk(finish="tool_calls"), DONE))
    assert (reply.reasoning_content, reply.content, reply.tool_calls) == ("Hm", "", (ToolCall("A", "f", "{}"),))
    reply = fold_chat(decode(text(" <"), call(0, "{}", id="A", name="f"), chunk(finish="tool_calls"), DONE))
    assert (reply.reasoning_content, reply.content) == ("", " <")


def test_each_answer_is_looked_at():
    deltas = decode(text("a"), text("<think>b</think>c", index=1), chunk(finish="stop", index=1), text("d"),
                    chunk(finish="stop"), DONE, n=2)  # fmt: skip
    choices = fold_chat(deltas).choices
    assert [(choice.reasoning_content, choice.content) for choice in choices] == [("", "ad"), ("b", "c")]


def test_the_raw_text_is_returned_on_request():
    raw = fold_chat(decode(text("<think>Hm</think>Hello"), chunk(finish="stop"), DONE, reasoning_format="none"))
    assert (raw.reasoning_content, raw.content) == ("", "<think>Hm</think>Hello")


def test_an_unstreamed_reply_is_separated_too():
    body = (
        b'{"choices": [{"message": {"content": "<think>Hm</think>\\n\\nHello"}, "finish_reason": "stop"}], "id": "x"}'
    )
    request = ChatRequest(messages=MESSAGES, extra_body={"stream": False})
    decoder = decoder_of(stream_chat(ServerSettings(), request))
    reply = fold_chat(decoder.feed(body) + decoder.close())
    assert (reply.reasoning_content, reply.content, reply.finish_reason, reply.start.id) == ("Hm", "Hello", "stop", "x")


def test_reasoning_before_a_cut_is_separated():
    decoder = decoder_of(stream_chat(ServerSettings(), ChatRequest(messages=MESSAGES)))
    decoder.feed(text("<think>Hm</think>Hel"))
    with pytest.raises(StreamCutOffError) as caught:
        decoder.close()
    partial = decoder.with_partial(caught.value).partial
    assert partial is not None
    assert (partial.choices[0].reasoning_content, partial.choices[0].content) == ("Hm", "Hel")
