"""A request whose answer is decoded while it comes: what may come before it, instead of it and after it.

Programs as in `exchange.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Generic, TypeVar

from .._replies import (
    BodyAsStream,
    DeltaFilter,
    FirstTokenTimer,
    Pipeline,
    StreamDecoder,
    not_this_api,
)
from ..chat import ChatReply, CompletionReply
from ..errors import (
    BadRequestError,
    LlamaServerError,
    NotFoundError,
    NotSupportedError,
    ServerBusyError,
    ServerFaultError,
)
from ..settings import ServerSettings, redact_url
from .effects import OpenReply, Program, Read
from .exchange import Call, admission, deadline_in, placed_reply, run_alone, within
from .gate import Ticket

D = TypeVar("D")

# How often an answer that was crowded out in its middle is begun anew.
_MOST_CROWDED: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamCall(Generic[D]):
    """A request whose answer is decoded while it comes.

    Attributes:
        settings: Where it goes.
        call: The request.
        decoder: Makes a decoder for one answer.
        fallback: Asked instead when the server has no such endpoint.
        recover: After a refusal, another request that the server may take; None where there is none.
        watch: Called with the deltas as they come; what it gives is done before they are passed on.
        first: What has to be done before there is a request: its result is taken instead of this one.
        then: Run once the answer has begun, before anything of it is read.
        follow: After an answer that ended in an error, another request whose answer goes on from it, or None.
        earlier: What the rounds before this one ended in.
        crowded: What it ended in before, when others filled the context that the slots share, for each time.
    """

    settings: ServerSettings
    call: Call
    decoder: Callable[[], StreamDecoder[D]]
    fallback: Call | None = None
    recover: Callable[[LlamaServerError], Program[StreamCall[D] | None]] | None = None
    watch: Callable[[Sequence[D]], Program[None] | None] | None = None
    first: Callable[[], Program[StreamCall[D]]] | None = None
    then: Callable[[], Program[None]] | None = None
    follow: Callable[[LlamaServerError], StreamCall[D] | None] | None = None
    earlier: tuple[LlamaServerError, ...] = ()
    crowded: tuple[ServerBusyError, ...] = ()


def open_stream(stream: StreamCall[D], ticket: Ticket) -> Program[tuple[OpenReply, StreamCall[D]]]:
    """An answer that is a stream of events (or a whole reply where no stream was asked for), and its request.

    The ticket gets the place; the caller gives it back.
    """
    started, deadline = time.monotonic(), deadline_in(stream.settings.total_timeout)
    earlier, crowded = stream.earlier, stream.crowded
    while stream.first is not None:
        stream = yield from stream.first()
    try:
        if crowded:
            yield from run_alone(ticket, stream.settings, stream.call, crowded[-1], len(crowded))
        else:
            yield from admission(ticket, stream.settings, stream.call)
        reply, stream = yield from _answer(ticket, stream, deadline)
        kind = reply.headers.get("content-type", "")
        if "html" in kind:
            body = yield Read(reply, deadline)
            shown = redact_url(stream.settings.base_url + stream.call.path)
            raise not_this_api(body, kind, shown, reply.status_code)
        if stream.then is not None:
            yield from stream.then()
    except LlamaServerError as error:
        error.earlier = (*earlier, *error.earlier)
        raise
    decoder = stream.decoder
    if "json" in kind and isinstance(stream.call.body, Mapping) and stream.call.body.get("stream"):
        decoder = partial(_of_one_body, decoder)
    return reply, replace(stream, earlier=earlier, crowded=crowded, decoder=partial(_timed, decoder, started, earlier))


def _of_one_body(decoder: Callable[[], StreamDecoder[D]]) -> StreamDecoder[D]:
    """A decoder for a reply that says it is one JSON text, though a stream was asked for."""
    return BodyAsStream(decoder())


def _timed(
    decoder: Callable[[], StreamDecoder[D]], started: float, earlier: Sequence[LlamaServerError]
) -> StreamDecoder[D]:
    """A decoder that tells when the first token came; of a reply in several rounds, that of the first."""
    return decoder() if earlier else Pipeline(decoder(), [FirstTokenTimer(started)])


def _answer(ticket: Ticket, stream: StreamCall[D], deadline: float | None) -> Program[tuple[OpenReply, StreamCall[D]]]:
    """The answer to a request, or to the one that took its place."""
    try:
        return (yield from placed_reply(ticket, within(stream.settings, deadline), stream.call)), stream
    except NotFoundError:
        if stream.fallback is None:
            raise
        return (yield from placed_reply(ticket, within(stream.settings, deadline), stream.fallback)), stream
    except (BadRequestError, NotSupportedError, ServerFaultError) as error:
        other = yield from _recovered(stream, error)
        if other is None:
            raise
        if other.first is not None:
            other = yield from other.first()
        return (yield from placed_reply(ticket, within(other.settings, deadline), other.call)), other


def next_round(stream: StreamCall[D], error: LlamaServerError, deadline: float | None) -> StreamCall[D] | None:
    """What to ask after an answer that ended in an error; None raises it."""
    if not _has_text(error.partial) and (again := crowded_again(stream, error, deadline)) is not None:
        if error.partial is None:
            return again
        return replace(again, decoder=partial(_without_start, stream.decoder))
    other = stream.follow(error) if stream.follow is not None else None
    if other is None:
        error.earlier = (*stream.earlier, *error.earlier)
        return None
    return replace(other, settings=within(other.settings, deadline), earlier=(*stream.earlier, error))


def crowded_again(stream: StreamCall[D], error: LlamaServerError, deadline: float | None) -> StreamCall[D] | None:
    """The request once more, alone, where others filled the context that the slots share; None for another error.

    Only for an answer of which nothing was shown.
    """
    if not isinstance(error, ServerBusyError) or not error.shared_context or len(stream.crowded) >= _MOST_CROWDED:
        return None
    return replace(stream, settings=within(stream.settings, deadline), crowded=(*stream.crowded, error))


def _has_text(reply: object) -> bool:
    if isinstance(reply, ChatReply):
        return any(choice.content or choice.reasoning_content or choice.tool_calls for choice in reply.choices)
    if isinstance(reply, CompletionReply):
        return any(choice.text or choice.tokens for choice in reply.choices)
    return reply is not None


class _StartOnce(DeltaFilter[Any]):
    """Leaves out the start of a reply, which its reader has seen already."""

    def add(self, deltas: list[Any]) -> list[Any]:
        """The deltas without it."""
        return [delta if delta.start is None else delta._replace(start=None) for delta in deltas]


def _without_start(decoder: Callable[[], StreamDecoder[D]]) -> StreamDecoder[D]:
    return Pipeline(decoder(), [_StartOnce()])


def _recovered(stream: StreamCall[D], error: LlamaServerError) -> Program[StreamCall[D] | None]:
    try:
        return (yield from stream.recover(error)) if stream.recover is not None else None
    except LlamaServerError:
        return None  # the reason could not be found out, so the refusal itself is what is told
