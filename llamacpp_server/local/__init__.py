"""Runs a llama-server for you."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy

if TYPE_CHECKING:
    from .options import OPTIONS
    from .server import LocalModel, LocalServer, LocalServerError, LocalServerOptions, find_binary, find_models

__all__ = [
    "OPTIONS",
    "LocalModel",
    "LocalServer",
    "LocalServerError",
    "LocalServerOptions",
    "find_binary",
    "find_models",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "options": ("OPTIONS",),
        "server": ("LocalModel", "LocalServer", "LocalServerError", "LocalServerOptions", "find_binary", "find_models"),
    },
)
