"""How httpx is set up and asked: connections, certificates, proxies, unix sockets, and what its log may show.

Nothing here sends or receives.
"""

from __future__ import annotations

import logging
import ssl
import urllib.request
from functools import cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import httpx

from .._notices import say_once
from ..errors import BadRequestError
from ..settings import is_loopback, redact_url, split_unix
from .effects import Send

C = TypeVar("C", httpx.Client, httpx.AsyncClient)

# llama-server closes idle sockets after 5.0 s (cpp-httplib's default, b11434); be sure to close them first.
KEEPALIVE_EXPIRY: Final = 4.0
# The gate bounds what runs at once, not the number of sockets.
_LIMITS: Final = httpx.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=KEEPALIVE_EXPIRY)
_FRESH: Final = httpx.Limits(max_connections=None, max_keepalive_connections=0)
# Where a request keeps the address as the caller knows it.
_ASKED: Final = "llamacpp_server"

# httpx logs each request at INFO with its address. Credentials are taken out of it, and the queries that we send.
_QUERIES: Final = set[bytes]()


def _redact(record: logging.LogRecord) -> bool:
    if isinstance(record.args, tuple):
        record.args = tuple(
            redact_url(str(arg)) if isinstance(arg, httpx.URL) and (arg.userinfo or arg.query in _QUERIES) else arg
            for arg in record.args
        )
    return True


logging.getLogger("httpx").addFilter(_redact)


def fit(given: C, socket: str | None) -> C:
    """The caller's own client, unless a unix socket was asked for: then an error, as it brings its own connections."""
    if socket is not None:
        raise BadRequestError(
            "a unix socket can't be reached over an http_client of your own",
            remedy="give it transport=httpx.HTTPTransport(uds=path), and base_url='http://localhost'",
        )
    return given


def build(client: httpx.Client | httpx.AsyncClient, send: Send) -> httpx.Request:
    """The httpx request of a `Send`."""
    timeout = httpx.Timeout(connect=send.connect_timeout, read=send.read_timeout, write=send.read_timeout, pool=None)
    request = client.build_request(
        send.method,
        split_unix(send.url)[0],
        headers=dict(send.headers),
        content=send.content,
        timeout=timeout,
        extensions={_ASKED: send.url},
    )
    if request.url.query:
        _QUERIES.add(request.url.query)
        request.__class__ = _QuietRequest
    if send.foreign:  # the address may be a number; the certificate is the name's
        request.extensions["sni_hostname"] = send.foreign
    return request


def way(send: Send) -> str:
    """What tells the connections that a request may take from others: `near` or `far`, and whether it is `foreign`."""
    near = distance(send.foreign or urlsplit(send.url).hostname or "")
    return f"{near} foreign" if send.foreign else near


def limits(fresh: bool) -> httpx.Limits:
    """Of connections: kept for the next request, or not when each gets a `fresh` one."""
    return _FRESH if fresh else _LIMITS


def options(way: str, verify: bool | ssl.SSLContext, *, fresh: bool) -> dict[str, Any]:
    """The arguments of a client for this way, or for a socket.

    What was set for the server, be it a certificate or that none is looked at, is not for others.
    """
    foreign = way in ("near foreign", "far foreign")
    no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=[])) if foreign else None
    trust_env = way in ("far", "far foreign")
    tls = context(foreign or verify)
    return {"limits": limits(fresh), "trust_env": trust_env, "verify": tls, "cookies": no_cookies}


class _QuietRequest(httpx.Request):
    """Shows no query: error trackers show it as a variable of httpx's frames."""

    def __repr__(self) -> str:
        return f"<Request({self.method!r}, {redact_url(str(self.url))!r})>"


@cache
def _default_context() -> ssl.SSLContext:
    """One for all clients: loading the system's certificates costs 15 ms."""
    return httpx.create_ssl_context()


def context(verify: bool | ssl.SSLContext) -> bool | ssl.SSLContext:
    """What httpx takes as `verify`; the default context is made once."""
    return _default_context() if verify is True else verify


@cache
def distance(host: str) -> str:
    """`near` for this machine, where a proxy of the environment must not come between, else `far`."""
    if not is_loopback(host):
        return "far"
    if urllib.request.getproxies().keys() & {"http", "https", "all"}:
        say_once(f"the proxy settings of the environment are not used for {host}, which is this machine")
    return "near"


def shown(reply: httpx.Response) -> str:
    """The URL that was asked, without secrets."""
    return redact_url(str(reply.request.extensions[_ASKED]))
