"""The entry point: the parser with all commands, and what their errors become.

Answers and results go to stdout, everything else (progress, thinking, errors) to stderr. Exit codes: 0, 1 for a
failure, 2 for a wrong command line, 130 after ^C.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Final

from .. import __version__
from ..errors import LlamaServerError
from . import batch, chat, check, decide, doctor, models, running, serve, top
from .shared import Progress, WrongCommandLine, server_options

__all__ = ["main"]

_INTERRUPTED: Final = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    Args:
        argv: Arguments; None takes those of the process.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    # What follows `--` is for the llama-server binary.
    cut = given.index("--") if "--" in given else len(given)
    arguments = parser().parse_args(given[:cut])
    arguments.extra_args = given[cut + 1 :]
    progress = Progress()
    try:
        code = int(arguments.run(arguments, progress))
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        progress.end()
        return _INTERRUPTED
    except BrokenPipeError:
        # Whoever read stdout has gone; at the end the interpreter must not try to flush it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (LlamaServerError, ValueError, OSError) as error:
        progress.end()
        print(f"error: {_words(error)}", file=sys.stderr)
        return 2 if isinstance(error, WrongCommandLine) else 1


def _words(error: Exception) -> str:
    """What to print. Python's own words for a file begin with a number: "[Errno 2] ..."."""
    if isinstance(error, OSError) and not isinstance(error, LlamaServerError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)


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
