"""Fold deltas into a complete reply."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain, groupby
from typing import Any, TypeVar

from ..replies import (
    ChatChoice,
    ChatDelta,
    ChatReply,
    CompletionChoice,
    CompletionDelta,
    CompletionReply,
    ReplyStart,
    ToolCall,
    Usage,
)

D = TypeVar("D", ChatDelta, CompletionDelta)


class _Choice:
    """A choice being assembled."""

    __slots__ = ("calls", "finish_reason", "logprobs", "raw", "text", "thinking", "tokens")

    def __init__(self) -> None:
        self.text: list[str] = []
        self.thinking: list[str] = []
        self.tokens: list[int] = []
        self.calls: dict[int, list[str]] = {}
        self.logprobs: list[Any] = []
        self.finish_reason: str | None = None
        self.raw: dict[str, Any] = {}

    def add(self, delta: ChatDelta | CompletionDelta) -> None:
        if delta.finish_reason:
            self.finish_reason = delta.finish_reason
        if delta.raw:
            self.raw.update(delta.raw)
        if delta.logprobs:
            self.logprobs += delta.logprobs.get("content") or ()
        if isinstance(delta, CompletionDelta):
            self.text.append(delta.text)
            self.tokens += delta.tokens
            return
        self.text.append(delta.content)
        self.thinking.append(delta.reasoning_content)
        for index, *pieces in delta.tool_calls:
            call = self.calls.setdefault(index, ["", "", ""])
            for place, piece in enumerate(pieces):
                call[place] += piece

    def all_logprobs(self) -> Any:
        return {"content": self.logprobs} if self.logprobs else None


def fold_chat(deltas: Iterable[ChatDelta]) -> ChatReply:
    """Fold a stream of deltas into the complete reply."""
    choices, start, usages, timings = _fold(deltas)
    usage = None
    if usages:
        # One usage comes for each choice, all of them for the same prompt; older builds sent some twice.
        usages = usages[-len(choices) :]
        first, thought = usages[0], usages[-1].reasoning_tokens
        usage = Usage(first.prompt_tokens, sum(u.completion_tokens for u in usages), first.cached_tokens, thought)
    return ChatReply(
        tuple(
            ChatChoice(
                "".join(choice.text),
                "".join(choice.thinking),
                tuple(ToolCall(*pieces) for _, pieces in sorted(choice.calls.items())),
                choice.finish_reason,
                choice.all_logprobs(),
            )
            for choice in choices
        ),
        start,
        usage,
        timings,
        {name: value for choice in reversed(choices) for name, value in choice.raw.items()},
    )


def fold_completion(deltas: Iterable[CompletionDelta]) -> CompletionReply:
    """Fold a stream of deltas into the complete completion."""
    choices, start, usages, timings = _fold(deltas)
    usage = None
    if usages:
        cached = [u.cached_tokens for u in usages if u.cached_tokens is not None]
        usage = Usage(
            sum(u.prompt_tokens for u in usages),
            sum(u.completion_tokens for u in usages),
            sum(cached) if cached else None,
        )
    return CompletionReply(
        tuple(
            CompletionChoice("".join(c.text), tuple(c.tokens), c.finish_reason, c.all_logprobs(), c.raw)
            for c in choices
        ),
        start,
        usage,
        timings,
    )


def _fold(deltas: Iterable[ChatDelta | CompletionDelta]) -> tuple[list[_Choice], ReplyStart, list[Usage], Any]:
    choices: dict[int, _Choice] = {}
    usages: list[Usage] = []
    start, timings = ReplyStart(), None
    for delta in deltas:
        choices.setdefault(delta.choice, _Choice()).add(delta)
        if delta.usage:
            usages.append(delta.usage)
        start, timings = delta.start or start, delta.timings or timings
        if isinstance(delta, ChatDelta) and delta.repairs:
            start = replace(start, repairs=(*start.repairs, *delta.repairs))
    return [choices[index] for index in sorted(choices)] or [_Choice()], start, usages, timings


def join_texts(deltas: Sequence[D]) -> list[D]:
    """Fewer deltas with the same sum: neighbours with nothing but text (or tokens) of one choice become one."""
    joined: list[D] = []
    for choice, run in groupby(deltas, lambda delta: delta.choice if _has_text_alone(delta) else None):
        if choice is None:
            joined += run
            continue
        kind = type(deltas[0])
        texts, others = zip(*(delta[:2] for delta in run), strict=True)
        other = "".join(others) if kind is ChatDelta else tuple(chain.from_iterable(others))
        joined.append(kind("".join(texts), other, choice=choice))  # type: ignore[arg-type]  # reasoning or tokens
    return joined


def _has_text_alone(delta: ChatDelta | CompletionDelta) -> bool:
    return delta[2:] == type(delta)(choice=delta.choice)[2:]
