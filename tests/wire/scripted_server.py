"""A server on a real socket that answers each request with exactly the bytes that a test wrote, and keeps count."""

import contextlib
import gzip as gzip_format
import json
import select
import socket
import ssl
import struct
import threading
import time
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from tests.waiting import LONG, wait_until

CRLF = b"\r\n"
RECORD = 16 * 1024  # bytes, of TLS


@dataclass(frozen=True)
class Answer:
    """What happens to one request.

    Attributes:
        parts: Bytes are sent, numbers are seconds of silence, events are waited for.
        then: What happens to the connection afterwards: it is kept, closed, reset (RST), or left without a word.
    """

    parts: tuple[bytes | float | threading.Event, ...] = ()
    then: Literal["keep", "close", "reset", "hang"] = "keep"


def reply(body=b"", status=200, kind="application/json", headers=(), gzip=False):
    """A whole answer with its length, after which the connection is kept."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} X", f"Content-Type: {kind}", *headers]
    if gzip:
        content = gzip_format.compress(content)
        lines.append("Content-Encoding: gzip")
    lines.append(f"Content-Length: {len(content)}")
    return Answer(("\r\n".join([*lines, "", ""]).encode() + content,))


def error(status, message, kind="server_error", headers=()):
    """An error as llama-server writes it."""
    return reply({"error": {"code": status, "message": message, "type": kind}}, status, headers=headers)


LOADING = error(503, "Loading model", "unavailable_error")
MISSING = error(404, "File Not Found", "not_found_error")


def head(kind="text/event-stream", *, chunked=True):
    """The head of an answer whose length is not told."""
    rest = "Transfer-Encoding: chunked" if chunked else "Connection: close"
    return f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n{rest}\r\n\r\n".encode()


def chunk(data):
    """One piece of a chunked body."""
    return b"%x\r\n" % len(data) + data + CRLF


def stream(*events, then="keep", kind="text/event-stream"):
    """A stream of events, one piece each; numbers are seconds of silence, and events of threads are waited for."""
    parts = [chunk(part) if isinstance(part, bytes) else part for part in events]
    return Answer((head(kind), *parts, b"0\r\n\r\n"), then)


def cut_stream(data, *, chunked=True):
    """A stream that ends after these bytes with the connection, and with or without telling that it is not whole."""
    return Answer((head(chunked=chunked), chunk(data) if chunked else data), "close")


@dataclass(frozen=True)
class Request:
    """What arrived.

    Attributes:
        connection: Which connection it came on, from 0.
    """

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int

    @property
    def json(self):
        return json.loads(self.body)


class Encrypted:
    """The server's side of a TLS connection, which sends all records of a part at once."""

    def __init__(self, connection, context):
        self._connection, self._came, self._goes = connection, ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._came, self._goes, server_side=True)
        self._try(self._tls.do_handshake)

    def recv(self, size, _flags=0):
        return self._try(lambda: self._tls.read(size))

    def sendall(self, data):
        for start in range(0, len(data), RECORD):
            self._tls.write(data[start : start + RECORD])
        self._connection.sendall(self._goes.read())

    def _try(self, step):
        while True:
            try:
                done = step()
            except ssl.SSLWantReadError:
                self._connection.sendall(self._goes.read())
                more = self._connection.recv(65536)
                if not more:
                    return b""
                self._came.write(more)
            else:
                self._connection.sendall(self._goes.read())
                return done

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self._connection.close()


