"""Compaction of conversations that exceed a slot's context, with the server's own token counts.

A prompt that is over its budget is compacted in one step to a part of it (`target`), since every compaction makes the
server read the prompt from the changed place on: many small ones would read it again and again. Old tool results go
first, as the calls beside them still say what was done; a summary of the oldest messages comes next. What stays is
sent unchanged, and the same compaction is used for every later call until the budget is full once more.

`compaction` decides and does no I/O: it yields what it wants counted (`Count`), and the steps of whatever writes its
summaries, and is sent the results, as the programs of `steps.py` are.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Generic, TypeVar

from .._notices import logger
from ..errors import ContextOverflowError
from ..results import Fit

__all__ = [
    "TRIMMED",
    "Compacted",
    "Compaction",
    "ContextBudget",
    "Count",
    "Steps",
    "Summarize",
    "compaction",
    "shortened",
]

M = TypeVar("M")
S = TypeVar("S")

TRIMMED: Final = "[tool result removed to save context]"
"""The text in place of a trimmed tool result."""

_MOST_SUMMARY: Final = 512
_PART_FOR_ANSWER: Final = 8
_REMEDY: Final = (
    "shorten that message (limit what the tool returns, or split the document), raise the budget, or start the server "
    "with a larger context (-c) or fewer slots (-np)"
)


@dataclass(frozen=True, slots=True)
class ContextBudget:
    """The part of a slot's context that a prompt and its answer may fill.

    Attributes:
        limit: Maximum tokens of prompt and answer together: a fraction of the slot's context (0 < limit <= 1), or a
            number of tokens.
        target: Maximum fraction of the budget for the prompt after a compaction; a smaller one means fewer compactions.
        answer_tokens: Tokens reserved for the answer; None uses the model's `max_tokens`, else an eighth of the
            context.
        summary_tokens: Maximum tokens of a summary; None means an eighth of the context, at most 512.
        keep_tool_results: Number of the newest tool results that are never trimmed.
    """

    limit: float = 0.9
    target: float = 0.5
    answer_tokens: int | None = None
    summary_tokens: int | None = None
    keep_tool_results: int = 2

    def __post_init__(self) -> None:
        if not self.limit > 0:
            raise ValueError(f"limit must be a fraction of the context or a number of tokens, not {self.limit!r}")
        if not 0 < self.target <= 1:
            raise ValueError(f"target must be a fraction of the budget, above 0 and at most 1, not {self.target!r}")
        for name in ("answer_tokens", "summary_tokens"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value!r}")
        if self.keep_tool_results < 0:
            raise ValueError(f"keep_tool_results must not be negative, but is {self.keep_tool_results!r}")

    def room(self, fit: Fit) -> int:
        """Maximum tokens of the prompt."""
        return min(self._limit(fit), fit.available) - self.answer(fit)

    def answer(self, fit: Fit) -> int:
        """Tokens that are left for the answer; `fit` was asked without `max_tokens`, and has the model's."""
        if self.answer_tokens is not None:
            return self.answer_tokens
        return fit.answer_tokens if fit.answer_tokens > 1 else max(1, fit.available // _PART_FOR_ANSWER)

    def summary(self, fit: Fit) -> int:
        """Maximum tokens of a summary."""
        return self.summary_tokens or max(1, min(_MOST_SUMMARY, fit.available // _PART_FOR_ANSWER))

    def _limit(self, fit: Fit) -> int:
        return int(fit.available * self.limit) if self.limit <= 1 else int(self.limit)


@dataclass(frozen=True, slots=True)
class Compaction:
    """The form in which a conversation is sent.

    Attributes:
        start: Messages before this one, system messages at the head aside, are sent as their summary; 0 for none.
        trimmed: Positions of the tool results that are sent as `TRIMMED`.
    """

    start: int = 0
    trimmed: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Count(Generic[M]):
    """Step that requests the `Fit` of a prompt.

    Attributes:
        messages: The conversation.
        options: Arguments to count it with; None are those of the call: its system message, tools and settings.
    """

    messages: list[M]
    options: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Summarize:
    """Input of a summary of at most `tokens` tokens: the last summary and the messages from `start` up to `end`."""

    start: int
    end: int
    tokens: int

    @property
    def is_divisible(self) -> bool:
        """Whether there are several messages, which may be summarized one after the other."""
        return self.end - self.start > 1


@dataclass(frozen=True, slots=True)
class Compacted(Generic[M, S]):
    """A compacted conversation, as it is sent.

    Attributes:
        messages: The conversation, in its form.
        form: That form.
        summary: Summary of the messages before `form.start`.
        report: Messages summarized, tool results removed, and the prompt's tokens before and after; None where the
            form is the one in which the conversation was last sent.
    """

    messages: list[M]
    form: Compaction
    summary: S
    report: dict[str, Any] | None = None


Steps = Generator[Any, Any, Compacted[M, S]]
"""Programs that yield `Count`, and the steps of what writes their summaries."""


def compaction(
    roles: Sequence[str],
    now: tuple[Compaction, S],
    budget: ContextBudget,
    formed: Callable[[Compaction, S], list[M]],
    stand_in: S,
    summarize: Callable[[Summarize, S], Generator[Any, Any, S | None]],
) -> Steps[M, S]:
    """Compact a conversation to fit its budget.

    Args:
        roles: The role of each message: `system`, `user`, `assistant`, `tool`.
        now: The form in which it was last sent, with its summary.
        budget: What it may have.
        formed: The messages to send for a form and a summary.
        stand_in: A summary to count the prompt with, before the real one is written.
        summarize: A program that writes a summary of messages and the summary of those before them; it returns None
            where several messages are too many for one prompt, even when shortened.

    Raises:
        ContextOverflowError: If no compaction helps.
    """
    last, summary = now
    messages = formed(last, summary)
    before: Fit = yield Count(messages)
    plan = _plan(roles, last, before, budget)
    try:
        form = next(plan)
        while True:
            fit: Fit = yield Count(formed(form, summary if form.start == last.start else stand_in))
            form = plan.send(fit.prompt_tokens)
    except StopIteration as end:
        form = end.value
    if form == last:
        return Compacted(messages, form, summary)
    if form.start != last.start:
        step = Summarize(last.start, form.start, budget.summary(before))
        summary = yield from _summarized(step, summary, summarize)
    messages = formed(form, summary)
    after: Fit = yield Count(messages)
    if after.prompt_tokens > budget.room(before):
        raise _overflow(roles, after.prompt_tokens, before, budget)
    summarized, removed = form.start - last.start, len(form.trimmed - last.trimmed)
    counts = [before.prompt_tokens, after.prompt_tokens]
    logger.info(
        "compacted the conversation: summarized %d messages, removed %d tool results; %d tokens before, %d after",
        *(summarized, removed, *counts),
    )
    report = {"summarized_messages": summarized, "removed_tool_results": removed, "prompt_tokens": counts}
    return Compacted(messages, form, summary, report)


def _summarized(
    step: Summarize, summary: S, summarize: Callable[[Summarize, S], Generator[Any, Any, S | None]]
) -> Generator[Any, Any, S]:
    """Write a summary: of the older half of the messages first, where all are too many for one prompt."""
    written = yield from summarize(step, summary)
    if written is not None:
        return written
    middle = (step.start + step.end) // 2
    summary = yield from _summarized(replace(step, end=middle), summary, summarize)
    return (yield from _summarized(replace(step, start=middle), summary, summarize))


def shortened(text: str, most: int) -> str:
    """Shorten a text with more than `most` characters by omitting its middle."""
    return text if len(text) <= most else f"{text[: most // 2]}\n[...]\n{text[len(text) - most // 2 :]}"


def _plan(
    roles: Sequence[str], now: Compaction, fit: Fit, budget: ContextBudget
) -> Generator[Compaction, int, Compaction]:
    """Find the form in which a conversation keeps its budget; returns `now` where that one does.

    Args:
        roles: The role of each message: `system`, `user`, `assistant`, `tool`.
        now: The form in which it was last sent.
        fit: Its tokens in that form, and the slot's context.
        budget: What it may have.

    Yields:
        Forms to count the prompt of. Where `start` is not `now`'s, the summary is still to be written: the prompt is
        counted with a short text in its place.

    Raises:
        ContextOverflowError: If no compaction helps.
    """
    room = budget.room(fit)
    if fit.prompt_tokens <= room:
        return now
    target = min(room, int((room + budget.answer(fit)) * budget.target))
    trimmed = replace(now, trimmed=now.trimmed | _old_results(roles, now, budget.keep_tool_results))
    if trimmed != now and (yield trimmed) <= target:
        return trimmed
    starts = _starts(roles, now)
    for most in (target, room):
        for kept in (now.trimmed, trimmed.trimmed):
            found = yield from _first_that_fits(starts, kept, most - budget.summary(fit))
            if found is not None:
                return found
    tokens = fit.prompt_tokens
    if starts:
        tokens = yield Compaction(starts[-1], _from_position(trimmed.trimmed, starts[-1]))
    raise _overflow(roles, tokens, fit, budget)


def _overflow(roles: Sequence[str], tokens: int, fit: Fit, budget: ContextBudget) -> ContextOverflowError:
    """The error for a prompt that no compaction makes small enough."""
    last = roles[-1] if roles else "system"
    error = ContextOverflowError(
        f"compacting the conversation does not help: its newest part (up to a message of role {last}), the system "
        f"message and the tools need {tokens} tokens; the budget leaves {max(0, budget.room(fit))} of the slot's "
        f"{fit.available} for the prompt ({budget.answer(fit)} are kept for the answer)",
        n_prompt_tokens=tokens,
        n_ctx=fit.available,
    )
    error.remedy = _REMEDY
    return error


def _old_results(roles: Sequence[str], now: Compaction, keep: int) -> frozenset[int]:
    """Tool results that may be trimmed: not the newest, nor those that the model has not answered yet."""
    answered = max((i for i, role in enumerate(roles) if role == "assistant"), default=0)
    results = [i for i, role in enumerate(roles) if role == "tool" and i >= now.start]
    return frozenset(i for i in results[: len(results) - keep] if i < answered)


def _starts(roles: Sequence[str], now: Compaction) -> list[int]:
    """Positions where the kept part may begin: not at a tool result, which would lose its call."""
    head = next((i for i, role in enumerate(roles) if role != "system"), len(roles))
    return [i for i in range(max(head, now.start) + 1, len(roles)) if roles[i] not in ("tool", "system")]


def _first_that_fits(
    starts: Sequence[int], trimmed: Collection[int], most: int
) -> Generator[Compaction, int, Compaction | None]:
    """The form that keeps most messages of those within `most` tokens, by bisection; None where none is."""
    low, high = 0, len(starts)
    while low < high:
        middle = (low + high) // 2
        if (yield Compaction(starts[middle], _from_position(trimmed, starts[middle]))) <= most:
            high = middle
        else:
            low = middle + 1
    return Compaction(starts[low], _from_position(trimmed, starts[low])) if low < len(starts) else None


def _from_position(positions: Collection[int], start: int) -> frozenset[int]:
    return frozenset(position for position in positions if position >= start)
