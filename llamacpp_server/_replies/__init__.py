"""Decode the server's bytes and bodies into replies, deltas and errors; no I/O.

Bytes become events and events deltas (`stream`), which pass through filters (`filters`). Tool calls are checked in
`_tools`; when to send again is decided in `transport`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy

if TYPE_CHECKING:
    from .failures import START_HINT as START_HINT
    from .failures import event_failure as event_failure
    from .failures import failure as failure
    from .failures import is_web_page as is_web_page
    from .failures import not_this_api as not_this_api
    from .fast_path import reader_like as reader_like
    from .filters import DeltaFilter as DeltaFilter
    from .filters import FirstTokenTimer as FirstTokenTimer
    from .filters import LoopFilter as LoopFilter
    from .filters import Pipeline as Pipeline
    from .filters import ProgressFilter as ProgressFilter
    from .filters import WithoutPrefill as WithoutPrefill
    from .filters import WithoutTopLogprobs as WithoutTopLogprobs
    from .filters import answer_pieces as answer_pieces
    from .filters import argument_pieces as argument_pieces
    from .filters import has_token as has_token
    from .filters import pipeline as pipeline
    from .filters import repeated_unit as repeated_unit
    from .filters import text_pieces as text_pieces
    from .fold import fold_chat as fold_chat
    from .fold import fold_completion as fold_completion
    from .parse import chat_reply as chat_reply
    from .parse import completion_reply as completion_reply
    from .parse import fallback_call_id as fallback_call_id
    from .parse import parse_embeddings as parse_embeddings
    from .parse import usage_from_wire as usage_from_wire
    from .parse import usage_or_none as usage_or_none
    from .single_body import BodyAsStream as BodyAsStream
    from .single_body import ChatBodyDecoder as ChatBodyDecoder
    from .single_body import CompletionBodyDecoder as CompletionBodyDecoder
    from .special_tokens_filter import BrokenTokenFilter as BrokenTokenFilter
    from .special_tokens_filter import BrokenTokenReader as BrokenTokenReader
    from .stream import MAX_EVENT_BYTES as MAX_EVENT_BYTES
    from .stream import VAIN_TEMPLATES as VAIN_TEMPLATES
    from .stream import ChatStreamDecoder as ChatStreamDecoder
    from .stream import CompletionStreamDecoder as CompletionStreamDecoder
    from .stream import SSEDecoder as SSEDecoder
    from .stream import StreamDecoder as StreamDecoder
    from .thoughts import ThinkingAsText as ThinkingAsText
    from .thoughts import ThinkTagFilter as ThinkTagFilter
    from .thoughts import ThoughtSplitter as ThoughtSplitter
    from .typed_events import EventDecoder as EventDecoder
    from .typed_events import fold_transcription as fold_transcription
    from .typed_events import messages_event as messages_event
    from .typed_events import responses_event as responses_event
    from .typed_events import transcription_event as transcription_event

__getattr__, __dir__ = lazy(
    __name__,
    {
        "failures": ("START_HINT", "event_failure", "failure", "is_web_page", "not_this_api"),
        "fast_path": ("reader_like",),
        "filters": (
            "DeltaFilter",
            "FirstTokenTimer",
            "LoopFilter",
            "Pipeline",
            "ProgressFilter",
            "WithoutPrefill",
            "WithoutTopLogprobs",
            "has_token",
            "pipeline",
            "answer_pieces",
            "argument_pieces",
            "repeated_unit",
            "text_pieces",
        ),
        "fold": ("fold_chat", "fold_completion"),
        "parse": (
            "chat_reply",
            "completion_reply",
            "fallback_call_id",
            "parse_embeddings",
            "usage_from_wire",
            "usage_or_none",
        ),
        "single_body": ("BodyAsStream", "ChatBodyDecoder", "CompletionBodyDecoder"),
        "special_tokens_filter": ("BrokenTokenFilter", "BrokenTokenReader"),
        "stream": (
            "MAX_EVENT_BYTES",
            "VAIN_TEMPLATES",
            "ChatStreamDecoder",
            "CompletionStreamDecoder",
            "SSEDecoder",
            "StreamDecoder",
        ),
        "thoughts": ("ThinkTagFilter", "ThinkingAsText", "ThoughtSplitter"),
        "typed_events": (
            "EventDecoder",
            "fold_transcription",
            "messages_event",
            "responses_event",
            "transcription_event",
        ),
    },
)
