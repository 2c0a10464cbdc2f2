"""Values of `/v1/messages`, llama-server's version of Anthropic's Messages API, for gateways and agents built on it.

The server converts each request to a chat. The adapters of this package use chat completions, which have all sampling
fields.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from pydantic_core import from_json

from ._values import RequestRepr, fields, text
from .replies import Repair, ToolCall, Usage

__all__ = ["MessagesEvent", "MessagesReply", "MessagesRequest"]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class MessagesRequest(RequestRepr):
    """One request to `/v1/messages`.

    The server reads the fields below and ignores all others, such as `seed` and `min_p` (b11549).

    Attributes:
        messages: The conversation: content blocks `text`, `image`, `tool_use`, `tool_result`, `thinking`.
        max_tokens: Maximum tokens to generate; None becomes 4096 in the server (b11549).
        system: The system message: a text, or text blocks.
        tools: Tools as `{"name": ..., "description": ..., "input_schema": ...}`.
        tool_choice: As in `ChatRequest`; a named tool is enforced by sending only that tool.
        thinking: `{"type": "enabled", "budget_tokens": ...}`; None leaves it to the server.
        stop_sequences: Texts that end the answer.
        temperature: Sampling temperature; 0 is greedy.
        top_p: Keep the most likely tokens up to this total probability.
        top_k: Keep the k most likely tokens.
        chat_template_kwargs: Variables for the chat template.
        metadata: `{"user_id": ...}`.
        model: Name of the model; needed by a router.
        break_special_tokens: As in `ChatRequest`; `system` is sent as it is.
        extra_body: Fields that are sent unchanged and override all others.
    """

    messages: Sequence[Mapping[str, Any]]
    max_tokens: int | None = None
    system: str | Sequence[Mapping[str, Any]] | None = None
    tools: Sequence[Mapping[str, Any]] = ()
    tool_choice: str | bool | Mapping[str, Any] | None = None
    thinking: Mapping[str, Any] | None = None
    stop_sequences: Sequence[str] = ()
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    chat_template_kwargs: Mapping[str, Any] | None = None
    metadata: Mapping[str, Any] | None = None
    model: str | None = None
    break_special_tokens: bool = True
    extra_body: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MessagesReply:
    """A whole reply of `/v1/messages`.

    Attributes:
        id: ID of the reply.
        model: The server's name of the model.
        content: Blocks: `thinking`, `text`, `tool_use`.
        stop_reason: `end_turn`, `max_tokens` or `tool_use`; a stop sequence also results in `end_turn` (b11549). None
            for the received part of a broken stream.
        stop_sequence: The stop sequence that ended it; None for none.
        usage: Token counts; the prompt's include those from the cache. None if the server reported none. If an answer
            starts with a part of a character, the server omits its first event with the prompt's tokens, the ID and the
            model (b11434): they are 0 and "" then.
        raw: The fields of the message as the server sent them in its first and last events.
        repairs: What was rewritten in the request.
    """

    id: str = ""
    model: str = ""
    content: tuple[Mapping[str, Any], ...] = ()
    stop_reason: str | None = None
    stop_sequence: str | None = None
    usage: Usage | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    repairs: tuple[Repair, ...] = ()

    @property
    def text(self) -> str:
        """The text of the reply."""
        return "".join(text(block.get("text")) for block in self.content if block.get("type") == "text")

    @property
    def thinking(self) -> str:
        """The reasoning; "" if there is none."""
        return "".join(text(block.get("thinking")) for block in self.content if block.get("type") == "thinking")

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tool calls; arguments are JSON text as the model wrote it, invalid if the reply was cut off."""
        blocks = (block for block in self.content if block.get("type") == "tool_use")
        return tuple(ToolCall(*(text(block.get(name)) for name in ("id", "name", "partial_json"))) for block in blocks)

    @classmethod
    def from_events(cls, events: Iterable[MessagesEvent]) -> Self:
        """Return the reply that the events of a stream add up to."""
        blocks: dict[int, dict[str, Any]] = {}
        start: Mapping[str, Any] = {}
        raw: dict[str, Any] = {}
        reason = sequence = None
        reported = False
        prompt = answer = 0
        cached: int | None = None
        repairs: tuple[Repair, ...] = ()
        for event in events:
            repairs += event.repairs
            if event.type == "message_start":
                start = fields(event.raw.get("message"))
                raw.update(start)
            if event.type == "message_delta":
                raw.update(_message_fields(event.raw, raw))
            if event.block is not None:
                blocks[event.index] = {**event.block}
            if event.text or event.thinking or event.arguments:
                _append(blocks.setdefault(event.index, {}), event)
            if event.usage is not None:
                reported = True
                prompt, cached = event.usage.prompt_tokens or prompt, event.usage.cached_tokens or cached
                answer = event.usage.completion_tokens or answer
            reason, sequence = event.stop_reason or reason, event.stop_sequence or sequence
        content = tuple(_finished(block) for _, block in sorted(blocks.items()))
        usage = Usage(prompt, answer, cached) if reported or start else None
        name, model = str(start.get("id") or ""), str(start.get("model") or "")
        return cls(name, model, content, reason, sequence, usage, raw, repairs)


def _message_fields(wire: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a `message_delta` about the message: those of its `delta`, the counts, and others."""
    rest = {name: value for name, value in wire.items() if name not in ("type", "delta", "usage")}
    return {**rest, **fields(wire.get("delta")), "usage": {**fields(known.get("usage")), **fields(wire.get("usage"))}}


def _append(block: dict[str, Any], event: MessagesEvent) -> None:
    for name in ("text", "thinking"):
        if piece := getattr(event, name):
            block.setdefault("type", name)
            block[name] = text(block.get(name)) + piece
    if event.arguments:
        block["partial_json"] = text(block.get("partial_json")) + event.arguments


def _finished(block: dict[str, Any]) -> Mapping[str, Any]:
    """A block as a whole reply has it; a tool call keeps its arguments as text beside `input`."""
    if block.get("type") != "tool_use":
        return block
    written = text(block.get("partial_json"))
    try:
        return {**block, "partial_json": written, "input": from_json(written) if written else {}}
    except ValueError:
        return {**block, "input": {}}


@dataclass(frozen=True, slots=True)
class MessagesEvent:
    """One event of a stream of `/v1/messages`.

    Attributes:
        type: `message_start`, `content_block_start`, `content_block_delta`, `content_block_stop`, `message_delta` or
            `message_stop`.
        index: Index of the content block that it belongs to.
        text: Text to append; "" in other events.
        thinking: Reasoning to append; "" in other events.
        arguments: The next characters of a call's arguments; "" in other events.
        block: The content block that starts; None in other events.
        stop_reason: In `message_delta`.
        stop_sequence: The stop sequence that ended the reply, in `message_delta`; else None.
        usage: Token counts of the prompt in `message_start`, of the answer in `message_delta`; else None.
        raw: The event as the server sent it, except for special tokens that were broken up in the request.
        repairs: What was rewritten in the request, in the first event; () in others.
    """

    type: str
    index: int = 0
    text: str = ""
    thinking: str = ""
    arguments: str = ""
    block: Mapping[str, Any] | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    usage: Usage | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    repairs: tuple[Repair, ...] = ()
