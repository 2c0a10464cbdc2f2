"""Set up httpx: connections, certificates, proxies, unix sockets, and what its log may show.

A client of our own has no hooks, no authentication, no cookies and follows no redirects. To find that out again for
each request, httpx spends as much time as its transport needs for sending it. So requests are built from parts that are
kept, and go straight to the transport of their client, where tracers and mocks of httpx's transports see them as usual.
Where a tool has replaced a method of httpx's clients, such as `send`, requests go through it.
"""

from __future__ import annotations

import logging
import ssl
import urllib.request
from collections import OrderedDict
from collections.abc import Mapping
from functools import cache, lru_cache
from hashlib import sha256
from http.cookiejar import CookieJar, DefaultCookiePolicy
from importlib import import_module
from types import FunctionType
from typing import Any, Final, NamedTuple, TypeVar, cast
from urllib.parse import urlsplit

import httpx

from .._notices import warn_once
from .._printable import one_line
from ..errors import BadRequestError
from ..settings import is_loopback, redact_url, split_unix
from .deadlines import bound
from .effects import Effect, Read, Send
from .kept_connections import library_of

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
    """State shared by requests to one address.

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
        self._is_bound = False

    def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        """Send a request and return the response once its headers are there."""
        if self.is_closed or request.url.userinfo or not _is_untouched(httpx.Client):
            return super().send(request, **options)
        try:
            reply = self._transport_for_url(request.url).handle_request(request)
        except httpx.RequestError as error:
            error.request = request
            raise
        return _with_request(reply, request)


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
        return _with_request(reply, request)


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
    request._content = content or b""  # as `read` sets it, with fewer steps
    return request


def _parts(client: OwnClient | OwnAsyncClient, url: str, headers: Mapping[str, str]) -> _Parts:
    address, merged = httpx.URL(url), client.headers.copy()
    merged.update(headers)
    if "Host" not in merged:
        merged = httpx.Headers([(b"Host", address.netloc), *merged.raw])
    has_length = "Content-Length" in merged or "Transfer-Encoding" in merged
    return _Parts(dict(headers), address, merged, has_length)


def _with_request(reply: httpx.Response, request: httpx.Request) -> httpx.Response:
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


C = TypeVar("C", httpx.Client, httpx.AsyncClient)

# llama-server closes idle sockets after 5.0 s (cpp-httplib's default, b11434); be sure to close them first.
KEEPALIVE_EXPIRY: Final = 4.0
# The gate bounds what runs at once, not the number of sockets.
_LIMITS: Final = httpx.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=KEEPALIVE_EXPIRY)
_FRESH: Final = httpx.Limits(max_connections=None, max_keepalive_connections=0)
# Of one transport: clients (there are more than a few only where certificates change), and users with cookies.
_MOST_CLIENTS: Final = 32
_MOST_JARS: Final = 256
# Where a request keeps the address as the caller knows it.
_ASKED: Final = "llamacpp_server"
_PROXY: Final = "llamacpp_server_proxy"
# Where a request keeps its scope.
SCOPE: Final = "llamacpp_server_scope"


def _redact(record: logging.LogRecord) -> bool:
    """Httpx logs each request at INFO with its address: without credentials, and without the queries that we send.

    And with the server's reason, in which an escape sequence may stand.
    """
    if isinstance(record.args, tuple):
        record.args = tuple(_redacted(arg) for arg in record.args)
    return True


def _redacted(arg: object) -> object:
    if isinstance(arg, str):
        return one_line(arg)
    return redact_url(str(arg)) if _shows_too_much(arg) else arg


def _shows_too_much(arg: object) -> bool:
    return isinstance(arg, _Quiet) or bool(getattr(arg, "userinfo", b"") and hasattr(arg, "query"))


for _library in ("httpx", "httpx2"):
    logging.getLogger(_library).addFilter(_redact)


def refuse_unix_socket(given: C, socket: str | None) -> C:
    """The caller's own client, unless a unix socket was asked for: then an error, as it brings its own connections."""
    if socket is not None:
        raise BadRequestError(
            "a unix socket can't be combined with a custom http_client",
            remedy="create it with transport=httpx.HTTPTransport(uds=path), and use base_url='http://localhost'",
        )
    return given


