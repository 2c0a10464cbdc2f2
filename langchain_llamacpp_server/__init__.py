"""llama.cpp's llama-server for LangChain and LangGraph."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._errors import MissingToolCallError, TruncatedOutputError
    from ._registration import register
    from .cache_report import CacheReport
    from .chat_models import ChatLlamaServer
    from .embeddings import LlamaServerEmbeddings
    from .llms import LlamaServerLLM
    from .rerankers import LlamaServerReranker

__all__ = [
    "CacheReport",
    "ChatLlamaServer",
    "LlamaServerEmbeddings",
    "LlamaServerLLM",
    "LlamaServerReranker",
    "MissingToolCallError",
    "TruncatedOutputError",
    "register",
]

# A program that only embeds does not pay for importing the chat model.
_MODULES = {
    "CacheReport": "cache_report",
    "ChatLlamaServer": "chat_models",
    "LlamaServerEmbeddings": "embeddings",
    "LlamaServerLLM": "llms",
    "LlamaServerReranker": "rerankers",
    "MissingToolCallError": "_errors",
    "TruncatedOutputError": "_errors",
    "register": "_registration",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
