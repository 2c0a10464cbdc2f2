"""Labels as trees, confidence and calibration, by numbers that are known."""

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamacpp_server import BadRequestError, Calibration, Choice, Noul, Score
from llamacpp_server._decisions import (
    answer_of,
    check_questions,
    clamped,
    labels_for,
    messages_for,
    right_position,
    rotations_of,
    tail_of,
    walk,
)
from llamacpp_server.calibration import Judged, fit_calibration, measure
from llamacpp_server.decisions import ChoiceAnswer, NoulAnswer, ScoreAnswer


def asked(question):
    return check_questions({"q": question})["q"]


def walked(paths, next_tokens, end=None):
    """The probabilities of labels where a table says what follows a path, and how often it was asked."""
    search, asked_for = walk(paths, end), []
    try:
        split = next(search)
        while True:
            prefix, tokens = split
            asked_for.append(prefix)
            split = search.send({token: next_tokens(prefix, token) for token in tokens})
    except StopIteration as stop:
        return stop.value, asked_for


def test_a_path_that_no_other_shares_is_asked_for_once():
    found, asked_for = walked([[(1, 2, 3)], [(4, 5)]], lambda _, token: {1: 0.9, 4: 0.3}[token])
    assert (found, asked_for) == (pytest.approx([0.75, 0.25]), [()])


def test_a_place_with_one_way_on_costs_nothing():
    found, asked_for = walked([[(1, 2, 3)], [(1, 2, 4)]], lambda _, token: {3: 0.1, 4: 0.3}[token])
    assert (found, asked_for) == (pytest.approx([0.25, 0.75]), [(1, 2)])


def test_spellings_of_a_label_add_up():
    found, _ = walked([[(1,), (2,)], [(3,)]], lambda _, token: {1: 0.2, 2: 0.4, 3: 0.2}[token])
    assert found == pytest.approx([0.75, 0.25])


def test_a_label_that_begins_another_ends_with_the_end_of_the_turn():
    found, _ = walked([[(1,)], [(1, 2)]], lambda _, token: {2: 0.6, 9: 0.2}[token], end=9)
    assert found == pytest.approx([0.25, 0.75])
    found, _ = walked([[(1,)], [(1, 2)]], lambda _, token: 1.0)  # no end is known
    assert found == pytest.approx([0.5, 0.5])


def test_what_hardly_ever_happens_is_not_asked_for():
    found, asked_for = walked([[(1,)], [(2, 3)], [(2, 4)]], lambda _, token: {1: 1.0, 2: 1e-6}[token])
    assert asked_for == [()]
    assert sum(found) == pytest.approx(1)


def test_a_path_that_hardly_ever_happens_takes_nothing_from_the_other_spellings():
    found, _ = walked([[(2,), (1, 3)], [(1, 4)]], lambda _, token: {1: 1e-6, 2: 1.0}[token])
    assert found == pytest.approx([1, 0], abs=1e-5)
    found, _ = walked([[(3,), (1,)], [(1, 2)]], lambda _, token: {1: 0.5, 3: 0.5, 2: 0.25, 9: 0.75}[token], end=9)
    assert found == pytest.approx([0.875, 0.125])


def test_an_end_that_is_not_known_is_as_likely_as_each_way_on():
    found, _ = walked([[(1,)], [(1, 2)], [(1, 3)]], lambda _, token: {2: 0.6, 3: 0.2}[token])
    assert found == pytest.approx([1 / 3, 1 / 2, 1 / 6])


def test_a_token_that_the_server_does_not_list_has_no_share():
    search = walk([[(1,)], [(2,)]], None)
    next(search)
    with pytest.raises(StopIteration) as stopped:
        search.send({1: 0.3})
    assert stopped.value.value == [1.0, 0.0]


PATHS = st.sets(st.lists(st.integers(0, 3), min_size=1, max_size=4).map(tuple), min_size=2, max_size=30)


@given(PATHS, st.randoms(use_true_random=False))
def test_the_probabilities_of_any_labels_sum_to_1(paths, random):
    found, _ = walked([[path] for path in sorted(paths)], lambda *_: random.random(), end=9)
    assert sum(found) == pytest.approx(1)
    assert min(found) >= 0


HOSTILE = st.text(
    st.characters(exclude_categories=["Cs"]) | st.sampled_from("\n\"'\\:{}<|>🙂"), min_size=1, max_size=20
)


