"""Values of `/v1/responses`, llama-server's version of OpenAI's Responses API, for gateways and agents built on it.

The server converts each request to a chat and stores nothing: `previous_response_id` is rejected, and `store` has no
effect (b11549). The adapters of this package use chat completions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from ._values import RequestRepr, fields, integer, objects, text
from .replies import PromptProgress, Repair, Timings, ToolCall, Usage

__all__ = ["ResponsesEvent", "ResponsesReply", "ResponsesRequest"]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ResponsesRequest(RequestRepr):
    """One request to `/v1/responses`.

    Attributes:
        input: A user message as text, or items: messages, function calls and their outputs, reasoning.
        instructions: The system message; None for none.
        tools: Functions in the format of this API: `{"type": "function", "name": ..., "parameters": ...}`. The server
            ignores tools of other types.
        tool_choice: As in `ChatRequest`.
        parallel_tool_calls: As in `ChatRequest`.
        max_output_tokens: Maximum tokens to generate; None leaves it to the server.
        text: Format of the answer: `{"format": {"type": "json_schema", "schema": ...}}`. It is sent as the
            `response_format` of a chat, since the server ignores `text` (b11549).
        reasoning: `{"effort": ...}`; the server ignores everything else in it.
        model: Name of the model; needed by a router.
        break_special_tokens: As in `ChatRequest`; `instructions` and system messages are sent as they are.
        params: Request fields of `SamplingFields`, by name, as in a chat.
        extra_body: Fields that are sent unchanged and override all others.
    """

    input: str | Sequence[Mapping[str, Any]]
    instructions: str | None = None
    tools: Sequence[Mapping[str, Any]] = ()
    tool_choice: str | bool | Mapping[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    max_output_tokens: int | None = None
    text: Mapping[str, Any] | None = None
    reasoning: Mapping[str, Any] | None = None
    model: str | None = None
    break_special_tokens: bool = True
    params: Mapping[str, object] = field(default_factory=dict)
    extra_body: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ResponsesReply:
    """A whole reply of `/v1/responses`.

    Attributes:
        id: ID of the reply.
        model: The server's name of the model.
        status: `completed`, also if `max_output_tokens` cut it off (b11549); `incomplete` for the received part of a
            broken stream.
        output: Items as the server sent them: `reasoning`, `message`, `function_call`.
        usage: Token counts; None if the server reported none.
        timings: The server's measurements; None if it reported none.
        raw: The `response` object as the server sent it.
        repairs: What was rewritten in the request.
    """

    id: str = ""
    model: str = ""
    status: str = ""
    output: tuple[Mapping[str, Any], ...] = ()
    usage: Usage | None = None
    timings: Timings | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    repairs: tuple[Repair, ...] = ()

    @property
    def text(self) -> str:
        """The text of the reply."""
        return self._texts("message", "output_text")

    @property
    def reasoning(self) -> str:
        """The reasoning; "" if there is none."""
        return self._texts("reasoning", "reasoning_text")

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The function calls; `id` is the `call_id` for their outputs."""
        calls = (item for item in self.output if item.get("type") == "function_call")
        return tuple(ToolCall(*(text(call.get(name)) for name in ("call_id", "name", "arguments"))) for call in calls)

    def _texts(self, kind: str, part_kind: str) -> str:
        parts = (part for item in self.output if item.get("type") == kind for part in objects(item.get("content")))
        return "".join(text(part.get("text")) for part in parts if part.get("type") == part_kind)

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any], timings: Timings | None = None) -> Self:
        """Read a `response` object."""
        return cls(
            id=str(wire.get("id") or ""),
            model=str(wire.get("model") or ""),
            status=str(wire.get("status") or ""),
            output=tuple(objects(wire.get("output"))),
            usage=responses_usage(wire.get("usage")),
            timings=timings,
            raw=wire,
        )

    @classmethod
    def from_events(cls, events: Iterable[ResponsesEvent]) -> ResponsesReply:
        """Return the final reply of a stream; of a broken stream, the received text and reasoning."""
        texts: dict[str, list[str]] = {"reasoning": [], "message": []}
        reply = ResponsesReply(status="incomplete")
        repairs: tuple[Repair, ...] = ()
        for event in events:
            repairs += event.repairs
            if event.reply is not None:
                reply = event.reply
            texts["message"].append(event.text)
            texts["reasoning"].append(event.reasoning)
        if reply.output or reply.status == "completed":
            return replace(reply, repairs=repairs)
        kinds = {"reasoning": "reasoning_text", "message": "output_text"}
        output = tuple(
            {"type": kind, "content": [{"type": kinds[kind], "text": "".join(pieces)}]}
            for kind, pieces in texts.items()
            if any(pieces)
        )
        return ResponsesReply(reply.id, reply.model, "incomplete", output, raw=reply.raw, repairs=repairs)


def responses_usage(wire: object) -> Usage | None:
    """The token counts of a reply or a transcription; None where there are none."""
    if not (counts := fields(wire)):
        return None
    cached = integer(fields(counts.get("input_tokens_details")).get("cached_tokens"))
    return Usage(integer(counts.get("input_tokens")) or 0, integer(counts.get("output_tokens")) or 0, cached)


@dataclass(frozen=True, slots=True)
class ResponsesEvent:
    """One event of a stream of `/v1/responses`.

    Attributes:
        type: Such as `response.output_text.delta`, `response.output_item.added`, `response.completed`.
        text: Text to append; "" in other events.
        reasoning: Reasoning to append; "" in other events.
        arguments: The next characters of a function call's arguments; "" in other events.
        item_id: ID of the output item that it belongs to; "" if none.
        item: The output item that starts or completes with it; None in other events.
        reply: The whole reply in `response.completed`, its known part in the first events; None in others.
        timings: The server's measurements, at the end or with `timings_per_token`; else None.
        progress: Progress of prompt processing (`return_progress`); else None.
        raw: The event as the server sent it, except for special tokens that were broken up in the request.
        repairs: What was rewritten in the request, in the first event; () in others.
    """

    type: str
    text: str = ""
    reasoning: str = ""
    arguments: str = ""
    item_id: str = ""
    item: Mapping[str, Any] | None = None
    reply: ResponsesReply | None = None
    timings: Timings | None = None
    progress: PromptProgress | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    repairs: tuple[Repair, ...] = ()
