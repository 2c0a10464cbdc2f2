"""Events that differ in their text alone are read without being parsed again, and mean the same."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamacpp_server import ChatDelta, MalformedReplyError, StreamCutOffError, ToolCallFragment
from llamacpp_server._replies import VAIN_TEMPLATES, ChatStreamDecoder, reader_like
from tests import behind_doors
from tests.unit.events import DONE, TOP, call, chunk, event, role, text, usage


def payload(raw):
    return raw.removeprefix(b"data: ").removesuffix(b"\n\n")


def piece_of_call(arguments, index=0):
    return ChatDelta(tool_calls=(ToolCallFragment(index, "", "", arguments),))


PLAIN = payload(text("Hi"))


@pytest.mark.parametrize(
    ("model", "delta", "other", "expected"),
    [
        (text("Hi"), ChatDelta("Hi"), text(' "\\{\u2028é'), ChatDelta(' "\\{\u2028é')),
        (text("Hi", index=2), ChatDelta("Hi", choice=2), text("Ho", index=2), ChatDelta("Ho", choice=2)),
        (chunk({"reasoning_content": "a"}), ChatDelta("", "a"), chunk({"reasoning_content": "b"}), ChatDelta("", "b")),
        (chunk({"reasoning": "so"}), ChatDelta("", "so"), chunk({"reasoning": "no"}), ChatDelta("", "no")),
        (
            chunk({"reasoning_content": "", "content": "Hi"}),
            ChatDelta("Hi"),
            chunk({"reasoning_content": "", "content": "Ho"}),
            ChatDelta("Ho"),
        ),
        (call(1, '{"a":'), piece_of_call('{"a":', 1), call(1, '"b"}'), piece_of_call('"b"}', 1)),
        (call(0, "1", id="x"), piece_of_call("1"), call(0, "2", id="x"), piece_of_call("2")),
    ],
)  # fmt: skip
def test_an_event_that_fits_the_template_is_read(model, delta, other, expected):
    assert reader_like(payload(model), delta)(payload(other)) == expected


@pytest.mark.parametrize(
    "other",
    [text("Ho", index=1), text(""), chunk({"content": None}), text(5), chunk({"reasoning_content": "Ho"}), DONE, b"",
     b"{}", text("Ho").replace(b'"Ho"', b'"Ho","content":"no"'), text("Ho").replace(b'"Ho"', b'"Ho'),
     text("Ho", usage={}), text("Ho").replace(b'"Ho"', b'"H\no"'), text("Ho").replace(b'"Ho"', b'"\\ud83d"'),
     PLAIN[:-2], PLAIN[1:]],
    ids=range(15),
)  # fmt: skip
def test_what_does_not_fit_the_template_is_left_to_the_parser(other):
    assert reader_like(PLAIN, ChatDelta("Hi"))(payload(other)) is None


@pytest.mark.parametrize(
    ("model", "delta"),
    [
        (text("Hi"), ChatDelta("Hi", "so")),
        (text("Hi"), ChatDelta("Hi", finish_reason="stop")),
        (text("Hi"), ChatDelta("Hi", logprobs={"content": []})),
        (call(0, "{", id="x", name="f"), ChatDelta(tool_calls=(ToolCallFragment(0, "x", "f", "{"),))),
        (call(0, id="x"), piece_of_call("")),
        (call(0, "{", name="f"), ChatDelta(tool_calls=(ToolCallFragment(0, "", "f", "{"),))),
        # The text stands somewhere else first, or twice.
        (event({"note": {"content": "Hi"}, **json.loads(PLAIN)}), ChatDelta("Hi")),
        (text("Hi").replace(b'"content"', b'"content": "no", "content"'), ChatDelta("Hi")),
        (event({**TOP, "choices": [{"index": 1, "delta": {}}, *json.loads(PLAIN)["choices"]]}), ChatDelta("Hi")),
    ],
)
def test_a_text_with_other_content_is_not_a_template(model, delta):
    assert reader_like(payload(model), delta) is None


class Parsing(ChatStreamDecoder):
    """Parses every event."""

    def __init__(self):
        super().__init__()
        self._useless_templates = VAIN_TEMPLATES


def outcome(decoder, pieces):
    deltas = []
    try:
        for piece in pieces:
            deltas += decoder.feed(piece)
        deltas += decoder.close()
    except (MalformedReplyError, StreamCutOffError) as error:
        return deltas, str(error), error.partial
    return deltas, "", None


texts = st.sampled_from(["", "a", ' "', "\\", "\u2028", "é", "{}", '"content":"x"', "[DONE]", "\x00"]) | st.text()
keys = st.sampled_from(["content", "reasoning_content", "reasoning"])
pieces_of_text = st.builds(lambda key, said, at: chunk({key: said}, index=at), keys, texts, st.integers(0, 1))
pieces_of_calls = st.builds(
    call,
    st.integers(0, 1),
    texts,
    id=st.sampled_from([None, "a", "b"]),
    name=st.sampled_from([None, "f", "g"]),
    choice=st.integers(0, 1),
)
odd = st.sampled_from(
    [role(), DONE, chunk(finish="stop"), usage(1, 2), text("x", timings={"predicted_n": 1}), text("x", created=8),
     text("x").replace(b'"x"', b'"x","content":"y"'), text("x", logprobs={"content": []}), b": ping\n\n",
     text("x")[:-9]]
)  # fmt: skip
runs = st.lists(pieces_of_text | pieces_of_calls | odd, max_size=6).flatmap(
    lambda kinds: st.lists(st.sampled_from(kinds), max_size=30) if kinds else st.just([])
)


@given(runs | st.lists(pieces_of_text | odd, max_size=30))
def test_a_stream_means_the_same_with_and_without_the_fast_path(pieces):
    assert outcome(ChatStreamDecoder(), pieces) == outcome(Parsing(), pieces)


def test_a_call_that_takes_the_number_of_another_is_not_read_as_that_one():
    pieces = [call(0, "{", id="a", name="f"), call(0, "}"), call(0, "{", id="b", name="f"), call(0, "}")]
    deltas = outcome(ChatStreamDecoder(), pieces)[0]
    assert [delta.tool_calls[0].call_index for delta in deltas] == [0, 0, 1, 1]


@pytest.fixture
def taken(monkeypatch):
    """The deltas whose events were taken for a model."""
    deltas = []

    def noted(payload, delta):
        deltas.append(delta)
        return reader_like(payload, delta)

    monkeypatch.setattr(behind_doors.READER_LIKE, noted)
    return deltas


def test_a_model_is_taken_where_it_is_of_use(taken):
    outcome(ChatStreamDecoder(), [role(), *[text(f"word {number}") for number in range(100)]])
    assert [delta.content for delta in taken] == ["", "word 0"]


def test_models_in_vain_are_given_up(taken):
    outcome(ChatStreamDecoder(), [text("x", created=number) for number in range(100)])
    assert len(taken) == 1 + VAIN_TEMPLATES  # the first says where the reply starts


def test_models_go_on_where_one_was_of_use(taken):
    # As llama-server does: `created` is the time of the event, in seconds.
    outcome(ChatStreamDecoder(), [text("x", created=number // 20) for number in range(600)])
    assert len(taken) == 1 + 30
