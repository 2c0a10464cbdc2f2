"""A batch of 1,000 chats with `abatch` on a real server with 4 slots, in a fresh process for each client.

`first reply` is the time until the first of the replies is there, `CPU` that of the client's process, `MB more` what
the process grew by at most; both without imports and without a first chat. The model is tiny and answers with 2 tokens,
so the client's share is what is measured. `max_concurrency` is not set: ours sends as many at once as there are slots,
ChatOpenAI all of them.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import tempfile
import time
from pathlib import Path
from typing import Any

from llamacpp_server import LocalServer
from tests.models import Script, build_scripted

from .clients import langchain_models

TITLE = "A batch of 1,000 chats on 4 slots"
CHATS = 1000
SCRIPT = {"user": Script(says="It stands on the third shelf, beside the window.")}


def run(quick: bool = False) -> list[dict[str, Any]]:
    """Rows of the table: client, seconds until the first reply and until the last, CPU and memory."""
    chats = 4 if quick else CHATS
    with tempfile.TemporaryDirectory() as directory:
        model = build_scripted(Path(directory) / "batch.gguf", SCRIPT, context_length=4096)
        with LocalServer(model, ctx_size=4096, threads=1, warmup=False, parallel=4) as server:
            names = list(langchain_models(server.base_url))
            return [_in_process(server.base_url, name, chats) for name in names]


def _in_process(base_url: str, name: str, chats: int) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    ready, child_end = context.Pipe()
    process = context.Process(target=_batch, args=(base_url, name, chats, child_end), daemon=True)
    process.start()
    child_end.close()
    try:
        row: dict[str, Any] = ready.recv()
    finally:
        process.join()
    return row


def _batch(base_url: str, name: str, chats: int, answer: Any) -> None:
    answer.send(asyncio.run(_measured(base_url, name, chats)))


async def _measured(base_url: str, name: str, chats: int) -> dict[str, Any]:
    model = langchain_models(base_url, max_tokens=2, max_retries=5)[name]
    await model.ainvoke("Hello")
    questions = [f"Where is book number {number}?" for number in range(chats)]
    before, used, began, first = _most_memory(), time.process_time(), time.perf_counter(), 0.0
    failed = 0
    async for _, reply in model.abatch_as_completed(questions, return_exceptions=True):
        first = first or time.perf_counter() - began
        failed += isinstance(reply, Exception)
    return {
        "client": name,
        "first reply in s": round(first, 2),
        "all in s": round(time.perf_counter() - began, 1),
        "CPU ms for each chat": round((time.process_time() - used) * 1000 / chats, 2),
        "MB more": round(_most_memory() - before, 1),
        "failed": failed,
    }


def _most_memory() -> float:
    """Megabytes that this process had at most."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)
