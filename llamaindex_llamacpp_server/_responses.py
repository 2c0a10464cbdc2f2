"""Convert the server's answers to LlamaIndex responses. Streams keep the message so far instead of folding it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    ContentBlock,
    LogProb,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)

from llamacpp_server import (
    ChatChoice,
    ChatDelta,
    ChatReply,
    CompletionDelta,
    CompletionReply,
    ReplyStart,
    Timings,
    ToolCall,
    ToolCallFragment,
    Usage,
    fold_chat,
    fold_completion,
)
from llamacpp_server.wire import LogprobsDict

from ._fast_models import quick_call, quick_message, quick_response, quick_text
from ._tools import call_dict, invalid_calls

__all__ = [
    "ChatState",
    "CompletionState",
    "chat_response",
    "completion_response",
    "completion_to_chat",
    "chat_to_completion",
]


def chat_response(reply: ChatReply, context: Mapping[str, Any] | None = None) -> ChatResponse:
    """The whole answer.

    Args:
        reply: Of the server.
        context: How the conversation was compacted for it; None where it was not.
    """
    calls = reply.tool_calls
    details = _details(reply)
    if context is not None:
        details["context"] = dict(context)
    if invalid := invalid_calls(calls):
        details["invalid_tool_calls"] = invalid
    return ChatResponse(
        message=_message(
            reply.content,
            [ThinkingBlock(content=reply.reasoning_content)] if reply.reasoning_content else [],
            [_block(call) for call in calls],
            [call_dict(call) for call in calls],
        ),
        raw=_raw_chat(reply),
        logprobs=logprobs(reply.logprobs),
        additional_kwargs=details,
    )


class ChatState:
    """Keeps the message so far, and makes one response for each delta that adds something to it.

    Args:
        context: As for `chat_response`.
    """

    def __init__(self, context: Mapping[str, Any] | None = None) -> None:
        self._context = context
        self._text = ""
        self._thinking = ""
        self._thought: tuple[ContentBlock, ...] = ()
        self._calls: dict[int, tuple[str, str, str]] = {}
        self._blocks: dict[int, ToolCallBlock] = {}
        self._dicts: dict[int, dict[str, Any]] = {}
        self._raw: dict[str, Any] = {}
        self._asides: list[ChatDelta] = []

    def add(self, delta: ChatDelta) -> ChatResponse | None:
        """Return the message with `delta` added; None if it adds nothing to show."""
        content, thinking, fragments, finish, choice, probs, usage, timings, progress, start, repairs, _ = delta
        if finish or choice or probs or usage or timings or start or repairs:
            self._note(delta)
        if choice or not (content or thinking or fragments or probs or progress):
            return None
        details: dict[str, Any] = {}
        if content:
            self._text += content
        if thinking:
            self._thinking += thinking
            self._thought = (ThinkingBlock(content=self._thinking),)
            details["thinking_delta"] = thinking
        for fragment in fragments:
            self._extend_call(fragment)
        if timings is not None:
            details["timings"] = timings.as_dict()
        if progress is not None:
            details["prompt_progress"] = progress.as_dict()
        text = quick_text(self._text)
        blocks = [*self._thought, text, *self._blocks.values()] if self._thought or self._blocks else [text]
        calls = {"tool_calls": list(self._dicts.values())} if self._dicts else {}
        message = quick_message(blocks, calls)
        return quick_response(message, content, self._raw, details, logprobs(probs) if probs else None)

    def last(self) -> ChatResponse:
        """Return the complete answer with usage, timings and finish reason: the end of every stream."""
        aside = fold_chat(self._asides)
        calls = tuple(ToolCall(*parts) for _, parts in sorted(self._calls.items()))
        said = replace(aside.choices[0], content=self._text, reasoning_content=self._thinking, tool_calls=calls)
        reply = replace(aside, choices=(said, *aside.choices[1:]))
        response = chat_response(reply, self._context)
        response.delta = ""
        response.logprobs = None
        return response

    def _note(self, delta: ChatDelta) -> None:
        """Keep data shown only at the end, so that tokens need not be kept and folded."""
        if delta.start is not None:
            self._raw = _start_fields(delta.start)
        self._asides.append(delta if delta.choice else delta._replace(content="", reasoning_content="", tool_calls=()))

    def _extend_call(self, fragment: ToolCallFragment) -> None:
        index, call_id, name, arguments = fragment
        known = self._calls.get(index)
        if known is not None:
            call_id, name, arguments = known[0] + call_id, known[1] + name, known[2] + arguments
        self._calls[index] = call_id, name, arguments
        self._blocks[index] = quick_call(call_id, name, arguments)
        self._dicts[index] = {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def completion_response(reply: CompletionReply) -> CompletionResponse:
    """The whole completion."""
    return CompletionResponse(
        text=reply.text,
        raw=_raw_completion(reply),
        logprobs=logprobs(reply.choices[0].logprobs),
        additional_kwargs=_details(reply),
    )


class CompletionState:
    """Keeps the text so far, and makes one response for each delta that adds something to it."""

    __slots__ = ("_deltas", "_raw", "_text")

    def __init__(self) -> None:
        self._deltas: list[CompletionDelta] = []
        self._text = ""
        self._raw: dict[str, Any] = {}

    def add(self, delta: CompletionDelta) -> CompletionResponse | None:
        """Return the text with `delta` added; None if it adds nothing to show."""
        self._deltas.append(delta)
        if delta.start is not None:
            self._raw = _start_fields(delta.start)
        if delta.choice or not (delta.text or delta.logprobs):
            return None
        self._text += delta.text
        return CompletionResponse(
            text=self._text, delta=delta.text, raw=self._raw, logprobs=logprobs(delta.logprobs), additional_kwargs={}
        )

    def last(self) -> CompletionResponse:
        """Return the complete completion with usage, timings and finish reason."""
        response = completion_response(fold_completion(self._deltas))
        response.delta = ""
        response.logprobs = None
        return response


def chat_to_completion(response: ChatResponse) -> CompletionResponse:
    """Convert a chat's answer to a completion's: the text, with everything else as additional data."""
    message = response.message
    details = {**message.additional_kwargs, **response.additional_kwargs}
    thinking = [block.content for block in message.blocks if isinstance(block, ThinkingBlock)]
    if thinking:
        details["thinking"] = thinking[0]
    return CompletionResponse(
        text=message.content or "",
        delta=response.delta,
        raw=response.raw,
        logprobs=response.logprobs,
        additional_kwargs=details,
    )


def completion_to_chat(response: CompletionResponse) -> ChatResponse:
    """Convert a text model's completion to the answer of a chat."""
    return ChatResponse(
        message=_message(response.text, [], [], []),
        delta=response.delta,
        raw=response.raw,
        logprobs=response.logprobs,
        additional_kwargs=response.additional_kwargs,
    )


