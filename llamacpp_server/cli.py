"""The command `llamacpp-server`: check a server, chat with it, or serve a model.

Answers and results go to stdout, everything else (progress, thinking, errors) to stderr. Exit codes: 0, 1 for a
failure, 2 for a wrong command line, 130 after ^C.
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
import json
import os
import re
import sys
import threading
import time
import typing
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from . import __version__, _monitor
from ._batch import BatchProgress
from ._printable import one_line, printable
from .chat import ChatRequest
from .client import LlamaServerClient
from .diagnostics import (
    CAPABILITIES,
    Cost,
    Finding,
    Recorded,
    Replay,
    diagnose,
    doctor_html,
    preflight,
    read_recording,
    replay,
)
from .errors import LlamaServerError
from .integration import (
    Thinking,
    thinking_params,
)
from .local import (
    LocalServer,
    LocalServerOptions,
    ServerFlags,
    enter,
    running_servers,
)
from .settings import DEFAULT_BASE_URL, DEFAULT_LOAD_TIMEOUT, WaitState
from .wire import MessageDict

__all__ = ["main"]

_DIM, _PLAIN, _START_OF_LINE = "\033[2m", "\033[0m", "\r\033[K"
_INTERRUPTED: Final = 130
_WATCH_SECONDS: Final = 2.0
_BAR_WIDTH: Final = 30


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    Args:
        argv: Arguments; None takes those of the process.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    # What follows `--` is for the llama-server binary.
    cut = given.index("--") if "--" in given else len(given)
    arguments = _parser().parse_args(given[:cut])
    arguments.extra_args = given[cut + 1 :]
    progress = _Progress()
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
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, _WrongCommandLine) else 1


class _WrongCommandLine(ValueError):
    """What argparse can't see by itself."""


class _Progress:
    """`loading, 12 s` on stderr: one line that changes on a terminal, a line every ten seconds elsewhere."""

    def __init__(self) -> None:
        self._shown = -1
        self._is_tty = sys.stderr.isatty()

    def __call__(self, state: WaitState) -> None:
        seconds = int(state.elapsed)
        due = seconds != self._shown if self._is_tty else seconds // 10 != self._shown // 10
        if not due or seconds == 0:
            return
        self._shown = seconds
        text = f"{state.reason}, {seconds} s"
        print(f"{_START_OF_LINE}{text}" if self._is_tty else text, end="" if self._is_tty else "\n", file=sys.stderr)
        sys.stderr.flush()

    def end(self) -> None:
        """Removes the line."""
        if self._is_tty and self._shown >= 0:
            print(_START_OF_LINE, end="", file=sys.stderr, flush=True)
        self._shown = -1


# -- check


def _check(arguments: argparse.Namespace, progress: _Progress) -> int:
    findings = []
    with _client(arguments, progress) as client:
        for finding in preflight(client, arguments.need):
            progress.end()
            findings.append(finding)
            if not arguments.json:
                print(_line(finding), flush=True)
    ok = not any(finding.status == "failed" for finding in findings)
    if arguments.json:
        checks = [asdict(finding) for finding in findings]
        print(json.dumps({"ok": ok, "checks": checks}, indent=2))
    elif not ok:
        failed = ", ".join(finding.name for finding in findings if finding.status == "failed")
        print(f"\nFailed: {failed}", file=sys.stderr)
    return 0 if ok else 1


def _line(finding: Finding) -> str:
    detail = one_line(finding.detail)
    status = "FAILED" if finding.status == "failed" else finding.status
    remedy = f"\n{'':21}{one_line(finding.remedy)}" if finding.remedy else ""
    return f"{status:8} {finding.name:11} {detail}{remedy}"


# -- chat


def _chat(arguments: argparse.Namespace, progress: _Progress) -> int:
    messages: list[MessageDict] = [{"role": "system", "content": arguments.system}] if arguments.system else []
    prompt = " ".join(arguments.prompt)
    interactive = not prompt and sys.stdin.isatty()
    if not interactive and prompt in ("", "-"):
        prompt = sys.stdin.read()
    if not interactive and not prompt.strip():
        raise _WrongCommandLine("there is no prompt, neither as arguments nor on stdin")
    with _client(arguments, progress) as client:
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
    client: LlamaServerClient, messages: list[MessageDict], params: dict[str, Any], progress: _Progress
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
            print(f"{_PLAIN}\n(interrupted: the question is forgotten)", file=sys.stderr)
        except LlamaServerError as error:
            messages.pop()
            print(f"error: {error}", file=sys.stderr)
        else:
            messages.append({"role": "assistant", "content": answer})


