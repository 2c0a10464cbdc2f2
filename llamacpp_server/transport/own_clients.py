"""The HTTP clients that transports make for themselves: httpx's, without what they never use.

A client of our own has no hooks, no authentication, no cookies and follows no redirects. To find that out again for
each request, httpx spends as much time as its transport needs for sending it. So requests are built from parts that are
kept, and go straight to the transport of their client, where tracers and mocks of httpx's transports see them as usual.
Where a tool has replaced a method of httpx's clients, such as `send`, requests go through it.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from types import FunctionType
from typing import Any, Final, NamedTuple

import httpx

_LOG: Final = logging.getLogger("httpx")
# What a request passes on its way from `send` to its transport.
_STEPS: Final = (
    *("send", "_send_handling_auth", "_send_handling_redirects", "_send_single_request"),
    *("build_request", "_transport_for_url"),
)
_SOURCE: Final = httpx.Client.__init__.__code__.co_filename
# Of one client: addresses whose parts are kept. A program asks a handful of a server's endpoints.
_MOST_ADDRESSES: Final = 16
_WITH_LENGTH: Final = ("POST", "PUT", "PATCH")


class _Parts(NamedTuple):
    """What requests to one address have in common.

    Attributes:
        given: The headers that the caller gave.
        url: The address.
        headers: All but the length of the body.
        has_length: Whether the caller gave that as well.
    """

    given: Mapping[str, str]
    url: httpx.URL
    headers: httpx.Headers
    has_length: bool


class OwnClient(httpx.Client):
    """A client for blocking calls. Its requests are those of `plain_request` and `build_request`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._parts: dict[str, _Parts] = {}

    def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        """Send a request and return the response once its headers are there."""
        if self.is_closed or request.url.userinfo or not _is_untouched(httpx.Client):
            return super().send(request, **options)
        try:
            reply = self._transport_for_url(request.url).handle_request(request)
        except httpx.RequestError as error:
            error.request = request
            raise
        return _answered(reply, request)


class OwnAsyncClient(httpx.AsyncClient):
    """A client for awaited calls. Its requests are those of `plain_request` and `build_request`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._parts: dict[str, _Parts] = {}

    async def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        """Async version of `OwnClient.send`."""
        if self.is_closed or request.url.userinfo or not _is_untouched(httpx.AsyncClient):
            return await super().send(request, **options)
        try:
            reply = await self._transport_for_url(request.url).handle_async_request(request)
        except httpx.RequestError as error:
            error.request = request
            raise
        return _answered(reply, request)


def plain_request(
    client: OwnClient | OwnAsyncClient,
    method: str,
    url: str,
    headers: Mapping[str, str],
    content: bytes | None,
    extensions: dict[str, Any],
) -> httpx.Request:
    """The request that `client.build_request` makes, from the parts of the one before.

    Args:
        client: Whose request it is.
        method: HTTP method, in upper case.
        url: Whole address, without a query: that may hold a key, and a signed one is another one each time.
        headers: Request headers, on top of the client's.
        content: Body; None sends none.
        extensions: As in httpx; the timeout is among them.
    """
    parts = client._parts.get(url)
    if parts is None or parts.given != headers:
        parts = _parts(client, url, headers)
        if len(client._parts) >= _MOST_ADDRESSES:
            client._parts.clear()
        client._parts[url] = parts
    body = httpx.ByteStream(content or b"")
    request = httpx.Request(method, parts.url, headers=parts.headers, stream=body, extensions=extensions)
    if (content or method in _WITH_LENGTH) and not parts.has_length:
        request.headers["Content-Length"] = str(len(content or b""))
    request.read()
    return request


def _parts(client: OwnClient | OwnAsyncClient, url: str, headers: Mapping[str, str]) -> _Parts:
    address, merged = httpx.URL(url), client.headers.copy()
    merged.update(headers)
    if "Host" not in merged:
        merged = httpx.Headers([(b"Host", address.netloc), *merged.raw])
    has_length = "Content-Length" in merged or "Transfer-Encoding" in merged
    return _Parts(dict(headers), address, merged, has_length)


def _answered(reply: httpx.Response, request: httpx.Request) -> httpx.Response:
    """The response, with its request and in httpx's log, as httpx does it."""
    reply.request = request
    if _LOG.isEnabledFor(logging.INFO):
        said = (reply.http_version, reply.status_code, reply.reason_phrase)
        _LOG.info('HTTP Request: %s %s "%s %d %s"', request.method, request.url, *said)
    return reply


def _is_untouched(cls: type[httpx.Client | httpx.AsyncClient]) -> bool:
    """Whether httpx's methods are its own: error trackers and recorders put theirs in their place."""
    methods = cls.__dict__
    for name in _STEPS:
        method = methods.get(name) or httpx._client.BaseClient.__dict__.get(name)
        if type(method) is not FunctionType or method.__code__.co_filename != _SOURCE:
            return False
    return True


def library_of(client: type[Any]) -> Any:
    """The library that a class of clients or errors is from: httpx, or httpx2, which has the same names."""
    roots = [cls.__module__.partition(".")[0] for cls in client.__mro__]
    return httpx2 if "httpx2" in roots and (httpx2 := sys.modules.get("httpx2")) is not None else httpx
