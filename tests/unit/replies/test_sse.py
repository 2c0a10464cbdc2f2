"""Bytes of an event stream -> payloads, whatever the pieces in which they come."""

import itertools
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llamacpp_server import MalformedReplyError
from llamacpp_server._replies import (
    SSEDecoder,
)
from tests import behind_doors


def decode(*pieces):
    decoder = SSEDecoder()
    return [payload for piece in pieces for payload in decoder.feed(piece)] + decoder.close()


def reference(stream):
    """The same by the letter of the standard, on the whole at once."""
    payloads, data = [], []
    for line in [*stream.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"), b""]:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if not line and data:
            payloads.append(b"\n".join(data))
            data = []
        elif name == b"data":
            data.append(value)
        elif name == b"error":
            data.append(b'{"error":' + value + b"}")
    return payloads


def pieces_of(stream, cuts):
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    return [stream[a:b] for a, b in itertools.pairwise(edges)]


LINES = st.sampled_from(
    [b"data: {}", b'data: {"a":1}', b"data:x", b"data:  two", b"data:", b"data", b": ping", b":", b"event: message",
     b"id: 1", b"retry: 5", b"data: null", b"data: [DONE]", b'error: {"code":500}', b"", b"", b"", b"junk", b"data : x",
     'data: "\u2028\u2029\u0085\x0b\x0c\x1c"'.encode(), b"data: \xff\xfe", b"\xef\xbb\xbf"]
)  # fmt: skip
STREAMS = st.lists(st.tuples(LINES, st.sampled_from([b"\n", b"\r\n", b"\r"]))).map(
    lambda lines: b"".join(line + end for line, end in lines)
)


@given(STREAMS, st.lists(st.integers(0, 400), max_size=12))
@example(b"data: a\r\ndata: b\r\n\r\n", [8, 8])
def test_every_split_gives_what_the_standard_says(stream, cuts):
    expected = reference(stream)
    assert decode(stream) == expected
    assert decode(*pieces_of(stream, cuts)) == expected
    assert decode(*(bytes([byte]) for byte in stream)) == expected


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=6))
def test_any_bytes_at_all_give_the_same_under_every_split(stream, cuts):
    assert decode(*pieces_of(stream, cuts)) == decode(stream)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_the_three_ends_of_line(end):
    assert decode(b"data: a" + end + end + b"data: b" + end + end) == [b"a", b"b"]


def test_the_usual_stream_takes_the_short_way_and_gives_the_same():
    events = [b'{"n":%d}' % n for n in range(5)]
    stream = b"".join(b"data: " + event + b"\n\n" for event in events)
    decoder = SSEDecoder()
    assert decoder.feed(stream) == events
    assert decoder.close() == []


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\u0085", "\x0b", "\x0c", "\x1c"])
def test_a_character_that_str_splitlines_would_cut_at_stays_inside_its_json(separator):
    payload = f'{{"content":"a{separator}b"}}'.encode()
    assert len(payload.decode().splitlines()) == 2
    assert decode(b"data: " + payload + b"\n\n") == [payload]


def test_several_data_lines_are_one_payload():
    assert decode(b"data: {\ndata:  1\ndata\ndata: }\n\n") == [b"{\n 1\n\n}"]


def test_comments_and_other_fields_say_nothing():
    assert decode(b": ping\n\n:\n\nevent: message\nid: 7\nretry: 1\ndata: x\n\n") == [b"x"]


def test_one_space_after_the_colon_is_dropped_and_no_more():
    assert decode(b"data:a\n\ndata: b\n\ndata:  c\n\n") == [b"a", b"b", b" c"]


def test_an_error_line_of_an_old_build_comes_out_as_an_error_object():
    assert decode(b'error: {"code":500,"message":"m"}\n\n') == [b'{"error":{"code":500,"message":"m"}}']


def test_an_event_without_its_blank_line_comes_at_the_end():
    decoder = SSEDecoder()
    assert decoder.feed(b"data: a\n\ndata: b") == [b"a"]
    assert decoder.close() == [b"b"]
    assert decoder.close() == []


