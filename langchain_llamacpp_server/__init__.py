"""llama.cpp's llama-server for LangChain and LangGraph."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llamacpp_server.integration import (
    lazy,
    require_extra,
)

if TYPE_CHECKING:
    from ._errors import (
        AuthenticationFailedError,
        BadRequestError,
        BadVectorError,
        ConnectionFailedError,
        ContextOverflowError,
        LlamaServerError,
        MalformedReplyError,
        MissingToolCallError,
        NotFoundError,
        NotSupportedError,
        PermissionDeniedError,
        RequestTimeoutError,
        ServerBusyError,
        ServerError,
        ServerFaultError,
        ServerLoadingError,
        StreamCutOffError,
        TruncatedOutputError,
        UnfitAnswerError,
        UnreadableOutputError,
    )
    from ._registration import register
    from ._server_tools import server_tools
    from .cache_report import CacheReport
    from .chat_models import ChatLlamaServer
    from .decisions import LlamaServerDecisions, route_by
    from .embeddings import LlamaServerEmbeddings
    from .llms import LlamaServerLLM
    from .middleware import LlamaServerMiddleware as LlamaServerMiddleware
    from .rerankers import LlamaServerReranker

# `LlamaServerMiddleware` is left out: `import *` must work without the package `langchain`, which it needs.
__all__ = [
    "AuthenticationFailedError",
    "BadRequestError",
    "BadVectorError",
    "CacheReport",
    "ChatLlamaServer",
    "ConnectionFailedError",
    "ContextOverflowError",
    "LlamaServerDecisions",
    "LlamaServerEmbeddings",
    "LlamaServerError",
    "LlamaServerLLM",
    "LlamaServerReranker",
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
    "register",
    "route_by",
    "server_tools",
]

require_extra("langchain_core", "langchain")

# A program that only embeds does not pay for importing the chat model.
__getattr__, __dir__ = lazy(
    __name__,
    {
        "_errors": (
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
        ),
        "_registration": ("register",),
        "_server_tools": ("server_tools",),
        "cache_report": ("CacheReport",),
        "chat_models": ("ChatLlamaServer",),
        "decisions": ("LlamaServerDecisions", "route_by"),
        "embeddings": ("LlamaServerEmbeddings",),
        "llms": ("LlamaServerLLM",),
        "middleware": ("LlamaServerMiddleware",),
        "rerankers": ("LlamaServerReranker",),
    },
)
