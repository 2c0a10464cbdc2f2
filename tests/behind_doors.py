"""What tests replace or look at inside the packages: each constant and function once, under a name that says its use.

Tests import from the packages' doors. No other file of theirs names a module behind one (tests/rules/test_imports.py),
so that a module can move or change its name without them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest

from llamacpp_server._media import parts
from llamacpp_server.transport import recent_failures

# For `monkeypatch.setattr` and the like.
NOTICES: Final = "llamacpp_server._notices._said"
MEMORIES: Final = "llamacpp_server._endpoints.server_memory._memories"
SECONDS_PROPS_ARE_TRUSTED: Final = "llamacpp_server._endpoints.server_memory._CHANGES_FOR"
NOTE_REFUSAL: Final = "llamacpp_server.transport.exchange.note_refusal"
FIRST_BACKOFF: Final = "llamacpp_server.transport.retry._FIRST_BACKOFF"
FIRST_POLL: Final = "llamacpp_server.transport.retry._FIRST_POLL"
SLOWEST_POLL: Final = "llamacpp_server.transport.retry._SLOWEST_POLL"
FIRST_TOKEN_TIMER: Final = "llamacpp_server.transport.streaming.FirstTokenTimer"
PATIENCE: Final = "llamacpp_server.transport.place.PATIENCE"
WRITE_RECORD: Final = "llamacpp_server.transport.call_log.append_line"
TLS_CONTEXT: Final = "llamacpp_server.transport.httpx_setup._default_context"
COLLECT_GARBAGE: Final = "llamacpp_server.transport.leaving.gc.collect"
MOST_BYTES_OF_A_BODY: Final = "llamacpp_server.transport.bodies.MAX_EVENT_BYTES"
MOST_BYTES_OF_AN_UNSTREAMED_REPLY: Final = "llamacpp_server._replies.single_body.MAX_EVENT_BYTES"
MOST_BYTES_OF_AN_EVENT: Final = "llamacpp_server._replies.stream.MAX_EVENT_BYTES"
LINE_END: Final = "llamacpp_server._replies.stream._LINE_END"
READER_LIKE: Final = "llamacpp_server._replies.stream.reader_like"
MOST_BYTES_OF_MEDIA: Final = "llamacpp_server._media.parts.MOST_BYTES"
ADDRESSES_OF_A_HOST: Final = "llamacpp_server._media.parts.addresses_of"
IS_PUBLIC: Final = "llamacpp_server._media.parts.is_public"
SEND_FETCH: Final = "llamacpp_server._media.parts._send"
SECONDS_OF_A_FETCH: Final = "llamacpp_server._media.parts._FETCH_SECONDS"
MOST_CHARACTERS_OF_A_BATCH: Final = "llamacpp_server._batch.run._MOST_CHARACTERS"
SHELLS: Final = "llamacpp_server.transport.shells"

send_fetch: Final[Callable[..., Any]] = parts._send
"""Sends the request for a picture of the web."""


def put_newer_port(monkeypatch: pytest.MonkeyPatch, port: int | None, found: bool = False) -> None:
    """Stand another port in for that of newer builds.

    Args:
        monkeypatch: Puts things back.
        port: The port.
        found: Whether the server was found there already.
    """
    monkeypatch.setattr(recent_failures, "NEW_PORT", port)
    monkeypatch.setattr(recent_failures, "_FOUND", recent_failures._Found(found))


def is_found_at_newer_port() -> bool:
    """Whether the server that nobody named was found at the port of newer builds."""
    return recent_failures._FOUND.at_new_port