def _answer(
    client: LlamaServerClient, messages: Sequence[MessageDict], params: dict[str, Any], progress: _Progress
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


# -- serve


def _serve(arguments: argparse.Namespace, progress: _Progress) -> int:
    given = {
        name: value
        for name in typing.get_type_hints(LocalServerOptions)
        if (value := getattr(arguments, name)) is not None
    }
    given.setdefault("api_key", os.environ.get("LLAMACPP_API_KEY"))
    given |= {"backend": arguments.backend, "binary": arguments.binary, "load_timeout": arguments.load_timeout}
    given |= {"extra_args": arguments.extra_args, "on_wait": progress}
    source = arguments.model
    if source is not None and Path(source).is_dir():
        server = LocalServer.from_directory(source, arguments.name, **given)
    elif arguments.name is not None:
        raise _WrongCommandLine(f"{source} is no directory to look for {arguments.name} in")
    elif source is None and not (arguments.models_dir or arguments.models_preset):
        raise _WrongCommandLine("name a model, a directory of models, or --models-dir for a router")
    else:
        server = LocalServer(source, **given)
    if arguments.estimate:
        print(server.estimate_memory() or "unknown until the model is downloaded")
        return 0
    with server:
        progress.end()
        with contextlib.suppress(OSError):  # it runs all the same where it can't be listed
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


# -- batch


def _batch(arguments: argparse.Namespace, progress: _Progress) -> int:
    bar = _Bar()
    with _client(arguments, progress) as client:
        try:
            found = client.batch_file(
                arguments.input,
                arguments.output,
                concurrency=arguments.concurrency,
                retry_errors=arguments.retry_errors,
                on_progress=bar,
            )
        finally:
            bar.end()
    print(
        f"{found.total} lines: {found.answered} answered now, {found.resumed} before, {found.errors} with an error; "
        f"{found.seconds:.1f} s"
    )
    return 1 if found.errors else 0


class _Bar:
    """How far a job is, on stderr: a bar on a terminal, a line every ten seconds elsewhere."""

    def __init__(self) -> None:
        self._is_tty = sys.stderr.isatty()
        self._next, self._lock = 0.0, threading.Lock()

    def __call__(self, progress: BatchProgress) -> None:
        with self._lock:
            if progress.seconds < self._next and progress.done < progress.total:
                return
            self._next = progress.seconds + (0.1 if self._is_tty else 10.0)
        text = f"{progress.done}/{progress.total}, {progress.errors} errors, {progress.seconds:.0f} s"
        if self._is_tty:
            filled = _BAR_WIDTH * progress.done // max(1, progress.total)
            print(f"{_START_OF_LINE}[{'#' * filled:<{_BAR_WIDTH}}] {text}", end="", file=sys.stderr, flush=True)
        elif progress.done < progress.total:
            print(text, file=sys.stderr, flush=True)

    def end(self) -> None:
        """Leave the bar where it is."""
        if self._is_tty:
            print(file=sys.stderr, flush=True)


# -- top


def _top(arguments: argparse.Namespace, progress: _Progress) -> int:
    with _client(arguments, progress) as client:
        if not arguments.once and not arguments.json:
            _monitor.watch(lambda: _monitor.take_snapshot(client), arguments.interval)
        before = _monitor.take_snapshot(client)
        if before.error is None:
            time.sleep(arguments.interval)
        now = _monitor.take_snapshot(client)
    if arguments.json:
        print(json.dumps(_monitor.as_json(now, before), indent=2))
    else:
        _monitor.show(now, before)
    return 1 if now.error is not None else 0


# -- doctor


def _doctor(arguments: argparse.Namespace, _progress: _Progress) -> int:
    server, calls = read_recording(arguments.recording)
    costs = diagnose(server, calls)
    replays = _replayed(arguments.apply, server, calls, costs) if arguments.apply else None
    if arguments.html:
        Path(arguments.html).write_text(doctor_html(server, calls, costs, replays), encoding="utf-8")
    if arguments.json:
        print(json.dumps({"calls": len(calls), "costs": [asdict(cost) for cost in costs]}, indent=2))
    else:
        _print_costs(len(calls), costs)
    if replays is not None and not arguments.json:
        for name, found in zip(("as it was", "with them"), replays, strict=True):
            print(f"{name}: {found.tokens_read} tokens read in {found.seconds:.1f} s, {found.failed} failed")
    while arguments.watch:
        time.sleep(_WATCH_SECONDS)
        server, now = read_recording(arguments.recording)
        if len(now) != len(calls):
            calls = now
            _print_costs(len(calls), diagnose(server, calls))
    return 0


def _print_costs(calls: int, costs: Sequence[Cost]) -> None:
    print(f"{calls} calls; {'what costs most comes first:' if costs else 'nothing that costs much was found'}")
    for number, cost in enumerate(costs, 1):
        print(f"{number}. {printable(str(cost))}", flush=True)


def _replayed(
    model: str, server: dict[str, Any], calls: Sequence[Recorded], costs: Sequence[Cost]
) -> tuple[Replay, Replay]:
    """The recording sent to a server as it was, and to one with the options that help."""
    before: dict[str, Any] = {"parallel": server.get("slots") or 1}
    if server.get("n_ctx"):
        before["ctx_size"] = server["n_ctx"] * before["parallel"]
    after = dict(before)
    for cost in reversed(costs):  # where two disagree, the dearer one wins
        after |= cost.options
    added = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in after.items())
    print(f"with: {added}", file=sys.stderr)
    found = []
    for options in (before, after):
        with LocalServer(model, **options) as local, local.client() as client:
            found.append(replay(client, calls))
    return found[0], found[1]


