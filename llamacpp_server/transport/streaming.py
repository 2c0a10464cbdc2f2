"""A request whose answer is decoded while it comes, and begun anew where others crowd it out.

Programs as in `exchange.py`. One holds the place of its request from admission to the end of the answer, and gives it
back in a `finally`, first by a store, which no interrupt can cut in two:

    delivery = yield from begin(settings, "/v1/…")
    while True:
        ticket = Ticket()
        try:
            yield from delivery.admission(ticket, call)
            reply = yield from delivery.open(ticket, call)
            return (yield from delivery.relay(ticket, reply, call, decoder()))
        except ServerBusyError as error:
            delivery.begin_again(error)
        finally:
            ticket.place.left = True
            ticket.leave()
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from .._replies import (
    BodyAsStream,
    DeltaFilter,
    FirstTokenTimer,
    Pipeline,
    StreamDecoder,
)
from ..errors import LlamaServerError, NotFoundError, ServerBusyError
from ..replies import ChatReply, CompletionReply
from ..settings import ServerSettings, redact_url
from .call_log import CallNote, NotedDeltas, recorded
from .deadlines import FirstToken, just_after
from .echoes import hide_echoes
from .effects import Bound, OpenReply, Program, Read, Relay
from .exchange import Call, admission, deadline_in, note_crowded, note_of, placed_reply, run_alone, unreadable, within
from .gate import Ticket

# How often an answer that was crowded out in its middle is begun anew.
_MOST_CROWDED: Final = 8

_SHOWN: Final = (
    "the slots share one context, and others filled it while this answer was read: set a smaller "
    "max_tokens, or start the server with -np N or kv_unified=False (a context for each slot), or a larger -c; "
    "the error's `partial` has the answer so far"
)

Watch = Callable[[Sequence[Any]], Program[None] | None]


def begin(settings: ServerSettings, path: str, collected: list[Any] | None = None) -> Program[Delivery]:
    """The delivery of a reply, whose `total_timeout` begins now and holds for all that the program does from here on.

    Args:
        settings: Where its requests go.
        path: Of the endpoint, for errors.
        collected: Gets the deltas; None passes them on to whoever reads the stream.
    """
    deadline = deadline_in(settings.total_timeout)
    if deadline is not None:
        # What has a deadline of its own fails at that time, and knows more of what failed.
        yield Bound(just_after(deadline), redact_url(settings.base_url + path))
    return Delivery(settings, deadline, collected)


class Delivery:
    """One round of a reply: it may be sent several times, but its reader sees one answer.

    Args:
        settings: Where its request goes.
        deadline: Time on the monotonic clock by which all must be done; None sets none.
        collected: As in `begin`.
        is_first: Whether no other round came before; the time of the first token is that of the first one.
    """

    def __init__(
        self, settings: ServerSettings, deadline: float | None, collected: list[Any] | None, *, is_first: bool = True
    ) -> None:
        self._settings, self._deadline, self._collected = settings, deadline, collected
        self._started = time.monotonic() if is_first else None
        self._kept = 0 if collected is None else len(collected)
        self._crowded: list[ServerBusyError] = []
        self._relayed = self._start_shown = False
        self._kind = ""  # of the answer that is relayed
        self._first_token: FirstToken | None = None
        self._begun = time.time()
        self._note: CallNote | None = None

    def next_round(self) -> Delivery:
        """The delivery of another round that goes on from this one."""
        return Delivery(self._settings, self._deadline, self._collected, is_first=False)

    def admission(self, ticket: Ticket, call: Call) -> Program[None]:
        """Get a place for the request: one beside which nothing starts, when it was crowded out before."""
        settings, self._relayed = within(self._settings, self._deadline), False
        if self._crowded:
            return run_alone(ticket, settings, call, self._crowded[-1], len(self._crowded))
        return admission(ticket, settings, call, shown=self._collected is None)

    def open(self, ticket: Ticket, call: Call) -> Program[OpenReply]:
        """The answer once its headers are there.

        Raises:
            MalformedReplyError: When it is a web page.
        """
        self._first_token = _first_token(self._settings, call)
        if self._first_token is not None:
            call = replace(call, first_token=self._first_token)
        self._note = note_of(self._settings, call, self._begun)
        opened = self._open(ticket, call)
        return (yield from (opened if self._note is None else recorded(self._note, opened, is_all=False)))

    def _open(self, ticket: Ticket, call: Call) -> Program[OpenReply]:
        reply = yield from placed_reply(ticket, within(self._settings, self._deadline), call)
        kind = self._kind = reply.headers.get("content-type", "")
        if "html" in kind:
            body = yield Read(reply, self._deadline)
            raise unreadable(self._settings, call, reply, body)
        return reply

    def relay(
        self,
        ticket: Ticket,
        reply: OpenReply,
        call: Call,
        decoder: StreamDecoder[Any],
        watch: Watch | None = None,
    ) -> Program[None]:
        """Pass the answer on, as `Relay` does; `decoder` is a new one."""
        relayed = self._relayed_answer(ticket, reply, call, decoder, watch)
        yield from (relayed if self._note is None else recorded(self._note, relayed))

    def _relayed_answer(
        self, ticket: Ticket, reply: OpenReply, call: Call, decoder: StreamDecoder[Any], watch: Watch | None
    ) -> Program[None]:
        if _is_streamed(call) and "json" in self._kind:
            decoder = BodyAsStream(decoder)
        started = self._started
        filters: list[DeltaFilter[Any]] = []
        if started is not None:
            filters.append(FirstTokenTimer(lambda: time.monotonic() - started))
        if self._start_shown:
            filters.append(_StartOnce())
        if self._first_token is not None:
            filters.append(self._first_token)
        if self._note is not None:
            filters.append(NotedDeltas(self._note))
        self._relayed = True
        try:
            yield Relay(reply, Pipeline(decoder, filters) if filters else decoder, ticket, self._deadline, watch,
                        self._collected, self._first_token)  # fmt: skip
        except LlamaServerError as error:
            hide_echoes(error, self._settings)
            if isinstance(error, ServerBusyError) and error.shared_context:
                note_crowded(ticket)
            raise

    def begin_again(self, error: ServerBusyError) -> None:
        """Prepare to send the request once more, alone, where others filled the context that the slots share.

        Only for an answer of which nothing was shown; what was collected of it is dropped.

        Raises:
            ServerBusyError: `error`, where that is not so.
        """
        unseen = self._collected is not None
        if not unseen and (not self._relayed or _has_text(error.partial)):
            error.remedy = _SHOWN if error.shared_context else error.remedy
            raise error
        if not error.shared_context or len(self._crowded) >= _MOST_CROWDED:
            raise error
        if self._collected is not None:
            del self._collected[self._kept :]
        else:
            self._start_shown = self._start_shown or error.partial is not None
        self._crowded.append(error)


def stream_reply(
    delivery: Delivery,
    call: Call,
    decoder: Callable[[], StreamDecoder[Any]],
    *,
    fallback: Call | None = None,
    watch: Watch | None = None,
) -> Program[None]:
    """Send a request and relay its answer.

    Args:
        delivery: Of `begin`.
        call: The request.
        decoder: Makes a decoder for one answer.
        fallback: Sent instead when the server has no such endpoint.
        watch: As in `Relay`.
    """
    while True:
        ticket = Ticket()
        try:
            yield from delivery.admission(ticket, call)
            try:
                reply = yield from delivery.open(ticket, call)
            except NotFoundError:
                if fallback is None:
                    raise
                reply = yield from delivery.open(ticket, fallback)
            return (yield from delivery.relay(ticket, reply, call, decoder(), watch))
        except ServerBusyError as error:
            delivery.begin_again(error)
        finally:
            ticket.place.left = True
            ticket.leave()


def stream_call(
    settings: ServerSettings, call: Call, decoder: Callable[[], StreamDecoder[Any]], *, watch: Watch | None = None
) -> Program[None]:
    """`stream_reply` for a request before which nothing has to be asked."""
    delivery = yield from begin(settings, call.path)
    yield from stream_reply(delivery, call, decoder, watch=watch)


def _is_streamed(call: Call) -> bool:
    return isinstance(call.body, dict | Mapping) and bool(call.body.get("stream"))


def _first_token(settings: ServerSettings, call: Call) -> FirstToken | None:
    """The limit of a stream's first token, where there is one. What is not streamed comes in one piece, at its end."""
    timeout = settings.first_token_timeout
    if timeout is None or not (call.takes_slot and _is_streamed(call)):
        return None
    return FirstToken(timeout, settings.read_timeout)


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
