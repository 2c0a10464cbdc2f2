"""Errors of this package that are also LangChain's.

    except langchain_core.exceptions.ContextOverflowError    # what middleware catches
    except llamacpp_server.ContextOverflowError as error     # the same object; it has n_prompt_tokens and n_ctx

`is_retryable` is what `llamacpp_server` knows of the failure, not what LangChain assumes of its status: most 500s of
this server repeat themselves, and a request that timed out may still be running.
"""

from __future__ import annotations

from types import TracebackType
from typing import Final

from langchain_core import exceptions as core

import llamacpp_server as server
from llamacpp_server import LlamaServerError  # the base of all of them

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
    "PermissionDeniedError",
    "RequestTimeoutError",
    "ServerBusyError",
    "ServerError",
    "ServerFaultError",
    "ServerLoadingError",
    "StreamCutOffError",
    "TruncatedOutputError",
    "UnfitAnswerError",
    "UnreadableOutputError",
    "as_langchain",
    "langchain_errors",
    "missing_call",
    "unfit",
]


class ServerError(server.LlamaServerError, core.ModelError):
    """Any other failure."""


class ConnectionFailedError(server.ConnectionFailedError, core.ModelConnectionError):
    """No usable response came from the address."""


class RequestTimeoutError(server.RequestTimeoutError, core.ModelTimeoutError):
    """A time limit was exceeded."""

    is_retryable = server.RequestTimeoutError.retryable


class ServerLoadingError(server.ServerLoadingError, core.ModelAPIError):
    """The model was still loading."""


class ServerBusyError(server.ServerBusyError, core.ModelRateLimitError):
    """Too many requests."""


class AuthenticationFailedError(server.AuthenticationFailedError, core.ModelAuthenticationError):
    """The API key is missing or was rejected (401)."""


class PermissionDeniedError(server.AuthenticationFailedError, core.ModelPermissionDeniedError):
    """The key does not permit this (403, from a gateway in front of the server)."""


class BadRequestError(server.BadRequestError, core.ModelInvalidRequestError):
    """The request is invalid."""


class ContextOverflowError(server.ContextOverflowError, BadRequestError, core.ContextOverflowError):
    """The request does not fit into the context of a slot; see `n_prompt_tokens` and `n_ctx`."""


class NotFoundError(server.NotFoundError, core.ModelNotFoundError):
    """The endpoint does not exist."""


class NotSupportedError(server.NotSupportedError, core.ModelInvalidRequestError):
    """The server lacks a flag that this needs, or the model does not support it."""


class ServerFaultError(server.ServerFaultError, core.ModelAPIError):
    """The server failed, and would fail again on a retry."""

    is_retryable = server.ServerFaultError.retryable


class StreamCutOffError(server.StreamCutOffError, core.ModelConnectionError):
    """A stream ended early."""


class MalformedReplyError(server.MalformedReplyError, core.ModelAPIError):
    """The response is not llama-server's."""

    is_retryable = server.MalformedReplyError.retryable


class BadVectorError(server.BadVectorError, MalformedReplyError):
    """An embedding is unusable: NaN, null, all zeros or another length; `index` is the position of its text."""


class UnfitAnswerError(server.UnfitAnswerError, core.ModelError, core.OutputParserException):
    """The answer does not match the requested schema; it is in `text`."""

    observation: str | None = None
    llm_output: str | None = None
    send_to_llm = False


class TruncatedOutputError(server.UnfitAnswerError, core.ModelError):
    """A structured answer was cut off by `max_tokens` or the end of the context."""


class MissingToolCallError(server.MissingToolCallError, core.ModelError):
    """The model did not make a required tool call; see `finish_reason`, and `partial` for the reply."""


class UnreadableOutputError(server.UnreadableOutputError, ServerFaultError):
    """The server could not parse the model's output, which is in `raw` if the server returns it."""


# The first that fits is taken, so subclasses come before their bases.
_TWINS: Final[tuple[tuple[type[server.LlamaServerError], type[server.LlamaServerError]], ...]] = (
    (server.ContextOverflowError, ContextOverflowError),
    (server.BadRequestError, BadRequestError),
    (server.ConnectionFailedError, ConnectionFailedError),
    (server.RequestTimeoutError, RequestTimeoutError),
    (server.ServerLoadingError, ServerLoadingError),
    (server.ServerBusyError, ServerBusyError),
    (server.AuthenticationFailedError, AuthenticationFailedError),
    (server.NotFoundError, NotFoundError),
    (server.NotSupportedError, NotSupportedError),
    (server.MissingToolCallError, MissingToolCallError),
    (server.UnreadableOutputError, UnreadableOutputError),
    (server.ServerFaultError, ServerFaultError),
    (server.StreamCutOffError, StreamCutOffError),
    (server.UnfitAnswerError, UnfitAnswerError),
    (server.BadVectorError, BadVectorError),
    (server.MalformedReplyError, MalformedReplyError),
    (server.LlamaServerError, ServerError),
)


def as_langchain(error: server.LlamaServerError) -> server.LlamaServerError:
    """Return the same error as an instance of a class that is also LangChain's."""
    if isinstance(error, core.ModelError):
        return error
    if isinstance(error, server.AuthenticationFailedError) and error.status == 403:
        return error.recast(PermissionDeniedError)
    return next(error.recast(twin) for ours, twin in _TWINS if isinstance(error, ours))


def unfit(error: server.UnfitAnswerError, finish_reason: str | None) -> server.LlamaServerError:
    """The same, as LangChain's class for its reason."""
    if error.reason == "no_call":
        return missing_call(finish_reason)
    if error.reason in ("cut_off", "thinking"):
        return error.recast(TruncatedOutputError)
    own = error.recast(UnfitAnswerError)
    own.llm_output = error.text
    return own


def missing_call(finish_reason: str | None) -> MissingToolCallError:
    """Return the error for a missing required call."""
    error = MissingToolCallError(
        f"a tool call was required, but the model made none (finish_reason={finish_reason!r})",
        finish_reason=finish_reason,
    )
    error.remedy = (
        "the answer was cut off before the call: raise max_tokens, or disable or limit reasoning"
        if finish_reason == "length"
        else "check that the model's chat template supports tools: run `llamacpp-server check`"
    )
    return error


class _LangchainErrors:
    def __enter__(self) -> None:
        """Nothing to set up."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, server.LlamaServerError) and not isinstance(error, core.ModelError):
            raise as_langchain(error) from error.__cause__


langchain_errors: Final = _LangchainErrors()
"""`with langchain_errors:` turns the server's errors into LangChain's; in generators and coroutines as well."""
