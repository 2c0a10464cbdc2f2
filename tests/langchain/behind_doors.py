"""The private parts of langchain_llamacpp_server that tests use, which no other test names by their modules."""

from langchain_llamacpp_server import _arguments as arguments
from langchain_llamacpp_server._block_translator import translate_content_chunk
from langchain_llamacpp_server._calls import ChatDefaults, prepare
from langchain_llamacpp_server._chunks import StreamConverter, result, text_chunk
from langchain_llamacpp_server._errors import as_langchain, langchain_errors
from langchain_llamacpp_server._messages import to_wire
from langchain_llamacpp_server._profile import profile
from langchain_llamacpp_server._structured import json_schema, wire_format
from langchain_llamacpp_server._tools import marks, unmarked, wire_tools

__all__ = [
    "arguments",
    "ChatDefaults",
    "StreamConverter",
    "as_langchain",
    "json_schema",
    "langchain_errors",
    "marks",
    "prepare",
    "profile",
    "result",
    "text_chunk",
    "to_wire",
    "translate_content_chunk",
    "unmarked",
    "wire_format",
    "wire_tools",
]
