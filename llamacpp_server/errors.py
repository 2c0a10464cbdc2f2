"""The error classes, drawn as a tree.

    LlamaServerError                    everything below
    ├── ConnectionFailedError           nothing usable answered        (also ConnectionError)
    ├── RequestTimeoutError             silence, or the deadline       (also TimeoutError)
    ├── ServerLoadingError              503 while the model loads
    ├── ServerBusyError                 429, 408, 425, a 503 that is not loading, or a full shared context
    ├── AuthenticationFailedError       401 or 403: the key
    ├── BadRequestError                 the request itself is wrong    (also ValueError)
    │   └── ContextOverflowError        it does not fit; says by how much
    ├── NotFoundError                   404: an endpoint that this build or server lacks
    ├── NotSupportedError               the server was started without what this needs
    ├── ServerFaultError                any other 5xx, and errors in the middle of a stream
    │   └── UnreadableOutputError       the model wrote what the server's own parser can't read
    ├── StreamCutOffError               a stream that ended before its end mark
    ├── UnfitAnswerError                an answer that is not what its schema asks for (also ValueError)
    ├── MissingToolCallError            a demanded tool call that did not come (also ValueError)
    └── MalformedReplyError             an answer that is not this API's
        └── BadVectorError              an embedding with NaN, null, zeros only, or of another length

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
        message: One sentence: what failed, and the server's own words.
        url: The address that was asked, without credentials or query; None when nothing was sent.
        status: HTTP status; None when there was no HTTP answer (or the error came as a stream event).
        server_message: The server's own words; None when it said nothing that could be read.
        server_type: The server's `error.type`, such as `invalid_request_error`; None when it gave none.
        remedy: What to do about it, where that is known.
        body: The start of the answer's body as text, at most 2,000 characters; None when there was none.
        earlier: The errors of the attempts before this one, oldest first.
        partial: What had arrived before the failure, folded; None when nothing had.
    """

    retryable: ClassVar[bool] = False
    """Whether sending the same request again can help."""

    code: ClassVar[str | None] = None
    """OpenAI's name of this kind of error, for programs that look for it; None where it has none."""

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
        """`server_type`, by the name that errors of the openai package have for it."""
        return self.server_type

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
        """This error, with the address that was asked when it names none yet."""
        if not self.url:
            self.url = url
        return self

    def recast(self, cls: builtins.type[E]) -> E:
        """The same error as an instance of `cls`, a subclass that a framework knows too."""
        other = cls.__new__(cls, *self.args)
        other.args = self.args
        other.__dict__.update(self.__dict__)
        other.__cause__ = self.__cause__
        other.__suppress_context__ = True
        return other.with_traceback(self.__traceback__)


class ConnectionFailedError(LlamaServerError, ConnectionError):
    """No connection to the server could be made, or it was closed without a response.

    Attributes:
        reason: `refused` (nothing listens), `closed` (the socket closed before any byte of an answer),
            `timeout` (no connection in time), `name` (the host name is unknown), `tls`, or `other`.
    """

    retryable = True

    def __init__(self, message: str = "", *, reason: ConnectionFailure = "other", **details: Any) -> None:
        super().__init__(message, **details)
        self.reason = reason


TimeLimit = Literal["read_timeout", "first_token_timeout", "total_timeout"]


class RequestTimeoutError(LlamaServerError, TimeoutError):
    """Silence for longer than `read_timeout`, no token within `first_token_timeout`, or the end of `total_timeout`.

    Only silence is retried, and only with `retry_read_timeout`: the server may still be generating, and a repeat
    doubles its load.

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
    """The server is busy: 429, 408, 425, a 503 that is not loading, or a shared context that other requests fill.

    Attributes:
        retry_after: Seconds that the server asks to wait; None when it does not say.
        shared_context: Whether the server's slots share one context (`--kv-unified`, the default with automatic `-np`)
            and the requests that ran at once did not fit into it together.
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
    """The request is wrong; repeating it can't help. Also raised for requests rejected before sending."""


class ContextOverflowError(BadRequestError):
    """The request does not fit into the context of a slot.

    Attributes:
        n_prompt_tokens: Tokens of the request; None where the server does not say.
        n_ctx: Tokens that fit; None where the server does not say.
        index: Position of the text that is too long, where many were given; else None.
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
    """No such endpoint: an older build, another server, or a wrong path in `base_url`."""


class NotSupportedError(LlamaServerError):
    """The server was started without what this needs (`remedy` names the flag), or its model can't do it."""


class ServerFaultError(LlamaServerError):
    """The server failed. Not retried by this package, as most of its 500s repeat themselves, unless it was not reached.

    Attributes:
        reached: False when a gateway or router in front could not reach the server (502), so that no model saw the
            request. It is repeated then, as if the connection had been refused by a busy server.
    """

    reached: bool = True


class UnreadableOutputError(ServerFaultError):
    """The server could not parse the model's output: half a tool call, a misplaced tag.

    Attributes:
        raw: What could not be read, where the server tells it; else None. `partial` holds what was read before it.
    """

    raw: str | None = None


class StreamCutOffError(LlamaServerError):
    """A stream ended without its end mark: the server died or a proxy cut it. `partial` holds what came."""

    retryable = True


class UnfitAnswerError(LlamaServerError, ValueError):
    """The answer does not match the requested schema.

    Attributes:
        reason: `cut_off` (by `max_tokens` or the end of the context), `thinking` (the same, and all of it was
            thinking), `no_call` (the forced tool was not called), `not_held` (the server took the schema and did not
            keep to it), or `invalid` (it kept to what a grammar can say, and the rest does not fit).
        text: What came.
    """

    def __init__(self, message: str = "", *, reason: UnfitReason = "invalid", text: str = "", **details: Any) -> None:
        super().__init__(message, **details)
        self.reason = reason
        self.text = text


class MissingToolCallError(LlamaServerError, ValueError):
    """A tool call was required, but the reply has none. `partial` holds the reply.

    Attributes:
        finish_reason: Why it ended; `length` means that it was cut off first, None that it was stopped because it
            ran on.
        tokens: Of a reply that was stopped, counted by its events; None where it ended by itself.
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
        index: Position of its text in what was given.
    """

    def __init__(self, message: str = "", *, index: int = 0, **details: Any) -> None:
        super().__init__(message, **details)
        self.index = index
