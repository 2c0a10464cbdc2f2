"""Convert wire objects to values: the parts common to complete replies and streamed chunks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic_core import CoreConfig, SchemaValidator, core_schema

from .._values import fields, figure, integer, short_id
from ..replies import (
    ChatChoice,
    ChatReply,
    CompletionChoice,
    CompletionReply,
    PromptProgress,
    Repair,
    ReplyStart,
    Timings,
    ToolCall,
    Usage,
)

_TIMINGS = tuple(Timings.__dataclass_fields__)
_STOP_TYPES = {"eos": "stop", "word": "stop", "limit": "length", "none": "stop"}


_BASE64 = CoreConfig(val_json_bytes="base64")
_EMBEDDING = core_schema.typed_dict_schema(
    {
        "index": core_schema.typed_dict_field(core_schema.int_schema()),
        "embedding": core_schema.typed_dict_field(
            core_schema.union_schema(
                [core_schema.bytes_schema(), core_schema.list_schema(), core_schema.none_schema()], mode="left_to_right"
            )
        ),
    },
    config=_BASE64,
)
_EMBEDDINGS = SchemaValidator(
    core_schema.typed_dict_schema(
        {
            "data": core_schema.typed_dict_field(core_schema.list_schema(_EMBEDDING)),
            "model": core_schema.typed_dict_field(core_schema.any_schema(), required=False),
            "usage": core_schema.typed_dict_field(core_schema.any_schema(), required=False),
        },
        extra_behavior="allow",
    )
)


def parse_embeddings(body: bytes) -> Any:
    """The JSON of `/v1/embeddings`, with base64 decoded on the way: in half the time of `base64.b64decode`.

    Raises:
        ValueError: For what is no such JSON.
    """
    return _EMBEDDINGS.validate_json(body)


def text_of(wire: Any) -> str:
    """Return a text; null becomes an empty one.

    Raises:
        TypeError: For anything else: a partly valid reply is rejected entirely, before it is shown.
    """
    if wire is not None and type(wire) is not str:
        raise TypeError("expected a string")
    return wire or ""


def content_of(wire: Any) -> str:
    """Return the text of a message: a text, or the texts of a list of parts, as some servers send."""
    if type(wire) is not list:
        return text_of(wire)
    return "".join(text_of(part if type(part) is str else part.get("text")) for part in wire)


def arguments_of(wire: Any) -> str:
    """The arguments of a call: JSON text, or an object, as some servers send it."""
    return json.dumps(wire, ensure_ascii=False) if type(wire) is dict else text_of(wire)


def number_of(wire: Any) -> int:
    """Return a count or an index; null becomes 0.

    Raises:
        TypeError: For anything else.
    """
    if wire is not None and type(wire) is not int:
        raise TypeError("expected a number")
    return wire or 0


def logprobs_of(wire: Any) -> Any:
    """Log probabilities in the chat shape or in that of old completions; None when there are none.

    Raises:
        TypeError: When their entries are no objects.
    """
    if wire:
        for entry in wire.get("content") or ():
            if type(entry) is not dict:
                raise TypeError("expected an object with the log probabilities of a token")
    return wire or None


def usage_from_wire(
    wire: Mapping[str, Any] | None, timings: Mapping[str, Any] | None = None, thought: int | None = None
) -> Usage | None:
    """Token counts; None when there are none.

    Args:
        wire: As the server sends it.
        timings: Builds before April 2026 tell of cached tokens among the timings only.
        thought: Tokens of the thinking as counted here, for servers that don't say it.
    """
    if not wire:
        return None
    cached = (wire.get("prompt_tokens_details") or {}).get("cached_tokens", (timings or {}).get("cache_n"))
    reasoning = (wire.get("completion_tokens_details") or {}).get("reasoning_tokens")
    return Usage(
        number_of(wire.get("prompt_tokens")),
        number_of(wire.get("completion_tokens")),
        None if cached is None else number_of(cached),
        thought if reasoning is None else number_of(reasoning),
    )


_KNOWN = {"id", "object", "created", "model", "system_fingerprint", "choices", "usage", "timings", "prompt_progress"}
_KNOWN_NATIVE = _KNOWN | {"index", "content", "tokens", "stop", "id_slot", "tokens_predicted", "tokens_evaluated"}
_KNOWN_NATIVE |= {"completion_probabilities"}
_KNOWN_CHOICE = {"index", "delta", "message", "text", "finish_reason", "logprobs"}
_KNOWN_MESSAGE = {"role", "content", "reasoning_content", "reasoning", "tool_calls"}


def says_more(wire: Mapping[str, Any]) -> bool:
    """Whether a reply or an event has a field without an attribute."""
    choices = wire.get("choices")
    if choices is None:
        return not wire.keys() <= _KNOWN_NATIVE
    if not wire.keys() <= _KNOWN:
        return True
    for choice in choices:
        if not choice.keys() <= _KNOWN_CHOICE:
            return True
        message = choice.get("delta")
        if message and not message.keys() <= _KNOWN_MESSAGE:
            return True
    return False


def usage_or_none(wire: Any) -> Usage | None:
    """Return the usage of a reply that is valid without one: None without counts."""
    try:
        return usage_from_wire(wire)
    except (AttributeError, TypeError):
        return None


def timings_from_wire(wire: Mapping[str, Any] | None) -> Timings | None:
    """Timings; keys of newer builds are left out."""
    if not wire:
        return None
    given = {
        name: number
        for name, value in fields(wire).items()
        if name in _TIMINGS and (number := figure(value)) is not None
    }
    return Timings(**given)  # type: ignore[arg-type]


def progress_from_wire(wire: Mapping[str, Any] | None) -> PromptProgress | None:
    """Progress of reading the prompt."""
    if not wire:
        return None
    given = fields(wire)
    total, cache, processed = (integer(given.get(name)) or 0 for name in ("total", "cache", "processed"))
    return PromptProgress(total, cache, processed, figure(given.get("time_ms")) or 0)


def start_from_wire(wire: Mapping[str, Any], repairs: tuple[Repair, ...] = ()) -> ReplyStart:
    """Fields of a chunk or reply about the complete reply."""
    return ReplyStart(
        text_of(wire.get("id")),
        text_of(wire.get("model")),
        integer(wire.get("created")) or 0,
        text_of(wire.get("system_fingerprint")),
        repairs,
    )


def native_finish_reason(wire: Mapping[str, Any]) -> str:
    """The native endpoint's ways to say it; before `stop_type` there were three booleans."""
    if "stop_type" in wire:
        return _STOP_TYPES.get(wire["stop_type"], str(wire["stop_type"]))
    return "length" if wire.get("stopped_limit") else "stop"


