"""One program for each client method: the requests to send, and their order.

`transport` sends them, waits and retries; `_replies` parses the answers. The input is a value such as `ChatRequest`
with the server's settings; the result is a program that yields effects and returns a reply.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy

if TYPE_CHECKING:
    from .adapt import adapt_request as adapt_request
    from .adapt import template_needs as template_needs
    from .adapt import tools_at_fault as tools_at_fault
    from .bodies import chat_body as chat_body
    from .bodies import completion_body as completion_body
    from .bodies import infill_body as infill_body
    from .chat import stream_chat as stream_chat
    from .server import stream_complete as stream_complete
    from .server_memory import OriginCheck as OriginCheck
    from .server_memory import ServerMemory as ServerMemory
    from .server_memory import memory_of as memory_of
    from .server_memory import recall_by_props as recall_by_props

__getattr__, __dir__ = lazy(
    __name__,
    {
        "adapt": ("adapt_request", "template_needs", "tools_at_fault"),
        "bodies": ("chat_body", "completion_body", "infill_body"),
        "chat": ("stream_chat",),
        "server": ("stream_complete",),
        "server_memory": ("OriginCheck", "ServerMemory", "memory_of", "recall_by_props"),
    },
)
