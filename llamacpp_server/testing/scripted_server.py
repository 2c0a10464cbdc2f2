"""A real llama-server behind a small recording proxy, for tests.

The proxy forwards bytes in both directions. It records the requests that generate, selects the reply by turn if the
script is a list of turns, and makes requests fail if the test demands it. Everything else is done by the server.
"""

from __future__ import annotations

import http.client
import json
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

from ..local import LocalServer
from .scripts import Says, Script, build_scripted

Failure = Literal["overflow", "loading", "cut", "slow"]
"""How a request fails: a prompt that is too long, a model that is still loading, a reply that ends early, a late
reply."""

_GENERATES: Final = ("/chat/completions", "/completions", "/completion", "/infill")
_SMALL: Final[dict[str, Any]] = {"threads": 1, "threads_http": 4, "warmup": False, "parallel": 2, "ctx_size": 8192}
# As b11549 answers (tools/server/server-context.cpp and server-http.cpp).
_OVERFLOW: Final = {
    "code": 400,
    "message": "request (9000 tokens) exceeds the available context size (4096 tokens), try increasing it",
    "type": "exceed_context_size_error",
    "n_prompt_tokens": 9000,
    "n_ctx": 4096,
}
_LOADING: Final = {"code": 503, "message": "Loading model", "type": "unavailable_error"}
_NO_TURN_LEFT: Final = "the script has {} turns, and this is call {}"


