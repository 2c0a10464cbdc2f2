"""CPU time for each chunk when many streams run concurrently in one event loop, with the same replayed bytes; includes
connections, requests and setup.

`LangChain around the raw read` is what LangChain's `astream` costs around a model that makes a chunk of each event.
What was imported is frozen (`gc.freeze()`), as docs/web-servers.md advises; `ChatLlamaServer, not frozen` shows why:
LangChain keeps the chunks of running streams, and with many of them Python's garbage collector goes through everything
that was imported, again and again.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Any

from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk

from .clients import Client, chat_clients
from .floors import LangChainFloor
from .replay import replaying, text_events

TITLE = "CPU for each chunk of 1 to 256 streams at once"
CHUNKS = 60


def run(quick: bool = False) -> list[dict[str, Any]]:
    """Rows of the table: a client, and microseconds for each number of streams."""
    sizes = (1, 4) if quick else (1, 4, 16, 64, 256)
    gc.collect()
    gc.freeze()
    try:
        with ExitStack() as servers:
            return asyncio.run(_measured(_clients(servers), sizes, 1 if quick else 256))
    finally:
        gc.unfreeze()


def _clients(servers: ExitStack) -> list[Client]:
    """Each client with a server of its own, which no connections of the others burden."""

    def clients() -> list[Client]:
        found = chat_clients(servers.enter_context(replaying(text_events(CHUNKS))))
        found.insert(1, _langchain_alone(found[0]))
        ours = next(place for place, client in enumerate(found) if client.name == "ChatLlamaServer")
        found.insert(ours + 1, found[ours]._replace(name="ChatLlamaServer, not frozen"))
        return found

    first = clients()
    return [first[0], *(clients()[place] for place in range(1, len(first)))]


async def _measured(clients: list[Client], sizes: tuple[int, ...], streams: int) -> list[dict[str, Any]]:
    best = {client.name: dict.fromkeys(sizes, float("inf")) for client in clients}
    for client in clients:
        await _drain(client)
    for size in sizes:
        for _ in range(min(max(streams // size, 6), 12)):
            for client in clients:
                micros = await _used(client, size) / (size * CHUNKS) * 1e6
                best[client.name][size] = min(best[client.name][size], micros)
    return [
        {"client": name, **{f"{size} at once": round(micros, 1) for size, micros in by_size.items()}}
        for name, by_size in best.items()
    ]


async def _used(client: Client, size: int) -> float:
    """Seconds of CPU for so many streams at once."""
    gc.collect()
    if client.name.endswith("not frozen"):
        gc.unfreeze()
    started = time.process_time()
    await asyncio.gather(*(_drain(client) for _ in range(size)))
    used = time.process_time() - started
    gc.freeze()
    return used


def _langchain_alone(raw: Client) -> Client:
    class Floor(LangChainFloor):
        async def _astream(self, *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
            async for event in raw.astream():
                for choice in event["choices"]:
                    text = choice["delta"].get("content") or ""
                    yield ChatGenerationChunk(message=AIMessageChunk(content=text))

    model = Floor(kind="text", count=CHUNKS)
    return Client("LangChain around the raw read", "", raw.stream, lambda: model.astream("Hello"))


async def _drain(client: Client) -> None:
    async for _ in client.astream():
        pass


def draw(rows: list[dict[str, Any]], figure: Any) -> None:
    """A line for each client."""
    ax = figure.subplots()
    for row in rows:
        sizes = [name for name in row if name != "client"]
        style = {"color": "grey", "linestyle": ":"} if "raw read" in row["client"] else {}
        ax.plot(
            [int(size.split()[0]) for size in sizes], [row[s] for s in sizes], marker="o", label=row["client"], **style
        )
    ax.set_xscale("log", base=2)
    ax.set_xticks([1, 4, 16, 64, 256], ["1", "4", "16", "64", "256"])
    ax.set_ylim(bottom=0)
    ax.set_xlabel("streams at once")
    ax.set_ylabel("µs of CPU for each chunk")
    ax.legend(fontsize="small", bbox_to_anchor=(1.02, 1), loc="upper left")