# -- models and servers


def _models(arguments: argparse.Namespace, progress: _Progress) -> int:
    with _client(arguments, progress) as client:
        for card in client.models():
            print(f"{card.id}  {card.status or 'loaded'}")
    return 0


def _load(arguments: argparse.Namespace, progress: _Progress) -> int:
    with _client(arguments, progress) as client:
        card = client.load_model(arguments.name)
        progress.end()
        print(f"{card.id}  {card.status or 'loaded'}")
    return 0


def _unload(arguments: argparse.Namespace, progress: _Progress) -> int:
    with _client(arguments, progress) as client:
        client.unload_model(arguments.name)
    return 0


def _ps(_arguments: argparse.Namespace, _progress: _Progress) -> int:
    running = running_servers()
    for server in running:
        print(f"{server.base_url}  {server.model}  pid {server.pid}")
    if not running:
        print("no local server is running that `llamacpp-server serve` or reuse=True started", file=sys.stderr)
    return 0


def _logs(arguments: argparse.Namespace, _progress: _Progress) -> int:
    found = [
        server
        for server in running_servers()
        if arguments.name in (str(server.pid), "") or arguments.name in server.model
    ]
    if len(found) != 1:
        shown = ", ".join(server.model for server in found or running_servers()) or "none"
        raise ValueError(f"name one of the local servers by a part of its model or its pid; running: {shown}")
    print(found[0].log_tail(arguments.lines))
    return 0


# -- the command line


def _client(arguments: argparse.Namespace, progress: _Progress) -> LlamaServerClient:
    return LlamaServerClient(
        arguments.base_url,
        api_key=arguments.api_key,
        model=arguments.model,
        load_timeout=arguments.load_timeout,
        on_wait=progress,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="llamacpp-server", description="Check, use and run llama.cpp servers.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(
        required=True, metavar="check | chat | serve | batch | top | doctor | models | load | unload | ps | logs"
    )
    where = _where()

    _add_check_and_chat(commands, where)
    serve = commands.add_parser(
        "serve",
        help="run a model until ^C",
        usage="%(prog)s [options] MODEL | DIRECTORY [NAME]  [-- options of the llama-server binary]",
        epilog="Without --api-key, the key is $LLAMACPP_API_KEY, which does not show up in `ps`.",
    )
    serve.add_argument("--estimate", action="store_true", help="print the memory that the model needs and exit")
    _add_serve_options(serve)
    serve.set_defaults(run=_serve)
    _add_jobs(commands, where)
    _add_management(commands, where)
    return parser


