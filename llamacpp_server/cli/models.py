"""`llamacpp-server models`, `load` and `unload`: the models of a server."""

from __future__ import annotations

import argparse
from typing import Any, Final

from .._printable import short_line
from ..results import ModelCard
from .shared import Progress, add_command, connect

__all__ = ["add_to"]

# Of a name, which is to be copied whole; a hostile server may send megabytes.
_MOST_SHOWN: Final = 1000


def add_to(commands: Any, where: argparse.ArgumentParser) -> None:
    """Add the commands."""
    for name, run, text in (
        ("models", _models, "list the models of a server"),
        ("load", _load, "load a model of a router"),
        ("unload", _unload, "unload a model of a router"),
    ):
        command = add_command(commands, name, parents=[where], help=text)
        if run is not _models:
            command.add_argument("name", metavar="MODEL", help="name of the model; `models` lists them")
        command.set_defaults(run=run)


def _models(arguments: argparse.Namespace, progress: Progress) -> int:
    with connect(arguments, progress) as client:
        for card in client.models():
            print(_line(card))
    return 0


def _load(arguments: argparse.Namespace, progress: Progress) -> int:
    with connect(arguments, progress) as client:
        card = client.load_model(arguments.name)
        progress.end()
        print(_line(card))
    return 0


def _unload(arguments: argparse.Namespace, progress: Progress) -> int:
    with connect(arguments, progress) as client:
        client.unload_model(arguments.name)
    return 0


def _line(card: ModelCard) -> str:
    return f"{short_line(card.id, _MOST_SHOWN)}  {short_line(card.status or 'loaded')}"
