"""Convert the server's deltas and replies to LangChain's chunks and results. Pure.

Chunks are added up by LangChain, and adding concatenates strings and lists and sums numbers. So what a reply says once
is on one chunk only: the first (`model_name`, `id`, …) or the last (`finish_reason`, `timings`, usage); and what comes
many times is a list of one entry (`prompt_progress`, `token_timings`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final, cast

from langchain_core.messages import AIMessage, AIMessageChunk, InvalidToolCall, UsageMetadata
from langchain_core.messages import ToolCall as LangchainToolCall
from langchain_core.messages.ai import InputTokenDetails, OutputTokenDetails
from langchain_core.messages.tool import ToolCallChunk, invalid_tool_call, tool_call, tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from llamacpp_server import (
    ChatChoice,
    ChatDelta,
    ChatReply,
    Repair,
    ReplyStart,
    Timings,
    ToolCall,
    ToolCallFragment,
    Usage,
)

from ._tools import marks

PROVIDER: Final = "llamacpp-server"

_PLAIN: Final = ChatDelta()[1:]
# What LangChain's constructors make of no arguments, whatever its version.
_MESSAGE_FIELDS: Final = dict(AIMessageChunk(content="").__dict__)
_CHUNK_FIELDS: Final = dict(ChatGenerationChunk(message=AIMessageChunk(content="")).__dict__)
_LAST_FIELDS: Final = ("tool_call_chunks", "usage_metadata", "chunk_position")
_CALL_FIELDS: Final = ("tool_call_chunks", "tool_calls", "invalid_tool_calls")
# Arguments that LangChain reads as those of a call without any.
_BEGUN: Final = frozenset({"", "{"})
_new: Final = object.__new__
_set: Final = object.__setattr__


def text_chunk(text: str, thinking: str = "") -> ChatGenerationChunk:
    """A chunk of text or thinking: what `ChatGenerationChunk(message=AIMessageChunk(...))` gives, at a fifth the cost.

    Nearly all chunks of all streams are of this kind.
    """
    return _chunk(text, thinking, {"model_provider": PROVIDER})


def _chunk(text: str, thinking: str, metadata: dict[str, Any]) -> ChatGenerationChunk:
    """A chunk made without pydantic's validation, which has nothing to find in it (a test compares the two)."""
    fields = _MESSAGE_FIELDS.copy()
    fields["content"] = text
    fields["additional_kwargs"] = {"reasoning_content": thinking} if thinking else {}
    fields["response_metadata"] = metadata
    fields["tool_calls"], fields["invalid_tool_calls"], fields["tool_call_chunks"] = [], [], []
    message = _new(AIMessageChunk)
    _set(message, "__dict__", fields)
    _set(message, "__pydantic_fields_set__", {"content", "additional_kwargs", "response_metadata"})
    _set(message, "__pydantic_extra__", {})
    _set(message, "__pydantic_private__", None)
    fields = _CHUNK_FIELDS.copy()
    fields["text"], fields["message"] = text, message
    chunk = _new(ChatGenerationChunk)
    _set(chunk, "__dict__", fields)
    _set(chunk, "__pydantic_fields_set__", {"message", "text"})
    _set(chunk, "__pydantic_extra__", None)
    _set(chunk, "__pydantic_private__", None)
    return chunk


