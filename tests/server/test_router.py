"""A real router with room for one model: listed, loaded, unloaded, watched, and never loaded by looking."""

import asyncio
import itertools
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llamacpp_server import (
    ChatRequest,
    LlamaServerClient,
    LocalServer,
    ModelCard,
    ModelEvent,
    NotFoundError,
    NotSupportedError,
    Progress,
    ServerFaultError,
)
from tests.unit.events import event
from tests.waiting import LONG, wait_until
from tests.wire.scripted_server import MISSING, ScriptedServer, reply, stream


@pytest.fixture(scope="module")
def router(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    directory = tmp_path_factory.mktemp("router")
    for name in ("one", "two"):
        shutil.copy(models_dir / "random.gguf", directory / f"{name}.gguf")
    shutil.copy(models_dir / "broken.gguf", directory / "broken.gguf")
    with LocalServer(models_dir=directory, models_max=1, ctx_size=512, parallel=1, threads=1) as server:
        yield server


def statuses(client: Any) -> dict[str, str]:
    return {card.id: card.status for card in client.models()}


@pytest.mark.binary
def test_loading_and_unloading_are_reported(connect: Any, router: LocalServer) -> None:
    reports: list[Progress] = []
    client = connect(router.base_url, on_progress=reports.append)
    for name in ("one", "two"):
        if statuses(client)[name] != "unloaded":
            client.unload_model(name)
    assert client.running_models() == []
    card = client.load_model("one")
    assert (card.id, card.status) == ("one", "loaded")
    assert [(step.stage, step.unit, step.model) for step in reports] == [("loading", "part", "one")] * len(reports)
    assert [step.fraction for step in reports][-1] == 1.0
    assert [running.id for running in client.running_models()] == ["one"]
    steps = len(reports)
    assert client.load_model("one").status == "loaded"  # nothing to do, nothing to tell
    assert len(reports) == steps
    client.unload_model("one")
    assert client.running_models() == []


@pytest.mark.binary
def test_a_load_that_fails_is_raised_at_once(connect: Any, router: LocalServer) -> None:
    for client in (connect(router.base_url), connect(router.base_url, on_progress=lambda step: None)):
        began = time.monotonic()
        with pytest.raises(ServerFaultError, match="exit code 1"):
            client.load_model("broken", timeout=60)
        assert time.monotonic() - began < 50
    with pytest.raises(NotFoundError):
        client.load_model("nobody")


@pytest.mark.binary
def test_events_are_watched(router: LocalServer) -> None:
    with router.client() as client:
        events: list[ModelEvent] = []
        watched: Any = client.watch_models()

        def watch() -> None:
            for seen in watched:
                events.append(seen)
                if seen.model == "two" and seen.status == "loaded":
                    break

        def moved() -> bool:
            """Something happens again and again until it is seen, since nothing says when the server listens."""
            client.unload_model("one")
            client.load_model("one")
            return bool(events)

        thread = threading.Thread(target=watch)
        thread.start()
        client.load_model("one")
        wait_until(moved, "a first event")
        client.load_model("two")
        thread.join(LONG)
        assert not thread.is_alive()
    seen = [(event.model, event.status) for event in events]
    assert [pair for pair, _ in itertools.groupby(pair for pair in seen if pair[0] == "two")] == [
        ("two", "loading"),
        ("two", "loaded"),
    ]
    assert ("one", "unloaded") in seen  # there was room for one
    assert next(event for event in events if event.progress).progress.stage == "loading"  # type: ignore[union-attr]


@pytest.mark.binary
async def test_events_are_watched_in_an_event_loop(router: LocalServer) -> None:
    async with router.async_client() as client:
        if any(card.id == "one" for card in await client.running_models()):
            await client.unload_model("one")

        async def first() -> ModelEvent:
            async for seen in client.watch_models():
                if seen.model == "one" and seen.status == "loaded":
                    return seen
            raise AssertionError

        watching, deadline = asyncio.create_task(first()), time.monotonic() + LONG
        while not watching.done():  # a load before it listens is not seen
            assert time.monotonic() < deadline
            await client.load_model("one")
            await asyncio.wait([watching], timeout=0.3)
            if not watching.done():
                await client.unload_model("one")
        assert watching.result().raw["data"]["info"]["id"] == "one"


@pytest.mark.binary
def test_looking_loads_nothing(connect: Any, router: LocalServer) -> None:
    client = connect(router.base_url)
    client.load_model("one")
    info = client.info("two")
    assert (info.model, info.status, info.is_router, info.n_ctx) == ("two", "unloaded", True, None)
    assert client.props().is_router
    loaded = client.info()
    assert (loaded.model, loaded.n_ctx, loaded.total_slots, loaded.status) == ("one", 512, 1, "loaded")
    client.health(), client.models(), client.running_models()
    time.sleep(0.3)
    assert (statuses(client)["one"], statuses(client)["two"]) == ("loaded", "unloaded")
    reply = client.chat(ChatRequest(messages=[{"role": "user", "content": "x"}], model="two", params={"max_tokens": 1}))
    assert reply.start.model == "two"
    assert (statuses(client)["one"], statuses(client)["two"]) == ("unloaded", "loaded")
    assert client.fits(ChatRequest(messages=[{"role": "user", "content": "x"}], model="two")).available == 512


def test_a_server_with_one_model(connect: Any, chat_server: LocalServer) -> None:
    client = connect(chat_server.base_url)
    (card,) = client.running_models()
    for act in (client.load_model, client.unload_model):
        with pytest.raises(NotSupportedError, match="router mode"):
            act(card.id)
    with pytest.raises(NotFoundError):
        client.load_model("nobody")


# -- llama-swap, by its own answers

LISTED = reply({"object": "list", "data": [{"id": "big/model"}, {"id": "small"}]})


def paths(server: ScriptedServer) -> list[str]:
    return [request.path for request in server.requests]


def test_llama_swap_lists_what_runs(connect: Any) -> None:
    running = reply({"running": [{"model": "small", "state": "ready"}, {"model": "big/model", "state": "starting"}]})
    with ScriptedServer(LISTED, running) as server:
        cards = connect(server.url).running_models()
        assert [(card.id, card.status) for card in cards] == [("small", "loaded"), ("big/model", "loading")]
        assert paths(server) == ["/v1/models", "/running"]


def test_llama_swap_loads_and_unloads(connect: Any) -> None:
    with ScriptedServer(MISSING, LISTED, reply({"status": "ok"}), MISSING, reply(b"OK")) as server:
        client = connect(server.url)
        assert client.load_model("big/model") == ModelCard("big/model", status="loaded")
        client.unload_model("big/model")
        assert paths(server) == [
            "/models/load", "/v1/models", "/upstream/big%2Fmodel/health",
            "/models/unload", "/api/models/unload/big%2Fmodel",
        ]  # fmt: skip


def test_llama_swap_reports_what_happens(connect: Any) -> None:
    logs = event({"type": "logData", "data": "..."})
    models = event(
        {"type": "modelStatus", "data": '[{"id": "small", "state": "starting"}, {"id": "big", "state": "ready"}]'}
    )
    with ScriptedServer(MISSING, stream(logs, models)) as server:
        client = connect(server.url)
        watched = client.client.watch_models()
        seen = [client.next(watched) for _ in range(2)]
        assert [(one.model, one.status) for one in seen] == [("small", "loading"), ("big", "loaded")]
        client.leave(watched)
        assert paths(server) == ["/models/sse", "/api/events"]


def test_a_download_is_watched() -> None:
    """The test's machine has no network, so these are the events as the server's source writes them (b11434)."""

    def step(done: int) -> bytes:
        files = {"https://a/model": {"done": done, "total": 900}, "https://a/mmproj": {"done": 0, "total": 100}}
        return event({"model": "a/b:Q4", "event": "download_progress", "data": {"progress": files}})

    finished = event({"model": "a/b:Q4", "event": "download_finished"})
    with ScriptedServer(reply({"success": True}), stream(step(0), step(450), finished)) as server:
        with LlamaServerClient(server.url) as client:
            client.download_model("a/b:Q4")
            first, second, last = client.watch_models()
        assert server.requests[0].json == {"model": "a/b:Q4"}
    assert first.progress == Progress("downloading", 0, 1000, "bytes", model="a/b:Q4")
    assert second.progress is not None
    assert second.progress.fraction == 0.45
    assert (last.event, last.progress, last.status) == ("download_finished", None, None)