@dataclass
class ScriptedServer:
    """Serves `answers` in the order of the requests; the last one is repeated. Use it as a context manager.

    Endpoints that it `lacks` are answered with 404, whenever they are asked for, and those in `routes` (path and query)
    with what is there, the last of a list again and again. A client asks for them on its own account, to find out why
    a chat was refused or how many slots there are; such requests are in `probes`.
    """

    answers: list[Answer]
    port: int = 0
    requests: list[Request] = field(default_factory=list)
    probes: list[Request] = field(default_factory=list)
    left: list[int] = field(default_factory=list)
    """Connections that the client closed while something was still to be sent."""
    spans: list[tuple[Request, float, float]] = field(default_factory=list)
    """Requests with the times when they came and when their last piece went out."""

    def __init__(self, *answers, port=0, lacks=("/apply-template",), routes=None, tls=None):
        self._tls = tls
        self.spans, self.routes = [], {path: list(given) for path, given in (routes or {}).items()}
        self.answers, self.lacks, self.requests, self.probes, self.left = list(answers), lacks, [], [], []
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._last: dict[int, Request] = {}
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = listener_at(port) if port else fresh_listener()
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self):
        self._start(self._accept)
        return self

    def __exit__(self, *_error):
        self._stop.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):  # the client may have closed it
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)

    def most_at_once(self, counts=lambda request: True):
        """The most requests (of those that count) that were answered at the same time."""
        spans = [(begin, end) for request, begin, end in self.spans if counts(request)]
        return max(sum(begin <= other < end for begin, end in spans) for other, _ in spans)

    @property
    def connections(self):
        """How many connections brought requests."""
        return len({request.connection for request in self.requests})

    def wait_until_left(self):
        """Wait until the client gives a connection up.

        It never comes here when a busy machine gave a client with a deadline no time to send its request.
        """
        wait_until(lambda: self.left, "a connection that the client closes")
        return True

    def wait_until_closed(self):
        """Wait until all connections are closed on this side."""
        wait_until(lambda: not self._open, "connections that the server closes")

    def _start(self, run, *args):
        thread = threading.Thread(target=run, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self):
        number = 0
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # each part goes out at once
            with self._lock:
                self._open.add(connection)
            self._start(self._serve, connection, number)
            number += 1

    def _serve(self, connection, number):
        try:
            if self._tls is not None:
                connection = Encrypted(connection, self._tls)
            with connection:
                data = b""
                while (found := self._receive(connection, data, number)) is not None:
                    answer, data = found
                    begin, request = time.monotonic(), self._last[number]
                    full = self._send(connection, answer, number, partial(self._note, request, begin))
                    if not full or answer.then == "close":
                        return
                    if answer.then == "reset":
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        return
                    if answer.then == "hang":
                        self._silence(connection, 60, number)
                        return
        except OSError:
            with self._lock:
                self.left.append(number)
        finally:
            with self._lock:
                self._open.discard(connection)

    def _receive(self, connection, data, number):
        """The answer for the next request, and what came behind it; None when the connection is closed."""
        while CRLF * 2 not in data:
            more = connection.recv(65536)
            if not more:
                return None
            data += more
        top, _, data = data.partition(CRLF * 2)
        first, *lines = top.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", 0))
        while len(data) < length:
            data += connection.recv(65536)
        method, path, _ = first.split(" ")
        request = Request(method, path, headers, data[:length], number)
        self._last[number] = request
        if path in self.lacks:
            self.probes.append(request)
            return MISSING, data[length:]
        if path in self.routes:
            self.probes.append(request)
            given = self.routes[path]
            return given.pop(0) if len(given) > 1 else given[0], data[length:]
        with self._lock:
            self.requests.append(request)
            answer = self.answers[min(len(self.requests), len(self.answers)) - 1]
        return answer, data[length:]

    def _note(self, request, begin):
        """Note a request before its end is sent: the client may go on with the next one at once."""
        self.spans.append((request, begin, time.monotonic()))

    def _send(self, connection, answer, number, note):
        """Whether all was sent before the client left or the test ended; `note` is called before the end is sent."""
        ends = [at for at, part in enumerate(answer.parts) if isinstance(part, bytes) and b"[DONE]" in part]
        last = ends[0] if ends else len(answer.parts) - 1
        for at, part in enumerate(answer.parts):
            if at == last:
                note()
            if isinstance(part, bytes):
                connection.sendall(part)
            elif isinstance(part, threading.Event):
                part.wait(LONG)
            elif not self._silence(connection, part, number):
                if at < last:
                    note()
                return False
        return True

    def _silence(self, connection, seconds, number):
        """Whether the client is still there after a silence."""
        deadline = time.monotonic() + seconds
        while (rest := deadline - time.monotonic()) > 0 and not self._stop.is_set():
            readable, _, _ = select.select([connection], [], [], min(rest, 0.02))
            if readable and not connection.recv(1, socket.MSG_PEEK):
                with self._lock:
                    self.left.append(number)
                return False
        return not self._stop.is_set()


_GIVEN: set[int] = set()
_HELD: dict[int, socket.socket] = {}


def fresh_listener():
    """A listener on a port that none had before in this process.

    What is remembered of a server by its address outlives a test: that a request was given up there, for a minute. The
    system gives a port again now and then, and a test with an old one's memories would fail once in many runs.
    """
    for _ in range(1000):
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        if port not in _GIVEN:
            _GIVEN.add(port)
            return listener
        listener.close()
    raise AssertionError("no port that was not used before")


def free_port():
    """A port of loopback where nothing listens, for a program to be started there."""
    with fresh_listener() as listener:
        return listener.getsockname()[1]


def refusing_port():
    """A port of loopback that refuses connections and that no other process gets; `listener_at` may open it.

    A port that is only free may become another server's, or that of the very connection which is to be refused.
    """
    for _ in range(1000):
        held = socket.socket()
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        if port not in _GIVEN:
            _GIVEN.add(port)
            _HELD[port] = held
            return port
        held.close()
    raise AssertionError("no port that was not used before")


def listener_at(port):
    """A listener at this port, also at one that `refusing_port` holds."""
    if (held := _HELD.pop(port, None)) is None:
        return socket.create_server(("127.0.0.1", port))
    held.listen()
    return held
