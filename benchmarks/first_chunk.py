"""From the call to the first chunk, on a warm connection to a server that answers at once: what a client adds to the
time to the first token. The CPU time is the least of all rounds, the time on the clock their median.
"""

from __future__ import annotations

import time
from collections import deque
from statistics import median
from typing import Any

from .clients import RAW, chat_clients
from .replay import replaying, text_events

TITLE = "Time to the first chunk"


def run(quick: bool = False) -> list[dict[str, Any]]:
    """Rows of the table: client, CPU, time on the clock, ratio to the raw read."""
    rounds = 2 if quick else 60
    with replaying(text_events(3)) as base_url:
        clients = chat_clients(base_url)
        cpu: dict[str, list[float]] = {client.name: [] for client in clients}
        clock: dict[str, list[float]] = {client.name: [] for client in clients}
        for _ in range(rounds + 1):
            for client in clients:
                used, began = time.process_time(), time.perf_counter()
                chunks = iter(client.stream())
                next(chunks)
                clock[client.name].append((time.perf_counter() - began) * 1000)
                cpu[client.name].append((time.process_time() - used) * 1000)
                deque(chunks, maxlen=0)
    least = min(cpu[RAW][1:])
    return [
        {
            "client": name,
            "CPU ms": round(min(values[1:]), 2),
            "ms": round(median(clock[name][1:]), 2),
            "times raw read (CPU)": round(min(values[1:]) / least, 1),
        }
        for name, values in cpu.items()
    ]