def test_a_character_may_be_cut_between_its_bytes():
    payload = "data: 日本語 🦙\n\n".encode()
    for cut in range(len(payload)):
        assert decode(payload[:cut], payload[cut:]) == ["日本語 🦙".encode()]


class Counted(bytearray):
    """A line buffer that counts how many of its bytes are looked at."""

    looked_at = 0

    def __bytes__(self):
        Counted.looked_at += len(self)
        return bytes(memoryview(self))

    def find(self, *args):
        Counted.looked_at += len(self)
        return super().find(*args)

    index = count = split = partition = endswith = find


class CountedPattern:
    """The pattern for line ends, counting the bytes that it searches."""

    searched = 0

    def split(self, data):
        CountedPattern.searched += len(data)
        return re.split(b"\r\n|\n|\r", data)


def test_a_huge_event_in_small_pieces_is_looked_at_a_fixed_number_of_times(monkeypatch):
    monkeypatch.setattr(behind_doors.LINE_END, CountedPattern())
    monkeypatch.setattr(Counted, "looked_at", 0)
    monkeypatch.setattr(CountedPattern, "searched", 0)
    decoder = SSEDecoder()
    decoder._line = Counted()
    piece, pieces = b"x" * 1000, 2000
    for part in [b"data: ", *[piece] * pieces]:
        assert decoder.feed(part) == []
    assert Counted.looked_at == 0
    assert decoder.feed(b"\n\n") == [piece * pieces]
    total = pieces * len(piece)
    assert total <= Counted.looked_at <= 2 * total
    assert total <= CountedPattern.searched <= 2 * total


def test_an_endless_line_is_given_up_before_it_fills_the_memory(monkeypatch):
    monkeypatch.setattr(behind_doors.MOST_BYTES_OF_AN_EVENT, 1000)
    decoder = SSEDecoder()
    with pytest.raises(MalformedReplyError, match="longer than 1000 bytes"):
        for _ in range(200):
            decoder.feed(b"data: " + b"x" * 10)


def test_an_endless_event_of_many_lines_is_given_up_too(monkeypatch):
    monkeypatch.setattr(behind_doors.MOST_BYTES_OF_AN_EVENT, 1000)
    decoder = SSEDecoder()
    with pytest.raises(MalformedReplyError, match="longer than 1000 bytes"):
        for _ in range(200):
            decoder.feed(b"data: 0123456789\n")


def test_many_events_may_be_longer_than_one_may_be(monkeypatch):
    monkeypatch.setattr(behind_doors.MOST_BYTES_OF_AN_EVENT, 1000)
    decoder = SSEDecoder()
    payloads = [p for _ in range(200) for p in decoder.feed(b": x\ndata: 0123456789\n\n")]
    assert payloads == [b"0123456789"] * 200


def test_an_event_may_be_exactly_as_long_as_the_bound_again_and_again(monkeypatch):
    monkeypatch.setattr(behind_doors.MOST_BYTES_OF_AN_EVENT, 1000)
    decoder = SSEDecoder()
    line, fits = b"data: ", b"x" * 994
    for _ in range(3):
        assert decoder.feed(line + fits + b"\n") + decoder.feed(b"\n") == [fits]
    with pytest.raises(MalformedReplyError):
        decoder.feed(line + fits + b"y\n")


def test_a_piece_that_looks_like_an_event_is_a_part_of_the_one_that_has_begun():
    assert decode(b'data: "', b'data: x"\n\n') == [b'"data: x"']
    assert decode(b"data: a\n", b"data: b\n\n") == [b"a\nb"]
    assert decode(b"data: a\rdata: b\n\n") == [b"a\nb"]


def test_what_belongs_to_no_event_stream_is_kept_in_part():
    decoder = SSEDecoder()
    decoder.feed(b'event: x\nid: 1\nretry: 1\n{"a":\n 1}\ndata: x\n')
    assert decoder.foreign == b'{"a": 1}'
    decoder.feed(b"".join(b"x" * 1000 + b"\n" for _ in range(1000)))
    assert 4000 <= len(decoder.foreign) < 8000
