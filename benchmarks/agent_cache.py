"""Prompt tokens that one server processes for several agents, as counted by the server.

Four sessions share a system message and tools (about 1,700 tokens), and each grows by about 150 or 260 tokens in each
of its 12 turns. They take turns: in `rounds` a turn is one call, in `tool loops` two in a row, the second with a tool
result. In every third turn a title is generated, with a short call that shares nothing with the sessions and is not
counted.

`raw` sends the best possible requests with plain httpx: a history that only grows, unchanged. `least` is the minimum:
each session as if it had the server to itself, and the common prefix once.
`python -m benchmarks.agent_cache --save` writes this table and the plot in docs/.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage
from llama_index.core.base.llms.types import ChatMessage

from langchain_llamacpp_server import ChatLlamaServer
from llamacpp_server import ChatRequest, LocalServer
from llamaindex_llamacpp_server import LlamaServer
from tests.models import Script, build_scripted, tool_call

from .__main__ import machine, table

SESSIONS, TURNS, TITLE_EVERY = 4, 12, 3
FLAGS: dict[str, dict[str, Any]] = {
    "defaults": {"parallel": -1},
    "-np 4": {"parallel": 4},
    "-np 4 --slot-prompt-similarity 0": {"parallel": 4, "slot_prompt_similarity": 0.0},
    "-np 4 --slot-prompt-similarity 0.9": {"parallel": 4, "slot_prompt_similarity": 0.9},
    "--cache-ram 0": {"parallel": -1, "cache_ram": 0},
}
WORKLOADS = {"rounds": 1, "tool loops": 2}
SYSTEM = "You are the assistant of a library and answer in whole sentences. " * 22
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "search",
        "description": "Searches the catalogue of the library for books, their authors and the shelves they stand on.",
        "parameters": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
    },
}
SCRIPT = {
    "Title": "Books",
    "Tell": Script(thinks="I know that one.", says="It stands on the third shelf, beside the window."),
    "tool": Script(thinks="There it is.", says="It stands on the third shelf, beside the window."),
    "user": Script(thinks="I had better look.", says=tool_call("search", '{"text": "books"}')),
}


def question(session: int, turn: int, calls: int) -> str:
    """What is asked; the words decide what the scripted model says."""
    verb = "Tell" if calls == 1 else "Find"
    return f"{verb} me, reader {session}, where book number {turn} of my reading list is, please."


RESULT = "shelf 3, row 2"


class Raw:
    """The history as it came and went."""

    def __init__(self, url: str, http: httpx.Client) -> None:
        self.url, self.http = url, http

    def start(self) -> list[Any]:
        return [{"role": "system", "content": SYSTEM}]

    def user(self, text: str) -> Any:
        return {"role": "user", "content": text}

    def ask(self, history: list[Any], tools: bool = True) -> Any:
        body: dict[str, Any] = {"messages": history, "max_tokens": 60}
        if tools:
            body["tools"] = [TOOL]
        answer = self.http.post(f"{self.url}/v1/chat/completions", json=body).raise_for_status()
        return answer.json()["choices"][0]["message"]

    def result(self, reply: Any) -> Any:
        return {"role": "tool", "tool_call_id": reply["tool_calls"][0]["id"], "content": RESULT}


class LangChain:
    """Any chat model of LangChain."""

    def __init__(self, model: Any) -> None:
        self.model, self.bound = model, model.bind_tools([TOOL])

    def start(self) -> list[Any]:
        return [SystemMessage(SYSTEM)]

    def user(self, text: str) -> Any:
        return HumanMessage(text)

    def ask(self, history: list[Any], tools: bool = True) -> Any:
        return (self.bound if tools else self.model).invoke(history)

    def result(self, reply: Any) -> Any:
        return ToolMessage(RESULT, tool_call_id=reply.tool_calls[0]["id"])


class LlamaIndex:
    """Any LLM of LlamaIndex that calls functions."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def start(self) -> list[Any]:
        return [ChatMessage(SYSTEM, role="system")]

    def user(self, text: str) -> Any:
        return ChatMessage(text)

    def ask(self, history: list[Any], tools: bool = True) -> Any:
        return self.model.chat(history, **({"tools": [TOOL]} if tools else {})).message

    def result(self, reply: Any) -> Any:
        (call,) = reply.additional_kwargs["tool_calls"]
        call_id = call["id"] if isinstance(call, dict) else call.id
        return ChatMessage(RESULT, role="tool", additional_kwargs={"tool_call_id": call_id})


def chat_openai(url: str, http: httpx.Client) -> LangChain:
    from langchain_openai import ChatOpenAI

    return LangChain(ChatOpenAI(base_url=f"{url}/v1", api_key="none", model="any", max_completion_tokens=60))


