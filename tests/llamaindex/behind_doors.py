"""The private parts of llamaindex_llamacpp_server that tests use, which no other test names by their modules."""

from llamaindex_llamacpp_server import _arguments as arguments
from llamaindex_llamacpp_server import _structured as structured
from llamaindex_llamacpp_server._fast_models import quick_call, quick_message, quick_response, quick_text
from llamaindex_llamacpp_server._messages import to_wire
from llamaindex_llamacpp_server._responses import ChatState, chat_response

__all__ = [
    "arguments",
    "structured",
    "ChatState",
    "chat_response",
    "quick_call",
    "quick_message",
    "quick_response",
    "quick_text",
    "to_wire",
]
