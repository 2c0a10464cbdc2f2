"""Small images and sounds, and a web server that has them."""

import io
import struct
import threading
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image


def picture(colour: str | tuple[int, int, int] = "red", kind: str = "PNG", mode: str = "RGB", **options: Any) -> bytes:
    """A picture of one colour in some format of Pillow's."""
    buffer = io.BytesIO()
    Image.new(mode, (56, 28), colour).save(buffer, kind, **options)
    return buffer.getvalue()


def sound(period: int = 40) -> bytes:
    """A second of a tone (WAV)."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(b"".join(struct.pack("<h", (n % period - period // 2) * 500) for n in range(16000)))
    return buffer.getvalue()


class Web:
    """What a web server has, by path, and what was asked of it.

    Attributes:
        url: Its address, without a slash at the end.
        files: Type and content by path.
        redirects: Where to, by path.
        asked: Path and headers of each request.
    """

    def __init__(self) -> None:
        self.url = ""
        self.files: dict[str, tuple[str, bytes]] = {}
        self.redirects: dict[str, str] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []


@contextmanager
def web_server() -> Iterator[Web]:
    web = Web()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # connections are kept

        def do_GET(self) -> None:
            web.asked.append((self.path, dict(self.headers)))
            if self.path in web.redirects:
                self.answer(302, "text/plain", b"", Location=web.redirects[self.path])
                return
            try:
                self.answer(200, *web.files[self.path])
            except KeyError:
                self.answer(404, "text/plain", b"no such file")

        def answer(self, status: int, kind: str, content: bytes, **headers: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Set-Cookie", "visitor=1")
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    web.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
