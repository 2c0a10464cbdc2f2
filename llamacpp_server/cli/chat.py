"""`llamacpp-server chat`: a prompt for a model, or a conversation on a terminal."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, Final

from .._printable import printable
from ..client import LlamaServerClient
from ..errors import LlamaServerError
from ..integration import Thinking, thinking_params
from ..requests import ChatRequest
from ..wire import MessageDict
from .shared import Progress, WrongCommandLine, add_command, connect

__all__ = ["add_to"]

# Python reads no number that is much longer.
_MOST_DIGITS: Final = 1000
_DIM: Final = "\033[2m"
_PLAIN: Final = "\033[0m"


def add_to(commands: Any, where: argparse.ArgumentParser) -> None:
    """Add the command."""
    chat = add_command(
        commands, "chat", parents=[where], help="send a prompt to a model; without one, start a conversation"
    )
    chat.add_argument("prompt", nargs="*", help="the prompt; `-` or nothing reads it from stdin")
    chat.add_argument("--system", help="system message")
    chat.add_argument("--max-tokens", type=int, help="maximum number of tokens to generate")
    chat.add_argument("--temperature", type=float, help="sampling temperature; 0 is greedy")
    chat.add_argument("--seed", type=int, help="random seed; -1 picks a new one each time")
    chat.add_argument(
        "--thinking", type=_thinking, metavar="on|off|EFFORT|TOKENS", help="turn reasoning on or off, or limit it"
    )
    chat.set_defaults(run=_chat)


def _chat(arguments: argparse.Namespace, progress: Progress) -> int:
    messages: list[MessageDict] = [{"role": "system", "content": arguments.system}] if arguments.system else []
    prompt = " ".join(arguments.prompt)
    interactive = not prompt and sys.stdin.isatty()
    if not interactive and prompt in ("", "-"):
        prompt = sys.stdin.read()
    if not interactive and not prompt.strip():
        raise WrongCommandLine("no prompt: pass it as an argument or on stdin")
    with connect(arguments, progress) as client:
        client = client.with_settings(model=client.model_name())
        params = _params(arguments, client)
        if interactive:
            return _converse(client, messages, params, progress)
        _answer(client, [*messages, {"role": "user", "content": prompt}], params, progress)
    return 0


def _params(arguments: argparse.Namespace, client: LlamaServerClient) -> dict[str, Any]:
    names = ("max_tokens", "temperature", "seed")
    params = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    return params if arguments.thinking is None else thinking_params(arguments.thinking, client.info(), params)


def _converse(
    client: LlamaServerClient, messages: list[MessageDict], params: dict[str, Any], progress: Progress
) -> int:
    """A conversation on a terminal; ^C ends an answer, ^D or ^C at the prompt ends it."""
    import readline  # noqa: F401 (gives `input` line editing)

    while True:
        try:
            prompt = input("> ")
        except EOFError:
            print()
            return 0
        if not prompt.strip():
            continue
        messages.append({"role": "user", "content": prompt})
        try:
            answer = _answer(client, messages, params, progress)
        except KeyboardInterrupt:
            messages.pop()
            print(f"{_PLAIN}\n(interrupted; the question was dropped)", file=sys.stderr)
        except LlamaServerError as error:
            messages.pop()
            print(f"error: {error}", file=sys.stderr)
        else:
            messages.append({"role": "assistant", "content": answer})


def _answer(
    client: LlamaServerClient, messages: Sequence[MessageDict], params: dict[str, Any], progress: Progress
) -> str:
    """Prints an answer as it comes: the text on stdout, thinking on stderr, where a terminal shows it dim."""
    dim, plain = (_DIM, _PLAIN) if sys.stderr.isatty() else ("", "")
    text: list[str] = []
    thinks, finish = False, None
    for delta in client.stream_chat(ChatRequest(messages=messages, params=params)):
        progress.end()
        if delta.reasoning_content:
            thinks = True
            print(f"{dim}{printable(delta.reasoning_content)}{plain}", end="", file=sys.stderr, flush=True)
        if delta.content:
            if thinks and not text:
                print(file=sys.stderr, flush=True)
            text.append(delta.content)
            print(printable(delta.content), end="", flush=True)
        finish = delta.finish_reason or finish
    print(flush=True)
    if thinks and not text:
        print(file=sys.stderr)
    if finish == "length":
        print("(cut off: max_tokens, or the end of the context)", file=sys.stderr)
    return "".join(text)


def _thinking(text: str) -> Thinking:
    if text in ("on", "off"):
        return text == "on"
    return int(text) if text.isascii() and text.isdigit() and len(text) < _MOST_DIGITS else text
