"""Convert exceptions of httpx to the errors of this package, by their texts and causes."""

from __future__ import annotations

import errno
import socket
import ssl
import sys
from collections.abc import Iterator
from typing import Any, Final

import httpx

from .._replies import START_HINT, StreamDecoder
from ..errors import (
    BadRequestError,
    ConnectionFailedError,
    ConnectionFailure,
    LlamaServerError,
    MalformedReplyError,
    StreamCutOffError,
)
from .deadlines import too_late
from .effects import Effect, Send
from .httpx_setup import asked_url, proxy_of, shown_url
from .kept_connections import library_of
from .recent_failures import NEW_PORT

_FAILURES: Final = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, ssl.SSLError)


def failures(*more: type[Exception]) -> tuple[type[Exception], ...]:
    """Exceptions that a request may raise, including those of httpx2 and `more`.

    An alert of TLS 1.3 comes with the first read, where httpx lets it through as it is.
    """
    other = sys.modules.get("httpx2")
    theirs = () if other is None else (other.HTTPError, other.InvalidURL, other.StreamError)
    return (*_FAILURES, *theirs, *_not_recorded(), *more)


def _not_recorded() -> tuple[type[Exception], ...]:
    """Exception of vcrpy for a request that is not in the cassette; vcrpy sits between httpx and the network."""
    errors = sys.modules.get("vcr.errors")
    return () if errors is None else (errors.CannotOverwriteExistingCassetteException,)


def _of_httpx(failed: Exception) -> Exception:
    """The error of httpx that is called as one of httpx2."""
    if library_of(type(failed)) is httpx:
        return failed
    same: Any = next(getattr(httpx, cls.__name__) for cls in type(failed).__mro__ if hasattr(httpx, cls.__name__))
    twin: Exception = same.__new__(same, *failed.args)
    twin.__dict__.update(failed.__dict__)
    twin.__cause__, twin.__context__ = failed.__cause__, failed.__context__
    return twin


def translate(failed: Exception, url: str | None, *, before_reply: bool) -> LlamaServerError:
    """The error that an exception of httpx means.

    Args:
        failed: The exception.
        url: What was asked, without credentials.
        before_reply: Whether the head of an answer had not come yet.
    """
    if isinstance(failed, _not_recorded()):
        words = str(failed).partition("\n")[0]
        return BadRequestError(f"the request is not in the cassette: {words}", url=url, remedy="record it again")
    failed = _of_httpx(failed)
    error = _proxy_error(failed) or _error_of(failed, url, before_reply=before_reply)
    error.url = url
    return error


def _error_of(failed: Exception, url: str | None, *, before_reply: bool) -> LlamaServerError:
    words = str(failed) or type(failed).__name__
    match failed:
        case httpx.ConnectError():
            error: LlamaServerError = _connect_error(failed, url)
        case httpx.ConnectTimeout():
            error = ConnectionFailedError("no connection within connect_timeout", reason="timeout")
            no_tls = "; if the server has no TLS, use http://" if (url or "").startswith("https:") else ""
            error.remedy = f"check that the host is up and the address is right{no_tls}"
        case httpx.TimeoutException():
            error = too_late(limit="read_timeout")
        case httpx.RemoteProtocolError() if before_reply and "disconnected" not in words:
            error = MalformedReplyError(f"invalid HTTP response: {words}")
            error.remedy = "check the port, and http or https"
        case httpx.NetworkError() | ssl.SSLError() if before_reply and _alert(failed):
            error = ConnectionFailedError(f"the server ended the TLS connection: {words}", reason="tls")
            error.remedy = "if it requires a client certificate, pass verify=ssl_context with load_cert_chain()"
        case httpx.NetworkError() | httpx.RemoteProtocolError() | ssl.SSLError() if before_reply:
            error = ConnectionFailedError(
                f"the server closed the connection without a response ({words})", reason="closed"
            )
            error.remedy = "the server may have crashed; see its log"
        case httpx.NetworkError() | httpx.RemoteProtocolError() | ssl.SSLError():
            error = StreamCutOffError(f"the connection broke before the reply was complete ({words})")
            error.remedy = "the server may have crashed; see its log"
        case httpx.DecodingError():
            error = MalformedReplyError(f"can't decode the response: {words}")
        case httpx.LocalProtocolError() | httpx.UnsupportedProtocol() | httpx.InvalidURL():
            error = BadRequestError(f"can't send the request: {words}")
        case _:
            error = ConnectionFailedError(f"{type(failed).__name__}: {words}")
    return error