class StreamConverter:
    """Convert the deltas of one reply to chunks: `add` for each delta, `last` at the end.

    The end of a reply comes in two or three deltas (last text, finish reason, usage). They become one chunk, so that
    `chunk_position="last"` is on the true last one.

    Args:
        usage: Whether the last chunk tells the token counts.

    Attributes:
        start: Metadata of the reply; None before its first delta.
        finish_reason: Why it ended; None before its end.
    """

    def __init__(self, *, usage: bool = True) -> None:
        self.start: ReplyStart | None = None
        self.finish_reason: str | None = None
        self._calls: dict[int, str] = {}
        self._repairs: tuple[Repair, ...] = ()
        self._with_usage = usage
        self._usage: Usage | None = None
        self._timings: Timings | None = None

    def add(self, delta: ChatDelta) -> ChatGenerationChunk | None:
        """The chunk for a delta; None when it is kept for the last chunk."""
        if delta[1:] == _PLAIN:
            return text_chunk(delta[0]) if delta[0] else None
        return self._add(delta)

    def _add(self, delta: ChatDelta) -> ChatGenerationChunk | None:
        self._note(delta)
        metadata = start_metadata(delta.start) if delta.start is not None else {}
        if delta.timings is not None and (delta.content or delta.reasoning_content or delta.tool_calls):
            metadata["token_timings"] = [delta.timings.as_dict()]
        if delta.progress is not None:
            metadata["prompt_progress"] = [delta.progress.as_dict()]
        if delta.logprobs is not None:
            metadata["logprobs"] = delta.logprobs
        if delta.tool_calls:
            for fragment in delta.tool_calls:
                self._calls[fragment.call_index] = self._calls.get(fragment.call_index, "") + fragment.arguments
            return _fragments_chunk(delta, metadata)
        if not (metadata or delta.content or delta.reasoning_content):
            return None
        metadata["model_provider"] = PROVIDER
        return _chunk(delta.content, delta.reasoning_content, metadata)

    def _note(self, delta: ChatDelta) -> None:
        """Keep data for the last chunk."""
        self.start = delta.start or self.start
        self.finish_reason = delta.finish_reason or self.finish_reason
        self._usage = delta.usage or self._usage
        self._timings = delta.timings or self._timings
        self._repairs += delta.repairs

    def last(self) -> ChatGenerationChunk:
        """The last chunk: finish reason, usage and timings; and a mark for calls whose arguments are not whole."""
        metadata: dict[str, Any] = {"model_provider": PROVIDER}
        reason = self.finish_reason
        if reason is not None:
            metadata["finish_reason"] = reason
        # Tracers look for it here, and LangChain itself puts the two together.
        info = {"finish_reason": reason} if reason is not None else None
        if self._timings is not None:
            metadata["timings"] = self._timings.as_dict()
        if self._repairs:
            metadata["llamacpp"] = {"repairs": [repair.as_dict() for repair in self._repairs]}
        usage = usage_metadata(self._usage) if self._usage and self._with_usage else None
        if marked := marks(self._calls):
            last = AIMessageChunk(
                content="",
                tool_call_chunks=marked,
                response_metadata=metadata,
                usage_metadata=usage,
                chunk_position="last",
            )
            return ChatGenerationChunk(message=last, generation_info=info)
        chunk = _chunk("", "", metadata)
        chunk.message.__dict__.update(usage_metadata=usage, chunk_position="last")
        chunk.message.__pydantic_fields_set__.update(_LAST_FIELDS)
        chunk.__dict__["generation_info"] = info
        chunk.__pydantic_fields_set__.add("generation_info")
        return chunk


def _fragments_chunk(delta: ChatDelta, metadata: dict[str, Any]) -> ChatGenerationChunk:
    """A chunk of tool calls.

    LangChain reads every fragment as JSON that may be incomplete, to show calls as they grow. Only a fragment that
    begins with a brace can be a call's arguments to it, and the brace alone, with which most calls begin, is an empty
    object; the others, nearly all, are put where it would put them.
    """
    metadata["model_provider"] = PROVIDER
    pieces = [_fragment(fragment) for fragment in delta.tool_calls]
    if [piece for piece in pieces if (args := piece["args"]) and args != "{" and args.lstrip()[:1] == "{"]:
        thinking = delta.reasoning_content
        return ChatGenerationChunk(
            message=AIMessageChunk(
                content=delta.content,
                additional_kwargs={"reasoning_content": thinking} if thinking else {},
                response_metadata=metadata,
                tool_call_chunks=pieces,
            )
        )
    chunk = _chunk(delta.content, delta.reasoning_content, metadata)
    message = cast(AIMessageChunk, chunk.message)
    fields = message.__dict__
    fields["tool_call_chunks"] = pieces
    fields["tool_calls"] = [
        tool_call(name=piece["name"] or "", args={}, id=piece["id"]) for piece in pieces if piece["args"] in _BEGUN
    ]
    fields["invalid_tool_calls"] = [
        invalid_tool_call(name=piece["name"], args=piece["args"], id=piece["id"], error=None)
        for piece in pieces
        if piece["args"] not in _BEGUN
    ]
    message.__pydantic_fields_set__.update(_CALL_FIELDS)
    return chunk


