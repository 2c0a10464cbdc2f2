"""Event streams of the server's other APIs -> typed events: Responses, Messages, transcriptions, tools.

Their events name their own type and have an end mark of their own; what is common is read here once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from pydantic_core import from_json

from .._values import fields, integer
from ..errors import LlamaServerError, MalformedReplyError, StreamCutOffError
from ..messages import MessagesEvent
from ..replies import Usage
from ..responses import ResponsesEvent, ResponsesReply, responses_usage
from ..transcription import Transcription, TranscriptionEvent
from .failures import event_failure, not_a_stream, not_this_api
from .parse import number_of, progress_from_wire, text_of, timings_from_wire
from .stream import SSEDecoder

E = TypeVar("E")


class EventDecoder(Generic[E]):
    """Bytes of an event stream -> values.

    Args:
        read: What an event says; None leaves it out.
        ends: Whether the reply is whole with an event. A stream that ends before is one that was cut off.
        fold: What events add up to, for the `partial` of an error; None attaches none.
    """

    over = False

    def __init__(
        self,
        read: Callable[[Mapping[str, Any]], E | None],
        ends: Callable[[E], bool],
        fold: Callable[[list[E]], Any] | None = None,
    ) -> None:
        self._read, self._ends, self._fold = read, ends, fold
        self._sse = SSEDecoder()
        self._events: list[E] = []
        self._done = False

    @property
    def is_done(self) -> bool:
        """Whether the reply is whole: a connection that breaks now cuts nothing off."""
        return self._done

    def feed(self, data: bytes) -> list[E]:
        """Events that `data` completes."""
        return self._decode(self._sse.feed(data))

    def close(self) -> list[E]:
        """Events that were left; raises when the end mark did not come."""
        try:
            events = self._decode(self._sse.close())
        except MalformedReplyError:
            events = []  # half an event
        if self._done:
            return events
        if not self._events and self._sse.foreign:
            raise not_a_stream(self._sse.foreign)
        raise self.with_partial(
            StreamCutOffError(
                "the stream ended before the reply was complete: the server stopped, or a proxy cut it off",
                remedy="see the server's log, and retry once it is up",
            )
        )

    def with_partial(self, error: LlamaServerError) -> LlamaServerError:
        """`error`, with what had arrived attached."""
        if self._events and self._fold is not None:
            error.partial = self._fold(self._events)
        return error

    def _decode(self, payloads: list[bytes]) -> list[E]:
        events: list[E] = []
        try:
            for payload in payloads:
                event = self._decode_one(payload)
                if event is not None:
                    events.append(event)
                    self._done = self._done or self._ends(event)
        except LlamaServerError as error:
            self._events += events
            raise self.with_partial(error) from None
        self._events += events
        return events

    def _decode_one(self, payload: bytes) -> E | None:
        if payload == b"[DONE]":
            return None
        try:
            wire = from_json(payload)
            if type(wire) is not dict:
                return None
            failed = _failed(wire)
            if failed is None:
                return self._read(wire)
        except (AttributeError, KeyError, TypeError, ValueError):
            raise not_this_api(payload, "", "") from None
        raise event_failure(failed)


def _failed(wire: Mapping[str, Any]) -> Any:
    """The error of an event. In a stream of Messages it is the whole event: `event: error` names it (b11549)."""
    if wire.get("error") and not wire.get("done"):  # a tool that failed says so in its last event
        return wire["error"]
    return wire if "code" in wire and "message" in wire else None


def responses_event(wire: Mapping[str, Any]) -> ResponsesEvent:
    """An event of `/v1/responses`."""
    kind, delta = str(wire["type"]), wire.get("delta")
    timings, reply = timings_from_wire(wire.get("timings")), wire.get("response")
    return ResponsesEvent(
        kind,
        text_of(delta) if kind == "response.output_text.delta" else "",
        text_of(delta) if kind == "response.reasoning_text.delta" else "",
        text_of(delta) if kind == "response.function_call_arguments.delta" else "",
        text_of(wire.get("item_id")),
        fields(wire["item"]) if wire.get("item") is not None else None,
        None if reply is None else ResponsesReply.from_wire(reply, timings),
        timings,
        progress_from_wire(wire.get("prompt_progress")),
        wire,
    )


def messages_event(wire: Mapping[str, Any]) -> MessagesEvent:
    """An event of `/v1/messages`."""
    kind, delta, block = str(wire["type"]), fields(wire.get("delta")), wire.get("content_block")
    usage = wire.get("usage") or fields(wire.get("message")).get("usage")
    return MessagesEvent(
        kind,
        number_of(wire.get("index")),
        text_of(delta.get("text")),
        text_of(delta.get("thinking")),
        text_of(delta.get("partial_json")),
        None if block is None else fields(block),
        text_of(delta.get("stop_reason")) or None,
        text_of(delta.get("stop_sequence")) or None,
        messages_usage(usage),
        wire,
    )


def messages_usage(wire: Mapping[str, Any] | None) -> Usage | None:
    """Token counts of `/v1/messages`, where those from the cache are not among `input_tokens`."""
    if not wire:
        return None
    cached = wire.get("cache_read_input_tokens")
    prompt = number_of(wire.get("input_tokens")) + number_of(cached)
    return Usage(prompt, number_of(wire.get("output_tokens")), integer(cached))


def transcription_event(wire: Mapping[str, Any]) -> TranscriptionEvent:
    """An event of `/v1/audio/transcriptions`."""
    kind = str(wire["type"])
    if kind != "transcript.text.done":
        return TranscriptionEvent(kind, text_of(wire.get("delta")), raw=wire)
    counts = responses_usage(wire.get("usage"))
    return TranscriptionEvent(kind, result=Transcription(text_of(wire["text"]), counts, wire), raw=wire)


def fold_transcription(events: list[TranscriptionEvent]) -> Transcription:
    """The whole text; of a stream that broke, what had arrived."""
    results = [event.result for event in events if event.result is not None]
    return results[-1] if results else Transcription("".join(event.text for event in events))
