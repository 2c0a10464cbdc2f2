"""Each fault on the wire, on each endpoint, blocking and awaited: the right reply or the right typed error, in time.

The faults are put between the clients and real servers. The table of outcomes is `docs/fault-matrix.md`; each case
compares its outcome with its cell. To write it anew: `WRITE_DOCS=1 pytest tests/faults`. Each fault has one daily case
per table, on another endpoint each time; the other cases are marked `long`.
"""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from langchain_core.exceptions import ModelError
from llama_index.core.llms import ChatMessage

from langchain_llamacpp_server import ChatLlamaServer, LlamaServerEmbeddings
from llamacpp_server import (
    AsyncLlamaServerClient,
    ChatRequest,
    CompletionRequest,
    LlamaServerClient,
    LlamaServerError,
    LocalServer,
)
from llamaindex_llamacpp_server import LlamaServer, LlamaServerEmbedding

from .proxy import FAULTS, STREAM_FAULTS, Fault, Proxy

MESSAGES = [{"role": "user", "content": "Hello"}]
CHAT = ChatRequest(messages=MESSAGES, params={"max_tokens": 4, "temperature": 0, "seed": 1, "ignore_eos": True})
COMPLETION = CompletionRequest(prompt="Hello", params={"max_tokens": 4, "temperature": 0, "ignore_eos": True})

Client = LlamaServerClient | AsyncLlamaServerClient
# For each endpoint: the server it is asked of, and the request. The answers are compared with those without a fault.
ENDPOINTS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "chat": ("chat_server", lambda client: client.chat(CHAT)),
    "completion": ("chat_server", lambda client: client.complete(COMPLETION)),
    "embeddings": ("embedding_server", lambda client: client.embed(["one", "two"])),
    "rerank": ("rerank_server", lambda client: client.rerank("query", ["one", "two"])),
    "tokenize": ("chat_server", lambda client: client.tokenize("some text")),
}
# Long enough for a busy machine; short where the timeout is what is tested.
PATIENT, HASTY = 20.0, 0.1
DOCS = Path(__file__).parents[2] / "docs" / "fault-matrix.md"
CASES = [(fault, endpoint) for fault in FAULTS for endpoint in ENDPOINTS] + [
    (fault, endpoint) for fault in STREAM_FAULTS for endpoint in ("chat", "completion")
]

Outcomes = dict[tuple[str, str, str], str]
outcomes: Outcomes = {}


def rotated(cases: list[tuple[Fault, str]]) -> list[Any]:
    """The cases, with all but one of each fault marked `long`."""
    columns: dict[Fault, list[str]] = {}
    for fault, column in cases:
        columns.setdefault(fault, []).append(column)
    daily = {(fault, names[number % len(names)]) for number, (fault, names) in enumerate(columns.items())}
    return [
        pytest.param(*case, id=f"{case[0].name}-{case[1]}", marks=() if case in daily else pytest.mark.long)
        for case in cases
    ]


def documented() -> Outcomes:
    """The cells of the docs. A cell of the first table stands for both ways, which agree."""
    found: Outcomes = {}
    columns: list[str] = []
    for line in DOCS.read_text().split("\n"):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| fault |"):
            columns = cells[1:]
        elif line.startswith("| "):
            for column, cell in zip(columns, cells[1:], strict=True):
                ways = ("blocking", "awaited") if column in ENDPOINTS else ("framework",)
                found |= {(cells[0], column, way): cell for way in ways if cell != "-"}
    return found


def check_cell(fault: Fault, column: str, way: str, outcome: str) -> None:
    """The outcome is kept, and compared unless the docs are being written."""
    outcomes[fault.name, column, way] = outcome
    if not os.environ.get("WRITE_DOCS"):
        assert documented().get((fault.name, column, way)) == outcome


@pytest.fixture(scope="module")
def answers() -> dict[Any, Any]:
    """What each endpoint answers without a fault."""
    return {}


def essence(answer: Any) -> Any:
    """What must be equal with and without a fault: no ids, no timings."""
    if hasattr(answer, "choices"):
        return answer.choices, answer.usage and answer.usage.completion_tokens
    return getattr(answer, "vectors", answer)


def blocking(base_url: str, ask: Callable[[Client], Any], read_timeout: float = PATIENT) -> Any:
    with LlamaServerClient(base_url, read_timeout=read_timeout, max_retries=1) as client:
        return ask(client)


