"""The programs of docs/web-servers.md, run by uvicorn: clients that leave free their slots, and the app lives on."""

import asyncio
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from llamacpp_server import LocalServer
from llamacpp_server.transport import gate_for

PAGE = Path(__file__).parents[2] / "docs" / "web-servers.md"
# Starlette does not close the iterators of blocking endpoints, so a crowd of those has to wait for the collector.
AWAITED = ("/chat", "/agent")


@pytest.fixture
def program(slow_server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("LLAMACPP_BASE_URL", slow_server.base_url)
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S))
    names: dict[str, Any] = {"__name__": "program"}
    exec(compile(code, str(PAGE), "exec", dont_inherit=True), names)
    return names


@pytest.fixture
def url(program: dict[str, Any]) -> Iterator[str]:
    config = uvicorn.Config(program["app"], host="127.0.0.1", port=0, log_level="critical", lifespan="off", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
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


@pytest.mark.parametrize("path", [*AWAITED, "/blocking"])
def test_a_client_that_leaves_frees_the_slot(url: str, path: str, slow_server: LocalServer, idle: Callable) -> None:  # type: ignore[type-arg]
    asyncio.run(crowd(url, (path,), 1, 1))
    idle(slow_server)


def test_an_app_lives_through_many_clients_that_leave(
    url: str, program: dict[str, Any], slow_server: LocalServer, idle: Callable[[LocalServer], None]
) -> None:
    asyncio.run(crowd(url, AWAITED, 36, 6))
    idle(slow_server)
    assert not gate_for(slow_server.base_url).running()
    assert len(program["llm"].bind(max_tokens=3).invoke("Hi").text) > 0
