"""Shared parts of commands: connection options, progress on stderr, invalid command lines."""

from __future__ import annotations

import argparse
import sys
from typing import Any, Final

from ..client import LlamaServerClient
from ..settings import DEFAULT_BASE_URL, DEFAULT_LOAD_TIMEOUT, WaitState

__all__ = [
    "LOAD_TIMEOUT_HELP",
    "START_OF_LINE",
    "Progress",
    "WrongCommandLine",
    "add_command",
    "connect",
    "server_options",
]

START_OF_LINE: Final = "\r\033[K"
LOAD_TIMEOUT_HELP: Final = "seconds to wait for a loading model (default: %(default)g)"


class WrongCommandLine(ValueError):
    """Error in a command line that argparse does not detect."""


class Progress:
    """`loading, 12 s` on stderr: one line that changes on a terminal, a line every ten seconds elsewhere."""

    def __init__(self) -> None:
        self._shown = -1
        self._is_tty = sys.stderr.isatty()

    def __call__(self, state: WaitState) -> None:
        """Show the seconds waited so far."""
        seconds = int(state.elapsed)
        due = seconds != self._shown if self._is_tty else seconds // 10 != self._shown // 10
        if not due or seconds == 0:
            return
        self._shown = seconds
        text = f"{state.reason}, {seconds} s"
        print(f"{START_OF_LINE}{text}" if self._is_tty else text, end="" if self._is_tty else "\n", file=sys.stderr)
        sys.stderr.flush()

    def end(self) -> None:
        """Remove the line."""
        if self._is_tty and self._shown >= 0:
            print(START_OF_LINE, end="", file=sys.stderr, flush=True)
        self._shown = -1


def add_command(commands: Any, name: str, *, help: str, **options: Any) -> argparse.ArgumentParser:
    """Add a command; its own help begins with what the list of commands says about it."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=help, description=f"{help[:1].upper()}{help[1:]}.", **options
    )
    return parser


def connect(arguments: argparse.Namespace, progress: Progress) -> LlamaServerClient:
    """A client for the server that the options name."""
    return LlamaServerClient(
        arguments.base_url,
        api_key=arguments.api_key,
        model=arguments.model,
        load_timeout=arguments.load_timeout,
        on_wait=progress,
    )


def server_options() -> argparse.ArgumentParser:
    """The options of every command that talks to a server."""
    parent = argparse.ArgumentParser(add_help=False)
    parent.add_argument(
        "--base-url", help=f"address of the server (default: $LLAMACPP_BASE_URL, else {DEFAULT_BASE_URL})"
    )
    parent.add_argument("--api-key", help="API key (default: $LLAMACPP_API_KEY, which does not show up in `ps`)")
    parent.add_argument("--model", help="model name, for routers (default: $LLAMACPP_MODEL)")
    parent.add_argument("--load-timeout", type=float, default=DEFAULT_LOAD_TIMEOUT, help=LOAD_TIMEOUT_HELP)
    return parent
