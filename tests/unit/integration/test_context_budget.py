"""What is shortened of a conversation, and when: decided on counts alone."""

from collections.abc import Generator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamacpp_server import ContextOverflowError, Fit
from llamacpp_server.integration import Compaction, ContextBudget, Count, Summarize, compaction, run_steps

SUMMARY = 40


def tokens(sizes: Sequence[int], roles: Sequence[str], form: Compaction) -> int:
    """A prompt of so many tokens a message, three for a removed result and a summary's stand-in of five."""
    kept = sum(
        3 if index in form.trimmed else size
        for index, size in enumerate(sizes)
        if index >= form.start or roles[index] == "system"
    )
    return kept + (5 if form.start else 0)


def decided(
    sizes: Sequence[int],
    roles: Sequence[str],
    budget: ContextBudget,
    now: Compaction | None = None,
    context: int = 1000,
) -> Compaction:
    fits = []

    def count(step: Count[Compaction]) -> Fit:
        fits.append(step.messages[0])
        assert len(fits) < 100, "it ends"
        return Fit(tokens(sizes, roles, step.messages[0]), 1, context)

    def summarize(step: Summarize, _: str) -> Generator[None, None, str]:
        return "summary"
        yield

    last = now or Compaction(), "summary"
    steps = compaction(roles, last, budget, lambda form, summary: [form], "stand-in", summarize)
    return run_steps(steps, count).form


BUDGET = ContextBudget(answer_tokens=100, summary_tokens=SUMMARY)


def test_a_prompt_within_its_budget_is_left_alone() -> None:
    assert decided([400, 400], ["user", "assistant"], BUDGET) == Compaction()
    assert decided([401, 400], ["user", "assistant"], ContextBudget(limit=1.0, answer_tokens=199)) == Compaction()


def test_old_tool_results_go_first_and_the_newest_stay() -> None:
    roles = ["user", *["assistant", "tool"] * 5, "assistant", "user"]
    sizes = [10, *[10, 170] * 5, 10, 10]
    assert decided(sizes, roles, BUDGET).trimmed == frozenset({2, 4, 6})
    assert decided(sizes, roles, BUDGET).start == 0


def test_results_that_the_model_has_not_seen_are_never_removed() -> None:
    roles = ["user", "assistant", "tool", "tool", "tool", "tool"]
    with pytest.raises(ContextOverflowError):
        decided([10, 10, 300, 300, 300, 10], roles, BUDGET)


def test_a_summary_comes_second_and_keeps_as_much_as_fits_the_target() -> None:
    roles = ["user", "assistant"] * 10
    form = decided([50] * 20, roles, BUDGET)
    assert form == Compaction(start=12)
    assert tokens([50] * 20, roles, form) + SUMMARY <= 0.5 * 900


def test_what_was_summarized_stays_so_and_the_next_summary_goes_on_from_it() -> None:
    roles = ["user", "assistant"] * 20
    form = decided([50] * 40, roles, BUDGET, now=Compaction(start=12))
    assert form.start > 12


def test_a_message_that_is_too_long_alone_is_an_error_that_names_the_numbers() -> None:
    with pytest.raises(ContextOverflowError, match=r"does not help.* 905 tokens.*leaves 800 of") as caught:
        decided([50, 50, 900], ["user", "assistant", "user"], BUDGET)
    assert (caught.value.n_prompt_tokens, caught.value.n_ctx) == (905, 1000)
    assert "-c" in (caught.value.remedy or "")


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"limit": 0}, "limit"),
        ({"target": 0}, "target"),
        ({"target": 1.5}, "target"),
        ({"answer_tokens": 0}, "answer_tokens"),
        ({"summary_tokens": -1}, "summary_tokens"),
        ({"keep_tool_results": -1}, "keep_tool_results"),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused(options: dict[str, float], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        ContextBudget(**options)  # type: ignore[arg-type]


conversations = st.lists(st.tuples(st.sampled_from(["user", "assistant", "tool"]), st.integers(1, 1200)), max_size=30)


@given(conversations, st.booleans(), st.floats(0.05, 1), st.integers(0, 4))
def test_whatever_is_sent_keeps_the_budget_or_is_an_error(
    messages: list[tuple[str, int]], system: bool, target: float, keep: int
) -> None:
    roles = ["system"] * system + [role for role, _ in messages]
    sizes = [20] * system + [size for _, size in messages]
    budget = ContextBudget(target=target, answer_tokens=100, summary_tokens=SUMMARY, keep_tool_results=keep)
    try:
        form = decided(sizes, roles, budget)
    except ContextOverflowError:
        return
    assert tokens(sizes, roles, form) + (SUMMARY if form.start else 0) <= 800
    assert form.start == 0 or roles[form.start] not in ("tool", "system")
    assert all(roles[index] == "tool" and index >= form.start for index in form.trimmed)


def sent(summary_size: int) -> Any:
    """Twenty messages of 50 tokens, of which 900 fit, with a summary of so many tokens."""
    asked: list[Summarize] = []

    def formed(form: Compaction, summary: str) -> list[str]:
        return [*([summary] if form.start else []), *["x" * 50] * (20 - form.start)]

    def summarize(step: Summarize, _: str) -> Generator[None, None, str]:
        asked.append(step)
        return "s" * summary_size
        yield

    steps = compaction(["user", "assistant"] * 10, (Compaction(), ""), BUDGET, formed, "stand-in", summarize)
    return run_steps(steps, lambda step: Fit(sum(map(len, step.messages)), 1, 1000)), asked


def test_what_is_sent_has_the_summary_and_a_report_of_the_change() -> None:
    compacted, (step,) = sent(SUMMARY)
    assert (step.start, step.end, step.tokens) == (0, compacted.form.start, SUMMARY)
    assert compacted.messages[0] == compacted.summary == "s" * SUMMARY
    assert compacted.report == {
        "summarized_messages": compacted.form.start,
        "removed_tool_results": 0,
        "prompt_tokens": [1000, sum(map(len, compacted.messages))],
    }


def test_a_summary_that_leaves_the_prompt_over_its_budget_is_an_error() -> None:
    with pytest.raises(ContextOverflowError, match="does not help"):
        sent(900)