def _proxy_error(failed: Exception) -> LlamaServerError | None:
    """The error of a proxy on the way to the server; None where the proxy is not why."""
    proxy = proxy_of(failed)
    if isinstance(failed, httpx.ProxyError):
        message = f"the proxy {proxy} can't connect to the server: {failed}"
    elif isinstance(failed, httpx.ConnectError | httpx.ConnectTimeout) and proxy is not None:
        message = f"the proxy {proxy} is not reachable: {str(failed) or 'no connection within connect_timeout'}"
    else:
        return None
    remedy = "check HTTP_PROXY, HTTPS_PROXY and ALL_PROXY, or add the host to NO_PROXY to bypass the proxy"
    return ConnectionFailedError(message, remedy=remedy)


def _start_at(url: str | None) -> str:
    """Command that starts a server when none is listening; newer builds have another default port."""
    port = httpx.URL(url).port if url else None
    start = START_HINT if port is None else f"{START_HINT.rpartition(' ')[0]} {port}"
    return start if port == NEW_PORT else f"{start}, or try port {NEW_PORT}, the default of newer builds"


def _connect_error(failed: Exception, url: str | None) -> ConnectionFailedError:
    causes = list(_causes(failed))
    reason: ConnectionFailure = "other"
    words, remedy = str(failed), START_HINT
    if any(isinstance(cause, ssl.SSLError) for cause in causes) or "CERTIFICATE" in words:
        reason, remedy = "tls", "check http or https; for a private certificate authority, pass verify=ssl_context"
    elif any(isinstance(cause, socket.gaierror) for cause in causes):
        reason, remedy = "name", "check the host name in base_url"
    elif any(isinstance(cause, OSError) and cause.errno == errno.ECONNREFUSED for cause in causes):
        reason, words, remedy = "refused", "connection refused", _start_at(url)
    elif any(isinstance(cause, FileNotFoundError) for cause in causes):
        # A unix socket that is not there: its server makes it when it starts.
        reason, words, remedy = (
            "refused",
            "no such unix socket",
            "start it with: llama-server -m model.gguf --host x.sock",
        )
    return ConnectionFailedError(f"llama-server is not reachable: {words}", url=url, remedy=remedy, reason=reason)


def _alert(failed: Exception) -> bool:
    """Whether the other side broke off for a reason of TLS, and not just closed a connection that was idle."""
    return any(isinstance(cause, ssl.SSLError) and "alert" in str(cause).lower() for cause in _causes(failed))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Exceptions beneath an exception; async connects group one error per address."""
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            for inner in error.exceptions:
                yield from _causes(inner)
        error = error.__cause__ or error.__context__


def error_for(failed: Exception, effect: Effect) -> LlamaServerError:
    """Our error for one of httpx, with that as its cause."""
    if isinstance(failed, LlamaServerError):
        return failed
    error = translate(failed, asked_url(effect), before_reply=isinstance(effect, Send))
    error.__cause__ = failed
    return error


def stream_error(failed: Exception, reply: httpx.Response, decoder: StreamDecoder[Any]) -> LlamaServerError:
    """The error that ends a stream, with what had arrived."""
    url = shown_url(reply)
    if isinstance(failed, LlamaServerError):
        error = failed
    else:
        error = translate(failed, url, before_reply=False)
        error.__cause__ = failed
    return decoder.with_partial(error.at(url))
