"""llama.cpp's llama-server for LlamaIndex."""

from ._errors import UnusableReplyError
from ._tokenizer import LlamaServerTokenizer
from .embeddings import LlamaServerEmbedding
from .llms import LlamaServer
from .postprocessors import LlamaServerRerank

__all__ = [
    "LlamaServer",
    "LlamaServerEmbedding",
    "LlamaServerRerank",
    "LlamaServerTokenizer",
    "UnusableReplyError",
]
