"""Bodies: those of requests as bytes, and those of responses as plain bytes, up to a size and a time.

httpx decompresses whatever one read brings at once: 64 kB of gzip may be 64 MB, and with a second coding on top 3 kB
take gigabytes before anybody can look at the size. Here one coding is decoded piece by piece, and more are refused.
"""

from __future__ import annotations

import json
import re
import time
import zlib
from collections.abc import AsyncIterator, Iterator
from functools import lru_cache
from typing import Any, Final

import httpx
from pydantic_core import to_json

from .._history import PlainMessages
from .._notices import warn_once
from .._replies import MAX_EVENT_BYTES
from .._values import content_key, of_key
from ..errors import BadRequestError, MalformedReplyError
from .deadlines import apieces_until, pieces_until, too_late
from .effects import Read
from .httpx_setup import asked_url

ACCEPTED: Final = "gzip, deflate"
"""Content codings that requests accept; no others are decoded."""

_PIECE: Final = 256 * 1024
_GZIP, _ZLIB, _DEFLATE = zlib.MAX_WBITS | 16, zlib.MAX_WBITS, -zlib.MAX_WBITS


class Unpacker:
    """Decodes one content coding.

    Args:
        coding: `gzip` (or `x-gzip`) or `deflate`.
    """

    def __init__(self, coding: str) -> None:
        self._gzip = coding != "deflate"
        self._inner = zlib.decompressobj(_GZIP if self._gzip else _ZLIB)
        self._first = not self._gzip

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Plain bytes, in pieces of at most 256 KiB.

        Raises:
            MalformedReplyError: For what is not of this coding.
        """
        while data:
            try:
                plain = self._inner.decompress(data, _PIECE)
            except zlib.error as error:
                if not self._first:
                    raise MalformedReplyError(f"can't decode the response: {error}") from None
                # Some servers send deflate without its frame.
                self._first, self._inner = False, zlib.decompressobj(_DEFLATE)
                continue
            self._first = False
            if plain:
                yield plain
            data = self._rest()

    def _rest(self) -> bytes:
        if not self._inner.eof:
            return self._inner.unconsumed_tail
        rest = self._inner.unused_data if self._gzip else b""
        self._inner = zlib.decompressobj(_GZIP if self._gzip else _DEFLATE)
        return rest


def pieces(reply: Any) -> Iterator[bytes]:
    """The plain bytes of a response of httpx as they come, or of one that was read already, such as a recorded one.

    A coding that can't be read is refused with the first piece: by then someone holds the reply and closes it.
    """
    if reply.is_stream_consumed:
        return iter((reply.content,))
    return _unpacked(reply) if "content-encoding" in reply.headers else reply.iter_raw()


def apieces(reply: Any) -> AsyncIterator[bytes]:
    """Async version of `pieces`."""
    if reply.is_stream_consumed:
        return _single_piece(reply.content)
    return _aunpacked(reply) if "content-encoding" in reply.headers else reply.aiter_raw()


def _unpacked(reply: Any) -> Iterator[bytes]:
    unpacker = _unpacker(reply)
    for data in reply.iter_raw():
        yield from (data,) if unpacker is None else unpacker.feed(data)


async def _aunpacked(reply: Any) -> AsyncIterator[bytes]:
    unpacker = _unpacker(reply)
    async for data in reply.aiter_raw():
        for piece in (data,) if unpacker is None else unpacker.feed(data):
            yield piece


async def _single_piece(content: bytes) -> AsyncIterator[bytes]:
    yield content


def _unpacker(reply: Any) -> Unpacker | None:
    codings = [coding.strip().lower() for coding in reply.headers.get("content-encoding", "").split(",")]
    codings = [coding for coding in codings if coding not in ("", "identity")]
    if not codings:
        return None
    if len(codings) > 1:
        raise MalformedReplyError(
            f"the response is compressed {len(codings)} times; only one content coding is supported"
        )
    if codings[0] not in ("gzip", "x-gzip", "deflate"):
        raise MalformedReplyError(
            f"the response has the unsupported content coding {codings[0][:40]!r}",
            remedy=f"a proxy changes it; the request accepts {ACCEPTED}",
        )
    return Unpacker(codings[0])


_WRITE: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
# Bytes of tools beyond which they are written anew for each request.
_LONGEST_KEPT: Final = 100_000
_SURROGATES: Final = re.compile("[\ud800-\udfff]")


def encode(body: object) -> bytes:
    """JSON as the server takes it: UTF-8, no NaN, no lone surrogates (it answers those with 400).

    Raises:
        BadRequestError: For values that JSON does not have.
    """
    try:
        text = _text(body)
    except (TypeError, ValueError, RecursionError) as error:
        raise BadRequestError(f"can't encode the request as JSON: {error}") from error
    except Exception as error:  # an object of the caller failed while it was read
        raise BadRequestError(f"can't encode the request as JSON: {type(error).__name__}") from error
    try:
        return text.encode()
    except UnicodeEncodeError:
        warn_once("replaced lone surrogates in the text by U+FFFD, because JSON can't represent them")
        return _SURROGATES.sub("\ufffd", text).encode()


def _text(body: object) -> str:
    """JSON of a body, with its conversation and tools last, which are the most of it."""
    written: dict[str, str] = {}
    if type(body) is dict:
        if type(messages := body.get("messages")) is PlainMessages:
            written["messages"] = _plain(messages)
        if isinstance(tools := body.get("tools"), list):
            key = content_key(tools)
            if key is not None and len(key) <= _LONGEST_KEPT:  # an agent sends the same ones each time
                written["tools"] = _key_bytes(key)
    if not written or type(body) is not dict:
        return _WRITE(body)
    rest = _WRITE({name: value for name, value in body.items() if name not in written})[1:-1]
    parts = [rest] if rest else []
    for name, text in written.items():
        parts.append(f'"{name}":{text}')
    return "{" + ",".join(parts) + "}"


def _plain(messages: PlainMessages) -> str:
    """They hold nothing but texts, of which both writers make the same; this one in a third of the time."""
    try:
        return to_json(list(messages)).decode()
    except ValueError:  # a lone surrogate
        return _WRITE(messages)


@lru_cache(maxsize=32)
def _key_bytes(key: bytes) -> str:
    return _WRITE(of_key(key))


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
        raise MalformedReplyError(f"the response is longer than {most} bytes", url=asked_url(effect))
    if effect.deadline is not None and time.monotonic() > effect.deadline:
        raise too_late(asked_url(effect))
