"""Bytes of an event stream in, payloads of its events out. No JSON, no I/O.

Lines end at LF, CR or CRLF and nowhere else: U+2028, U+2029 and U+0085 are legal inside a JSON string and
llama-server sends them raw, so splitting decoded text with `str.splitlines` (as httpx's `iter_lines` does) tears
events apart.
"""

from __future__ import annotations

import re

from ..errors import MalformedReplyError

MAX_EVENT_BYTES = 256 * 1024 * 1024
"""Longest event that is buffered. The longest that a server sends on purpose is a reply with all its
log probabilities, tens of MiB; without a bound an endless line would fill the memory."""

_LINE_END = re.compile(rb"\r\n|\n|\r")
_A_FIELD = b"data"  # a stream may be cut off in the middle of the word
_FIELDS = (b"event", b"id", b"retry")
_FOREIGN_KEPT = 4000


class SSEDecoder:
    """`feed` bytes as they come and get the payloads of the events that they complete; `close` at the end.

    An `error: {...}` line (llama-server before #16486) comes out as the payload `{"error": {...}}`.

    Attributes:
        foreign: The start of what came and belongs to no event stream, such as a web page or a JSON text.
    """

    __slots__ = ("_data", "_held", "_line", "_skip_lf", "foreign")

    def __init__(self) -> None:
        self.foreign = b""
        self._line = bytearray()
        self._data: list[bytes] = []
        self._held = 0
        self._skip_lf = False

    def feed(self, data: bytes) -> list[bytes]:
        """Payloads of the events completed by `data`, which may be cut anywhere."""
        # Nearly always a read is one event of one line; then nothing needs to be split or buffered.
        if (
            not self._line
            and not self._data
            and data[:6] == b"data: "
            and data.find(b"\n") == len(data) - 2
            and data[-1:] == b"\n"
            and b"\r" not in data
        ):
            self._skip_lf = False
            return [data[6:-2]]
        return self._feed_slowly(data)

    def close(self) -> list[bytes]:
        """Payloads of what was left without its blank line."""
        self._end_line(bytes(self._line))
        self._line.clear()
        return self._take_event()

    def _feed_slowly(self, data: bytes) -> list[bytes]:
        if not data:
            return []
        if self._skip_lf:
            data = data.removeprefix(b"\n")
        *ended, rest = _LINE_END.split(data)
        payloads: list[bytes] = []
        for piece in ended:
            self._line += piece
            if self._line:
                self._end_line(bytes(self._line))
                self._line.clear()
            else:
                payloads += self._take_event()
        self._line += rest
        self._skip_lf = data.endswith(b"\r")
        if self._held + len(self._line) > MAX_EVENT_BYTES:
            raise MalformedReplyError(f"an event of the stream is longer than {MAX_EVENT_BYTES} bytes")
        return payloads

    def _end_line(self, line: bytes) -> None:
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        self._held += len(line)
        if field == b"data":
            self._data.append(value)
        elif field == b"error":
            self._data.append(b'{"error":' + value + b"}")
        elif not _A_FIELD.startswith(field) and field not in _FIELDS and len(self.foreign) < _FOREIGN_KEPT:
            self.foreign += line[:_FOREIGN_KEPT]

    def _take_event(self) -> list[bytes]:
        data, self._data, self._held = self._data, [], 0
        return [b"\n".join(data)] if data else []
