"""The body of a response as plain bytes, in pieces of bounded size.

httpx decompresses whatever one read brings at once: 64 kB of gzip may be 64 MB, and with a second coding on top 3 kB
take gigabytes before anybody can look at the size. Here one coding is decoded piece by piece, and more are refused.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from ..errors import MalformedReplyError

ACCEPTED: Final = "gzip, deflate"
"""What requests say that they accept; nothing else is decoded."""

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
        return _at_once(reply.content)
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


async def _at_once(content: bytes) -> AsyncIterator[bytes]:
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
