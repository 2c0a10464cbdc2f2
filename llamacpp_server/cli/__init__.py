"""The command `llamacpp-server`: check a server, chat with it, or serve a model."""

from __future__ import annotations

from .command import main

__all__ = ["main"]
