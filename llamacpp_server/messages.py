"""Values of `/v1/messages`, the Messages API of Anthropic as llama-server has it. For gateways and for such agents.

The server makes a chat of each request. Our own adapters use chat completions, which have every sampling field.
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

    The server reads the fields below and drops all others, `seed` and `min_p` for example (b11549).

    Attributes:
        messages: The conversation: content blocks `text`, `image`, `tool_use`, `tool_result`, `thinking`.
        max_tokens: Most tokens to generate; the server takes 4096 for None (b11549).
        system: The system message: a text, or text blocks.
        tools: Tools as `{"name": ..., "description": ..., "input_schema": ...}`.
        tool_choice: As in `ChatRequest`: a named tool is really forced, by sending no other one.
        thinking: `{"type": "enabled", "budget_tokens": ...}`; None leaves it to the server.
        stop_sequences: Texts that end the answer.
        temperature: Randomness; 0 is greedy.
        top_p: Keep the likeliest tokens up to this sum.
        top_k: Keep the k likeliest tokens.
        chat_template_kwargs: Variables for the chat template.
        metadata: `{"user_id": ...}`.
        model: Name of the model; needed by a router.
        break_special_tokens: As in `ChatRequest`; `system` is sent as it is.
        extra_body: Fields sent as they are, last, over everything else.
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
        id: Its id.
        model: The server's name of the model.
        content: Blocks: `thinking`, `text`, `tool_use`.
        stop_reason: `end_turn`, `max_tokens` or `tool_use`; a stop sequence gives `end_turn` too (b11549). None for
            what arrived of a stream that broke.
        stop_sequence: The stop sequence that ended it; None for none.
        usage: Token counts, those from the cache among the prompt's; None where the server gave none. The server leaves
            out its first event, with the prompt's tokens, the id and the model, when an answer begins with a part of a
            character (b11434): they are 0 and "" then.
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
        """The text of its blocks."""
        return "".join(text(block.get("text")) for block in self.content if block.get("type") == "text")

    @property
    def thinking(self) -> str:
        """The thinking; "" when there was none."""
        return "".join(text(block.get("thinking")) for block in self.content if block.get("type") == "thinking")

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The calls; arguments are JSON text as the model wrote it, invalid where the reply was cut off."""
        blocks = (block for block in self.content if block.get("type") == "tool_use")
        return tuple(ToolCall(*(text(block.get(name)) for name in ("id", "name", "partial_json"))) for block in blocks)

    @classmethod
    def from_events(cls, events: Iterable[MessagesEvent]) -> Self:
        """The reply that the events of a stream add up to."""
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
    """What a `message_delta` says of the message: the fields of its `delta`, the counts, and what else is in it."""
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
        index: Number of the content block that it belongs to.
        text: Text to append; "" in other events.
        thinking: Thinking to append; "" in other events.
        arguments: The next characters of a call's arguments; "" in other events.
        block: The content block that begins; None in other events.
        stop_reason: In `message_delta`.
        stop_sequence: In `message_delta`, where one ended the reply.
        usage: In `message_start` that of the prompt, in `message_delta` that of the answer.
        raw: The event as the server sent it, but for special tokens that were broken up in the request.
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