def _add_check_and_chat(commands: Any, where: argparse.ArgumentParser) -> None:
    """Add the commands that talk to one server."""
    check = commands.add_parser(
        "check", parents=[where], help="show what a server supports and which flags are missing"
    )
    check.add_argument("--json", action="store_true", help="print the findings as JSON")
    check.add_argument(
        "--need", action="append", default=[], choices=CAPABILITIES, help="fail if this is missing; can be repeated"
    )
    check.set_defaults(run=_check)

    chat = commands.add_parser(
        "chat", parents=[where], help="send a prompt to a model; without one, start a conversation"
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


def _add_jobs(commands: Any, where: argparse.ArgumentParser) -> None:
    """The commands for many requests, and for those that a program made."""
    batch = commands.add_parser("batch", parents=[where], help="process a file of requests; resumes where it stopped")
    batch.add_argument("input", help="JSON lines: OpenAI's batch format, or an id and the request's fields")
    batch.add_argument("output", help="output file; one line per answer")
    batch.add_argument("--concurrency", type=int, metavar="N", help="concurrent requests (default: the server's slots)")
    batch.add_argument("--retry-errors", action="store_true", help="retry requests that failed before")
    batch.set_defaults(run=_batch)

    top = commands.add_parser(
        "top", parents=[where], help="live view of a server: slots, cache, queue, tokens per second"
    )
    top.add_argument("--interval", type=_positive, default=1.0, metavar="SECONDS", help="default %(default)s")
    top.add_argument("--once", action="store_true", help="print one table and exit")
    top.add_argument("--json", action="store_true", help="print JSON and exit")
    top.set_defaults(run=_top)

    doctor = commands.add_parser("doctor", help="show why a recorded program was slow and which flag or line helps")
    doctor.add_argument("recording", help="file written by CacheReport(recording=...)")
    doctor.add_argument("--html", metavar="FILE", help="write a page with plots")
    doctor.add_argument("--json", action="store_true", help="print the findings as JSON")
    doctor.add_argument("--watch", action="store_true", help="keep watching while the program runs, until ^C")
    doctor.add_argument(
        "--apply", metavar="MODEL", help="replay the calls on a local server with this GGUF, without and with the flags"
    )
    doctor.set_defaults(run=_doctor)


def _add_management(commands: Any, where: argparse.ArgumentParser) -> None:
    """The commands for models of a server, and for the servers of this machine."""
    for name, run, text in (
        ("models", _models, "list the models of a server"),
        ("load", _load, "load a model of a router"),
        ("unload", _unload, "unload a model of a router"),
    ):
        command = commands.add_parser(name, parents=[where], help=text)
        if run is not _models:
            command.add_argument("name", metavar="MODEL")
        command.set_defaults(run=run)
    commands.add_parser("ps", help="list running local servers").set_defaults(run=_ps)
    logs = commands.add_parser("logs", help="print the end of a local server's log")
    logs.add_argument("name", nargs="?", default="", metavar="MODEL", help="part of the model's name, or the pid")
    logs.add_argument("--lines", type=int, default=50, help="number of lines (default %(default)s)")
    logs.set_defaults(run=_logs)


def _where() -> argparse.ArgumentParser:
    """The options of commands that talk to a server."""
    parent = argparse.ArgumentParser(add_help=False)
    parent.add_argument(
        "--base-url", help=f"address of the server (default: $LLAMACPP_BASE_URL, else {DEFAULT_BASE_URL})"
    )
    parent.add_argument("--api-key", help="API key (default: $LLAMACPP_API_KEY, which does not show up in `ps`)")
    parent.add_argument("--model", help="model name, for routers (default: $LLAMACPP_MODEL)")
    parent.add_argument("--load-timeout", type=float, default=DEFAULT_LOAD_TIMEOUT, help=_LOAD_TIMEOUT_HELP)
    return parent


_LOAD_TIMEOUT_HELP: Final = "seconds to wait for a loading model (default %(default)s)"


def _add_serve_options(serve: argparse.ArgumentParser) -> None:
    """Every option of LocalServer, named as the binary names it, so that a command line of either fits the other."""
    serve.add_argument("model", nargs="?", metavar="MODEL", help="GGUF file, or a directory of them")
    serve.add_argument("name", nargs="?", metavar="NAME", help="model in the directory; any unique part of its name")
    serve.add_argument("--backend", choices=("auto", "embedded", "binary"), default="auto")
    serve.add_argument("--binary", help="the llama-server program")
    serve.add_argument("--load-timeout", type=float, default=DEFAULT_LOAD_TIMEOUT, help=_LOAD_TIMEOUT_HELP)
    texts = "\n".join(inspect.getdoc(kind) or "" for kind in (ServerFlags, LocalServerOptions))
    described = dict(re.findall(r"^ {4}(\w+): (.+(?:\n {8}.+)*)", texts, re.MULTILINE))
    for name, hint in typing.get_type_hints(LocalServerOptions).items():
        kinds = typing.get_args(hint) or (hint,)
        flag, text = "--" + name.replace("_", "-"), described.get(name, "").replace("`", "")
        if bool in kinds:
            serve.add_argument(flag, action=argparse.BooleanOptionalAction, default=None, help=text)
        else:
            metavar = "N" if int in kinds else "VALUE"
            serve.add_argument(flag, type=_value_type(name, kinds), metavar=metavar, help=text)


def _value_type(name: str, kinds: tuple[Any, ...]) -> Any:
    if name == "n_gpu_layers":
        return lambda text: int(text) if text.lstrip("-").isdigit() else text
    if name == "chat_template_kwargs":
        return json.loads
    return int if int in kinds else str


def _positive(text: str) -> float:
    if (value := float(text)) > 0:
        return value
    raise argparse.ArgumentTypeError("must be above 0")


def _thinking(text: str) -> Thinking:
    if text in ("on", "off"):
        return text == "on"
    return int(text) if text.isdigit() else text


if __name__ == "__main__":
    sys.exit(main())
