"""Drops a connection on which more bytes came than belong to the reply.

A reply whose `Content-Length` is too short leaves the rest of its body behind, and a server may send anything after
the end. httpcore does not reuse an idle connection whose socket is readable, but it does not see what was received
already: that would be read as the reply to the next request. No request is lost by dropping the connection here, since
the next one has not begun.

httpx shows none of those buffers, so this looks behind it. Where they are not found (another transport, another
version), everything is as httpx has it.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

from .httpx_setup import library_of
from .leaving import shut

# From a reply of httpx to the state of h11, each the first that is there, and from a stream of httpcore to a socket.
_TO_PARSER: Final = ("_h11_state", "_connection", "_httpcore_stream", "_stream")
_TO_SOCKET: Final = ("_stream", "transport_stream")
_DEPTH: Final = 8


def drop_if_more_came(reply: Any) -> None:
    """Have a reply check, when it is closed, that its connection holds nothing more; else nobody uses that again."""
    library = library_of(type(reply))
    # Recorders such as vcrpy put a stream there that is of both kinds.
    bases = tuple(base for base in (library.SyncByteStream, library.AsyncByteStream) if isinstance(reply.stream, base))
    if (network := reply.extensions.get("network_stream")) is not None:
        reply.stream = _checked(bases)(reply.stream, network, reply.http_version)


class _Checked:
    """The stream of a reply. Only its closing is ours; iterating it costs nothing more."""

    def __init__(self, stream: Any, network: Any, version: str) -> None:
        self._stream, self._network, self._version = stream, network, version

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._stream)

    def __aiter__(self) -> Any:
        return self._stream.__aiter__()

    def close(self) -> None:
        self._check()
        self._stream.close()

    async def aclose(self) -> None:
        self._check()
        await self._stream.aclose()

    def _check(self) -> None:
        # Before the connection goes back to the pool: a socket that was shut down is readable, and so not reused.
        if self._version != "HTTP/2" and _has_more(self._stream, self._network):
            shut(self._network, self._version)


@lru_cache(maxsize=8)
def _checked(bases: tuple[type[Any], ...]) -> type[Any]:
    return type("_Checked", (_Checked, *bases), {})


def _has_more(stream: Any, network: Any) -> bool:
    """Whether bytes were received that are no part of the reply, in any of the buffers on the way to it."""
    return (
        any(getattr(part, "trailing_data", (b"",))[0] for part in _along(stream, _TO_PARSER))
        or _has_more_encrypted(network)
        or any(getattr(getattr(part, "_protocol", None), "read_queue", ()) for part in _along(network, _TO_SOCKET))
    )


def _has_more_encrypted(network: Any) -> bool:
    # OpenSSL reads ahead, and tells only by a read what it has.
    encrypted = network.get_extra_info("ssl_object")
    if encrypted is None:
        return False
    if isinstance(connected := network.get_extra_info("socket"), socket.socket):
        connected.settimeout(0)  # those of event loops have no timeout
    try:
        encrypted.read(1)
    except ssl.SSLWantReadError:
        return False
    except (OSError, ValueError):
        return True
    return True


def _along(part: Any, names: tuple[str, ...]) -> Iterator[Any]:
    for _ in range(_DEPTH):
        yield part
        part = next((inner for name in names if (inner := getattr(part, name, None)) is not None), None)
        if part is None:
            return
