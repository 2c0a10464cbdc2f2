"""Time from the call to the first chunk, on a warm connection to a server that answers immediately: the overhead that a
client adds to the time to the first token. CPU time is the minimum of all rounds, wall time their median.

The request is one short message, except in the rows with ten tools or a history of 40 messages. The floor of an adapter
is the raw read plus the framework's own stream around a ready-made chunk (`LangChain alone`, `LlamaIndex alone`).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncIterator
from statistics import median
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage
from llama_index.core.llms import ChatMessage

from .clients import QUESTION, RAW, TOOLS, Client, chat_clients, langchain_models, llamaindex_models, llamaindex_tools
from .floors import floors
from .replay import replaying, text_events

TITLE = "Time to the first chunk"


HISTORY = [message for turn in range(20) for message in (AIMessage(f"answer {turn}"), HumanMessage(f"question {turn}"))]


def _larger(base_url: str) -> list[Client]:
    """LangChain's models with more to send."""
    clients = []
    for name, model in langchain_models(base_url).items():
        bound = model.bind_tools(TOOLS)
        for what, stream in {
            "10 tools": lambda bound=bound: bound.stream(QUESTION),
            "40 messages": lambda model=model: model.stream(HISTORY),
        }.items():
            clients.append(Client(f"{name}, {what}", "LangChain", stream, model.astream))
    return clients + _larger_llamaindex(base_url)


def _larger_llamaindex(base_url: str) -> list[Client]:
    """LlamaIndex's models with more to send."""
    tools, question = llamaindex_tools(), [ChatMessage(role="user", content=QUESTION)]
    history = [ChatMessage(role="user" if turn % 2 else "assistant", content=f"turn {turn}") for turn in range(40)]
    clients = []
    for name, model in llamaindex_models(base_url).items():
        for what, stream in {
            "10 tools": lambda model=model: model.stream_chat_with_tools(tools, chat_history=question),
            "40 messages": lambda model=model: model.stream_chat(history),
        }.items():
            clients.append(Client(f"{name}, {what}", "LlamaIndex", stream, _none))
    return clients


def _floors() -> list[Client]:
    ways = floors("text", 5).items()
    return [Client(f"{framework} alone", framework, stream, _none) for framework, stream in ways]


async def _none() -> AsyncIterator[Any]:
    raise AssertionError("only blocking streams are measured here")
    yield


def run(quick: bool = False) -> list[dict[str, Any]]:
    """Rows of the table: client, CPU, time on the clock, ratio to the raw read."""
    rounds = 2 if quick else 60
    with replaying(text_events(3)) as base_url:
        clients = [*chat_clients(base_url), *_larger(base_url), *_floors()]
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
