"""CPU time for each chunk when many threads stream concurrently with one blocking client, with the same replayed bytes;
includes connections, requests and setup. What was imported is frozen (`gc.freeze()`), as in the table above.
"""

from __future__ import annotations

import gc
import threading
import time
from collections import deque
from typing import Any

from .clients import Client, chat_clients
from .replay import replaying, text_events

TITLE = "CPU for each chunk of 1 to 256 streams in threads"
CHUNKS = 60


def run(quick: bool = False) -> list[dict[str, Any]]:
    """Rows of the table: a client, and microseconds for each number of threads."""
    sizes, rounds = ((1, 4), 1) if quick else ((1, 16, 64, 256), 4)
    gc.collect()
    gc.freeze()
    with replaying(text_events(CHUNKS)) as base_url:
        clients = chat_clients(base_url)
        best = {client.name: dict.fromkeys(sizes, float("inf")) for client in clients}
        for size in sizes:
            for _ in range(rounds + 1):  # the first one opens connections
                for client in clients:
                    micros = _used(client, size) / (size * CHUNKS) * 1e6
                    best[client.name][size] = min(best[client.name][size], micros)
    gc.unfreeze()
    return [
        {"client": name, **{f"{size} at once": round(micros, 1) for size, micros in by_size.items()}}
        for name, by_size in best.items()
    ]


def _used(client: Client, size: int) -> float:
    """Seconds of CPU for one stream in each of so many threads."""
    threads = [threading.Thread(target=lambda: deque(client.stream(), maxlen=0)) for _ in range(size)]
    started = time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.process_time() - started