def openai_like(url: str, http: httpx.Client) -> LlamaIndex:
    from llama_index.llms.openai_like import OpenAILike

    return LlamaIndex(
        OpenAILike(
            model="any",
            api_base=f"{url}/v1",
            api_key="none",
            is_chat_model=True,
            is_function_calling_model=True,
            max_tokens=60,
            context_window=8192,
        )
    )


CLIENTS: dict[str, Callable[[str, httpx.Client], Any]] = {
    "raw": Raw,
    "ChatLlamaServer": lambda url, http: LangChain(ChatLlamaServer(base_url=url, max_tokens=60)),
    "LlamaServer": lambda url, http: LlamaIndex(LlamaServer(base_url=url, max_tokens=60)),
    "ChatOpenAI": chat_openai,
    "OpenAILike": openai_like,
}


class Counter:
    """Tokens that the server has read, by its own counter."""

    def __init__(self, server: LocalServer) -> None:
        self.client, self.read, self._before = server.client(), 0, 0.0

    def __enter__(self) -> None:
        self._before = self.client.metrics()["prompt_tokens_total"]

    def __exit__(self, *error: object) -> None:
        self.read += int(self.client.metrics()["prompt_tokens_total"] - self._before)


def tokens_read(model: Path, client: str, calls: int, sessions: int = SESSIONS, **options: Any) -> int:
    """Tokens read for all agent calls of all sessions."""
    with (
        LocalServer(model, ctx_size=32768, threads=1, warmup=False, metrics=True, **options) as server,
        httpx.Client(timeout=60, trust_env=False) as http,
    ):
        agent, counter = CLIENTS[client](server.base_url, http), Counter(server)
        histories = [agent.start() for _ in range(sessions)]
        for turn in range(TURNS):
            for session, history in enumerate(histories):
                history.append(agent.user(question(session, turn, calls)))
                with counter:
                    history.append(agent.ask(history))
                if calls == 2:
                    history.append(agent.result(history[-1]))
                    with counter:
                        history.append(agent.ask(history))
                if turn % TITLE_EVERY == session % TITLE_EVERY:
                    agent.ask([agent.user(f"Title of talk {session}, turn {turn}, about books")], tools=False)
        return counter.read


def least(model: Path, calls: int) -> int:
    """What has to be read: each session alone, and the common beginning once."""
    alone = tokens_read(model, "raw", calls, sessions=1, parallel=1)
    words = question(0, 0, calls).partition("0")[0]
    messages: Any = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": f"{words}|"}]
    with LocalServer(model, ctx_size=8192, threads=1, warmup=False, parallel=1) as server:
        client = server.client()
        prompt = client.apply_template(ChatRequest(messages=messages, tools=[TOOL]))
        common = client.tokenize(prompt.rpartition("|<|im_end|>")[0])
    return SESSIONS * alone - (SESSIONS - 1) * len(common)


def run() -> list[dict[str, Any]]:
    """One row for each workload and set of flags."""
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        model = build_scripted(Path(directory) / "agent.gguf", SCRIPT, context_length=32768)
        for workload, calls in WORKLOADS.items():
            floor = least(model, calls)
            for flags, options in FLAGS.items():
                found = {client: tokens_read(model, client, calls, **options) for client in CLIENTS}
                rows.append({"turns": workload, "llama-server": flags, "least": floor, **found})
                print(rows[-1], file=sys.stderr, flush=True)
    return rows


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """The table as bars, one panel for each workload."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "prompt-cache", "font.size": 9})
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(WORKLOADS), figsize=(11, 4.2), sharey=True, layout="constrained")
    for panel, workload in zip(panels, WORKLOADS, strict=True):
        mine = [row for row in rows if row["turns"] == workload]
        for number, client in enumerate(CLIENTS):
            places = [at + number * 0.16 for at in range(len(mine))]
            panel.bar(places, [row[client] for row in mine], 0.15, label=client)
        panel.axhline(mine[0]["least"], color="black", linewidth=1, linestyle=":", label="what has to be read")
        labels = [row["llama-server"].replace(" --", "\n--").replace("prompt-", "prompt-\n") for row in mine]
        panel.set_xticks([at + 0.32 for at in range(len(mine))], labels, fontsize=7)
        panel.set_title(workload)
    panels[0].set_ylabel("prompt tokens read")
    panels[1].legend(fontsize=8)
    figure.suptitle(f"{SESSIONS} sessions of {TURNS} turns on one server")
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Measures, prints, and with `--save` writes the table and the plot."""
    from importlib.metadata import version

    rows = run()
    parts = ["# The prompt cache under agents", f"xllamacpp {version('xllamacpp')}; {machine()}"]
    text = "\n\n".join([*parts, (__doc__ or "").strip(), table(rows)]) + "\n"
    print(text)
    if "--save" in sys.argv:
        (Path(__file__).parent / "agent-cache.md").write_text(text)
        plot(rows, Path(__file__).parents[1] / "docs" / "prompt-cache.svg")


if __name__ == "__main__":
    main()
