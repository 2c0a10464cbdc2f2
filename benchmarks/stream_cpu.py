"""CPU time that a client spends on each chunk of a stream, with the same replayed bytes, compared with its floor.

The floor of an adapter is the unavoidable work: reading and parsing the bytes, and the framework's own processing of
ready-made chunks, one for each piece of text or of a tool call's arguments.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from .clients import RAW, chat_clients
from .floors import floors
from .replay import replaying, text_events, tool_events
from .timing import least

TITLE = "CPU for each streamed chunk"


def run(quick: bool = False) -> list[dict[str, Any]]:
    """Rows of the table: kind of chunk, client, microseconds, ratio to its floor."""
    count, rounds = (50, 1) if quick else (1500, 12)
    rows = []
    for kind, events in (("text", text_events(count)), ("tool call", tool_events(count))):
        with replaying(events) as base_url:
            rows += _rows(kind, base_url, count, rounds)
    return rows


def _rows(kind: str, base_url: str, count: int, rounds: int) -> list[dict[str, Any]]:
    clients = chat_clients(base_url)
    machinery = floors(kind, count)
    ways: dict[str, Callable[[], Any]] = {client.name: partial(_drain, client.stream) for client in clients}
    ways |= {framework: partial(_drain, stream) for framework, stream in machinery.items()}
    cost = least(ways, rounds, count)
    rows: list[dict[str, Any]] = []
    for client in clients:
        alone = cost.get(client.framework, 0.0)
        if client.framework and not any(row["client"] == f"{client.framework} alone" for row in rows):
            rows.append(_row(kind, f"{client.framework} alone", alone, None))
        rows.append(_row(kind, client.name, cost[client.name], cost[RAW] + alone))
    return rows


def _row(kind: str, client: str, micros: float, floor: float | None) -> dict[str, Any]:
    ratio = None if floor is None else round(micros / floor, 2)
    return {"chunk": kind, "client": client, "µs": round(micros, 1), "times its floor": ratio}


def _drain(stream: Callable[[], Any]) -> None:
    deque(stream(), maxlen=0)


def draw(rows: list[dict[str, Any]], figure: Any) -> None:
    """Bars, the two kinds of chunks side by side."""
    axes = figure.subplots(1, 2)
    for kind, ax in zip(("text", "tool call"), axes, strict=True):
        own = [row for row in rows if row["chunk"] == kind][::-1]
        ours = ("llamacpp_server", "ChatLlamaServer", "LlamaServer")
        colours = [
            "tab:blue" if r["client"] in ours else "lightgrey" if _is_floor(r["client"]) else "tab:orange" for r in own
        ]
        ax.barh([row["client"] for row in own], [row["µs"] for row in own], color=colours)
        ax.set_title(f"a chunk of {'text' if kind == 'text' else 'a tool call'}")
        ax.set_xlabel("µs of CPU (grey: floors, blue: ours)")


def _is_floor(name: str) -> bool:
    return name == RAW or name.endswith(" alone")
