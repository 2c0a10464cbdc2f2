"""Runs a llama-server: finds its program, starts it with your options, and stops it.

The input is options of llama-server; the output is an address and clients for it. Requests are sent by the clients.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy

if TYPE_CHECKING:
    from .address import address_in as address_in
    from .address import clear_socket as clear_socket
    from .address import listens as listens
    from .decisions_copy import write_decisions_copy
    from .flags import FLAGS as FLAGS
    from .flags import ServerFlags as ServerFlags
    from .memory import MemoryEstimate, estimate_memory
    from .options import EXCLUDED, OPTIONS
    from .options import SHORT_FLAGS as SHORT_FLAGS
    from .options import argv_for as argv_for
    from .running import RunningServer, running_servers
    from .running import enter as enter
    from .running import leave as leave
    from .server import LocalModel, LocalServer, LocalServerError, LocalServerOptions, find_binary, find_models

__all__ = [
    "EXCLUDED",
    "OPTIONS",
    "LocalModel",
    "LocalServer",
    "LocalServerError",
    "LocalServerOptions",
    "MemoryEstimate",
    "RunningServer",
    "estimate_memory",
    "find_binary",
    "find_models",
    "running_servers",
    "write_decisions_copy",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "address": (
            "address_in",
            "clear_socket",
            "listens",
        ),
        "decisions_copy": ("write_decisions_copy",),
        "flags": ("FLAGS", "ServerFlags"),
        "memory": ("MemoryEstimate", "estimate_memory"),
        "options": ("EXCLUDED", "OPTIONS", "SHORT_FLAGS", "argv_for"),
        "running": ("RunningServer", "enter", "leave", "running_servers"),
        "server": ("LocalModel", "LocalServer", "LocalServerError", "LocalServerOptions", "find_binary", "find_models"),
    },
)
