"""The error classes.

    LlamaServerError                    base class
    ├── ConnectionFailedError           no connection, or no response       (also ConnectionError)
    ├── RequestTimeoutError             a timeout was exceeded              (also TimeoutError)
    ├── ServerLoadingError              503 while the model loads
    ├── ServerBusyError                 429, 408, 425, a 503 without loading, or a full shared context
    ├── AuthenticationFailedError       401 or 403: the key
    ├── BadRequestError                 an invalid request                  (also ValueError)
    │   └── ContextOverflowError        the prompt is too long
    ├── NotFoundError                   404: the build or server lacks the endpoint
    ├── NotSupportedError               the server was started without a required flag
    ├── ServerFaultError                any other 5xx, and errors within a stream
    │   └── UnreadableOutputError       the server's parser rejected the model's output
    ├── StreamCutOffError               a stream ended early
    ├── UnfitAnswerError                the answer does not match its schema (also ValueError)
    ├── MissingToolCallError            a required tool call is missing     (also ValueError)
    └── MalformedReplyError             the response is not llama-server's
        └── BadVectorError              an embedding with NaN, null, only zeros, or another length

An error carries plain data and no HTTP object: it can be pickled, logged and shown. URLs are shown without
credentials, and no error holds a request header.
"""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, Self, TypeVar

from ._printable import one_line

if TYPE_CHECKING:
    from .messages import MessagesReply
    from .replies import ChatReply, CompletionReply
    from .responses import ResponsesReply
    from .transcription import Transcription

__all__ = [
    "AuthenticationFailedError",
    "BadRequestError",
    "BadVectorError",
    "ConnectionFailedError",
    "ContextOverflowError",
    "LlamaServerError",
    "MalformedReplyError",
    "MissingToolCallError",
    "NotFoundError",
    "NotSupportedError",
    "RequestTimeoutError",
    "ServerBusyError",
    "ServerFaultError",
    "ServerLoadingError",
    "StreamCutOffError",
    "UnfitAnswerError",
    "UnreadableOutputError",
]

E = TypeVar("E", bound="LlamaServerError")

# A message that quotes what was passed must not become as long as that.
_MOST_SHOWN: Final = 2000


def _shortened(text: str, most: int = _MOST_SHOWN) -> str:
    return text if len(text) <= most else f"{text[: most // 2]} ... {text[-most // 2 :]}"


UnfitReason = Literal["cut_off", "thinking", "no_call", "not_held", "invalid"]
ConnectionFailure = Literal["refused", "closed", "timeout", "name", "tls", "other"]


class LlamaServerError(Exception):
    """Base class of all errors about the server.

    Attributes:
        message: One sentence: what failed, and the server's own message.
        url: Address of the request, without credentials and query; None if nothing was sent.
        status: HTTP status; None if there was no HTTP response, or if the error was an event of a stream.
        server_message: The server's error message; None if there was none that could be read.
        server_type: The server's `error.type`, such as `invalid_request_error`; None if there was none.
        remedy: What to do about it; None if unknown.
        body: The first 2,000 characters of the response body; None if there was none.
        earlier: The errors of the attempts before this one, oldest first.
        partial: The part of the reply that arrived before the failure; None if nothing had.
    """

    retryable: ClassVar[bool] = False
    """Whether a retry of the same request can help."""

    code: ClassVar[str | None] = None
    """OpenAI's code for this kind of error, for programs that check it; None if there is none."""

    def __init__(
        self,
        message: str = "",
        *,
        url: str | None = None,
        status: int | None = None,
        server_message: str | None = None,
        server_type: str | None = None,
        remedy: str | None = None,
        body: str | None = None,
    ) -> None:
        message = _shortened(one_line(message))
        super().__init__(message)
        self.message = message
        self.url = url
        self.status = status
        self.server_message = server_message
        self.server_type = server_type
        self.remedy = remedy
        self.body = body
        self.earlier: tuple[LlamaServerError, ...] = ()
        self.partial: ChatReply | CompletionReply | ResponsesReply | MessagesReply | Transcription | None = None

    @property
    def type(self) -> str | None:
        """`server_type`, under the name that the openai package uses."""
        return self.server_type

    @property
    def status_code(self) -> int:
        """`status`, under the name that the openai and ollama packages use.

        Raises:
            AttributeError: If there is no status, as with their errors of connections.
        """
        if self.status is None:
            raise AttributeError("the error has no HTTP status")
        return self.status

    def __str__(self) -> str:
        parts = [self.message]
        where = " from ".join(str(x) for x in (self.status and f"HTTP {self.status}", self.url) if x)
        if where:
            parts.append(f"({where})")
        if self.remedy:
            parts.append(f"-- {self.remedy}")
        if self.earlier:
            parts.append(f"[{len(self.earlier)} earlier attempt(s) failed too, first: {self.earlier[0].message}]")
        return _shortened(one_line(" ".join(parts)), 2 * _MOST_SHOWN)

    def at(self, url: str) -> Self:
        """Return this error with the request's address, if it has none yet."""
        if not self.url:
            self.url = url
        return self

    def recast(self, cls: builtins.type[E]) -> E:
        """Return the same error as an instance of `cls`, a subclass that is also an error of a framework."""
        other = cls.__new__(cls, *self.args)
        other.args = self.args
        other.__dict__.update(self.__dict__)
        other.__cause__ = self.__cause__
        other.__suppress_context__ = True
        return other.with_traceback(self.__traceback__)