def native_usage(wire: Mapping[str, Any]) -> Usage:
    """Token counts of a native reply."""
    cached = integer(fields(wire.get("timings")).get("cache_n"))
    return Usage(number_of(wire.get("tokens_evaluated")), number_of(wire.get("tokens_predicted")), cached)


def fallback_call_id(start: ReplyStart, choice: int, index: int) -> str:
    """Create an ID for a tool call without one (older builds): unique, like the reply's ID."""
    return short_id(f"{start.id or start.created} {choice} {index}")


def chat_reply(wire: Mapping[str, Any]) -> ChatReply:
    """Parse a complete chat reply, the answer to a request with `stream: false`."""
    start = start_from_wire(wire)
    choices = sorted(wire["choices"], key=lambda choice: choice.get("index") or 0)
    return ChatReply(
        tuple(_chat_choice(choice, start) for choice in choices),
        start,
        usage_from_wire(wire.get("usage"), wire.get("timings")),
        timings_from_wire(wire.get("timings")),
        wire,
    )


def _chat_choice(choice: Mapping[str, Any], start: ReplyStart) -> ChatChoice:
    message = choice["message"]
    calls = []
    for index, call in enumerate(message.get("tool_calls") or ()):
        function = call.get("function") or {}
        call_id = text_of(call.get("id")) or fallback_call_id(start, choice.get("index") or 0, index)
        calls.append(ToolCall(call_id, text_of(function.get("name")), arguments_of(function.get("arguments"))))
    return ChatChoice(
        content_of(message.get("content")),
        text_of(message.get("reasoning_content") or message.get("reasoning")),
        tuple(calls),
        text_of(choice.get("finish_reason")) or None,
        logprobs_of(choice.get("logprobs")),
    )


def completion_reply(wire: Any) -> CompletionReply:
    """Parse a complete text completion: `/v1/completions`, the native object, or an array of those."""
    if isinstance(wire, list) or "choices" not in wire:
        return _native_reply(wire if isinstance(wire, list) else [wire])
    choices = sorted(wire["choices"], key=lambda choice: choice.get("index") or 0)
    return CompletionReply(
        tuple(
            CompletionChoice(
                text_of(c["text"]), (), text_of(c.get("finish_reason")) or None, logprobs_of(c.get("logprobs")), wire
            )
            for c in choices
        ),
        start_from_wire(wire),
        usage_from_wire(wire.get("usage"), wire.get("timings")),
        timings_from_wire(wire.get("timings")),
    )


def _native_reply(items: list[Mapping[str, Any]]) -> CompletionReply:
    items = sorted(items, key=lambda item: item.get("index") or 0)
    usages = [native_usage(item) for item in items]
    return CompletionReply(
        tuple(
            CompletionChoice(
                text_of(item["content"]),
                tuple(item.get("tokens") or ()),
                native_finish_reason(item),
                native_logprobs(item),
                item,
            )
            for item in items
        ),
        start_from_wire(items[0]),
        Usage(sum(u.prompt_tokens for u in usages), sum(u.completion_tokens for u in usages), usages[0].cached_tokens),
        timings_from_wire(items[0].get("timings")),
    )


def native_logprobs(wire: Mapping[str, Any]) -> Any:
    """Log probabilities of a native reply or chunk in the chat shape; None when there are none."""
    entries = wire.get("completion_probabilities")
    return logprobs_of({"content": entries}) if entries else None