@given(st.lists(HOSTILE, min_size=1, max_size=60, unique=True), st.sampled_from(["auto", "letters", "words"]))
def test_any_options_get_distinct_labels_and_a_line_each(keys, style):
    question = asked(Choice("Which?", keys))
    labels = labels_for(question, style)
    assert len(set(labels.texts)) == len(labels.spellings) == len(keys)
    (message,) = messages_for("state", [], question, labels)
    assert message["content"].startswith("state\n\n")
    if not labels.words:
        options = message["content"].split("Options:\n")[1].split("\nAnswer with")[0]
        assert len(options.split("\n")) == len(keys)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_clamped_probabilities_are_a_distribution(shares):
    found = clamped(shares)
    assert sum(found) == pytest.approx(1)
    assert all(0 <= share <= 1 for share in found)


@given(st.integers(1, 60), st.integers(1, 8))
def test_rotations_show_every_option_once_and_begin_differently(n, rotations):
    turned = rotations_of(asked(Choice("?", [str(at) for at in range(n)])), rotations)
    assert len({one.order[0] for one in turned}) == len(turned) == min(n, rotations)
    assert all(sorted(one.order) == list(range(n)) for one in turned)


def test_confidence_is_that_of_the_server():
    def confidence(question, shares):
        return answer_of(asked(question), shares, None).confidence

    choice, score = Choice("?", ["a", "b", "c", "d"]), Score("?", ["a", "b", "c"])
    assert confidence(choice, [0.25] * 4) == 0
    assert confidence(choice, [1, 0, 0, 0]) == 1
    assert confidence(choice, [0.7, 0.1, 0.1, 0.1]) == pytest.approx(0.6)
    assert confidence(score, [1, 0, 0]) == 1
    assert confidence(score, [0.5, 0.25, 0.25]) == pytest.approx(1 - 0.75 / 1)
    assert confidence(score, [0, 1, 0]) == 1
    assert confidence(Choice("?", ["a"]), [1.0]) == 1


def test_an_answer_is_its_best_option_with_the_shares_of_all():
    assert answer_of(asked(Noul("?")), [3, 1], 0.5) == NoulAnswer(0.75, 0.5)
    choice = answer_of(asked(Choice("?", ["a", "b", "c"])), [1, 2, 1], 0.5)
    shares = {"a": 0.25, "b": 0.5, "c": 0.25}
    assert choice == ChoiceAnswer("b", shares, pytest.approx(0.25), 0.5)
    score = answer_of(asked(Score("?", ["low", "fair", "high"])), [0, 1, 1], 0.5)
    legend = {0: "low", 1: "fair", 2: "high"}
    assert score == ScoreAnswer(1.5, legend, {0: 0, 1: 0.5, 2: 0.5}, pytest.approx(0.25), 0.5)


def test_probabilities_that_say_nothing_are_equal():
    assert clamped([0, 0]) == [0.5, 0.5]
    assert clamped([-1, 1]) == [0, 1]


@pytest.mark.parametrize(
    ("question", "right", "position"),
    [(Noul("?"), True, 0), (Noul("?"), False, 1), (Noul("?"), "false", 1), (Choice("?", ["a", "b"]), "b", 1),
     (Choice("?", ["1", "2"]), 2, 1), (Score("?", ["low", "high"]), 1, 1), (Score("?", ["low", "high"]), "0", 0)],
)  # fmt: skip
def test_the_right_answer_of_an_example_is_found_among_the_options(question, right, position):
    assert right_position(asked(question), right) == position


@pytest.mark.parametrize(
    ("question", "wrong"),
    [(Choice("?", ["a", "True"]), True), (Score("?", ["low", "high"]), 2), (Score("?", ["low", "high"]), True),
     (Noul("?"), "yes")],
)  # fmt: skip
def test_a_right_answer_that_is_not_an_option_is_refused_by_its_question(question, wrong):
    with pytest.raises(BadRequestError, match=f"{wrong!r} is not an answer to the question 'q'"):
        right_position(asked(question), wrong)


@pytest.mark.parametrize(
    ("prompt", "tail"),
    [
        ("<|im_start|>assistant\n", ""),
        ("assistant\n<think>", "\n\n</think>\n\n"),
        ("assistant\n<think>\n", "\n</think>\n\n"),
        ("assistant\n<think>\n\n</think>\n\n", ""),
        ("what does <think> mean?\n<|im_end|>assistant\n", ""),
        ("<|end|><|start|>assistant", "<|channel|>final<|message|>"),
    ],
)
def test_reasoning_that_is_open_is_closed(prompt, tail):
    assert tail_of(prompt).text == tail


