"""Attributes of spans and metrics: of the server, a request and a reply. Pure functions; no text goes through them.

Names are those of OpenTelemetry's GenAI conventions, where they have one, and else begin with `llamacpp.`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from ..decisions import Decisions
from ..messages import MessagesReply
from ..replies import ChatReply, CompletionReply, Repair, ReplyStart, Timings, Usage
from ..responses import ResponsesReply
from ..results import Embeddings, Rankings
from ..settings import ServerSettings, split_unix
from ..transcription import Transcription

__all__ = ["Attributes", "of_reply", "of_request", "of_server", "seconds_waited"]

Attributes = dict[str, str | bool | int | float | Sequence[str]]

_PORTS: Final = {"http": 80, "https": 443}

# Parameters that are numbers, by the names that a request may have for them.
_PARAMETERS: Final = {
    "max_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
    "n_predict": "max_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "seed": "seed",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "n": "choice.count",
}


def of_server(settings: ServerSettings) -> Attributes:
    """Host and port, or the path of a unix socket; never a user name or password.

    Examples:
        >>> of_server(ServerSettings(base_url="http://me:secret@host:8081/v1"))
        {'server.address': 'host', 'server.port': 8081}
    """
    url, socket = split_unix(settings.base_url)
    if socket is not None:
        return {"server.address": socket}
    parts = urlsplit(url)
    return {"server.address": parts.hostname or "", "server.port": parts.port or _PORTS.get(parts.scheme, 80)}


def of_request(request: object) -> Attributes:
    """The numbers among a request's parameters, and how many inputs an embedding or ranking request has."""
    found: Attributes = {}
    given: dict[str, Any] = {**(getattr(request, "params", None) or {}), **(getattr(request, "extra_body", None) or {})}
    for name, attribute in _PARAMETERS.items():
        value = given.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            found[f"gen_ai.request.{attribute}"] = value
    if found.get("gen_ai.request.choice.count") == 1:
        del found["gen_ai.request.choice.count"]
    for name in ("inputs", "documents"):
        if isinstance(texts := getattr(request, name, None), Sequence):
            found["llamacpp.input.count"] = len(texts)
    return found


def of_reply(reply: object) -> Attributes:
    """Id, model, finish reasons, counts, the server's timings and the kinds of repairs."""
    if isinstance(reply, ChatReply | CompletionReply):
        reasons = [choice.finish_reason for choice in reply.choices if choice.finish_reason]
        found = _of_start(reply.start) | _of_usage(reply.usage) | _of_timings(reply.timings)
        return found | ({"gen_ai.response.finish_reasons": reasons} if reasons else {})
    if isinstance(reply, Embeddings | Rankings):
        found = _of_usage(reply.usage)
        if reply.model:
            found["gen_ai.response.model"] = reply.model
        if isinstance(reply, Embeddings) and reply.vectors:
            found["gen_ai.embeddings.dimension.count"] = len(reply.vectors[0])
        return found
    return _of_other_reply(reply)


def _of_other_reply(reply: object) -> Attributes:
    """Of the APIs beside chats, and of decisions."""
    if isinstance(reply, Transcription):
        return _of_usage(reply.usage)
    if isinstance(reply, Decisions):
        found = _of_usage(reply.usage) | {"llamacpp.decision.engine": reply.engine}
        return found | ({"gen_ai.response.model": reply.model} if reply.model else {})
    if isinstance(reply, ResponsesReply):
        reason = reply.status
        found = _of_usage(reply.usage) | _of_timings(reply.timings)
    elif isinstance(reply, MessagesReply):
        reason = reply.stop_reason or ""
        found = _of_usage(reply.usage)
    else:
        return {}
    found |= _of_start(ReplyStart(id=reply.id, model=reply.model))
    return found | ({"gen_ai.response.finish_reasons": [reason]} if reason else {})


def seconds_waited(timings: Timings | None) -> float | None:
    """Time that a request waited before prompt processing: for a slot, for loading, and between retries.

    It is what is left of the time to the first token when the server's reading is taken away. None where one is not
    known.
    """
    if timings is None or timings.first_token_ms is None:
        return None
    return max(timings.first_token_ms - timings.prompt_ms, 0.0) / 1000


def _of_start(start: ReplyStart) -> Attributes:
    found: Attributes = {}
    if start.id:
        found["gen_ai.response.id"] = start.id
    if start.model:
        found["gen_ai.response.model"] = start.model
    if start.system_fingerprint:
        found["llamacpp.build"] = start.system_fingerprint
    return found | _of_repairs(start.repairs)


def _of_repairs(repairs: Sequence[Repair]) -> Attributes:
    kinds = sorted(Counter(repair.name for repair in repairs))
    if not kinds:
        return {}
    return {"llamacpp.repairs": kinds, "llamacpp.forced_round": "forced_round" in kinds}


def _of_usage(usage: Usage | None) -> Attributes:
    if usage is None:
        return {}
    found: Attributes = {"gen_ai.usage.input_tokens": usage.prompt_tokens}
    if usage.completion_tokens:
        found["gen_ai.usage.output_tokens"] = usage.completion_tokens
    if usage.cached_tokens is not None:
        found["gen_ai.usage.cache_read.input_tokens"] = usage.cached_tokens
    if usage.reasoning_tokens is not None:
        found["gen_ai.usage.reasoning.output_tokens"] = usage.reasoning_tokens
    return found


def _of_timings(timings: Timings | None) -> Attributes:
    if timings is None:
        return {}
    numbers: Mapping[str, float | None] = {
        "llamacpp.prompt.tokens_read": timings.prompt_n,
        "llamacpp.prompt.seconds": timings.prompt_ms / 1000,
        "llamacpp.generation.seconds": timings.predicted_ms / 1000,
        "llamacpp.generation.tokens_per_second": timings.predicted_per_second,
        "llamacpp.draft.tokens": timings.draft_n,
        "llamacpp.draft.tokens_accepted": timings.draft_n_accepted,
        "llamacpp.wait.seconds": seconds_waited(timings),
    }
    return {name: number for name, number in numbers.items() if number is not None}