class ConnectionFailedError(LlamaServerError, ConnectionError):
    """No connection to the server could be made, or it was closed without a response.

    Attributes:
        reason: `refused` (nothing is listening), `closed` (the connection was closed before a response), `timeout` (no
            connection within `connect_timeout`), `name` (unknown host name), `tls`, or `other`.
    """

    retryable = True

    def __init__(self, message: str = "", *, reason: ConnectionFailure = "other", **details: Any) -> None:
        super().__init__(message, **details)
        self.reason = reason


TimeLimit = Literal["read_timeout", "first_token_timeout", "total_timeout"]


class RequestTimeoutError(LlamaServerError, TimeoutError):
    """No data within `read_timeout`, no token within `first_token_timeout`, or no end within `total_timeout`.

    Only `read_timeout` is retried, and only with `retry_read_timeout`: the server may still be generating, so a retry
    can double its load.

    Attributes:
        limit: The setting that was exceeded.
    """

    def __init__(self, message: str = "", *, limit: TimeLimit = "read_timeout", **details: Any) -> None:
        super().__init__(message, **details)
        self.limit = limit


class ServerLoadingError(LlamaServerError):
    """The server's model was still loading when `load_timeout` ran out."""

    retryable = True


class ServerBusyError(LlamaServerError):
    """The server is busy: 429, 408, 425, a 503 without loading, or a shared context filled by other requests.

    Attributes:
        retry_after: Seconds to wait, from `Retry-After`; None if not given.
        shared_context: Whether concurrent requests did not fit together into the one context that the server's slots
            share (`--kv-unified`, the default with automatic `-np`).
    """

    retryable = True
    code = "rate_limit_exceeded"
    shared_context: bool = False

    def __init__(self, message: str = "", *, retry_after: float | None = None, **details: Any) -> None:
        super().__init__(message, **details)
        self.retry_after = retry_after


class AuthenticationFailedError(LlamaServerError):
    """The API key is missing or was rejected."""

    code = "invalid_api_key"


class BadRequestError(LlamaServerError, ValueError):
    """The request is invalid, so a retry can't help. Also raised for requests rejected before sending."""


class ContextOverflowError(BadRequestError):
    """The request does not fit into the context of a slot.

    Attributes:
        n_prompt_tokens: Tokens of the prompt; None if the server does not report them.
        n_ctx: Tokens that fit; None if the server does not report them.
        index: Position of the text that is too long, if there were several; else None.
    """

    code = "context_length_exceeded"
    index: int | None = None

    def __init__(
        self, message: str = "", *, n_prompt_tokens: int | None = None, n_ctx: int | None = None, **details: Any
    ) -> None:
        super().__init__(message, **details)
        self.n_prompt_tokens = n_prompt_tokens
        self.n_ctx = n_ctx


class NotFoundError(LlamaServerError):
    """The endpoint does not exist: an older build, another server, or a wrong path in `base_url`."""


class NotSupportedError(LlamaServerError):
    """The server lacks a flag that this needs (`remedy` names it), or the model does not support it."""


class ServerFaultError(LlamaServerError):
    """The server failed. Not retried, as most of its 500s are permanent, unless the server was not reached.

    Attributes:
        reached: False if a gateway or router could not reach the server (502), so that no model saw the request. It is
            then retried like a refused connection.
    """

    reached: bool = True


class UnreadableOutputError(ServerFaultError):
    """The server could not parse the model's output: half a tool call, a misplaced tag.

    Attributes:
        raw: The output that could not be parsed, if the server returns it; else None. `partial` holds the output before
            it.
    """

    raw: str | None = None


class StreamCutOffError(LlamaServerError):
    """A stream ended early: the server died or a proxy closed it. `partial` holds the received part."""

    retryable = True


class UnfitAnswerError(LlamaServerError, ValueError):
    """The answer does not match the requested schema.

    Attributes:
        reason: `cut_off` (by `max_tokens` or the end of the context), `thinking` (cut off during the reasoning),
            `no_call` (the required tool was not called), `not_held` (the server accepted the schema but did not enforce
            it), or `invalid` (the answer violates a part of the schema that a grammar can't express).
        text: The answer.
    """

    def __init__(self, message: str = "", *, reason: UnfitReason = "invalid", text: str = "", **details: Any) -> None:
        super().__init__(message, **details)
        self.reason = reason
        self.text = text


class MissingToolCallError(LlamaServerError, ValueError):
    """A tool call was required, but the reply has none. `partial` holds the reply.

    Attributes:
        finish_reason: Why the reply ended; `length` if it was cut off, None if this package stopped it at
            `forced_call_within`.
        tokens: Tokens of a stopped reply, counted by its events; None if it ended by itself.
    """

    def __init__(
        self, message: str = "", *, finish_reason: str | None = None, tokens: int | None = None, **details: Any
    ) -> None:
        super().__init__(message, **details)
        self.finish_reason = finish_reason
        self.tokens = tokens


class MalformedReplyError(LlamaServerError):
    """The response is not llama-server's: an HTML page, truncated JSON, a missing key."""


class BadVectorError(MalformedReplyError):
    """An embedding is unusable: it holds NaN or null, is all zeros, or has another length.

    Attributes:
        index: Position of the text in the request.
    """

    def __init__(self, message: str = "", *, index: int = 0, **details: Any) -> None:
        super().__init__(message, **details)
        self.index = index
