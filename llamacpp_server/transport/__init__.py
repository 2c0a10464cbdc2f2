"""Connections, waiting, retries and the number of requests at once: everything that does I/O.

In come programs, which yield effects and do none of it themselves; out comes what they return. What is sent, and what
an answer means, is not decided here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy

if TYPE_CHECKING:
    from .bodies import encode as encode
    from .call_log import MOST_BYTES as MOST_BYTES
    from .call_log import RECORD as RECORD
    from .call_log import append_line as append_line
    from .call_log import is_recorded_to as is_recorded_to
    from .call_log import json_line as json_line
    from .call_log import known_fields as known_fields
    from .call_log import with_thinking as with_thinking
    from .concurrency import arun_all as arun_all
    from .concurrency import run_all as run_all
    from .deadlines import bound as bound
    from .effects import Admit as Admit
    from .effects import Bound as Bound
    from .effects import Enter as Enter
    from .effects import Program as Program
    from .effects import Read as Read
    from .effects import Relay as Relay
    from .effects import Send as Send
    from .effects import Sleep as Sleep
    from .effects import Together as Together
    from .effects import Work as Work
    from .exchange import Call as Call
    from .exchange import admission as admission
    from .exchange import ask as ask
    from .exchange import ask_text as ask_text
    from .exchange import ask_text_and_headers as ask_text_and_headers
    from .exchange import deadline_in as deadline_in
    from .exchange import log_wait as log_wait
    from .exchange import named as named
    from .exchange import side_by_side as side_by_side
    from .exchange import within as within
    from .gate import Gate as Gate
    from .gate import Ticket as Ticket
    from .gate import gate_for as gate_for
    from .gate import note_context as note_context
    from .gate import running_requests as running_requests
    from .httpx_errors import translate as translate
    from .httpx_setup import OwnAsyncClient as OwnAsyncClient
    from .httpx_setup import OwnClient as OwnClient
    from .httpx_setup import plain_request as plain_request
    from .kept_connections import guard as guard
    from .place import Place as Place
    from .prompt_size import PromptSize as PromptSize
    from .prompt_size import conversation as conversation
    from .recent_failures import address_in_use as address_in_use
    from .recent_failures import note_refusal as note_refusal
    from .recent_failures import refused_at as refused_at
    from .retry import MAX_RETRY_AFTER as MAX_RETRY_AFTER
    from .retry import RetryState as RetryState
    from .retry import Wait as Wait
    from .retry import next_wait as next_wait
    from .shells import AsyncTransport as AsyncTransport
    from .shells import Transport as Transport
    from .streaming import Delivery as Delivery
    from .streaming import begin as begin
    from .streaming import stream_call as stream_call
    from .streaming import stream_reply as stream_reply

__getattr__, __dir__ = lazy(
    __name__,
    {
        "bodies": ("encode",),
        "call_log": (
            "MOST_BYTES",
            "RECORD",
            "append_line",
            "is_recorded_to",
            "json_line",
            "known_fields",
            "with_thinking",
        ),
        "concurrency": ("arun_all", "run_all"),
        "deadlines": ("bound",),
        "effects": ("Admit", "Bound", "Enter", "Program", "Read", "Relay", "Send", "Sleep", "Together", "Work"),
        "exchange": (
            "Call",
            "admission",
            "ask",
            "ask_text",
            "ask_text_and_headers",
            "deadline_in",
            "log_wait",
            "named",
            "side_by_side",
            "within",
        ),
        "gate": ("Gate", "Ticket", "gate_for", "note_context", "running_requests"),
        "httpx_errors": ("translate",),
        "httpx_setup": ("OwnAsyncClient", "OwnClient", "plain_request"),
        "kept_connections": ("guard",),
        "place": ("Place",),
        "prompt_size": ("PromptSize", "conversation"),
        "recent_failures": ("address_in_use", "note_refusal", "refused_at"),
        "retry": ("MAX_RETRY_AFTER", "RetryState", "Wait", "next_wait"),
        "shells": ("AsyncTransport", "Transport"),
        "streaming": ("Delivery", "begin", "stream_call", "stream_reply"),
    },
)