def _fragment(fragment: ToolCallFragment) -> ToolCallChunk:
    index, call_id, name, arguments = fragment
    return tool_call_chunk(name=name or None, args=arguments, id=call_id or None, index=index)


def result(reply: ChatReply) -> ChatResult:
    """A whole reply, with one generation for each of its choices.

    The server counts the tokens of all choices together, so the first message has the usage and the others have none:
    adding them up gives the truth.
    """
    usages = [reply.usage, *[None] * (len(reply.choices) - 1)]
    generations = [_generation(reply, choice, usage) for choice, usage in zip(reply.choices, usages, strict=True)]
    output: dict[str, Any] = {"model_provider": PROVIDER, "model_name": reply.start.model}
    if reply.start.id:
        output["id"] = reply.start.id  # where instrumentations look for it
    if reply.usage:
        output["token_usage"] = reply.usage.as_dict()
    return ChatResult(generations=generations, llm_output=output)


def with_shares(found: ChatResult, shares: dict[str, float]) -> ChatResult:
    """The reply with the probabilities of its choices."""
    for generation in found.generations:
        generation.message.response_metadata["choice_probabilities"] = shares
    return found


def _generation(reply: ChatReply, choice: ChatChoice, usage: Usage | None) -> ChatGeneration:
    metadata = {"model_provider": PROVIDER, **start_metadata(reply.start), "finish_reason": choice.finish_reason}
    if reply.timings is not None:
        metadata["timings"] = reply.timings.as_dict()
    if choice.logprobs is not None:
        metadata["logprobs"] = choice.logprobs
    calls, invalid = parsed_calls(choice.tool_calls)
    thinking = choice.reasoning_content
    message = AIMessage(
        content=choice.content,
        additional_kwargs={"reasoning_content": thinking} if thinking else {},
        response_metadata=metadata,
        tool_calls=calls,
        invalid_tool_calls=invalid,
        usage_metadata=usage_metadata(usage) if usage else None,
    )
    return ChatGeneration(message=message, generation_info={"finish_reason": choice.finish_reason})


def parsed_calls(calls: Sequence[ToolCall]) -> tuple[list[LangchainToolCall], list[InvalidToolCall]]:
    """Calls with arguments that are a JSON object, and the others, as LangChain keeps them apart."""
    valid, invalid = [], []
    for call in calls:
        try:
            args = json.loads(call.arguments or "{}", strict=False)
        except ValueError as error:
            invalid.append(
                invalid_tool_call(name=call.name, args=call.arguments, id=call.id, error=f"not valid JSON: {error}")
            )
            continue
        if isinstance(args, dict):
            valid.append(tool_call(name=call.name, args=args, id=call.id))
        else:
            invalid.append(
                invalid_tool_call(name=call.name, args=call.arguments, id=call.id, error="not a JSON object")
            )
    return valid, invalid


def start_metadata(start: ReplyStart) -> dict[str, Any]:
    """Metadata that a reply has once, under LangChain's names."""
    metadata: dict[str, Any] = {}
    if start.model:
        metadata["model_name"] = start.model
    if start.id:
        metadata["id"] = start.id
    if start.system_fingerprint:
        metadata["system_fingerprint"] = start.system_fingerprint
    if start.created:
        metadata["created"] = start.created
    if start.repairs:
        metadata["llamacpp"] = {"repairs": [repair.as_dict() for repair in start.repairs]}
    return metadata


def usage_metadata(usage: Usage) -> UsageMetadata:
    """Token counts as LangChain counts them."""
    counts = UsageMetadata(
        input_tokens=usage.prompt_tokens, output_tokens=usage.completion_tokens, total_tokens=usage.total_tokens
    )
    if usage.cached_tokens is not None:
        counts["input_token_details"] = InputTokenDetails(cache_read=usage.cached_tokens)
    if usage.reasoning_tokens is not None:
        counts["output_token_details"] = OutputTokenDetails(reasoning=usage.reasoning_tokens)
    return counts
