"""Data of a stream kept for its span: counts, IDs and reasons, but no text."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .._replies import fold_chat
from ..messages import MessagesEvent, MessagesReply
from ..replies import ChatDelta, ChatReply, Timings
from ..responses import ResponsesEvent, ResponsesReply
from ..transcription import Transcription, TranscriptionEvent

__all__ = ["Kept"]


class Kept:
    """The numbers of a stream of deltas or of typed events."""

    def __init__(self) -> None:
        self._deltas: list[ChatDelta] = []
        self._messages: list[MessagesEvent] = []
        self._timings: Timings | None = None
        self._response: ResponsesReply | None = None
        self._transcription: Transcription | None = None

    def add(self, item: Any) -> bool:
        """Keep the numbers of one item of the stream.

        Returns:
            Whether it is a chunk of the answer, and not a report of progress.
        """
        if isinstance(item, MessagesEvent):
            if item.usage is not None or item.type in ("message_start", "message_delta"):
                self._messages.append(replace(item, text="", thinking="", arguments="", block=None))
            return bool(item.text or item.thinking or item.arguments)
        if isinstance(item, ResponsesEvent):
            self._response = item.reply or self._response
            self._timings = item.timings or self._timings
            return bool(item.text or item.reasoning or item.arguments)
        if isinstance(item, TranscriptionEvent):
            self._transcription = item.result or self._transcription
            return bool(item.text)
        self._add_delta(item)
        return item.progress is None

    def _add_delta(self, delta: Any) -> None:
        repairs = getattr(delta, "repairs", ())
        self._timings = delta.timings or self._timings
        if delta.start is not None or delta.finish_reason or delta.usage is not None or repairs:
            self._deltas.append(
                ChatDelta(
                    finish_reason=delta.finish_reason,
                    choice=delta.choice,
                    usage=delta.usage,
                    start=delta.start,
                    repairs=repairs,
                )
            )

    def reply(self) -> ChatReply | MessagesReply | ResponsesReply | Transcription:
        """The reply without its text."""
        if self._messages:
            return MessagesReply.from_events(self._messages)
        if self._response is not None:
            return replace(self._response, timings=self._timings)
        if self._transcription is not None:
            return self._transcription
        return fold_chat([*self._deltas, ChatDelta(timings=self._timings)])