def awaited(base_url: str, ask: Callable[[Client], Awaitable[Any]], read_timeout: float = PATIENT) -> Any:
    async def main() -> Any:
        async with AsyncLlamaServerClient(base_url, read_timeout=read_timeout, max_retries=1) as client:
            return await ask(client)

    return asyncio.run(main())


@pytest.mark.parametrize("way", [blocking, awaited])
@pytest.mark.parametrize(("fault", "endpoint"), rotated(CASES))
def test_each_fault_ends_in_the_right_reply_or_a_typed_error(
    request: pytest.FixtureRequest, answers: dict[Any, Any], way: Callable[..., Any], fault: Fault, endpoint: str
) -> None:
    server, ask = ENDPOINTS[endpoint]
    real: LocalServer = request.getfixturevalue(server)
    if (expected := answers.get((way, endpoint))) is None:
        expected = answers[way, endpoint] = essence(way(real.base_url, ask))
    started = time.monotonic()
    with Proxy(real.base_url, fault) as proxy:
        try:
            answer = way(proxy.base_url, ask, HASTY if fault.name == "stall" else PATIENT)
        except LlamaServerError as error:
            outcome = type(error).__name__
            assert proxy.base_url in (error.url or "")
            if getattr(error, "partial", None) is not None:
                outcome += ", partial reply attached"
        else:
            assert essence(answer) == expected
            outcome = "right reply"
    assert time.monotonic() - started < PATIENT, "it must not hang"
    assert outcome.removesuffix(", partial reply attached") in EXPECTED[fault.name], outcome
    check_cell(fault, endpoint, way.__name__, outcome)


# What each fault may end in, on any endpoint.
EXPECTED: dict[str, set[str]] = {
    "no answer": {"ConnectionFailedError"},
    "cut before the body": {"StreamCutOffError"},
    "cut in the middle": {"StreamCutOffError"},
    "stall": {"RequestTimeoutError"},
    "drip": {"right reply"},
    "cut inside characters": {"right reply"},
    "garbage": {"MalformedReplyError"},
    "web page": {"MalformedReplyError"},
    "web page error": {"ServerFaultError"},
    "odd content type": {"right reply"},
    "gzipped": {"right reply"},
    "broken gzip": {"MalformedReplyError"},
    "redirect": {"MalformedReplyError"},
    "truncated json": {"MalformedReplyError", "StreamCutOffError"},
    "endless line": {"MalformedReplyError", "RequestTimeoutError", "StreamCutOffError"},
    "bad utf8": {"right reply", "MalformedReplyError"},
    "big event": {"right reply"},
    "error event": {"ServerFaultError"},
    "no end mark": {"StreamCutOffError", "right reply"},
}