def logprobs(wire: LogprobsDict | None) -> list[list[LogProb]] | None:
    """Each token followed by its alternatives; None if not requested."""
    entries = (wire or {}).get("content")
    if not entries:
        return None
    return [
        [_logprob(entry), *(_logprob(other) for other in _alternatives(entry) if other.get("id") != entry.get("id"))]
        for entry in entries
    ]


def _alternatives(entry: Any) -> list[Any]:
    return entry.get("top_logprobs") or entry.get("top_probs") or []


def _logprob(entry: Any) -> LogProb:
    value = entry.get("logprob")
    if value is None:
        probability = entry.get("prob") or 0.0
        value = math.log(probability) if probability > 0 else -math.inf
    return LogProb(token=entry.get("token") or "", logprob=value, bytes=entry.get("bytes") or [])


def _message(
    text: str, thought: list[Any], calls: Iterable[ContentBlock], dicts: Sequence[dict[str, Any]]
) -> ChatMessage:
    """Reasoning, text, calls: LlamaIndex's order. The text is always there, even if empty."""
    # `process_streaming_objects` of the core looks for calls in additional_kwargs only.
    return ChatMessage(
        role=MessageRole.ASSISTANT,
        blocks=[*thought, TextBlock(text=text), *calls],
        additional_kwargs={"tool_calls": list(dicts)} if dicts else {},
    )


def _block(call: ToolCall) -> ToolCallBlock:
    return ToolCallBlock(tool_call_id=call.id, tool_name=call.name, tool_kwargs=call.arguments)


def _details(reply: ChatReply | CompletionReply) -> dict[str, Any]:
    """Additional kwargs of a response: the flat names of LlamaIndex's own integrations, and the server's."""
    details: dict[str, Any] = {"finish_reason": reply.finish_reason, "model": reply.start.model, "id": reply.start.id}
    if reply.start.system_fingerprint:
        details["build"] = reply.start.system_fingerprint
    if reply.usage is not None:
        details["prompt_tokens"] = reply.usage.prompt_tokens
        details["completion_tokens"] = reply.usage.completion_tokens
        details["total_tokens"] = reply.usage.total_tokens
        if reply.usage.cached_tokens is not None:
            details["cached_tokens"] = reply.usage.cached_tokens
        if reply.usage.reasoning_tokens is not None:
            details["reasoning_tokens"] = reply.usage.reasoning_tokens
    if reply.timings is not None:
        details["timings"] = reply.timings.as_dict()
    if reply.start.repairs:
        details["llamacpp"] = {"repairs": [repair.as_dict() for repair in reply.start.repairs]}
    return details


def _start_fields(start: ReplyStart) -> dict[str, Any]:
    return {
        "id": start.id,
        "model": start.model,
        "created": start.created,
        "system_fingerprint": start.system_fingerprint,
    }


def _raw_chat(reply: ChatReply) -> dict[str, Any]:
    """The reply in the server's format, as a plain dict: LlamaIndex's token counter reads `usage` in it."""
    choices = [_raw_choice(number, choice) for number, choice in enumerate(reply.choices)]
    return {
        **_start_fields(reply.start),
        "object": "chat.completion",
        "choices": choices,
        **_measured(reply.usage, reply.timings),
    }


def _raw_choice(index: int, choice: ChatChoice) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": choice.content}
    if choice.reasoning_content:
        message["reasoning_content"] = choice.reasoning_content
    if choice.tool_calls:
        message["tool_calls"] = [call_dict(call) for call in choice.tool_calls]
    raw: dict[str, Any] = {"index": index, "finish_reason": choice.finish_reason, "message": message}
    if choice.logprobs:
        raw["logprobs"] = choice.logprobs
    return raw


def _raw_completion(reply: CompletionReply) -> dict[str, Any]:
    choices: list[dict[str, Any]] = []
    for index, choice in enumerate(reply.choices):
        raw: dict[str, Any] = {"index": index, "finish_reason": choice.finish_reason, "text": choice.text}
        if choice.tokens:
            raw["tokens"] = list(choice.tokens)
        if choice.logprobs:
            raw["logprobs"] = choice.logprobs
        choices.append(raw)
    return {
        **_start_fields(reply.start),
        "object": "text_completion",
        "choices": choices,
        **_measured(reply.usage, reply.timings),
    }


def _measured(usage: Usage | None, timings: Timings | None) -> dict[str, Any]:
    measured: dict[str, Any] = {}
    if usage is not None:
        measured["usage"] = usage.as_dict()
    if timings is not None:
        measured["timings"] = timings.as_dict()
    return measured
