"""`llamacpp-server top`: what a real server does, without taking a slot or waking a model."""

import io
import json
import os
import pty
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import Any

import pytest
from rich.console import Console

from llamacpp_server import ChatRequest, LlamaServerClient, LocalServer
from llamacpp_server._monitor import screen, take_snapshot
from llamacpp_server.cli import main
from tests.models import Script, build_scripted

ENDLESS = ChatRequest(messages=[{"role": "user", "content": "Hello"}])


@pytest.fixture(scope="module")
def server(serve: Any, tmp_path_factory: pytest.TempPathFactory) -> LocalServer:
    script = {"Hello": Script(says=["Well, ", "so "], endless=True), "user": "Yes."}
    path = tmp_path_factory.mktemp("top") / "scripted.gguf"
    build_scripted(path, script, context_length=65536)
    found: LocalServer = serve(path, parallel=2, ctx_size=131072, context_shift=True, metrics=True)
    return found


def text_of(*snapshots: Any, width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(screen(*snapshots))
    found: str = console.file.getvalue()  # type: ignore[attr-defined]
    return found


def test_a_running_request_is_seen_in_its_slot(server: LocalServer, idle: Any) -> None:
    with server.client() as client:
        stream = client.stream_chat(ENDLESS)
        for _ in range(5):
            next(stream)
        before = take_snapshot(client)
        time.sleep(0.2)
        now = take_snapshot(client)
        stream.close()  # type: ignore[attr-defined]
    (model,) = now.models
    assert model.slots is not None
    (busy,) = [slot for slot in model.slots if slot.busy]
    assert busy.prompt > 5
    assert busy.written > 0
    text = text_of(now, before)
    assert "1 running, 0 waiting" in text
    assert "tokens/s generated" in text
    assert f"of {busy.n_ctx}" in text
    idle(server)


def test_one_table_is_printed_with_once(server: LocalServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top", "--once", "--interval", "0.05", "--base-url", server.base_url]) == 0
    out = capsys.readouterr().out
    assert out.count("idle") == 2
    assert server.base_url in out


def test_a_script_gets_json_with_the_rates(server: LocalServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top", "--json", "--interval", "0.05", "--base-url", server.base_url]) == 0
    (model,) = json.loads(capsys.readouterr().out)["models"]
    assert model["tokens_per_second"]["written"] == 0.0
    assert len(model["slots"]) == 2


TOP = [sys.executable, "-m", "llamacpp_server.cli", "top", "--interval", "0.05", "--base-url"]


def test_tables_follow_each_other_in_a_pipe_until_it_is_closed(server: LocalServer) -> None:
    with subprocess.Popen([*TOP, server.base_url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        tables = 0
        for line in run.stdout:
            tables += server.base_url in line
            if tables == 3:
                break
        run.stdout.close()
        assert run.stderr is not None
        assert not run.stderr.read()
    assert tables == 3


def test_a_terminal_shows_one_table_that_changes(server: LocalServer) -> None:
    ours, its = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "30"}
    with subprocess.Popen([*TOP, server.base_url], stdout=its, stderr=subprocess.PIPE, env=environment) as run:
        os.close(its)
        shown = b""
        while shown.count(b"idle") < 4:
            shown += os.read(ours, 65536)
        run.send_signal(signal.SIGINT)
        with suppress(OSError):  # its end is closed
            while piece := os.read(ours, 65536):
                shown += piece
    os.close(ours)
    assert b"\x1b[?1049h" in shown, "it uses the terminal's other screen"
    assert b"\x1b[?1049l" in shown, "it gives the screen back"


def test_what_is_switched_off_is_named_with_its_flag(serve: Any) -> None:
    with serve("random.gguf", parallel=1, ctx_size=512, slots=False).client() as client:
        now = take_snapshot(client)
    assert any("--no-slots" in note for note in now.notes)
    assert any("--metrics" in note for note in now.notes)
    assert "--metrics" in text_of(now)


def test_a_server_that_is_gone_is_shown_and_fails_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top", "--once", "--base-url", "http://127.0.0.1:9"]) == 1
    assert "127.0.0.1:9" in capsys.readouterr().out


def test_names_of_a_server_are_escaped() -> None:
    with LlamaServerClient("http://127.0.0.1:9") as client:
        now = take_snapshot(client)
    evil = type(now)(0.0, "http://[bold]x", "b1\x1b[31m")
    text = text_of(evil)
    assert "\x1b[31m" not in text
    assert "[bold]x" in text


def test_without_rich_the_extra_is_named(server: LocalServer) -> None:
    code = (
        "import sys; sys.modules['rich'] = sys.modules['rich.console'] = None\nfrom llamacpp_server.cli import main\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", f"{code}sys.exit(main(['top', '--once', '--base-url', {server.base_url!r}]))"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert "pip install 'llamacpp-server[top]'" in run.stderr


@pytest.mark.binary
def test_the_models_of_a_router_have_their_slots(family_router: LocalServer) -> None:
    with family_router.client() as client:
        client.load_model("one")
        now = take_snapshot(client)
    status = {model.name: model.status for model in now.models}
    assert status["one"] == "loaded"
    one = next(model for model in now.models if model.name == "one")
    assert one.slots
    assert "one" in text_of(now)
