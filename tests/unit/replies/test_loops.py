"""Answers that repeat themselves without end."""

import pytest

from llamacpp_server import ChatDelta, UnfitAnswerError
from llamacpp_server._replies import LoopFilter, repeated_unit


def fed(pieces, limit=128):
    one = LoopFilter(limit)
    return [made for piece in pieces for made in one.add([ChatDelta(piece)])]


@pytest.mark.parametrize("unit", [["0"], ["\\n"], [" "], ['{"a"', ": 1}", ", "], ["word ", "by ", "word, "]])
def test_a_loop_is_stopped_and_named(unit):
    with pytest.raises(UnfitAnswerError, match="repetitive answer") as caught:
        fed(['{"list": ['] + unit * 200)
    assert caught.value.reason == "cut_off"
    assert "max_tokens" in caught.value.remedy
    assert caught.value.text.startswith('{"list": [')


def test_text_that_goes_on_is_no_loop():
    assert len(fed([f"{number}, " for number in range(2000)])) == 2000
    assert len(fed(["0, "] * 100 + ["1, "] + ["0, "] * 100)) == 201, "shorter than the limit"


def test_units():
    assert repeated_unit("ababababababababab") == "ab"
    assert repeated_unit("babababababababab" + "ab") in ("ab", "ba")
    assert repeated_unit("abcdefgh" * 3) == "", "too few times"
    assert repeated_unit("") == ""
