"""HTTP clients that note what goes over the wire to a real server."""

import json
import threading
from typing import Any

import httpx

# A kept connection may have been closed by the server, and what was posted on it is then posted once more. Where no
# certificate is checked, none are read: that takes longer than most tests.
PLAIN: dict[str, Any] = {"trust_env": False, "limits": httpx.Limits(max_keepalive_connections=0), "verify": False}


class Wiretap:
    """Two clients, for `http_client` and `http_async_client`, with one record.

    Attributes:
        requests: (path, body) of each POST, in order.
        most_at_once: Most POSTs to one path that were unanswered at the same time.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[str, Any]] = []
        self.most_at_once: dict[str, int] = {}
        self._open: dict[str, int] = {}
        self._lock = threading.Lock()
        self.client = httpx.Client(event_hooks={"request": [self._sent], "response": [self._answered]}, **PLAIN)
        self.async_client = httpx.AsyncClient(
            event_hooks={"request": [self._asent], "response": [self._aanswered]}, **PLAIN
        )

    def bodies(self, path: str) -> list[Any]:
        """The bodies posted to a path."""
        return [body for sent, body in self.requests if sent == path]

    @property
    def clients(self) -> dict[str, Any]:
        """Fields of a model class."""
        return {"http_client": self.client, "http_async_client": self.async_client}

    async def aclose(self) -> None:
        """Closes both clients."""
        self.client.close()
        await self.async_client.aclose()

    def _sent(self, request: httpx.Request) -> None:
        if request.method != "POST":
            return
        path = request.url.path
        with self._lock:
            self.requests.append((path, json.loads(request.content)))
            self._open[path] = self._open.get(path, 0) + 1
            self.most_at_once[path] = max(self.most_at_once.get(path, 0), self._open[path])

    def _answered(self, response: httpx.Response) -> None:
        if response.request.method == "POST":
            with self._lock:
                self._open[response.request.url.path] -= 1

    async def _asent(self, request: httpx.Request) -> None:
        self._sent(request)

    async def _aanswered(self, response: httpx.Response) -> None:
        self._answered(response)


class ToolsOnly(httpx.HTTPTransport):
    """Something in front of the server that takes tools and no other constraint."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content or b"{}")
        if body.keys() & {"response_format", "grammar"}:
            words = {"error": {"code": 400, "message": "no structured output", "type": "invalid_request_error"}}
            return httpx.Response(400, json=words, request=request)
        return super().handle_request(request)
