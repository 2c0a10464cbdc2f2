"""Whole bodies of responses, read up to a size and a time."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator

import httpx

from .._replies import MAX_EVENT_BYTES
from ..errors import MalformedReplyError
from .content import apieces, pieces
from .deadlines import apieces_until, pieces_until, too_late
from .effects import Read
from .httpx_errors import asked


def bounded(reply: httpx.Response, effect: Read) -> Iterator[bytes]:
    """The body, as long as it is not absurdly long, in size and in time: an endless one would fill the memory."""
    size = 0
    try:
        for data in pieces_until(pieces(reply), effect.deadline):
            size += len(data)
            _check_body(size, effect)
            yield data
    finally:
        reply.close()


async def abounded(reply: httpx.Response, effect: Read) -> AsyncIterator[bytes]:
    """Async version of `bounded`."""
    size = 0
    try:
        async for data in apieces_until(apieces(reply), effect.deadline):
            size += len(data)
            _check_body(size, effect)
            yield data
    finally:
        await reply.aclose()


def _check_body(size: int, effect: Read) -> None:
    most = effect.most or MAX_EVENT_BYTES
    if size > most:
        raise MalformedReplyError(f"the response is longer than {most} bytes", url=asked(effect))
    if effect.deadline is not None and time.monotonic() > effect.deadline:
        raise too_late(asked(effect))
