"""What httpx raises -> our errors, every class of it."""

import errno
import inspect
import socket
import ssl

import httpx
import pytest

from llamacpp_server import (
    BadRequestError,
    ConnectionFailedError,
    LlamaServerError,
    MalformedReplyError,
    RequestTimeoutError,
    StreamCutOffError,
)
from llamacpp_server.transport import (
    translate,
)

URL = "http://host/v1"
RAISED = [cls for _, cls in inspect.getmembers(httpx) if inspect.isclass(cls) and issubclass(cls, httpx.TransportError)]


def translated(failed, cause=None, before_reply=True):
    failed.__cause__ = cause
    return translate(failed, URL, before_reply=before_reply)


@pytest.mark.parametrize("cls", [*RAISED, httpx.DecodingError, httpx.InvalidURL])
@pytest.mark.parametrize("before_reply", [True, False])
def test_everything_that_httpx_raises_is_one_of_ours(cls, before_reply):
    error = translated(cls("the words"), before_reply=before_reply)
    assert isinstance(error, LlamaServerError)
    assert error.url == URL
    assert str(error)


@pytest.mark.parametrize(
    ("failed", "before", "after"),
    [
        (httpx.ReadTimeout("x"), RequestTimeoutError, RequestTimeoutError),
        (httpx.WriteTimeout("x"), RequestTimeoutError, RequestTimeoutError),
        (httpx.PoolTimeout("x"), RequestTimeoutError, RequestTimeoutError),
        (httpx.ConnectTimeout("x"), ConnectionFailedError, ConnectionFailedError),
        (httpx.ReadError("x"), ConnectionFailedError, StreamCutOffError),
        (httpx.WriteError("x"), ConnectionFailedError, StreamCutOffError),
        (httpx.RemoteProtocolError("Server disconnected without sending a response."), ConnectionFailedError,
         StreamCutOffError),
        (httpx.RemoteProtocolError("illegal status line"), MalformedReplyError, StreamCutOffError),
        (httpx.DecodingError("x"), MalformedReplyError, MalformedReplyError),
        (httpx.LocalProtocolError("x"), BadRequestError, BadRequestError),
        (httpx.UnsupportedProtocol("x"), BadRequestError, BadRequestError),
        (httpx.InvalidURL("x"), BadRequestError, BadRequestError),
        (httpx.ProxyError("x"), ConnectionFailedError, ConnectionFailedError),
    ],
)  # fmt: skip
def test_what_each_means_before_and_after_the_head_of_an_answer(failed, before, after):
    assert type(translated(failed)) is before
    assert type(translated(failed, before_reply=False)) is after


@pytest.mark.parametrize(
    ("cause", "reason", "remedy"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "x"), "refused", "llama-server -m model.gguf"),
        (ExceptionGroup("all", [OSError(errno.ECONNREFUSED, "x")]), "refused", "llama-server -m model.gguf"),
        (socket.gaierror(-2, "Name or service not known"), "name", "host name"),
        (ssl.SSLError("WRONG_VERSION_NUMBER"), "tls", "http or https"),
        (ssl.SSLCertVerificationError("self-signed"), "tls", "verify=ssl_context"),
        (OSError(errno.ENETUNREACH, "x"), "other", "llama-server -m model.gguf"),
        (None, "other", "llama-server -m model.gguf"),
    ],
)
def test_connection_errors_name_their_reason_and_remedy(cause, reason, remedy):
    error = translated(httpx.ConnectError("All connection attempts failed"), cause)
    assert isinstance(error, ConnectionFailedError)
    assert error.reason == reason
    assert error.remedy is not None
    assert remedy in error.remedy


def test_a_cause_below_a_cause_is_found():
    below = OSError("outer")
    below.__context__ = ConnectionRefusedError(errno.ECONNREFUSED, "x")
    assert translated(httpx.ConnectError("x"), below).reason == "refused"


def test_the_words_are_kept_and_an_error_without_words_has_its_name():
    assert "the words" in str(translated(httpx.ReadError("the words"), before_reply=False))
    assert "ReadError" in str(translated(httpx.ReadError(""), before_reply=False))


def test_a_timeout_on_https_says_that_the_server_may_have_no_tls():
    timeout = httpx.ConnectTimeout("")
    assert "use http://" in str(translate(timeout, "https://host/v1", before_reply=True))
    assert "use http://" not in str(translate(timeout, "http://host/v1", before_reply=True))
