"""Resumable streams, which continue without a listener: `X-Conversation-Id` and `/v1/stream` (b11549)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from .._replies import (
    ChatStreamDecoder,
    ThinkTagFilter,
    pipeline,
)
from ..errors import BadRequestError
from ..requests import ChatRequest
from ..results import StreamState
from ..settings import ServerSettings
from ..transport import (
    Call,
    Program,
    ask,
    ask_text,
    stream_call,
)
from .chat import stream_chat
from .inputs import check_list, check_text

_HEADER: Final = "X-Conversation-Id"


def stream_resumable_chat(settings: ServerSettings, request: ChatRequest, conversation_id: str) -> Program[None]:
    """Stream a chat that the server also stores. A new one with the same ID ends the old one."""
    _check(conversation_id)
    return stream_chat(settings.replace(headers={**settings.headers, _HEADER: conversation_id}), request)


def resume_chat(settings: ServerSettings, conversation_id: str) -> Program[None]:
    """`GET /v1/stream`: the reply from its beginning, then as it is generated."""
    _check(conversation_id)
    call = Call(method="GET", path="/v1/stream", query={"conv_id": conversation_id, "from": "0"})
    return stream_call(settings, call, pipeline(ChatStreamDecoder, [partial(ThinkTagFilter, 1)]))


def find_streams(settings: ServerSettings, conversation_ids: Sequence[str]) -> Program[list[StreamState]]:
    """`POST /v1/streams/lookup`."""
    check_list(conversation_ids, "conversation_ids", (str,))
    call = Call(method="POST", path="/v1/streams/lookup", body={"conversation_ids": list(conversation_ids)})
    return (yield from ask(settings, call, lambda answer: [StreamState.from_wire(entry) for entry in answer]))


def stop_stream(settings: ServerSettings, conversation_id: str) -> Program[None]:
    """`DELETE /v1/stream`; also succeeds if there is nothing to stop."""
    _check(conversation_id)
    yield from ask_text(settings, Call(method="DELETE", path="/v1/stream", query={"conv_id": conversation_id}))


def _check(conversation_id: str) -> None:
    check_text(conversation_id, "conversation_id")
    if not conversation_id or not conversation_id.isascii() or not conversation_id.isprintable():
        raise BadRequestError("a conversation id must be a non-empty string of printable ASCII characters")
