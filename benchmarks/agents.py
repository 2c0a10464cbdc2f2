"""Client CPU time for each turn of an agent, end to end on the real server: 12 turns with 10 tools, two calls per turn.

A turn is a question, a tool call, its result and an answer, streamed through the client's own framework as agents do;
the model is scripted, so all clients have the same conversation. `raw` sends the history with httpx and parses each
event. CPU time is that of this process, the minimum of the rounds; the server is a separate process.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage
from llama_index.core.llms import ChatMessage
from pydantic_core import from_json

from llamacpp_server import LocalServer
from tests.models import Script, build_scripted, tool_call

from .clients import PATH, TOOLS, langchain_models, llamaindex_models, llamaindex_tools

TITLE = "CPU for each turn of an agent with 10 tools"
TURNS = 12
SYSTEM = "You are the assistant of a library and answer in whole sentences."
SCRIPT = {
    "tool": Script(says="It stands on the third shelf, beside the window."),
    "user": Script(says=tool_call("search_0", '{"text": "books"}')),
}


def run(quick: bool = False) -> list[dict[str, Any]]:
    """Rows of the table: client, CPU for each turn, ratio to raw."""
    turns, rounds = (1, 1) if quick else (TURNS, 6)
    with tempfile.TemporaryDirectory() as directory:
        model = build_scripted(Path(directory) / "agent.gguf", SCRIPT, context_length=16384)
        with LocalServer(model, ctx_size=16384, threads=1, warmup=False, parallel=1) as server:
            agents = _agents(server.base_url)
            best = dict.fromkeys(agents, float("inf"))
            for _ in range(rounds + 1):  # the first one opens connections and fills caches
                for name, agent in agents.items():
                    best[name] = min(best[name], _used(agent, turns) * 1000 / turns)
    return [
        {"client": name, "CPU ms for each turn": round(ms, 2), "times raw": round(ms / best["raw"], 1)}
        for name, ms in best.items()
    ]


def _used(agent: Callable[[int], None], turns: int) -> float:
    """Seconds of CPU. A client may find the connection of its last round closed by the server, and not repeat that."""
    for _ in range(3):
        used = time.process_time()
        with suppress(httpx.RemoteProtocolError):
            agent(turns)
            return time.process_time() - used
    return float("inf")


def _agents(url: str) -> dict[str, Callable[[int], None]]:
    models = langchain_models(url, max_tokens=40)
    return {
        "raw": _raw(url),
        **{name: _langchain(model) for name, model in models.items()},
        **{name: _llamaindex(model) for name, model in llamaindex_models(url, max_tokens=40).items()},
    }


def _langchain(model: Any) -> Callable[[int], None]:
    def agent(turns: int) -> None:
        bound, history = model.bind_tools(TOOLS), list[Any]([SystemMessage(SYSTEM)])
        for turn in range(turns):
            history.append(HumanMessage(f"Where is book number {turn}?"))
            while True:
                reply = None
                for chunk in bound.stream(history):
                    reply = chunk if reply is None else reply + chunk
                history.append(reply)
                if not reply.tool_calls:
                    break
                history += [ToolMessage("shelf 3", tool_call_id=call["id"]) for call in reply.tool_calls]

    return agent


def _llamaindex(model: Any) -> Callable[[int], None]:
    tools = llamaindex_tools()

    def agent(turns: int) -> None:
        history = [ChatMessage(role="system", content=SYSTEM)]
        for turn in range(turns):
            history.append(ChatMessage(role="user", content=f"Where is book number {turn}?"))
            while True:
                *_, reply = model.stream_chat_with_tools(tools, chat_history=history)
                history.append(reply.message)
                calls = model.get_tool_calls_from_response(reply, error_on_no_tool_call=False)
                if not calls:
                    break
                history += [
                    ChatMessage(role="tool", content="shelf 3", additional_kwargs={"tool_call_id": call.tool_id})
                    for call in calls
                ]

    return agent


def _raw(url: str) -> Callable[[int], None]:
    client = httpx.Client(timeout=60, trust_env=False)

    def agent(turns: int) -> None:
        history: list[Any] = [{"role": "system", "content": SYSTEM}]
        for turn in range(turns):
            history.append({"role": "user", "content": f"Where is book number {turn}?"})
            while True:
                history.append(reply := _asked(client, url, history))
                if "tool_calls" not in reply:
                    break
                history += [
                    {"role": "tool", "tool_call_id": c["id"], "content": "shelf 3"} for c in reply["tool_calls"]
                ]

    return agent


def _asked(client: httpx.Client, url: str, history: list[Any]) -> dict[str, Any]:
    body = {"messages": history, "tools": TOOLS, "stream": True, "max_tokens": 40}
    text, calls, rest = "", dict[int, Any](), b""
    with client.stream("POST", url + PATH, json=body) as reply:
        for data in reply.iter_bytes():
            *events, rest = (rest + data).split(b"\n\n")
            for event in events:
                if event == b"data: [DONE]":
                    continue
                delta = from_json(event[6:])["choices"][0]["delta"]
                text += delta.get("content") or ""
                for piece in delta.get("tool_calls") or ():
                    if (call := calls.get(piece["index"])) is None:
                        calls[piece["index"]] = piece
                    else:
                        call["function"]["arguments"] += piece["function"].get("arguments", "")
    return {"role": "assistant", "content": text, **({"tool_calls": list(calls.values())} if calls else {})}
