"""Keep conversations within a budget of the slot's context, in the LLM's call, which alone sees complete prompts.

LlamaIndex's memories see neither an agent's tools nor its steps since the user's message (its scratchpad). So the LLM
compacts its requests, and remembers the form of each conversation's start, to send the same start again.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from llama_index.core.base.llms.types import (
    AudioBlock,
    ChatMessage,
    DocumentBlock,
    ImageBlock,
    MessageRole,
    TextBlock,
    ToolCallBlock,
    VideoBlock,
)

from llamacpp_server import ChatReply
from llamacpp_server.integration import (
    TRIMMED,
    Compacted,
    Compaction,
    ContextBudget,
    Count,
    Summarize,
    arun_steps,
    compaction,
    run_steps,
    shortened,
)

if TYPE_CHECKING:
    from .llms import LlamaServer

__all__ = ["Transcripts"]

_MOST_CONVERSATIONS: Final = 256
# What a summary names, as its model reads text alone.
_MEDIA: Final = (ImageBlock, AudioBlock, VideoBlock, DocumentBlock)
_STAND_IN: Final = "Summary of the conversation so far:"
_INSTRUCTION: Final = (
    "The following is a conversation between a user, an assistant and its tools. Summarize it: what the user wants, "
    "what was done and found, and what is still to do."
)
_ROLES: Final = {MessageRole.SYSTEM: "system", MessageRole.DEVELOPER: "system", MessageRole.TOOL: "tool",
                 MessageRole.FUNCTION: "tool", MessageRole.ASSISTANT: "assistant"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Record:
    form: Compaction
    summary: str = ""


@dataclass(frozen=True, slots=True)
class _Ask:
    """Step that requests the reply to a prompt."""

    messages: list[ChatMessage]
    options: Mapping[str, Any]


class Transcripts:
    """The last sent form of each of the newest 256 conversations."""

    def __init__(self) -> None:
        self._records: OrderedDict[str, _Record] = OrderedDict()

    def within(
        self, llm: LlamaServer, messages: Sequence[ChatMessage], kwargs: Mapping[str, Any]
    ) -> tuple[Sequence[ChatMessage], dict[str, Any] | None]:
        """Return the messages to send, and how they were compacted; None if they were not, or were already sent so.

        Raises:
            ContextOverflowError: If no compaction helps.
        """
        if (budget := llm.context_budget) is None:
            return messages, None

        def carry_out(step: Count[ChatMessage] | _Ask) -> Any:
            if isinstance(step, Count):
                return llm.fits(step.messages, **(kwargs if step.options is None else step.options))
            return llm.client.chat(llm._request(step.messages, step.options))

        return run_steps(self._program(messages, budget), carry_out)

    async def awithin(
        self, llm: LlamaServer, messages: Sequence[ChatMessage], kwargs: Mapping[str, Any]
    ) -> tuple[Sequence[ChatMessage], dict[str, Any] | None]:
        """Async version of `within`."""
        if (budget := llm.context_budget) is None:
            return messages, None

        async def carry_out(step: Count[ChatMessage] | _Ask) -> Any:
            if isinstance(step, Count):
                return await llm.afits(step.messages, **(kwargs if step.options is None else step.options))
            return await llm.async_client.chat(await llm._arequest(step.messages, step.options))

        return await arun_steps(self._program(messages, budget), carry_out)

    def _program(
        self, messages: Sequence[ChatMessage], budget: ContextBudget
    ) -> Generator[Count[ChatMessage] | _Ask, Any, tuple[list[ChatMessage], dict[str, Any] | None]]:
        digests = _digests(messages)
        record = self._recalled(digests)

        def summarize(step: Summarize, summary: str) -> Generator[Count[ChatMessage] | _Ask, Any, str | None]:
            options, prompt = {"max_tokens": step.tokens}, list[ChatMessage]()
            for prompt in _prompts(messages, summary, step):
                if (yield Count(prompt, options)):
                    break
            else:
                if step.is_divisible:
                    return None
            reply: ChatReply = yield _Ask(prompt, options)
            return f"{_STAND_IN}\n\n{reply.content}"

        roles = [_ROLES.get(message.role, "user") for message in messages]
        now = record.form, record.summary
        sent = yield from compaction(roles, now, budget, partial(_compacted, messages), _STAND_IN, summarize)
        self._remember(digests, sent)
        return sent.messages, sent.report

    def _recalled(self, digests: Sequence[str]) -> _Record:
        """The newest form of the longest known prefix."""
        for digest in reversed(digests):
            if digest in self._records:
                self._records.move_to_end(digest)
                return self._records[digest]
        return _Record(Compaction())

    def _remember(self, digests: Sequence[str], sent: Compacted[ChatMessage, str]) -> None:
        if sent.report is not None:
            last = max([sent.form.start - 1, *sent.form.trimmed])
            self._records[digests[last]] = _Record(sent.form, sent.summary)
            while len(self._records) > _MOST_CONVERSATIONS:
                self._records.popitem(last=False)


def _digests(messages: Sequence[ChatMessage]) -> list[str]:
    """One key for each prefix of a conversation."""
    seen, digests = hashlib.sha256(), list[str]()
    for message in messages:
        seen.update(repr(message.model_dump()).encode("utf-8", "replace"))
        digests.append(seen.hexdigest())
    return digests


def _compacted(messages: Sequence[ChatMessage], form: Compaction, summary: str) -> list[ChatMessage]:
    """The conversation as it is sent: leading system messages, the summary, the kept messages."""
    if not form.start:
        return [_trimmed_message(message, index in form.trimmed) for index, message in enumerate(messages)]
    system = [m for m in messages[: form.start] if _ROLES.get(m.role) == "system"]
    rest = [_trimmed_message(m, form.start + i in form.trimmed) for i, m in enumerate(messages[form.start :])]
    return [*system, ChatMessage(role=MessageRole.USER, content=summary), *rest]


def _trimmed_message(message: ChatMessage, trimmed: bool) -> ChatMessage:
    return message.model_copy(update={"blocks": [TextBlock(text=TRIMMED)]}) if trimmed else message


def _prompts(messages: Sequence[ChatMessage], summary: str, step: Summarize) -> list[list[ChatMessage]]:
    """Prompts of a summary, from long to short: the first that fits is sent."""
    parts = [summary] if summary else []
    parts += [_line(m) for m in messages[step.start : step.end] if _ROLES.get(m.role) != "system"]
    longest, prompts = max(map(len, parts), default=0), list[list[ChatMessage]]()
    while not prompts or longest > 200:
        text = "\n\n".join(shortened(part, longest) for part in parts)
        prompts.append([ChatMessage(role=MessageRole.USER, content=f"{_INSTRUCTION}\n\n{text}")])
        longest //= 2
    return prompts


def _line(message: ChatMessage) -> str:
    calls = [f"calls {b.tool_name}({b.tool_kwargs})" for b in message.blocks if isinstance(b, ToolCallBlock)]
    media = [f"[{b.block_type}]" for b in message.blocks if isinstance(b, _MEDIA)]
    return f"{message.role.value}: {' '.join([message.content or '', *media, *calls]).strip()}"