def build(
    client: httpx.Client | httpx.AsyncClient, send: Send, cookies: httpx.Cookies | None, scope: object = None
) -> httpx.Request:
    """The httpx request of a `Send`, which knows to which scope it belongs."""
    if isinstance(client, OwnClient):
        if not client._is_bound:
            bound(client)
            client._is_bound = True
    elif not hasattr(client, "aclose"):
        bound(client)
    if isinstance(client, OwnClient | OwnAsyncClient) and _is_plain(send, cookies):
        return _plain(client, send, scope)
    library = library_of(type(client))
    timeout = library.Timeout(connect=send.connect_timeout, read=send.read_timeout, write=send.read_timeout, pool=None)
    request = client.build_request(
        send.method,
        split_unix(send.url)[0],
        headers=dict(send.headers),
        content=send.content,
        timeout=timeout,
        cookies=None if cookies is None else cookies.jar,
        extensions={_ASKED: send.url, SCOPE: scope},
    )
    if request.url.query:
        # Marked, and not remembered: a signed address is another one each time.
        for shown in (request.url, request):
            shown.__class__ = _quiet(cast(Any, type(shown)))
    if (proxy := _proxy(client, request)) is not None:
        request.extensions[_PROXY] = proxy
    if send.foreign:  # the address may be a number; the certificate is the name's
        request.extensions["sni_hostname"] = send.foreign
    return request


def _is_plain(send: Send, cookies: httpx.Cookies | None) -> bool:
    """Whether there is nothing about a request that needs a look: no cookies, no query, no other host."""
    return cookies is None and not send.foreign and "?" not in send.url


def _plain(client: OwnClient | OwnAsyncClient, send: Send, scope: object) -> httpx.Request:
    silence = send.read_timeout
    timeout = {"connect": send.connect_timeout, "read": silence, "write": silence, "pool": None}
    extensions = {_ASKED: send.url, SCOPE: scope, "timeout": timeout}
    request = plain_request(client, send.method, split_unix(send.url)[0], send.headers, send.content, extensions)
    if (proxy := _proxy(client, request)) is not None:
        request.extensions[_PROXY] = proxy
    return request


def _proxy(client: Any, request: httpx.Request) -> str | None:
    """The proxy that a request will pass, without its credentials; httpx does not tell it in its errors."""
    if not getattr(client, "_mounts", None):
        transport = getattr(client, "_transport", None)
    else:
        transport = client._transport_for_url(request.url)
    url = getattr(getattr(transport, "_pool", None), "_proxy_url", None)
    return None if url is None else f"{url.scheme.decode()}://{url.host.decode()}:{url.port}"


def proxy_of(failed: Exception) -> str | None:
    """The proxy of the request that failed; None where there was none."""
    request = getattr(failed, "_request", None)
    return None if request is None else request.extensions.get(_PROXY)


def connection_kind(send: Send) -> str:
    """Key of the connections that a request may use: `near` or `far`, and whether it is `foreign`."""
    near = host_distance(send.foreign or _host(send.url.partition("?")[0]))
    return f"{near} foreign" if send.foreign else near


@lru_cache(maxsize=64)
def _host(url: str) -> str:
    return urlsplit(url).hostname or ""


def load_backend() -> None:
    """Import what httpx imports late: a fork in the middle of that would leave a child that hangs."""
    import_module("httpcore")


def limits(fresh: bool) -> httpx.Limits:
    """Of connections: kept for the next request, or not when each gets a `fresh` one."""
    return _FRESH if fresh else _LIMITS


