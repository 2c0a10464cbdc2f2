"""`llamacpp-server serve`: run a model until ^C."""

from __future__ import annotations

import argparse
import contextlib
import inspect
import json
import os
import re
import sys
import time
import typing
from pathlib import Path
from typing import Any

from .._printable import printable
from ..local import SHORT_FLAGS, LocalServer, LocalServerOptions, ServerFlags, enter
from ..settings import DEFAULT_LOAD_TIMEOUT
from .shared import LOAD_TIMEOUT_HELP, Progress, WrongCommandLine, add_command

__all__ = ["add_to"]

_BACKEND_HELP = (
    "embedded is the wheel, binary the llama-server program (default: auto, which picks one that supports the options)"
)


def add_to(commands: Any) -> None:
    """Add the command."""
    serve = add_command(
        commands,
        "serve",
        help="run a model until ^C",
        usage="%(prog)s [options] MODEL | DIRECTORY [NAME]  [-- options of the llama-server binary]",
        epilog="Without --api-key, the key is $LLAMACPP_API_KEY, which does not show up in `ps`.",
    )
    serve.add_argument("--estimate", action="store_true", help="print the memory that the model needs and exit")
    serve.add_argument(
        "--decisions", action="store_true", help="serve a cached copy of the model that also answers /v1/systemone"
    )
    _add_serve_options(serve)
    serve.set_defaults(run=_serve)


def _serve(arguments: argparse.Namespace, progress: Progress) -> int:
    given = {
        name: value
        for name in typing.get_type_hints(LocalServerOptions)
        if (value := getattr(arguments, name)) is not None
    }
    given.setdefault("api_key", os.environ.get("LLAMACPP_API_KEY"))
    given |= {"backend": arguments.backend, "binary": arguments.binary, "load_timeout": arguments.load_timeout}
    given |= {"extra_args": arguments.extra_args, "on_wait": progress, "decisions": arguments.decisions}
    source = arguments.model
    if source is not None and Path(source).is_dir():
        server = LocalServer.from_directory(source, arguments.name, **given)
    elif arguments.name is not None:
        raise WrongCommandLine(f"{source} is not a directory, so it can't contain {arguments.name}")
    elif source is None and not (arguments.models_dir or arguments.models_preset):
        raise WrongCommandLine("pass a model, a directory of models, or --models-dir for a router")
    else:
        server = LocalServer(source, **given)
    if arguments.estimate:
        print(server.estimate_memory() or "unknown until the model is downloaded")
        return 0
    with server:
        progress.end()
        with contextlib.suppress(OSError):  # it runs even if it can't be listed
            enter(server.entry())
        print(server.base_url)
        print(f"export LLAMACPP_BASE_URL={server.base_url}", flush=True)
        if given["api_key"]:
            print("Set LLAMACPP_API_KEY to the key as well.", file=sys.stderr)
        print("^C stops it.", file=sys.stderr)
        try:
            while server.is_running:
                time.sleep(0.2)
        except KeyboardInterrupt:
            return 0
        print(
            f"error: the server ended with exit code {server.exit_code}\n{printable(server.log_tail())}",
            file=sys.stderr,
        )
        return 1


def _add_serve_options(serve: argparse.ArgumentParser) -> None:
    """Every option of LocalServer, named as the binary names it, so that a command line of either fits the other."""
    serve.add_argument("model", nargs="?", metavar="MODEL", help="GGUF file, or a directory of them")
    serve.add_argument("name", nargs="?", metavar="NAME", help="model in the directory; any unique part of its name")
    serve.add_argument("--backend", choices=("auto", "embedded", "binary"), default="auto", help=_BACKEND_HELP)
    serve.add_argument("--binary", help="the llama-server program")
    serve.add_argument("--load-timeout", type=float, default=DEFAULT_LOAD_TIMEOUT, help=LOAD_TIMEOUT_HELP)
    texts = "\n".join(inspect.getdoc(kind) or "" for kind in (ServerFlags, LocalServerOptions))
    described = dict(re.findall(r"^ {4}(\w+): (.+(?:\n {8}.+)*)", texts, re.MULTILINE))
    for name, hint in typing.get_type_hints(LocalServerOptions).items():
        kinds = typing.get_args(hint) or (hint,)
        flag, text = "--" + name.replace("_", "-"), described.get(name, "").replace("`", "")
        if bool in kinds:
            serve.add_argument(flag, action=argparse.BooleanOptionalAction, default=None, help=text)
        else:
            metavar = "N" if int in kinds else "VALUE"
            flags = [SHORT_FLAGS[name], flag] if name in SHORT_FLAGS else [flag]
            serve.add_argument(*flags, type=_value_type(name, kinds), metavar=metavar, help=text)


def _value_type(name: str, kinds: tuple[Any, ...]) -> Any:
    if name == "n_gpu_layers":
        return lambda text: int(text) if text.lstrip("-").isdigit() else text
    if name == "chat_template_kwargs":
        return _json_object
    return int if int in kinds else str


def _json_object(text: str) -> dict[str, Any]:
    with contextlib.suppress(ValueError, RecursionError):
        if isinstance(value := json.loads(text), dict):
            return value
    raise argparse.ArgumentTypeError("must be a JSON object")
