"""Conversations kept within a budget of the slot's context, at the one place that sees whole prompts: the LLM's call.

LlamaIndex's memories see neither an agent's tools nor what it did since the user's message (its scratchpad). So the LLM
compacts what it sends, and remembers for the beginning of each conversation how, to send the same beginning again.
"""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from llama_index.core.base.llms.types import ChatMessage, MessageRole, TextBlock, ToolCallBlock

from llamacpp_server import Fit
from llamacpp_server.integration import TRIMMED, Compaction, ContextBudget, compact, context_overflow

__all__ = ["Count", "Summarize", "Transcripts"]

logger = logging.getLogger("llamacpp_server")

_MOST_CONVERSATIONS: Final = 256
_STAND_IN: Final = "Summary of the conversation so far:"
_INSTRUCTION: Final = (
    "The following is a conversation between a user, an assistant and its tools. Summarize it: what the user wants, "
    "what was done and found, and what is still to do."
)
_ROLES: Final = {MessageRole.SYSTEM: "system", MessageRole.DEVELOPER: "system", MessageRole.TOOL: "tool",
                 MessageRole.FUNCTION: "tool", MessageRole.ASSISTANT: "assistant"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Count:
    """Asks for the tokens of these messages, with the call's tools."""

    messages: list[ChatMessage]


@dataclass(frozen=True, slots=True)
class Summarize:
    """Asks the model for the text of a summary; `prompts` are the same from long to short, for the first that fits."""

    prompts: list[list[ChatMessage]]
    tokens: int


@dataclass(frozen=True, slots=True)
class _Record:
    form: Compaction
    summary: str = ""


class Transcripts:
    """In which form each conversation was last sent; of the newest 256."""

    def __init__(self) -> None:
        self._records: OrderedDict[str, _Record] = OrderedDict()

    def within(
        self, messages: Sequence[ChatMessage], budget: ContextBudget
    ) -> Generator[Count | Summarize, Any, list[ChatMessage]]:
        """The messages to send: everything but the waiting.

        Raises:
            ContextOverflowError: When no compaction helps.
        """
        digests = _digests(messages)
        record = self._recalled(digests)
        sent = _formed(messages, record.form, record.summary)
        before: Fit = yield Count(sent)
        roles = [_ROLES.get(message.role, "user") for message in messages]
        plan = compact(roles, record.form, before, budget)
        try:
            form = next(plan)
            while True:
                summary = record.summary if form.start == record.form.start else _STAND_IN
                fit: Fit = yield Count(_formed(messages, form, summary))
                form = plan.send(fit.prompt_tokens)
        except StopIteration as end:
            form = end.value
        if form == record.form:
            return sent
        summary = record.summary
        if form.start != record.form.start:
            summary = f"{_STAND_IN}\n\n{(yield _summarize(messages, record, form, budget.summary(before)))}"
        sent = _formed(messages, form, summary)
        after: Fit = yield Count(sent)
        if after.prompt_tokens > budget.room(before):
            raise context_overflow(roles, after.prompt_tokens, before, budget)
        logger.info(
            "compacted the conversation: summarized %d messages, removed %d tool results; %d tokens instead of %d",
            form.start - record.form.start,
            len(form.trimmed - record.form.trimmed),
            after.prompt_tokens,
            before.prompt_tokens,
        )
        self._remember(digests, _Record(form, summary))
        return sent

    def _recalled(self, digests: Sequence[str]) -> _Record:
        """The newest form of the longest beginning that is known."""
        for digest in reversed(digests):
            if digest in self._records:
                self._records.move_to_end(digest)
                return self._records[digest]
        return _Record(Compaction())

    def _remember(self, digests: Sequence[str], record: _Record) -> None:
        last = max([record.form.start - 1, *record.form.trimmed])
        self._records[digests[last]] = record
        while len(self._records) > _MOST_CONVERSATIONS:
            self._records.popitem(last=False)


def _digests(messages: Sequence[ChatMessage]) -> list[str]:
    """One for each beginning of a conversation."""
    seen, digests = hashlib.sha256(), list[str]()
    for message in messages:
        seen.update(repr(message.model_dump()).encode("utf-8", "replace"))
        digests.append(seen.hexdigest())
    return digests


def _formed(messages: Sequence[ChatMessage], form: Compaction, summary: str) -> list[ChatMessage]:
    """The conversation in the form in which it is sent: system messages at its head, the summary, what stays."""
    if not form.start:
        return [_kept(message, index in form.trimmed) for index, message in enumerate(messages)]
    system = [m for m in messages[: form.start] if _ROLES.get(m.role) == "system"]
    rest = [_kept(m, form.start + i in form.trimmed) for i, m in enumerate(messages[form.start :])]
    return [*system, ChatMessage(role=MessageRole.USER, content=summary), *rest]


def _kept(message: ChatMessage, trimmed: bool) -> ChatMessage:
    return message.model_copy(update={"blocks": [TextBlock(text=TRIMMED)]}) if trimmed else message


def _summarize(messages: Sequence[ChatMessage], record: _Record, form: Compaction, tokens: int) -> Summarize:
    parts = [record.summary] if record.summary else []
    parts += [_line(m) for m in messages[record.form.start : form.start] if _ROLES.get(m.role) != "system"]
    longest, prompts = max(map(len, parts)), list[list[ChatMessage]]()
    while not prompts or longest > 200:
        text = "\n\n".join(_shortened(part, longest) for part in parts)
        prompts.append([ChatMessage(role=MessageRole.USER, content=f"{_INSTRUCTION}\n\n{text}")])
        longest //= 2
    return Summarize(prompts, tokens)


def _line(message: ChatMessage) -> str:
    calls = [f"calls {b.tool_name}({b.tool_kwargs})" for b in message.blocks if isinstance(b, ToolCallBlock)]
    return f"{message.role.value}: {' '.join([message.content or '', *calls]).strip()}"


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most // 2]}\n[...]\n{text[len(text) - most // 2 :]}"