class ScriptedServer:
    """A real llama-server with scripted replies, which counts its calls and fails on demand.

    Examples:
        >>> rules = {"weather": tool_call("get_weather", {"city": "Rome"}), "tool": "Sunny.", "user": "Hello!"}
        >>> with ScriptedServer(rules) as server:  # doctest: +SKIP
        ...     ChatLlamaServer(base_url=server.base_url).invoke("Hi").text
        'Hello!'

    Args:
        rules: Replies by the last message of the request: a key that occurs in its text, `"tool"` for a tool's result,
            `"user"` for everything else; or one reply for every request. See `build_scripted`.
        turns: Instead of rules: the replies to the first, second, third … call. Further calls are refused with 400.
        fail_with: How every generating request fails; None lets them succeed. Can be set at any time; `fail` affects a
            number of requests.
        delay: Seconds that a request with `fail_with="slow"` waits before its first byte.
        **options: Of `LocalServer`.

    Attributes:
        requests: Bodies of the generating requests, in the order of their arrival.
        used: How often each rule was used, by its key; with `turns`, by its number.

    Raises:
        ValueError: For rules and turns together, or neither.
    """

    def __init__(
        self,
        rules: Says | Script | Mapping[str, Says | Script] | None = None,
        *,
        turns: Sequence[str | Script] | None = None,
        fail_with: Failure | None = None,
        delay: float = 1.0,
        **options: Any,
    ) -> None:
        if (rules is None) == (turns is None):
            raise ValueError("give either rules or turns")
        named: Any = {"user" if n == 0 else f"<turn {n}>": turn for n, turn in enumerate(turns)} if turns else rules
        self._scripts: dict[str, Says | Script] = dict(named) if isinstance(named, Mapping) else {"user": named}
        self._turns = len(turns) if turns is not None else None
        self._options = {**_SMALL, **options}
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._server: LocalServer | None = None
        self._proxy: _Proxy | None = None
        self._failures: list[Failure] = []
        self._lock = threading.Lock()
        self.fail_with = fail_with
        self.delay = delay
        self.requests: list[dict[str, Any]] = []
        self.used: Counter[str | int] = Counter()

    @property
    def base_url(self) -> str:
        """The address of the proxy, for clients.

        Raises:
            RuntimeError: If the server was not started.
        """
        if self._proxy is None:
            raise RuntimeError("the server is not running: use it in a with statement, or call start()")
        return f"http://127.0.0.1:{self._proxy.server_address[1]}"

    @property
    def server(self) -> LocalServer:
        """The server behind the proxy, for its slots, metrics and log.

        Raises:
            RuntimeError: If it was not started.
        """
        if self._server is None:
            raise RuntimeError("the server is not running: use it in a with statement, or call start()")
        return self._server

    @property
    def calls(self) -> int:
        """Number of generating requests received."""
        return len(self.requests)

    def start(self) -> Self:
        """Write the model and start the server; does nothing if it is already running.

        Raises:
            LocalServerError: If llama-server does not start.
        """
        if self._proxy is not None:
            return self
        self._directory = tempfile.TemporaryDirectory()
        model = build_scripted(Path(self._directory.name) / "scripted.gguf", self._scripts)
        self._server = LocalServer(model, **self._options).start()
        self._proxy = _Proxy(self)
        threading.Thread(target=self._proxy.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def stop(self) -> None:
        """Stop the server and delete the model."""
        if self._proxy is not None:
            self._proxy.shutdown()
            self._proxy.server_close()
        if self._server is not None:
            self._server.stop()
        if self._directory is not None:
            self._directory.cleanup()
        self._proxy = self._server = self._directory = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def fail(self, how: Failure, times: int = 1) -> None:
        """Make the next requests fail.

        Args:
            how: As `fail_with`.
            times: Number of requests.
        """
        with self._lock:
            self._failures += [how] * times

    def reset(self) -> None:
        """Clear requests, uses and failures; turns start again with the first."""
        with self._lock:
            self.requests, self.used, self._failures, self.fail_with = [], Counter(), [], None

    def assert_used_up(self) -> None:
        """Check that every rule or turn was used.

        Raises:
            AssertionError: Lists those that were not.
        """
        keys = range(self._turns) if self._turns is not None else self._scripts
        if missing := [key for key in keys if not self.used[key]]:
            raise AssertionError(f"scripts never used: {missing}; used: {dict(self.used)}, in {self.calls} calls")

    def _arrived(self, body: dict[str, Any]) -> tuple[dict[str, Any], Failure | None, str | None]:
        """Record a request: the body to send, how it fails, and why it is refused."""
        with self._lock:
            self.requests.append(body)
            failure = self._failures.pop(0) if self._failures else self.fail_with
            if failure in ("overflow", "loading"):
                return body, failure, None
            if self._turns is None:
                self.used[self._rule_for(body)] += 1
                return body, failure, None
            turn = self.used.total()
            if turn >= self._turns:
                return body, failure, _NO_TURN_LEFT.format(self._turns, turn + 1)
            self.used[turn] += 1
        kwargs = {**(body.get("chat_template_kwargs") or {}), "script": turn}
        return {**body, "chat_template_kwargs": kwargs}, failure, None

    def _rule_for(self, body: Mapping[str, Any]) -> str:
        messages = body.get("messages") or [{}]
        content = messages[-1].get("content") or ""
        text = content if isinstance(content, str) else "".join(part.get("text") or "" for part in content)
        found = next((key for key in self._scripts if key not in ("user", "tool") and key in text), None)
        is_tool = "tool" in self._scripts and messages[-1].get("role") == "tool"
        return found or ("tool" if is_tool else "user")


class _Proxy(ThreadingHTTPServer):
    """Listens on loopback for one scripted server."""

    daemon_threads = True

    def __init__(self, front: ScriptedServer) -> None:
        self.front = front
        self.upstream = front.server.base_url.removeprefix("http://")
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    """Passes one request on, or fails it."""

    server: _Proxy

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the requests are recorded."""

    def do_GET(self) -> None:
        self._forward(None, None)

    def do_DELETE(self) -> None:
        self._forward(None, None)

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if not self.path.partition("?")[0].endswith(_GENERATES):
            return self._forward(data, None)
        body, failure, refused = self.server.front._arrived(json.loads(data))
        if refused is not None:
            return self._answer(400, {"code": 400, "message": refused, "type": "invalid_request_error"})
        if failure == "overflow":
            return self._answer(400, _OVERFLOW)
        if failure == "loading":
            return self._answer(503, _LOADING)
        if failure == "slow":
            time.sleep(self.server.front.delay)
        return self._forward(json.dumps(body).encode(), failure)

    def _answer(self, status: int, error: Mapping[str, Any]) -> None:
        content = json.dumps({"error": error}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def _forward(self, data: bytes | None, failure: Failure | None) -> None:
        """Pass the request on, and the reply back piece by piece; a client that leaves closes both sides."""
        upstream = http.client.HTTPConnection(self.server.upstream, timeout=600)
        try:
            kept = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "content-length")}
            upstream.request(self.command, self.path, data, {**kept, "Connection": "close"})
            reply = upstream.getresponse()
            self.send_response(reply.status)
            for name, value in reply.getheaders():
                if name.lower() not in ("transfer-encoding", "connection", "keep-alive", "server", "date"):
                    self.send_header(name, value)
            self.send_header("Connection", "close")
            self.end_headers()
            self._pass_on(reply, cut=failure == "cut")
        except OSError:
            self.close_connection = True  # the client left, or the server is gone
        finally:
            upstream.close()

    def _pass_on(self, reply: http.client.HTTPResponse, *, cut: bool) -> None:
        while piece := reply.read1(65536):
            if cut:
                # One whole event of a stream, or half of a whole reply, and the connection is gone.
                end = piece.find(b"\n\n") + 2
                self.wfile.write(piece[:end] if end > 1 else piece[: len(piece) // 2])
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            self.wfile.write(piece)
