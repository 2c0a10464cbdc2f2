"""llama.cpp's llama-server for LangChain and LangGraph."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llamacpp_server.integration import (
    lazy,
)

if TYPE_CHECKING:
    from ._errors import MissingToolCallError, TruncatedOutputError, UnfitAnswerError
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
    "CacheReport",
    "ChatLlamaServer",
    "LlamaServerDecisions",
    "LlamaServerEmbeddings",
    "LlamaServerLLM",
    "LlamaServerReranker",
    "MissingToolCallError",
    "TruncatedOutputError",
    "UnfitAnswerError",
    "register",
    "route_by",
    "server_tools",
]

# A program that only embeds does not pay for importing the chat model.
__getattr__, __dir__ = lazy(
    __name__,
    {
        "_errors": ("MissingToolCallError", "TruncatedOutputError", "UnfitAnswerError"),
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
