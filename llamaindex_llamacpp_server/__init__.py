"""llama.cpp's llama-server for LlamaIndex."""

from ._errors import UnusableReplyError
from ._tokenizer import LlamaServerTokenizer
from .llms import LlamaServer

__all__ = ["LlamaServer", "LlamaServerTokenizer", "UnusableReplyError"]
