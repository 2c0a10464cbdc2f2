"""llama.cpp's llama-server for LlamaIndex."""

from llamacpp_server import LlamaServerTokenizer
from llamacpp_server.integration import ContextBudget

from ._errors import UnusableReplyError
from ._events import LlamaServerProgressEvent
from .cache_report import CacheReport
from .decisions import LlamaServerDecisionRerank, LlamaServerSelector, LlamaServerYesNo, ScoredSelection
from .embeddings import LlamaServerEmbedding
from .llms import LlamaServer
from .postprocessors import LlamaServerRerank
from .server_tools import server_tools

__all__ = [
    "CacheReport",
    "ContextBudget",
    "LlamaServer",
    "LlamaServerDecisionRerank",
    "LlamaServerEmbedding",
    "LlamaServerProgressEvent",
    "LlamaServerRerank",
    "LlamaServerSelector",
    "LlamaServerTokenizer",
    "LlamaServerYesNo",
    "ScoredSelection",
    "UnusableReplyError",
    "server_tools",
]
