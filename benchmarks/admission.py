"""Four agents and their side calls share one server: prompt tokens processed, and how long users wait.

Each agent has 8 turns: a question, a sub-agent that makes two calls with its own prompt, and the answer. After every
second turn a title is generated, at background priority if the client has one. `tokens read` is the server's counter,
as the median of the rounds. `first token` is the time in ms from an agent's call to its first token, including waits
for a slot: p50, p95 and mean over the calls of all rounds, in which the clients take turns. Each agent's first call is
left out, because its prompt can't be cached yet. The server's RAM cache (on by default) holds all prompts of this small
model; `--cache-ram 0` shows the effect of a large model, whose prompts outgrow it. `python -m benchmarks admission`
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from langchain_core.messages import HumanMessage, SystemMessage

from langchain_llamacpp_server import ChatLlamaServer
from llamacpp_server import LocalServer
from tests.models import Script, build_scripted

TITLE = "Agents that share a server"
SESSIONS, TURNS, ROUNDS = 4, 8, 3
SYSTEM = "You are agent {0} of a library and answer in whole sentences, with the shelf and the row. " * 20
HELPER = "You search the catalogue for agent {0} and say what you found there, with all its numbers. " * 8
SCRIPT = {
    "Title": "Books",
    "Find": Script(says="It stands on the third shelf, row 2."),
    "user": Script(says="It stands on the third shelf, beside the window, where the books of last year are."),
}


def chat_llama_server(url: str) -> tuple[Any, Any]:
    """Ours, and ours for what can wait."""
    llm = ChatLlamaServer(base_url=url, max_tokens=60)
    return llm, llm.model_copy(update={"priority": "background"})


def chat_openai(url: str) -> tuple[Any, Any]:
    """The peer, twice: it has no priorities."""
    from langchain_openai import ChatOpenAI

    llm = ChatOpenAI(base_url=f"{url}/v1", api_key="none", model="any", max_completion_tokens=60, timeout=600)  # type: ignore[arg-type]
    return llm, llm


CLIENTS: dict[str, Callable[[str], tuple[Any, Any]]] = {
    "ChatLlamaServer": chat_llama_server,
    "ChatOpenAI": chat_openai,
}


def _answer(llm: Any, history: list[Any]) -> float:
    """Seconds to the first token of an answer, which is added to its history."""
    begun, first, message = time.perf_counter(), 0.0, None
    for chunk in llm.stream(history):
        if not first and chunk.text:
            first = time.perf_counter() - begun
        message = chunk if message is None else message + chunk
    history.append(message)
    return first


def _session(number: int, turns: int, llm: Any, background: Any, waits: list[float], failed: list[Exception]) -> None:
    try:
        history: list[Any] = [SystemMessage(SYSTEM.format(number))]
        for turn in range(turns):
            history.append(HumanMessage(f"Tell me, reader {number}, where book {turn} of my reading list is."))
            first = _answer(llm, history)
            waits += [first] if turn else []
            helper: list[Any] = [SystemMessage(HELPER.format(number))]
            for step in range(2):
                helper.append(HumanMessage(f"Find book {turn} for reader {number}, part {step}."))
                helper.append(llm.invoke(helper))
            history.append(HumanMessage(f"The catalogue says about book {turn}: {helper[-1].text}"))
            waits.append(_answer(llm, history))
            if turn % 2:
                background.invoke([HumanMessage(f"Title of talk {number}, turn {turn}, about books")])
    except Exception as error:  # noqa: BLE001 (a thread's error is raised by whoever waits for it)
        failed.append(error)


def measured(model: Path, client: str, slots: int, turns: int, cache_ram: int = -1) -> tuple[int, list[float], float]:
    """Tokens read, seconds to the first token of each call, and seconds for all of it."""
    options: dict[str, Any] = {"parallel": slots, "ctx_size": 8192 * slots, "threads": 1, "cache_ram": cache_ram}
    waits, failed = list[float](), list[Exception]()
    with LocalServer(model, warmup=False, metrics=True, **options) as server:
        llm, background = CLIENTS[client](server.base_url)
        threads = [
            threading.Thread(target=_session, args=(number, turns, llm, background, waits, failed))
            for number in range(SESSIONS)
        ]
        begun = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.perf_counter() - begun
        if failed:
            raise failed[0]
        return int(server.client().metrics()["prompt_tokens_total"]), waits, took


def _row(slots: int, cache_ram: int, client: str, found: list[tuple[int, list[float], float]]) -> dict[str, Any]:
    waits = [1000 * wait for _, all_waits, _ in found for wait in all_waits]
    return {
        "slots": slots,
        "--cache-ram": "default" if cache_ram < 0 else cache_ram,
        "client": client,
        "tokens read": round(statistics.median(read for read, _, _ in found)),
        "first token p50": round(statistics.median(waits)),
        "first token p95": round(statistics.quantiles(waits, n=20)[18]),
        "first token mean": round(statistics.mean(waits)),
        "all in s": round(statistics.median(took for _, _, took in found), 1),
    }


def run(quick: bool) -> list[dict[str, Any]]:
    """One row for each client, on two and on four slots."""
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        model = build_scripted(Path(directory) / "agents.gguf", SCRIPT, context_length=32768)
        for slots, cache_ram in itertools.product((2, 4), (-1, 0)):
            found: dict[str, list[tuple[int, list[float], float]]] = {client: [] for client in CLIENTS}
            for _ in range(1 if quick else ROUNDS):
                for client, results in found.items():
                    results.append(measured(model, client, slots, 2 if quick else TURNS, cache_ram))
            rows += [_row(slots, cache_ram, client, results) for client, results in found.items()]
    return rows


def draw(rows: list[dict[str, Any]], figure: Any) -> None:
    """Two panels: what is read, and how long the first token takes."""
    panels = figure.subplots(1, 2)
    names = [f"{row['client']}\n{row['slots']} slots\ncache {row['--cache-ram']}" for row in rows]
    panels[0].bar(names, [row["tokens read"] for row in rows])
    panels[0].set_title("prompt tokens read")
    for key, shade in (("first token p95", "0.75"), ("first token p50", "0.4")):
        panels[1].bar(names, [row[key] for row in rows], color=shade, label=key.rpartition(" ")[2])
    panels[1].set_title("time to the first token, ms")
    panels[1].legend()
    for panel in panels:
        panel.tick_params(axis="x", labelsize=5)
