"""The command line against real servers: what it prints where, and its exit codes."""

import contextlib
import json
import math
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from llamacpp_server import LocalServer
from llamacpp_server.cli import main, parser
from llamacpp_server.diagnostics import (
    CAPABILITIES,
)
from tests import behind_doors
from tests.conftest import ServeScript
from tests.models import Script
from tests.server.test_local import is_gone
from tests.waiting import LONG, wait_until

# As `llamacpp-server` does it; a shell's background jobs ignore SIGINT, and so would what they start.
COMMAND = [
    sys.executable,
    "-c",
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
    "from llamacpp_server.cli import main; sys.exit(main())",
]
DOWN = "http://127.0.0.1:9"

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """The exit code, stdout and stderr of a command line."""

    def called(*arguments: object, stdin: str = "", **environ: str) -> tuple[int, str, str]:
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        read, write = os.pipe()
        os.write(write, stdin.encode())
        os.close(write)
        with os.fdopen(read) as pipe:
            monkeypatch.setattr(sys, "stdin", pipe)
            capsys.readouterr()
            try:
                code = main([str(argument) for argument in arguments])
            except SystemExit as end:
                code = int(end.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return called


@contextlib.contextmanager
def command(*arguments: object, **environ: str) -> Iterator[subprocess.Popen[str]]:
    """The command as a process of its own."""
    line = [*COMMAND, *map(str, arguments)]
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(line, env={**os.environ, **environ}, text=True, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def findings(text: str) -> dict[str, dict[str, str]]:
    return {check["name"]: check for check in json.loads(text)["checks"]}


# -- check


def test_check_of_a_chat_server(run: Run, chat_server: LocalServer) -> None:
    code, out, err = run("check", "--base-url", chat_server.base_url)
    assert code == 0, out
    assert err == ""
    lines = {line.split()[1]: line.split()[0] for line in out.splitlines() if not line.startswith(" ")}
    assert lines == {
        "reachable": "ok",
        "ready": "ok",
        "key": "ok",
        "model": "ok",
        "chat": "ok",
        "embeddings": "off",
        "rerank": "off",
        "build": "ok",
        "context": "ok",
        "images": "off",
        "audio": "off",
        "tools": "ok",
        "thinking": "ok",
        "slots": "ok",
        "metrics": "ok",
        "exposure": "ok",
    }
    assert set(CAPABILITIES) <= set(lines)
    assert "2048 tokens in each of 2 slots" in out
    for flag in ("--embeddings", "--reranking", "--mmproj"):
        assert flag in out


def test_check_as_json(run: Run, chat_server: LocalServer) -> None:
    code, out, err = run("check", "--json", LLAMACPP_BASE_URL=chat_server.base_url + "/v1")
    assert (code, err) == (0, "")
    assert json.loads(out)["ok"] is True
    assert findings(out)["model"]["detail"] == "random"
    assert findings(out)["embeddings"] == {
        "name": "embeddings",
        "status": "off",
        "detail": "not enabled",
        "remedy": "start the server with --embeddings (and --pooling mean, cls or last)",
    }


def test_what_is_needed_and_missing_fails(run: Run, chat_server: LocalServer) -> None:
    here = ("--base-url", chat_server.base_url)
    code, out, err = run("check", *here, "--need", "tools", "--need", "embeddings", "--need", "images")
    assert code == 1
    assert err == "\nFailed: embeddings, images\n"
    assert "FAILED   embeddings" in out
    assert run("check", *here, "--need", "chat", "--need", "metrics")[0] == 0


def test_check_of_other_servers(
    run: Run, embedding_server: LocalServer, rerank_server: LocalServer, vision_server: LocalServer
) -> None:
    code, out, _ = run("check", "--json", "--base-url", embedding_server.base_url, "--need", "embeddings")
    assert code == 0
    assert findings(out)["chat"]["status"] == "off"
    assert findings(out)["tools"]["status"] == "off"
    code, out, _ = run("check", "--json", "--base-url", rerank_server.base_url, "--need", "rerank")
    assert code == 0
    assert findings(out)["embeddings"]["status"] == "off"
    code, out, _ = run("check", "--json", "--base-url", vision_server.base_url, "--need", "images", "--need", "audio")
    assert code == 0


def test_a_configured_model_must_be_listed(run: Run, chat_server: LocalServer) -> None:
    here = ("--base-url", chat_server.base_url)
    assert run("check", *here, "--model", "random")[0] == 0
    code, out, _ = run("check", *here, LLAMACPP_MODEL="qwen")
    assert code == 1
    assert "FAILED   model       qwen is not listed; the server has random" in out


def test_check_of_a_server_that_is_down(run: Run) -> None:
    started = time.monotonic()
    code, out, err = run("check", "--base-url", DOWN)
    assert time.monotonic() - started < LONG
    assert code == 1
    assert out.startswith("FAILED   reachable")
    assert "connection refused" in out
    assert "llama-server -m model.gguf" in out
    assert "Failed: reachable" in err
    code, out, _ = run("check", "--json", "--base-url", DOWN)
    assert code == 1
    assert [check["status"] for check in json.loads(out)["checks"]] == ["failed"]


@pytest.fixture(scope="module")
def keyed_server(models_dir: Path) -> Iterator[LocalServer]:
    with LocalServer(models_dir / "random.gguf", api_key="right-key", threads=1, warmup=False) as server:
        yield server


def test_a_key_is_taken_from_the_environment_and_never_shown(run: Run, keyed_server: LocalServer) -> None:
    here = ("--base-url", keyed_server.base_url)
    code, out, err = run("check", *here, LLAMACPP_API_KEY="wrong-key")
    assert code == 1
    assert "FAILED   key" in out
    assert "LLAMACPP_API_KEY" in out
    assert "wrong-key" not in out + err
    code, out, err = run("chat", *here, "hi")
    assert code == 1
    assert "Invalid API Key" in err
    assert "wrong-key" not in out + err
    code, out, err = run("check", *here, LLAMACPP_API_KEY="right-key")
    assert code == 0
    assert "right-key" not in out + err
    assert run("check", *here, "--api-key", "right-key", LLAMACPP_API_KEY="wrong-key")[0] == 0


def test_something_else_at_the_address(run: Run, loading_server: str) -> None:
    code, _, err = run("chat", "--base-url", loading_server + "/page", "hi")
    assert code == 1
    assert "error: got an HTML page instead of a llama-server response" in err
    code, _, err = run("check", "--base-url", "http://not a host")
    assert code == 1
    assert "base_url must look like" in err


@pytest.fixture
def loading_server() -> Iterator[str]:
    """A server whose model loads until a client that was refused a second before asks again.

    No model of half a megabyte takes as long.
    """
    refused: list[float] = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            kind, status, body = "application/json", 200, b'{"status": "ok", "data": [{"id": "slow"}]}'
            if self.path.startswith("/page"):
                kind, body = "text/html", b"<html></html>"
            elif len(refused) < 3 or refused[-1] - refused[1] < 1:  # the first only looks whether there is a server
                refused.append(time.monotonic())
                status, body = 503, b'{"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}'
            elif self.path not in ("/health", "/v1/models"):
                status, body = 404, b'{"error": {"code": 404, "message": "File Not Found", "type": "not_found_error"}}'
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = answer

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that loads is asked ten times a second."""
    monkeypatch.setattr(behind_doors.SLOWEST_POLL, 0.1)


@pytest.mark.usefixtures("often")
def test_progress_while_a_model_loads(run: Run, loading_server: str) -> None:
    code, out, err = run("check", "--base-url", loading_server)
    assert re.search(r"ok       ready       the server can answer, after \d+ s of loading\n", out)
    assert re.match(r"loading, \d+ s\n", err)
    assert "FAILED   chat" in out
    assert "unknown  context" in out
    assert code == 1


@pytest.mark.usefixtures("often")
def test_progress_on_a_terminal(monkeypatch: pytest.MonkeyPatch, loading_server: str) -> None:
    terminal, inside = pty.openpty()
    with os.fdopen(terminal, "rb", 0) as screen:
        with os.fdopen(inside, "w") as stderr, monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", stderr)
            assert main(["check", "--base-url", loading_server]) == 1
        shown = b""
        with contextlib.suppress(OSError):  # Linux: the other side has ended
            while some := screen.read(4096):
                shown += some
    assert re.search(rb"\r\033\[Kloading, \d+ s\r\033\[K", shown)
    assert b"Failed:" in shown


def test_a_server_that_loads_for_too_long(run: Run, loading_server: str) -> None:
    code, out, _ = run("check", "--base-url", loading_server, "--load-timeout", "0.2")
    assert code == 1
    assert "FAILED   ready" in out


# -- chat


@pytest.fixture(scope="module")
def thinker(scripted_server: ServeScript) -> LocalServer:
    return scripted_server({
        "user": Script(says="It is four.", thinks="Two and two."),
        "name": Script(says="Ada.", thinks="Who?"),
    })  # fmt: skip


def test_the_answer_is_on_stdout_and_thinking_is_not(run: Run, thinker: LocalServer) -> None:
    here = ("--base-url", thinker.base_url)
    assert run("chat", *here, "2", "+", "2?") == (0, "It is four.\n", "Two and two.\n\n")
    assert run("chat", *here, "--thinking", "off", "2 + 2?") == (0, "It is four.\n", "")
    assert run("chat", *here, "--thinking", "off", stdin="your name?\n") == (0, "Ada.\n", "")
    assert run("chat", *here, "--thinking", "off", "-", stdin="your name?\n") == (0, "Ada.\n", "")


def test_parameters_of_a_chat(run: Run, thinker: LocalServer, chat_server: LocalServer) -> None:
    here = ("--base-url", thinker.base_url, "--thinking", "off")
    cut_off = "(cut off: max_tokens, or the end of the context)\n"
    assert run("chat", *here, "--max-tokens", "1", "2 + 2?") == (0, "It\n", cut_off)
    assert run("chat", *here[:2], "--max-tokens", "1", "2 + 2?") == (0, "\n", "Two\n" + cut_off)
    there = ("--base-url", chat_server.base_url, "--max-tokens", "8", "--thinking", "off")
    first, second = (run("chat", *there, "--temperature", "2", "--seed", seed, "hello")[1] for seed in (1, 2))
    assert first != second
    before = chat_server.client().metrics()["prompt_tokens_total"]
    run("chat", *there, "--system", "word " * 50, "hello")
    assert chat_server.client().metrics()["prompt_tokens_total"] - before > 200


def test_a_chat_that_can_not_be(run: Run, thinker: LocalServer) -> None:
    code, out, err = run("chat", "--base-url", DOWN, "hi")
    assert (code, out) == (1, "")
    assert err.startswith("error: llama-server is not reachable")
    code, _, err = run("chat", "--base-url", thinker.base_url, "--thinking", "high", "hi")
    assert code == 1
    assert "does not support reasoning efforts" in err
    code, _, err = run("chat", "--base-url", thinker.base_url, stdin="  \n")
    assert (code, err) == (2, "error: no prompt: pass it as an argument or on stdin\n")


@pytest.mark.long
def test_an_interrupt_frees_the_slot(slow_server: LocalServer, idle: Callable[[LocalServer], None]) -> None:
    idle(slow_server)
    with command("chat", "--base-url", slow_server.base_url, "go on") as process:
        assert process.stdout is not None
        assert process.stdout.read(10) == "word word "
        assert any(slot.is_processing for slot in slow_server.client().slots())
        process.send_signal(signal.SIGINT)
        assert process.wait(LONG) == 130
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
    idle(slow_server)


@pytest.mark.long
@pytest.mark.parametrize("output", [[], ["--json"]])
def test_a_closed_pipe_ends_a_check_quietly(output: list[str], chat_server: LocalServer) -> None:
    with command("check", *output, "--base-url", chat_server.base_url) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(LONG) == 1


def test_a_closed_pipe_ends_a_chat_quietly(slow_server: LocalServer, idle: Callable[[LocalServer], None]) -> None:
    with command("chat", "--base-url", slow_server.base_url, "go on") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(LONG) == 1
    idle(slow_server)


def _on_terminal(line: list[str], *typed: str, until: str) -> str:
    """What a command shows on a terminal; each text is typed once the one before was answered by a prompt."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(line[0], line)
    shown, waiting, deadline = "", list(typed), time.monotonic() + LONG
    try:
        while until not in shown or waiting:
            assert time.monotonic() < deadline, shown
            if select.select([terminal], [], [], 0.1)[0]:
                try:
                    shown += os.read(terminal, 4096).decode()
                except OSError:  # Linux: the other side has ended
                    break
            if waiting and shown.count("> ") > len(typed) - len(waiting):
                os.write(terminal, waiting.pop(0).encode())
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)
    return shown.replace("\r\n", "\n")


def test_a_conversation_on_a_terminal(thinker: LocalServer) -> None:
    line = [*COMMAND, "chat", "--base-url", thinker.base_url]
    shown = _on_terminal(line, "2 + 2?\n", "\n", "your name?\n", "\x04", until="Ada.\n> ")
    assert "\033[2mTwo\033[0m" in shown, "thinking is dim"
    assert "\nIt is four.\n> " in shown
    assert "\nAda.\n> " in shown


def test_an_interrupt_ends_an_answer_and_not_the_conversation(
    slow_server: LocalServer, idle: Callable[[LocalServer], None]
) -> None:
    line = [*COMMAND, "chat", "--base-url", slow_server.base_url]
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(line[0], line)
    try:
        _expect(terminal, "> ")
        os.write(terminal, b"go on\n")
        _expect(terminal, "word word")
        os.write(terminal, b"\x03")
        _expect(terminal, r"interrupted[^>]*> ")
        idle(slow_server)
        ended, written, deadline = (0, 0), -math.inf, time.monotonic() + LONG
        while not ended[0]:
            assert time.monotonic() < deadline
            if time.monotonic() - written > 10:
                # Python's readline may notice a ^C that comes just before it waits for a key only with the next one.
                written = time.monotonic()
                os.write(terminal, b"\x03")
            time.sleep(0.05)
            ended = os.waitpid(pid, os.WNOHANG)
        assert os.waitstatus_to_exitcode(ended[1]) == 130
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    finally:
        os.close(terminal)


def _expect(terminal: int, pattern: str) -> None:
    shown, deadline = "", time.monotonic() + LONG
    while not re.search(pattern, shown):
        assert time.monotonic() < deadline, shown
        if select.select([terminal], [], [], 0.1)[0]:
            shown += os.read(terminal, 4096).decode(errors="replace")


# -- serve


@pytest.mark.parametrize(
    "what", [["models_dir", "rand"], pytest.param(["models_dir/random.gguf"], marks=pytest.mark.long)]
)
def test_serve_until_interrupted(models_dir: Path, what: list[str], run: Run) -> None:
    source = [word.replace("models_dir", str(models_dir)) for word in what]
    options = ["--ctx-size", "1024", "--parallel", "2", "--no-warmup", "--mmproj", models_dir / "mmproj-random.gguf"]
    with command("serve", *source, *options, LLAMACPP_API_KEY="very-secret") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        base_url = process.stdout.readline().strip()
        assert process.stdout.readline() == f"export LLAMACPP_BASE_URL={base_url}\n"
        code, out, _ = run("check", "--json", "--api-key", "very-secret", "--base-url", base_url, "--need", "images")
        assert code == 0
        assert findings(out)["context"]["detail"].startswith("512 tokens in each of 2 slots")
        assert run("check", "--base-url", base_url)[0] == 1, "the key is wanted"
        process.send_signal(signal.SIGINT)
        assert process.wait(LONG) == 0
        assert "secret" not in process.stdout.read() + process.stderr.read()
    assert "refused" in run("check", "--base-url", base_url)[1]


def test_a_crash_ends_serve_with_the_log(models_dir: Path) -> None:
    with command("serve", models_dir / "random.gguf", "--no-warmup") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        child = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
        server = int(Path(f"/proc/{child}/task/{child}/children").read_text().split()[0])
        os.kill(server, signal.SIGKILL)
        assert process.wait(LONG) == 1
        said = process.stderr.read()
        assert "error: the server ended with exit code 137" in said
        assert "listening on" in said


@pytest.mark.long
def test_a_killed_serve_leaves_nothing(models_dir: Path) -> None:
    with command("serve", models_dir / "random.gguf", "--no-warmup") as process:
        assert process.stdout is not None
        process.stdout.readline()
        child = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
        process.terminate()
        process.wait(LONG)
        wait_until(lambda: is_gone(child), "the end of the server")


def test_a_serve_that_can_not_be(run: Run, models_dir: Path, tmp_path: Path) -> None:
    code, out, err = run("serve", models_dir / "broken.gguf")
    assert (code, out) == (1, "")
    assert "failed to load model" in err
    code, _, err = run("serve", models_dir, "nothing-like-it")
    assert code == 1
    assert "no model matches 'nothing-like-it'" in err
    assert "random.gguf" in err
    code, _, err = run("serve", models_dir / "random.gguf", "random")
    assert code == 2
    assert "is not a directory, so it can't contain random" in err
    code, _, err = run("serve")
    assert code == 2
    assert "pass a model" in err
    code, _, err = run("serve", models_dir / "random.gguf", "--ctx-size", "many")
    assert code == 2
    code, _, err = run("serve", models_dir / "random.gguf", "--backend", "embedded", "--", "--no-ui")
    assert code == 1
    assert "the embedded server does not support extra_args" in err


@pytest.mark.binary
def test_a_router(run: Run, tmp_path: Path, models_dir: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.gguf").symlink_to(models_dir / "random.gguf")
    with command("serve", "--models-dir", tmp_path, "--ctx-size", "512", "--parallel", "1") as process:
        assert process.stdout is not None
        here = ("--base-url", process.stdout.readline().strip())
        code, out, _ = run("check", *here)
        assert code == 1
        assert "FAILED   model       none is loaded; the server has one, two" in out
        code, out, _ = run("check", "--json", *here, LLAMACPP_MODEL="two")
        assert code == 0
        assert findings(out)["context"]["detail"].startswith("512 tokens")
        assert run("chat", *here, "--max-tokens", "2", "hi", LLAMACPP_MODEL="")[0] == 0, "the loaded one answers"


@pytest.mark.binary
def test_serve_with_arguments_for_the_binary(models_dir: Path, run: Run) -> None:
    with command("serve", models_dir / "random.gguf", "--no-warmup", "--", "--alias", "from-the-dashes") as process:
        assert process.stdout is not None
        base_url = process.stdout.readline().strip()
        assert "from-the-dashes" in run("check", "--base-url", base_url)[1]


@pytest.mark.binary
@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--tools", "read_file,write_file"], ["read_file", "write_file"]),
        (["--agent"], ["exec_shell_command", "a proxy to other hosts"]),
        (["--ui-mcp-proxy"], ["a proxy to other hosts"]),
    ],
    ids=lambda value: value[0],
)
def test_a_server_that_opens_its_files_is_warned_of(
    models_dir: Path, run: Run, flags: list[str], named: list[str]
) -> None:
    with LocalServer(models_dir / "random.gguf", backend="binary", extra_args=flags, warmup=False, threads=1) as server:
        code, out, _ = run("check", "--base-url", server.base_url)
    (line,) = [line for line in out.splitlines() if line.split()[1] == "exposure"]
    assert line.startswith("warning")
    assert all(name in line for name in named)
    assert "start the server without --tools" in out
    assert code == 0


def test_help_and_version(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    assert "show what a server supports" in out
    code, out, _ = run("serve", "--help")
    assert code == 0
    assert "--ctx-size N" in out
    assert "Context in tokens" in out
    assert run("--version")[0] == 0
    assert run()[0] == 2


def test_a_file_that_is_missing_is_named_without_a_number(run: Any) -> None:
    assert run("doctor", "missing.jsonl") == (1, "", "error: missing.jsonl: No such file or directory\n")


def test_serve_accepts_the_short_flags_of_the_binary() -> None:
    given = parser().parse_args(["serve", "m.gguf", "-c", "8192", "-np", "2", "-ngl", "99", "-t", "4", "-ub", "512"])
    numbers = given.ctx_size, given.parallel, given.n_gpu_layers, given.threads, given.ubatch_size
    assert numbers == (8192, 2, 99, 4, 512)
