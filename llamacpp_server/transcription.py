"""Values of `/v1/audio/transcriptions`: speech to text, for models with audio input (`--mmproj`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .replies import Usage

__all__ = ["Transcription", "TranscriptionEvent"]


@dataclass(frozen=True, slots=True)
class Transcription:
    """The text of a recording.

    Attributes:
        text: The transcript.
        usage: Token counts; the prompt's include the recording's. None if the server reported none.
        raw: The response as the server sent it.
    """

    text: str
    usage: Usage | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class TranscriptionEvent:
    """One event of a transcription.

    Attributes:
        type: `transcript.text.delta` or `transcript.text.done`.
        text: Text to append; "" in the last event.
        result: The whole transcript in the last event; None in others.
        raw: The event as the server sent it.
    """

    type: str
    text: str = ""
    result: Transcription | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
