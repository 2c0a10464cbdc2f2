"""The entry point: the parser with all commands, and what their errors become.

Answers and results go to stdout, everything else (progress, thinking, errors) to stderr. Exit codes: 0, 1 for a
failure (also when stdout's reader has gone), 2 for a wrong command line, 130 after ^C.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from .. import __version__
from .._printable import did_you_mean, one_line, printable, short_line
from ..errors import LlamaServerError
from . import batch, chat, check, decide, doctor, models, running, serve, top
from .shared import Progress, WrongCommandLine, server_options

__all__ = ["parser", "run"]


def run(argv: Sequence[str] | None = None) -> int:
    """Run the command line; raises KeyboardInterrupt after ^C, once the terminal is in order."""
    given = list(sys.argv[1:] if argv is None else argv)
    # What follows `--` is for the llama-server binary.
    cut = given.index("--") if "--" in given else len(given)
    _open_closed_streams()
    root = parser()
    arguments, strangers = root.parse_known_args(given[:cut])
    if strangers:
        root.error(_unrecognized(strangers, arguments))
    arguments.extra_args = given[cut + 1 :]
    progress = Progress()
    try:
        code = int(arguments.run(arguments, progress))
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        progress.end()
        raise
    except BrokenPipeError:
        # Whoever read stdout has gone; at the end the interpreter must not try to flush it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (LlamaServerError, ValueError, OSError, OverflowError, RecursionError) as error:
        progress.end()
        print(f"error: {_words(error)}", file=sys.stderr)
        return 2 if isinstance(error, WrongCommandLine) else 1


def _open_closed_streams() -> None:
    """A shell's `<&-` and `>&-` leave None here: nothing is read then, and what is printed goes nowhere."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 (until the end)


def _unrecognized(strangers: Sequence[str], arguments: argparse.Namespace) -> str:
    """What is wrong with the command line, without values: the one behind a misspelled `--api-key` is the key."""
    known = ["--" + name.replace("_", "-") for name in vars(arguments) if name != "run"]
    flags = [stranger.partition("=")[0] for stranger in strangers if stranger.startswith("--")]
    shown = [f"{flag} {did_you_mean(flag, known)}".rstrip() for flag in flags]
    return f"unrecognized arguments: {one_line(', '.join(shown))}" if shown else "too many arguments"


def _words(error: Exception) -> str:
    """What to print. Python's own words for a file begin with a number: "[Errno 2] ..."."""
    if isinstance(error, OSError) and not isinstance(error, LlamaServerError) and error.strerror:
        return f"{short_line(str(error.filename))}: {error.strerror}" if error.filename else error.strerror
    return printable(str(error))


def parser() -> argparse.ArgumentParser:
    """The parser of the command line, with all commands."""
    root = argparse.ArgumentParser(prog="llamacpp-server", description="Check, use and run llama.cpp servers.")
    root.add_argument("--version", action="version", version=__version__)
    commands = root.add_subparsers(required=True, title="commands", metavar="COMMAND")
    where = server_options()
    check.add_to(commands, where)
    chat.add_to(commands, where)
    decide.add_to(commands, where)
    serve.add_to(commands)
    batch.add_to(commands, where)
    top.add_to(commands, where)
    doctor.add_to(commands)
    models.add_to(commands, where)
    running.add_to(commands)
    return root