def overconfident(n):
    """Answers that say 0.9 and are right in 3 of 5."""
    return [("choice", "q", [0.9, 0.05, 0.05], 0 if at % 5 < 3 else 1 + at % 2) for at in range(n)]


def test_measures_are_those_of_the_books():
    quality = measure([("noul", "q", [0.8, 0.2], 0), ("noul", "q", [0.8, 0.2], 1)])
    assert quality.n == 2
    assert quality.accuracy == 0.5
    assert quality.brier == pytest.approx((0.08 + 1.28) / 2)
    assert quality.ece == pytest.approx(0.3)
    assert math.isnan(measure([]).accuracy)


def test_a_temperature_makes_confidence_honest_and_keeps_the_choice():
    report = fit_calibration(overconfident(100))
    assert report.before.ece == pytest.approx(0.3)
    assert report.after.ece < 0.01
    assert report.after.brier < report.before.brier
    assert report.after.accuracy == report.before.accuracy == 0.6


def test_a_few_examples_do_not_make_all_options_equal():
    wrong = [("choice", "q", [0.6, 0.4], 1)]
    assert 1 < fit_calibration(wrong).calibration.temperatures["choice"] < 2
    right = [("choice", "q", [0.6, 0.4], 0)]
    assert 0.5 < fit_calibration(right).calibration.temperatures["choice"] < 1


def test_a_temperature_and_offsets_that_distorted_the_answers_are_found_together():
    true, offsets, random = [[0.7, 0.2, 0.1], [0.2, 0.5, 0.3], [0.1, 0.3, 0.6]], [1.5, -0.5, -1.0], Random(2)
    judged: list[Judged] = []
    for _ in range(2000):
        shares = random.choice(true)
        right = random.choices(range(3), shares)[0]
        # What a calibration with a temperature of 2.5 and these offsets turns into `shares`.
        raised = [share**2.5 / math.exp(offset) for share, offset in zip(shares, offsets, strict=True)]
        judged.append(("choice", "q", [one / sum(raised) for one in raised], right))
    found = fit_calibration(judged, offsets=True).calibration
    assert found.temperatures["choice"] == pytest.approx(2.5, rel=0.15)
    assert found.offsets["q"] == pytest.approx(offsets, abs=0.2)


def test_what_a_fit_is_worth_is_measured_on_examples_that_it_did_not_see():
    random = Random(1)
    noise: list[Judged] = [("choice", "q", [0.4, 0.3, 0.3], random.randrange(3)) for _ in range(30)]
    report = fit_calibration(noise, offsets=True)
    assert report.held_out.n == report.after.n == 30
    assert report.held_out.brier > report.after.brier


def test_letters_are_the_labels_of_a_choice_unless_words_are_asked_for():
    question = asked(Choice("Which?", ["tea", "milk"]))
    assert labels_for(question, "auto").texts == labels_for(question, "letters").texts == ("A", "B")
    assert labels_for(question, "words").texts == ("tea", "milk")


def test_offsets_take_away_a_preference_for_an_option():
    judged = [("choice", "q", [0.6, 0.4] if right == 0 else [0.52, 0.48], right) for right in (0, 1) * 20]
    assert fit_calibration(judged).after.accuracy == 0.5
    assert fit_calibration(judged, offsets=True).after.accuracy == 1.0


def test_a_calibration_is_saved_and_read_again(tmp_path):
    fit = fit_calibration(overconfident(20), offsets=True).calibration
    fit.save(tmp_path / "fit.json")
    assert Calibration.load(tmp_path / "fit.json") == fit
    with pytest.raises(ValueError, match="not a calibration"):
        Calibration.from_json('{"a": 1}')
    with pytest.raises(ValueError, match="for 3 options, not 2"):
        fit.apply("choice", "q", [0.5, 0.5])


@given(st.lists(st.floats(0, 1), min_size=2, max_size=9), st.floats(0.1, 10))
def test_a_temperature_never_changes_the_order(shares, temperature):
    found = Calibration({"noul": temperature}).apply("noul", "q", clamped(shares))
    best = max(clamped(shares))
    assert found[clamped(shares).index(best)] == max(found)
    assert sum(found) == pytest.approx(1)


def test_yes_comes_first_and_descriptions_are_shown():
    question = asked(Noul("Late?", true="after noon"))
    (message,) = messages_for("x", [], question, labels_for(question, "auto"))
    assert "yes: after noon" in message["content"]
    assert "no:" not in message["content"]
