"""A proxy between a client and a real server that spoils answers: it cuts, stalls, drips, replaces and re-encodes."""

from __future__ import annotations

import gzip
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

Pieces = Iterator[bytes]
"""What is sent to the client, piece by piece; the connection is closed at the end."""


@dataclass(frozen=True)
class Fault:
    """How an answer is spoilt.

    Attributes:
        name: As in the table of the docs.
        spoil: From the server's whole answer (head and body) to what is sent.
        asks: Whether the server is asked at all; else `spoil` gets nothing.
    """

    name: str
    spoil: Callable[[bytes], Pieces]
    asks: bool = True


class Proxy:
    """Listens on loopback and answers each request with what the server said, spoilt."""

    def __init__(self, base_url: str, fault: Fault) -> None:
        parts = urlsplit(base_url)
        self._server = (parts.hostname, parts.port)
        self._fault = fault
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.requests: list[bytes] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        # `close` alone does not wake a thread that waits in `accept`.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            request = _read_message(connection)
            if not request:
                return
            self.requests.append(request)
            try:
                answer = ask(self._server, request) if self._fault.asks else b""
                for piece in self._fault.spoil(answer):
                    connection.sendall(piece)
            except OSError:
                pass  # the client has had enough


def ask(server: tuple[str | None, int | None], request: bytes) -> bytes:
    """The server's whole answer to a request."""
    with socket.create_connection(server) as upstream:
        upstream.sendall(request.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
        answer = b""
        while piece := upstream.recv(65536):
            answer += piece
        return answer


def _read_message(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            return b""
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    found = re.search(rb"(?i)^content-length: *(\d+)", head, re.MULTILINE)
    while len(body) < (int(found[1]) if found else 0):
        body += connection.recv(65536)
    return re.sub(rb"(?im)^connection:.*\r\n", b"", head + b"\r\n\r\n") + body


# -- what can go wrong


def body_of(answer: bytes) -> tuple[bytes, bytes]:
    """Head and decoded body of an answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    if b"chunked" in head.lower():
        decoded = b""
        while body:
            size, _, body = body.partition(b"\r\n")
            length = int(size, 16)
            decoded, body = decoded + body[:length], body[length + 2 :]
        body = decoded
    return head, body


def with_length(head: bytes, body: bytes, **headers: str) -> bytes:
    """An answer with a known length."""
    kept = re.sub(rb"(?im)\r\n(transfer-encoding|content-length|connection|keep-alive):[^\r]*", b"", head)
    for name, value in headers.items():
        name = name.replace("_", "-")
        kept = re.sub(rb"(?im)\r\n" + name.encode() + rb":[^\r]*", b"", kept) + f"\r\n{name}: {value}".encode()
    return kept + b"\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body


def _body_start(answer: bytes) -> int:
    return answer.index(b"\r\n\r\n") + 4


def cut_in_the_middle(answer: bytes) -> Pieces:
    start = _body_start(answer)
    yield answer[: start + (len(answer) - start) // 2]


def cut_before_the_body(answer: bytes) -> Pieces:
    yield answer[: _body_start(answer)]


def no_answer(answer: bytes) -> Pieces:
    yield from ()


def stall(answer: bytes) -> Pieces:
    yield answer[: _body_start(answer) + 40]
    time.sleep(3)


def drip(answer: bytes) -> Pieces:
    for number in range(len(answer)):
        yield answer[number : number + 1]


def cut_inside_characters(answer: bytes) -> Pieces:
    """Characters of two to four bytes in a field that nobody reads, and each byte of them in a packet of its own."""
    head, body = body_of(answer)
    answer = with_length(head, body.replace(b"{", '{"padding":"é漢🎈\u2028",'.encode(), 1))
    start = answer.index("é".encode())
    yield answer[: start + 1]
    for number in range(start + 1, start + 12):
        time.sleep(0.002)
        yield answer[number : number + 1]
    yield answer[start + 12 :]


def garbage(answer: bytes) -> Pieces:
    yield b"\x16\x03\x01\x00\xa5 this is no HTTP \xff\xfe" * 20


def web_page(answer: bytes) -> Pieces:
    page = b"<!doctype html><html><body>Welcome to the router's login page</body></html>"
    yield with_length(b"HTTP/1.1 200 OK", page, Content_Type="text/html")


def web_page_error(answer: bytes) -> Pieces:
    page = b"<html><body><h1>502 Bad Gateway</h1></body></html>"
    yield with_length(b"HTTP/1.1 502 Bad Gateway", page, Content_Type="text/html")


def odd_content_type(answer: bytes) -> Pieces:
    head, body = body_of(answer)
    yield with_length(head, body, Content_Type="application/octet-stream")


def gzipped(answer: bytes) -> Pieces:
    head, body = body_of(answer)
    yield with_length(head, gzip.compress(body), Content_Encoding="gzip")


def broken_gzip(answer: bytes) -> Pieces:
    head, body = body_of(answer)
    yield with_length(head, b"\x1f\x8bnot gzip at all" + body, Content_Encoding="gzip")


def redirect(answer: bytes) -> Pieces:
    yield with_length(b"HTTP/1.1 307 Temporary Redirect", b"", Location="http://198.51.100.7/steal")


def truncated_json(answer: bytes) -> Pieces:
    head, body = body_of(answer)
    yield with_length(head, body[: len(body) // 2])


def endless_line(answer: bytes) -> Pieces:
    yield b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: "
    deadline = time.monotonic() + 0.2
    while time.monotonic() < deadline:
        yield b"x" * 65536


def bad_utf8(answer: bytes) -> Pieces:
    head, body = body_of(answer)
    yield with_length(head, body.replace(b'"model":"', b'"model":"\xff\xfe', 1))


def big_event(answer: bytes) -> Pieces:
    """Megabytes in one string of the first object: legal, so the reply is right."""
    head, body = body_of(answer)
    size = 64 << 20 if b"chat.completion" in body else 4 << 20  # the largest for one endpoint is enough, and slow
    yield with_length(head, body.replace(b"{", b'{"padding":"' + b"x" * size + b'",', 1))


def error_event(answer: bytes) -> Pieces:
    head, body = body_of(answer)
    cut = body.find(b"\n\n", len(body) // 3) + 2
    event = b'data: {"error":{"code":500,"message":"decode failed","type":"server_error"}}\n\n'
    yield with_length(head, body[:cut] + event)


def no_end_mark(answer: bytes) -> Pieces:
    head, body = body_of(answer)
    yield with_length(head, body.replace(b"data: [DONE]\n\n", b""))


FAULTS = [
    Fault(function.__name__.replace("_", " "), function)
    for function in (
        no_answer, cut_before_the_body, cut_in_the_middle, stall, drip, cut_inside_characters, garbage, web_page,
        web_page_error, odd_content_type, gzipped, broken_gzip, redirect, truncated_json, endless_line, bad_utf8,
        big_event,
    )
]  # fmt: skip
STREAM_FAULTS = [Fault("error event", error_event), Fault("no end mark", no_end_mark)]