def is_single(send: Send) -> bool:
    """Whether a request gets a connection of its own.

    Those to hosts of the web always do: connections are kept by address, and one that was opened to one name must not
    be used for another at the same address, whose certificate nobody has looked at.
    """
    return send.fresh or bool(send.foreign)


def options(key: tuple[int, str, bool, bool | ssl.SSLContext]) -> dict[str, Any]:
    """The arguments of a client for this way (or for a socket), with connections for one request or for more.

    What was set for the server, be it a certificate or that none is looked at, is not for others. Cookies are kept
    apart, in `SeparateCookies`.
    """
    _, way, single, verify = key
    no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
    trust_env = way in ("far", "far foreign")
    return {"limits": limits(single), "trust_env": trust_env, "verify": context(verify), "cookies": no_cookies}


def drop_oldest(clients: dict[Any, Any]) -> None:
    """Bound the clients that a program collects by bringing ever new certificates.

    They are not closed here, since a stream of theirs may run: the collector closes them.
    """
    while len(clients) > _MOST_CLIENTS:
        del clients[next(iter(clients))]


class SeparateCookies:
    """Cookies for each set of request headers, since who sends other headers, such as another key, is another user.

    Those of a caller's own client are its own, and hosts that are not the llama-server get none.
    """

    def __init__(self) -> None:
        self._jars: OrderedDict[bytes, httpx.Cookies] = OrderedDict()

    def sent_with(self, send: Send) -> httpx.Cookies | None:
        """The cookies for a request; httpx picks those of its host."""
        return self._jars.get(self._user(send)) if self._jars and not send.foreign else None

    def keep(self, send: Send, reply: httpx.Response) -> None:
        """Keep what a reply sets, for the most recent users."""
        if send.foreign or "set-cookie" not in reply.headers:
            return
        user = self._user(send)
        jar = self._jars.pop(user, None) or httpx.Cookies()
        jar.extract_cookies(reply)
        self._jars[user] = jar
        while len(self._jars) > _MOST_JARS:
            self._jars.popitem(last=False)

    @staticmethod
    def _user(send: Send) -> bytes:
        sent = sorted((name, text) for name, text in send.headers.items() if name != "Content-Type")
        return sha256(repr(sent).encode()).digest()


class _Quiet:
    """URL that shows no query: error trackers show requests in httpx's frames, and httpx logs addresses."""

    def __repr__(self) -> str:
        if hasattr(self, "method"):
            return f"<Request({self.method!r}, {redact_url(str(self.url))!r})>"  # type: ignore[attr-defined]
        return f"URL({redact_url(str(self))!r})"


@lru_cache(maxsize=8)
def _quiet(cls: Any) -> type[Any]:
    """The subclass of httpx's requests or addresses that shows no query."""
    return type(cls.__name__, (_Quiet, cls), {})


@cache
def _default_context() -> ssl.SSLContext:
    """One for all clients: loading the system's certificates costs 15 ms."""
    return httpx.create_ssl_context()


def context(verify: bool | ssl.SSLContext) -> bool | ssl.SSLContext:
    """Value for httpx's `verify`; the default context is created once."""
    return _default_context() if verify is True else verify


@lru_cache(maxsize=1024)
def host_distance(host: str) -> str:
    """`near` for this machine, where a proxy of the environment must not come between, else `far`."""
    if not is_loopback(host):
        return "far"
    if urllib.request.getproxies().keys() & {"http", "https", "all"}:
        warn_once(f"ignoring the environment's proxy settings for {host}, which is this machine")
    return "near"


def shown_url(reply: httpx.Response) -> str:
    """The URL that was asked, without secrets."""
    return redact_url(str(reply.request.extensions.get(_ASKED, reply.request.url)))


def asked_url(effect: Effect) -> str | None:
    """The address that an effect is about, without credentials."""
    if isinstance(effect, Send):
        return redact_url(effect.url)
    return shown_url(cast(httpx.Response, effect.reply)) if isinstance(effect, Read) else None
