"""What a manager of local servers does besides: downloads, reuse, restarts, and an estimate of memory."""

import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from llamacpp_server import ChatRequest, LlamaServerError, LocalServer, LocalServerError, Progress
from llamacpp_server.cli import main
from llamacpp_server.local import estimate_memory, running_servers
from tests.models import Script, build_scripted

MODELS = Path(__file__).parents[2] / "models"
HELLO = ChatRequest(messages=[{"role": "user", "content": "Hi"}], params={"max_tokens": 3})
SMALL: dict[str, Any] = {"threads": 1, "threads_http": 4, "parallel": 1, "ctx_size": 512, "warmup": False}


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as llama-server asks for (b11434), with one repository."""

    content = (MODELS / "tiny-chat.gguf").read_bytes()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        if not self.path.removeprefix("/api/models").startswith("/org/tiny-GGUF/"):
            return self.send(404, b"")
        if self.path.endswith("/refs"):
            branch = {"name": "main", "ref": "refs/heads/main", "targetCommit": "a" * 40}
            return self.send(200, json.dumps({"branches": [branch]}).encode())
        if "/tree/" in self.path:
            size, digest = len(self.content), sha256(self.content).hexdigest()
            file = {"type": "file", "path": "tiny-Q8_0.gguf", "size": size, "oid": "b" * 40,
                    "lfs": {"oid": digest, "size": size}}  # fmt: skip
            return self.send(200, json.dumps([file]).encode())
        return self.send(200, self.content)

    def send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{sha256(self.content).hexdigest()}"')
        self.end_headers()
        for start in range(0, len(body) if self.command == "GET" else 0, 500_000):
            self.wfile.write(body[start : start + 500_000])
            time.sleep(0.05)  # slow enough for a download to be seen


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setenv("LLAMA_CACHE", str(tmp_path / "cache"))
    yield
    server.shutdown()
    server.server_close()


@pytest.mark.binary
def test_a_model_is_downloaded_by_its_name_with_progress(hub: None) -> None:
    seen: list[Progress] = []
    with LocalServer("org/tiny-GGUF:Q8_0", on_progress=seen.append, **SMALL) as server:
        assert server.client().chat(HELLO).usage
        assert server.client().model_name() == "org/tiny-GGUF"
    received = [progress.done for progress in seen if progress.stage == "downloading"]
    assert received == sorted(received)
    assert 0 < received[0] <= len(Hub.content)


@pytest.mark.binary
def test_a_downloaded_model_starts_without_the_network(hub: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with LocalServer("org/tiny-GGUF:Q8_0", **SMALL):
        pass
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with LocalServer("org/tiny-GGUF:Q8_0", offline=True, **SMALL) as server:
        assert server.client().health().ready


@pytest.mark.binary
def test_a_name_that_the_hub_does_not_know_is_a_clear_error(hub: None) -> None:
    with pytest.raises(LocalServerError, match=r"could not download org/other from Hugging Face .*404") as caught:
        LocalServer("org/other", **SMALL).start()
    assert "check the spelling" in str(caught.value)


@pytest.mark.binary
def test_a_download_without_a_network_is_a_clear_error(hub: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(LocalServerError, match="could not download org/tiny-GGUF") as caught:
        LocalServer("org/tiny-GGUF", **SMALL).start()
    assert "check the network" in str(caught.value)


# -- memory


@pytest.mark.binary
def test_the_estimate_is_what_the_server_then_allocates(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    options: dict[str, Any] = {"ctx_size": 8192, "cache_type_k": "q8_0", "verbosity": 5, "threads": 1, "parallel": 2}
    options |= {"backend": "binary", "log_file": tmp_path / "log"}
    caplog.set_level(logging.INFO, "llamacpp_server")
    with LocalServer(MODELS / "tiny-chat.gguf", **options) as server:
        estimate = server.estimate_memory()
    assert estimate is not None
    assert estimate.weights == (MODELS / "tiny-chat.gguf").stat().st_size
    log = (tmp_path / "log").read_text()
    said = re.findall(r"llama_kv_cache: size = +([\d.]+) MiB", log)
    assert said
    assert estimate.kv_cache / 2**20 == pytest.approx(float(said[-1]), abs=0.01)
    assert "needs about" in caplog.text


def test_an_encoder_needs_no_cache_and_a_broken_file_is_named(models_dir: Path) -> None:
    assert estimate_memory(MODELS / "tiny-encoder.gguf").kv_cache == 0
    with pytest.raises(LocalServerError, match=r"can't read the header of .*broken.gguf"):
        estimate_memory(models_dir / "broken.gguf")


# -- reuse


@pytest.fixture
def own_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


def test_a_server_with_the_same_model_and_options_is_reused(own_list: None, models_dir: Path) -> None:
    model = models_dir / "random.gguf"
    with LocalServer(model, reuse=True, **SMALL) as first:
        with LocalServer(model, reuse=True, **SMALL) as second:
            assert second.is_reused
            assert second.base_url == first.base_url
            assert second.client().health().ready
        assert first.is_running, "leaving a reused server does not stop it"
        with LocalServer(model, reuse=True, **{**SMALL, "ctx_size": 1024}) as other:
            assert not other.is_reused
            assert len(running_servers()) == 2
    assert running_servers() == []
    with LocalServer(model, reuse=True, **SMALL) as third:
        assert not third.is_reused


def test_a_server_is_not_reused_without_its_key(own_list: None, models_dir: Path) -> None:
    model = models_dir / "random.gguf"
    with LocalServer(model, reuse=True, api_key="one", **SMALL) as first:
        with LocalServer(model, reuse=True, api_key="two", **SMALL) as second:
            assert second.base_url != first.base_url
            assert not second.is_reused
        with LocalServer(model, reuse=True, api_key="one", **SMALL) as third:
            assert third.is_reused
        assert "one" not in "".join(path.read_text() for path in Path(os.environ["XDG_RUNTIME_DIR"]).rglob("*.json"))


def test_a_list_that_others_can_write_is_refused(own_list: None, models_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "llamacpp-server").mkdir()
    (tmp_path / "llamacpp-server").chmod(0o777)
    with pytest.raises(OSError, match="not be writable by others"):
        LocalServer(models_dir / "random.gguf", reuse=True, **SMALL).start()


# -- restarts


def test_a_crashed_server_comes_back_and_later_calls_wait_for_it(tmp_path: Path) -> None:
    model = build_scripted(tmp_path / "slow.gguf", Script(says=["word "], endless=True))
    with LocalServer(model, restart=True, **{**SMALL, "ctx_size": 8192}) as server:
        address, client = server.base_url, server.client()
        stream = client.stream_chat(ChatRequest(messages=HELLO.messages))
        next(stream)
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        with pytest.raises(LlamaServerError):
            list(stream)
        assert client.chat(HELLO).content.startswith("word")
        assert server.base_url == address
        assert len(server.restarts) == 1
    assert not server.is_running


def test_a_server_that_is_stopped_is_not_restarted(models_dir: Path) -> None:
    server = LocalServer(models_dir / "random.gguf", restart=True, **SMALL).start()
    server.stop()
    for thread in threading.enumerate():
        if thread.name == "llamacpp-server restart":
            thread.join(5)
            assert not thread.is_alive()
    assert not server.is_running
    assert server.restarts == []


# -- the command line


def command(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "llamacpp_server.cli", *arguments],
        capture_output=True, text=True, timeout=60, check=False, **options,
    )  # fmt: skip


def test_serve_can_estimate_without_starting(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", str(MODELS / "tiny-chat.gguf"), "--ctx-size", "8192", "--estimate"]) == 0
    assert "KV cache 12.0 MiB for 8192 tokens" in capsys.readouterr().out


def test_ps_and_logs_show_what_runs(own_list: None, models_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with LocalServer(models_dir / "random.gguf", reuse=True, **SMALL) as server:
        listed = command("ps")
        assert server.base_url in listed.stdout
        assert "random.gguf" in listed.stdout
        assert main(["logs", "random"]) == 0
        assert "listening on" in capsys.readouterr().out
    assert main(["ps"]) == 0
    assert "no local server started by" in capsys.readouterr().err
    assert main(["logs", "random"]) == 1


def test_models_lists_what_the_server_has(serve: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--base-url", serve("random.gguf").base_url]) == 0
    assert capsys.readouterr().out.split()[0] == "random"


@pytest.mark.binary
def test_load_and_unload_a_model_of_a_router(family_router: LocalServer) -> None:
    where = ("--base-url", family_router.base_url)
    assert command("load", "two", *where).returncode == 0
    assert re.search(r"^two +loaded", command("models", *where).stdout, re.MULTILINE)
    assert command("unload", "two", *where).returncode == 0
    missing = command("load", "nope", *where)
    assert (missing.returncode, "nope" in missing.stderr) == (1, True)
