"""llama.cpp's llama-server for LlamaIndex."""

# ruff: noqa: E402
from llamacpp_server.integration import ContextBudget, require_extra

require_extra("llama_index.core", "llamaindex")

from llamacpp_server import (
    AuthenticationFailedError,
    BadRequestError,
    BadVectorError,
    ConnectionFailedError,
    ContextOverflowError,
    LlamaServerError,
    LlamaServerTokenizer,
    MalformedReplyError,
    MissingToolCallError,
    NotFoundError,
    NotSupportedError,
    RequestTimeoutError,
    ServerBusyError,
    ServerFaultError,
    ServerLoadingError,
    StreamCutOffError,
    UnfitAnswerError,
    UnreadableOutputError,
)

from ._errors import UnusableReplyError
from ._events import LlamaServerProgressEvent
from .cache_report import CacheReport
from .decisions import LlamaServerDecisionRerank, LlamaServerSelector, LlamaServerYesNo, ScoredSelection
from .embeddings import LlamaServerEmbedding
from .llms import LlamaServer
from .postprocessors import LlamaServerRerank
from .server_tools import server_tools

__all__ = [
    "AuthenticationFailedError",
    "BadRequestError",
    "BadVectorError",
    "CacheReport",
    "ConnectionFailedError",
    "ContextBudget",
    "ContextOverflowError",
    "LlamaServer",
    "LlamaServerDecisionRerank",
    "LlamaServerEmbedding",
    "LlamaServerError",
    "LlamaServerProgressEvent",
    "LlamaServerRerank",
    "LlamaServerSelector",
    "LlamaServerTokenizer",
    "LlamaServerYesNo",
    "MalformedReplyError",
    "MissingToolCallError",
    "NotFoundError",
    "NotSupportedError",
    "RequestTimeoutError",
    "ScoredSelection",
    "ServerBusyError",
    "ServerFaultError",
    "ServerLoadingError",
    "StreamCutOffError",
    "UnfitAnswerError",
    "UnreadableOutputError",
    "UnusableReplyError",
    "server_tools",
]
