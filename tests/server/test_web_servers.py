"""The programs of docs/web-servers.md, run by uvicorn: clients that leave free their slots, and the app lives on."""

import asyncio
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from llamacpp_server import ChatRequest, LocalServer
from llamacpp_server.transport import gate_for
from tests import behind_doors
from tests.waiting import LONG, wait_until

PAGE = Path(__file__).parents[2] / "docs" / "web-servers.md"
PATHS = ("/chat", "/agent", "/blocking")


@pytest.fixture
def program(slow_server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("LLAMACPP_BASE_URL", slow_server.base_url)
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S))
    names: dict[str, Any] = {"__name__": "program"}
    exec(compile(code, str(PAGE), "exec", dont_inherit=True), names)
    names["app"].get("/short")(lambda: names["llm"].bind(max_tokens=3).invoke("Hi").text)
    return names


@pytest.fixture
def url(program: dict[str, Any]) -> Iterator[str]:
    config = uvicorn.Config(program["app"], host="127.0.0.1", port=0, log_level="critical", lifespan="off", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_until(lambda: server.started, "a web server that listens")
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(30)
    assert not thread.is_alive(), "the app hangs"


async def leave(client: httpx.AsyncClient, url: str) -> None:
    async with client.stream("GET", url, params={"question": "Hi"}) as reply:
        async for _ in reply.aiter_bytes():
            return


async def crowd(url: str, paths: tuple[str, ...], number: int, at_once: int) -> None:
    """Clients that leave after the first bytes."""
    places = asyncio.Semaphore(at_once)

    async def one(client: httpx.AsyncClient, path: str) -> None:
        async with places:
            await leave(client, url + path)

    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        await asyncio.gather(*(one(client, paths[n % len(paths)]) for n in range(number)))


@pytest.mark.parametrize("path", PATHS)
def test_a_client_that_leaves_frees_the_slot(url: str, path: str, slow_server: LocalServer, idle: Callable) -> None:  # type: ignore[type-arg]
    asyncio.run(crowd(url, (path,), 1, 1))
    idle(slow_server)


def live_through(url: str, program: dict[str, Any], server: LocalServer, number: int) -> None:
    asyncio.run(crowd(url, PATHS, number, 12))
    with server.client() as client:
        wait_until(
            lambda: not gate_for(server.base_url).running() and not any(slot.is_processing for slot in client.slots()),
            "idle slots, and nothing that runs in the gate",
        )
    assert httpx.get(url + "/short", trust_env=False).text, "the app does not answer"
    assert len(program["llm"].bind(max_tokens=3).invoke("Hi").text) > 0


@pytest.mark.parametrize("number", [16, pytest.param(40, marks=pytest.mark.long)])
def test_an_app_lives_through_many_clients_that_leave(
    url: str, program: dict[str, Any], slow_server: LocalServer, number: int
) -> None:
    live_through(url, program, slow_server, number)


# The app in a process of its own, as people run it: the collector is quick there.
APP = """
import re, socket, sys
import uvicorn
names = {"__name__": "program"}
code = "\\n".join(re.findall(r"```python\\n(.*?)```", open(sys.argv[1], encoding="utf-8").read(), re.S))
exec(compile(code, sys.argv[1], "exec", dont_inherit=True), names)
names["app"].get("/short")(lambda: names["llm"].bind(max_tokens=3).invoke("Hi").text)
here = socket.create_server(("127.0.0.1", 0))
print(here.getsockname()[1], flush=True)
uvicorn.run(names["app"], fd=here.fileno(), log_level="critical", lifespan="off", ws="none")
"""


@pytest.fixture
def own_app(slow_server: LocalServer) -> Iterator[str]:
    command = [sys.executable, "-W", "ignore", "-c", APP, str(PAGE)]
    env = {**os.environ, "LLAMACPP_BASE_URL": slow_server.base_url}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as app:
        assert app.stdout is not None
        yield f"http://127.0.0.1:{int(app.stdout.readline())}"
        assert app.poll() is None, "the app died"
        app.terminate()


def seconds_until_free(server: LocalServer) -> float:
    left = time.monotonic()
    with server.client() as client:
        wait_until(lambda: not any(slot.is_processing for slot in client.slots()), "idle slots")
    return time.monotonic() - left


@pytest.mark.long
@pytest.mark.alone
@pytest.mark.timeout(480)
def test_slots_are_free_half_a_second_after_the_last_of_500_clients_left(
    own_app: str, slow_server: LocalServer
) -> None:
    took = []
    for _ in range(5):
        asyncio.run(crowd(own_app, PATHS, 100, 12))
        took.append(seconds_until_free(slow_server))
        assert httpx.get(own_app + "/short", trust_env=False, timeout=30).text, "the app does not answer"
    # The middle one, and as many times longer as other programs take of each core.
    busy = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    assert sorted(took)[2] < 0.5 * busy, took


def test_a_stream_that_is_garbage_frees_its_slot_though_nobody_waits(
    slow_server: LocalServer, idle: Callable[[LocalServer], None]
) -> None:
    with slow_server.client() as client:
        stream = client.stream_chat(ChatRequest(messages=[{"role": "user", "content": "Hi"}]))
        next(stream)
        lost: list[object] = [stream]
        lost.append(lost)
        del lost, stream
        idle(slow_server)


def test_a_slow_reader_costs_few_collections(slow_server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    collected = threading.Semaphore(0)
    number = 0

    def collect() -> int:
        nonlocal number
        number += 1
        collected.release()
        return 0

    monkeypatch.setattr(behind_doors.COLLECT_GARBAGE, collect)
    with slow_server.client() as client:
        stream = client.stream_chat(ChatRequest(messages=[{"role": "user", "content": "Hi"}]))
        for _ in range(8):
            next(stream)
            time.sleep(0.2)
        assert collected.acquire(timeout=LONG)
    assert number <= 3