def table(outcomes: Outcomes) -> str:
    """The outcomes as Markdown, blocking and awaited in one cell where they agree."""
    lines = [
        "# Fault matrix",
        "",
        "The outcome of each network fault, generated by `tests/faults/test_fault_matrix.py` from a run against real",
        "servers, with the fault injected between client and server. Sync and async calls have the same outcome.",
        "Nothing hangs, and no reply is silently truncated. Cancelling a request at any point releases its slot",
        "([Web servers](web-servers.md)). Bytes behind the end of a reply (a `Content-Length` that is too short) close",
        "the connection, so they never reach the next call.",
        "",
        "| fault | " + " | ".join(ENDPOINTS) + " |",
        "|---|" + "---|" * len(ENDPOINTS),
    ]
    for fault in [*FAULTS, *STREAM_FAULTS]:
        cells = []
        for endpoint in ENDPOINTS:
            found = {outcomes.get((fault.name, endpoint, way)) for way in ("blocking", "awaited")} - {None}
            cells.append(" / ".join(sorted(str(outcome) for outcome in found)) or "-")
        lines.append(f"| {fault.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


# -- the classes of both frameworks: their errors are the server's and the framework's at once

FRAMEWORKS: dict[str, tuple[str, str, Callable[[str, float], Any]]] = {
    "ChatLlamaServer": (
        "chat_server", "chat", lambda url, seconds: ChatLlamaServer(
            base_url=url, read_timeout=seconds, max_retries=1, **CHAT.params).invoke("Hello").content),
    "its ainvoke": (
        "chat_server", "chat", lambda url, seconds: asyncio.run(ChatLlamaServer(
            base_url=url, read_timeout=seconds, max_retries=1, **CHAT.params).ainvoke("Hello")).content),
    "LlamaServerEmbeddings": (
        "embedding_server", "embeddings", lambda url, seconds: LlamaServerEmbeddings(
            base_url=url, read_timeout=seconds, max_retries=1).embed_documents(["one", "two"])),
    "LlamaServer": (
        "chat_server", "chat", lambda url, seconds: LlamaServer(
            base_url=url, read_timeout=seconds, max_retries=1, thinking=False, context_window=2048,
            **CHAT.params).chat([ChatMessage("Hello")]).message.content),
    "its achat": (
        "chat_server", "chat", lambda url, seconds: asyncio.run(LlamaServer(
            base_url=url, read_timeout=seconds, max_retries=1, thinking=False, context_window=2048,
            **CHAT.params).achat([ChatMessage("Hello")])).message.content),
    "LlamaServerEmbedding": (
        "embedding_server", "embeddings", lambda url, seconds: LlamaServerEmbedding(
            base_url=url, read_timeout=seconds, max_retries=1).get_text_embedding_batch(["one", "two"])),
}  # fmt: skip
LANGCHAIN = ("ChatLlamaServer", "its ainvoke", "LlamaServerEmbeddings")
CORE = "langchain_core.exceptions"
# What takes 64 MiB a time is tried on the client alone.
FRAMEWORK_CASES = [
    (fault, name)
    for name, (_, endpoint, _) in FRAMEWORKS.items()
    for fault in [*FAULTS, *(STREAM_FAULTS if endpoint == "chat" else [])]
    if fault.name not in ("big event", "endless line")
]


@pytest.mark.parametrize(("fault", "name"), rotated(FRAMEWORK_CASES))
def test_each_fault_ends_the_same_way_in_both_frameworks(
    request: pytest.FixtureRequest, answers: dict[Any, Any], fault: Fault, name: str
) -> None:
    server, _, ask = FRAMEWORKS[name]
    real: LocalServer = request.getfixturevalue(server)
    if (expected := answers.get(name)) is None:
        expected = answers[name] = ask(real.base_url, PATIENT)
    with Proxy(real.base_url, fault) as proxy:
        try:
            answer = ask(proxy.base_url, HASTY if fault.name == "stall" else PATIENT)
        except LlamaServerError as error:
            outcome = type(error).__name__
            assert outcome in EXPECTED[fault.name]
            assert isinstance(error, ModelError) == (name in LANGCHAIN)
            if isinstance(error, ModelError):
                outcome += f" ({next(base.__name__ for base in type(error).__mro__ if base.__module__ == CORE)})"
        else:
            assert answer == expected
            outcome = "right reply"
    check_cell(fault, name, "framework", outcome)
    gc.collect()


def framework_table(outcomes: Outcomes) -> str:
    """The same for the classes of the frameworks."""
    lines = [
        "",
        "## In the frameworks",
        "",
        "The same faults through the classes of both packages. In LangChain each error is also one of",
        "`langchain_core.exceptions`; its name is in parentheses.",
        "",
        "| fault | " + " | ".join(FRAMEWORKS) + " |",
        "|---|" + "---|" * len(FRAMEWORKS),
    ]
    for fault in dict.fromkeys(fault.name for fault, _ in FRAMEWORK_CASES):
        cells = [outcomes.get((fault, name, "framework"), "-") for name in FRAMEWORKS]
        lines.append(f"| {fault} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def test_the_docs_have_a_cell_for_each_case_and_no_other() -> None:
    if os.environ.get("WRITE_DOCS"):
        assert len(outcomes) == 2 * len(CASES) + len(FRAMEWORK_CASES), "the table is made of all cases"
        DOCS.write_text(table(outcomes) + framework_table(outcomes))
    cases = {(fault.name, endpoint, way) for fault, endpoint in CASES for way in ("blocking", "awaited")}
    cases |= {(fault.name, name, "framework") for fault, name in FRAMEWORK_CASES}
    assert set(documented()) == cases
    assert DOCS.read_text() == table(documented()) + framework_table(documented())
