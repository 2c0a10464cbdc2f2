"""The command `llamacpp-server`: check a server, chat with it, or serve a model."""

from __future__ import annotations

from .command import main, parser

__all__ = ["main", "parser"]
