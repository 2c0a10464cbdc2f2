"""Servers that answer every POST with the same bytes, in their own process: only the client's CPU time counts."""

from __future__ import annotations

import json
import multiprocessing
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any


def text_events(count: int) -> list[bytes]:
    """A stream of `count` text chunks as b11434 sends it."""
    return _events([{"content": f" word{number % 97}"} for number in range(count)], "stop")


def tool_events(count: int) -> list[bytes]:
    """A stream of `count` chunks of one tool call's arguments."""
    first = {"index": 0, "id": "QLvEabc", "type": "function", "function": {"name": "get_weather", "arguments": "{"}}
    middle = [{"index": 0, "function": {"arguments": f'"key{number}":{number},'}} for number in range(count - 2)]
    last = {"index": 0, "function": {"arguments": '"end":1}'}}
    return _events([{"tool_calls": [call]} for call in (first, *middle, last)], "tool_calls")


def _events(deltas: list[dict[str, Any]], finish: str) -> list[bytes]:
    base = {
        "created": 1795174294,
        "id": "chatcmpl-9Xk3vQmZ5nT7wR1yB4cD6fG8hJ0kL2pS",
        "model": "tiny-chat.gguf",
        "system_fingerprint": "b11434-0123456",
        "object": "chat.completion.chunk",
    }

    def chunk(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        return {"choices": [{"finish_reason": reason, "index": 0, "delta": delta}], **base}

    usage = {
        "completion_tokens": len(deltas),
        "prompt_tokens": 26,
        "total_tokens": 26 + len(deltas),
        "prompt_tokens_details": {"cached_tokens": 25},
    }
    timings = {"cache_n": 25, "prompt_n": 1, "prompt_ms": 0.4, "predicted_n": len(deltas), "predicted_ms": 9.5}
    chunks = [
        chunk({"role": "assistant", "content": None}),
        *(chunk(delta) for delta in deltas),
        chunk({}, finish),
        {"choices": [], **base, "usage": usage, "timings": timings},
    ]
    return [b"data: " + json.dumps(c, separators=(",", ":")).encode() + b"\n\n" for c in chunks] + [b"data: [DONE]\n\n"]


@contextmanager
def replaying(events: list[bytes], *, at_once: bool = False) -> Iterator[str]:
    """The address of a server that answers each POST with a stream of events.

    Args:
        events: What it sends, each in a chunk of its own.
        at_once: Whether all chunks are sent with one call, so that what a reader does for them is always the same.
    """
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    framed = [b"%x\r\n%s\r\n" % (len(event), event) for event in events]
    pieces = [head, *framed, b"0\r\n\r\n"]
    with _running([b"".join(pieces)] if at_once else pieces) as base_url:
        yield base_url


@contextmanager
def replaying_reply(body: bytes) -> Iterator[str]:
    """The address of a server that answers each POST with one JSON body."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    with _running([head + body]) as base_url:
        yield base_url


@contextmanager
def _running(pieces: list[bytes]) -> Iterator[str]:
    context = multiprocessing.get_context("spawn")
    ready, child_end = context.Pipe()
    process = context.Process(target=_serve, args=(pieces, child_end), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ready.recv()}"
    finally:
        process.terminate()
        process.join()


def _serve(pieces: list[bytes], ready: Any) -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    ready.send(listener.getsockname()[1])
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_answer, args=(connection, pieces), daemon=True).start()


def _answer(connection: socket.socket, pieces: list[bytes]) -> None:
    with connection, suppress(ConnectionError):
        while request := _read_request(connection):
            if request.startswith(b"GET"):
                connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                continue
            for piece in pieces:
                connection.sendall(piece)


def _read_request(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            return b""
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), 0
    )
    while len(body) < length:
        body += connection.recv(65536)
    return head
