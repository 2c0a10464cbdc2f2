"""Answers that repeat themselves without end."""

import pytest

from llamacpp_server import ChatDelta, CompletionDelta, ToolCallFragment, UnfitAnswerError
from llamacpp_server._replies import LoopFilter, answer_pieces, argument_pieces, repeated_unit, text_pieces


def fed(pieces, limit=128):
    one = LoopFilter(limit, answer_pieces)
    return [made for piece in pieces for made in one.add([ChatDelta(piece)])]


@pytest.mark.parametrize("unit", [["0"], ["\\n"], [" "], ['{"a"', ": 1}", ", "], ["word ", "by ", "word, "]])
def test_a_loop_is_stopped_and_named(unit):
    with pytest.raises(UnfitAnswerError, match="repetitive answer") as caught:
        fed(['{"list": ['] + unit * 200)
    assert caught.value.reason == "cut_off"
    assert "max_tokens" in caught.value.remedy
    assert caught.value.text.startswith('{"list": [')


def argument(text, at=0):
    return ChatDelta(tool_calls=(ToolCallFragment(at, arguments=text),))


@pytest.mark.parametrize(
    ("pieces", "made"),
    [
        (text_pieces, lambda text: CompletionDelta(text)),
        (answer_pieces, ChatDelta),
        (answer_pieces, argument),
        (argument_pieces, argument),
    ],
)
def test_completions_and_the_arguments_of_calls_are_guarded_too(pieces, made):
    one = LoopFilter(128, pieces)
    with pytest.raises(UnfitAnswerError, match="repeated '0'") as caught:
        for _ in range(200):
            one.add([made("0")])
    assert set(caught.value.text) == {"0"}


def test_each_call_and_each_answer_is_counted_alone():
    one = LoopFilter(128, argument_pieces)
    for number in range(120):
        one.add([argument("0"), argument(f"{number}, ", 1), ChatDelta("0", choice=1), ChatDelta("0")])
    for _ in range(200):
        one.add([ChatDelta("0")])  # text beside tools is not constrained


def test_text_that_continues_is_not_a_loop():
    assert len(fed([f"{number}, " for number in range(2000)])) == 2000
    assert len(fed(["0, "] * 100 + ["1, "] + ["0, "] * 100)) == 201, "shorter than the limit"


def test_units():
    assert repeated_unit("ababababababababab") == "ab"
    assert repeated_unit("babababababababab" + "ab") in ("ab", "ba")
    assert repeated_unit("abcdefgh" * 3) == "", "too few times"
    assert repeated_unit("") == ""
