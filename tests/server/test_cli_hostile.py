"""The command line where servers, files, terminals and arguments are not as they should be."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.server.test_cli import COMMAND, DOWN, Run, run

__all__ = ["run"]  # a fixture

SECRET = "sk-verysecret-4711"
STEERS = "\x1b]0;pwned\x07\x1b[2J\u202e\nnext"


@contextlib.contextmanager
def answering(bodies: Mapping[str, Any], status: int = 200) -> Iterator[str]:
    """A server that answers each path with JSON, and every other one with what it was sent."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            known = self.path in bodies
            body = bodies[self.path] if known else {"error": {"message": f"you sent {self.path} {self.headers}"}}
            data = json.dumps(body).encode()
            self.send_response(status if known else 400)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = answer

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def shell(line: str) -> subprocess.CompletedProcess[str]:
    """A command line of a shell in which "$@" is the command."""
    return subprocess.run(
        ["/bin/sh", "-c", line, "sh", *COMMAND], check=False, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "--api-kye", SECRET],
        ["chat", "hi", f"--api_key={SECRET}"],
        ["models", SECRET],
        ["serve", "model.gguf", "--api-keey", SECRET],
        ["ps", "--key", SECRET],
    ],
    ids=" ".join,
)
def test_a_command_line_that_is_refused_shows_no_value(run: Run, arguments: list[str]) -> None:
    code, out, err = run(*arguments)
    assert code == 2
    assert SECRET not in out + err


def test_a_misspelled_option_is_named_with_the_one_that_was_meant(run: Run) -> None:
    assert "unrecognized arguments: --api-kye did you mean '--api-key'?" in run("check", "--api-kye", SECRET)[2]
    assert "too many arguments" in run("models", "m")[2]


@pytest.mark.parametrize(
    "arguments",
    [
        ["top", "--interval", "inf"],
        ["top", "--interval", "x"],
        ["serve", "m", "--chat-template-kwargs", "[" * 100_000],
        ["serve", "m", "--chat-template-kwargs", "5"],
    ],
    ids=["an endless interval", "an interval that is no number", "deep JSON", "JSON that is no object"],
)
def test_a_value_that_an_option_can_not_have_is_a_wrong_command_line(run: Run, arguments: list[str]) -> None:
    code, _, err = run(*arguments)
    assert code == 2
    assert f"error: argument {arguments[-2]}: must be" in err


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "5", '{"temperatures": 5}', '{"offsets": {"a": "b"}}', "\xff"], ids=str
)
def test_a_file_that_does_not_hold_a_calibration_is_named(run: Run, tmp_path: Path, text: str) -> None:
    file = tmp_path / "fit.json"
    file.write_bytes(text.encode("latin-1"))
    code, _, err = run("decide", "x", "--options", "a,b", "--calibration", file, "--base-url", DOWN)
    assert code == 1
    assert err.startswith(f"error: {file}: ")
    assert err.count("\n") == 1


def test_the_name_of_a_missing_file_can_not_steer_the_terminal(run: Run, tmp_path: Path) -> None:
    code, _, err = run("batch", tmp_path / STEERS, tmp_path / "out", "--base-url", DOWN)
    assert code == 1
    assert err.count("\n") == 1
    assert "\x1b" not in err


@pytest.mark.parametrize("command", [["models"], ["top", "--once", "--interval", "0.01"]], ids=" ".join)
def test_names_of_models_can_not_steer_the_terminal(run: Run, command: list[str]) -> None:
    card = {"id": STEERS, "status": {"value": STEERS}}
    with answering({"/v1/models": {"data": [card]}, "/props": {"model_alias": STEERS, "build_info": STEERS}}) as host:
        code, out, err = run(*command, "--base-url", f"http://{host}")
    assert code == 0
    assert "pwned" in out
    assert not {"\x1b", "\x07", "\u202e"} & set(out + err)


@pytest.mark.parametrize("command", [["check"], ["chat", "hi"], ["top", "--once"], ["models"]], ids=" ".join)
def test_a_name_of_megabytes_is_neither_shown_nor_sent(run: Run, command: list[str]) -> None:
    huge = "x" * 2_000_000
    bodies = {"/health": {}, "/v1/models": {"data": [{"id": huge}]}, "/props": {"model_alias": huge}}
    with answering(bodies) as host:
        code, out, err = run(*command, "--base-url", f"http://{host}")
    assert code == 1
    assert len(out + err) < 5000


@pytest.mark.parametrize(
    "command",
    [
        ["check"],
        ["check", "--json"],
        ["chat", "hi"],
        ["decide", "x", "--options", "a,b"],
        ["models"],
        ["load", "m"],
        ["top", "--once"],
        ["top", "--json"],
    ],
    ids=" ".join,
)
def test_a_server_that_repeats_what_it_was_sent_makes_no_command_show_a_secret(run: Run, command: list[str]) -> None:
    password, key = "p4ssword-of-the-gateway", SECRET
    with answering({}) as host:
        address = f"http://user:{password}@{host}"
        code, out, err = run(*command, "--base-url", address, LLAMACPP_API_KEY=key)
    assert code == 1
    assert "X-Api-Key: **********" in out + err
    assert not [secret for secret in (password, key, "dXNlcjpw") if secret in out + err]


def test_streams_that_the_shell_closed_are_empty_ones() -> None:
    ended = shell('"$@" chat <&-')
    assert (ended.returncode, ended.stderr) == (2, "error: no prompt: pass it as an argument or on stdin\n")
    ended = shell('"$@" decide --options a,b <&-')
    assert (ended.returncode, ended.stderr) == (2, "error: no text: pass it as an argument or on stdin\n")
    ended = shell('"$@" ps >&- 2>&-')
    assert ended.returncode == 0
    ended = shell('"$@" ps >/dev/full')
    assert "Traceback" not in ended.stderr


def test_an_interrupt_while_the_command_is_imported_leaves_no_traceback() -> None:
    program = (
        "import sys\n"
        "class Interrupted:\n"
        "    def find_spec(name, *rest):\n"
        "        if name == 'httpx': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupted)\n"
        "from llamacpp_server.cli import main\n"
        "sys.exit(main(['models']))"
    )
    ended = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (130, "")
