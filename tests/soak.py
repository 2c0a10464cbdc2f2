"""Mixed traffic with faults for a while; not part of the daily tests. What came out is in `docs/soak.md`.

    python -m tests.soak --minutes 20 --write

Threads and tasks ask real servers through both frameworks: chats whole, streamed and left early, tools, completions,
embeddings, reranking. A part of it goes through proxies that spoil answers, and the chat server is killed and started
again all the time. In the end every request has had its answer or a typed error, every answer was the right one (the
model says one known text), and open files and memory are where they were.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import platform
import random
import socket
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from langchain_core.documents import Document
from langchain_core.tools import tool
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.schema import NodeWithScore, TextNode

from langchain_llamacpp_server import ChatLlamaServer, LlamaServerEmbeddings, LlamaServerLLM, LlamaServerReranker
from llamacpp_server import LlamaServerError, LocalServer
from llamaindex_llamacpp_server import LlamaServer, LlamaServerEmbedding, LlamaServerRerank
from tests.faults.proxy import FAULTS, STREAM_FAULTS, Proxy
from tests.models import build_random_encoder, build_scripted, tool_call

TEXT = "The quick brown fox jumps over the lazy dog and then sleeps until the sun comes up again. " * 3
CALL = tool_call("get_weather", '{"city": "Oslo"}')
# These two send tens of megabytes at once; they have their place in the fault matrix.
SPOILT = [fault for fault in [*FAULTS, *STREAM_FAULTS] if fault.name not in ("big event", "endless line")]
THREADS, TASKS = 4, 4
LONGEST = 60.0
"""Seconds that no request may take; `total_timeout` is half of it."""
DOCS = Path(__file__).parents[1] / "docs" / "soak.md"
FUZZING = "\n## A fuzzer"
"""What follows in the page is not of this script, and is kept."""


@tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return city


def check(text: str) -> None:
    if text.strip() != TEXT.strip():
        raise AssertionError(f"a wrong or short answer: {text!r}")


def check_call(calls: Any) -> None:
    if [(call["name"], call["args"]) for call in calls] != [("get_weather", {"city": "Oslo"})]:
        raise AssertionError(f"a wrong call: {calls!r}")


class LeftEarly(Exception):
    """The caller had enough."""


@dataclass
class Models:
    """The model classes of both frameworks for one chat server (or a proxy before it)."""

    chat: ChatLlamaServer
    llm: LlamaServerLLM
    index: LlamaServer

    @classmethod
    def at(cls, base_url: str) -> Models:
        patience: Any = {"base_url": base_url, "read_timeout": 2, "total_timeout": LONGEST / 2, "max_retries": 1}
        return cls(ChatLlamaServer(**patience), LlamaServerLLM(**patience), LlamaServer(**patience))


@dataclass
class Soak:
    """What is asked, of whom, and what came of it."""

    chat_url: str
    embedding_url: str
    rerank_url: str
    outcomes: Counter[str] = field(default_factory=Counter)
    started: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    restarts: int = 0
    over: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.direct = Models.at(self.chat_url)
        self.proxies: list[Proxy] = []
        self.spoilt: list[Models] = []
        self.embeddings = LlamaServerEmbeddings(base_url=self.embedding_url)
        self.index_embeddings = LlamaServerEmbedding(base_url=self.embedding_url)
        self.reranker = LlamaServerReranker(base_url=self.rerank_url, top_n=2)
        self.index_reranker = LlamaServerRerank(base_url=self.rerank_url, top_n=2)

    def models(self) -> Models:
        if random.random() < 0.25:
            return random.choice(self.spoilt)
        # Now and then new ones that nobody closes.
        return Models.at(self.chat_url) if random.random() < 0.1 else self.direct

    def count(self, name: str, outcome: str) -> None:
        with self.lock:
            self.outcomes[outcome] += 1
            if outcome.startswith("!"):
                self.wrong.append(f"{name}: {outcome}")

    def begin(self, name: str) -> float:
        with self.lock:
            self.started[name] += 1
        return time.monotonic()

    def ended(self, name: str, began: float, error: BaseException | None) -> None:
        if time.monotonic() - began > LONGEST:
            self.count(name, f"! took {time.monotonic() - began:.0f} s")
        elif error is None:
            self.count(name, "answer")
        elif isinstance(error, LeftEarly):
            self.count(name, "left early")
        elif isinstance(error, LlamaServerError):
            self.count(name, type(error).__name__)
        else:
            self.count(name, f"! {type(error).__name__}: {error}"[:300])

    def ask(self, name: str, request: Callable[[Soak], None]) -> None:
        began = self.begin(name)
        try:
            request(self)
        except Exception as error:
            self.ended(name, began, error)
        else:
            self.ended(name, began, None)

    async def aask(self, name: str, request: Callable[[Soak], Awaitable[None]]) -> None:
        began = self.begin(name)
        try:
            await request(self)
        except Exception as error:
            self.ended(name, began, error)
        else:
            self.ended(name, began, None)


# -- what is asked, blocking


def invoke(soak: Soak) -> None:
    check(soak.models().chat.invoke("say it").text)


def stream(soak: Soak) -> None:
    check("".join(chunk.text for chunk in soak.models().chat.stream("say it")))


def leave(soak: Soak) -> None:
    for number, _ in enumerate(soak.models().chat.stream("say it")):
        if number == 3:
            raise LeftEarly


def tools(soak: Soak) -> None:
    check_call(soak.models().chat.bind_tools([get_weather]).invoke("the weather").tool_calls)


def completion(soak: Soak) -> None:
    check("".join(soak.models().llm.stream("say it")))


def index_chat(soak: Soak) -> None:
    check(soak.models().index.chat([ChatMessage(role="user", content="say it")]).message.content or "")


def index_stream(soak: Soak) -> None:
    *_, last = soak.models().index.stream_chat([ChatMessage(role="user", content="say it")])
    check(last.message.content or "")


def index_complete(soak: Soak) -> None:
    check(soak.models().index.complete("say it").text)


def embed(soak: Soak) -> None:
    assert len(soak.embeddings.embed_documents(["one", "two", "three"])) == 3


def index_embed(soak: Soak) -> None:
    assert len(soak.index_embeddings.get_text_embedding_batch(["one", "two"])) == 2


def rerank(soak: Soak) -> None:
    assert len(soak.reranker.compress_documents([Document(text) for text in "abc"], "a")) == 2


def index_rerank(soak: Soak) -> None:
    nodes = [NodeWithScore(node=TextNode(text=text), score=0.0) for text in "abc"]
    assert len(soak.index_reranker.postprocess_nodes(nodes, query_str="a")) == 2


# -- awaited


async def ainvoke(soak: Soak) -> None:
    check((await soak.models().chat.ainvoke("say it")).text)


async def astream(soak: Soak) -> None:
    check("".join([chunk.text async for chunk in soak.models().chat.astream("say it")]))


async def cancel(soak: Soak) -> None:
    task = asyncio.create_task(soak.models().chat.ainvoke("say it"))
    done, _ = await asyncio.wait([task], timeout=random.random() / 20)
    task.cancel()
    if done:
        return check(task.result().text)
    await asyncio.wait([task])
    if task.cancelled() or not task.exception():
        raise LeftEarly
    raise task.exception()  # type: ignore[misc]


async def atools(soak: Soak) -> None:
    check_call((await soak.models().chat.bind_tools([get_weather]).ainvoke("the weather")).tool_calls)


async def acompletion(soak: Soak) -> None:
    check(await soak.models().llm.ainvoke("say it"))


async def aindex_chat(soak: Soak) -> None:
    check((await soak.models().index.achat([ChatMessage(role="user", content="say it")])).message.content or "")


async def aindex_stream(soak: Soak) -> None:
    text = ""
    async for part in await soak.models().index.astream_chat([ChatMessage(role="user", content="say it")]):
        text = part.message.content or ""
    check(text)


async def aembed(soak: Soak) -> None:
    assert len(await soak.embeddings.aembed_documents(["one", "two"])) == 2


async def arerank(soak: Soak) -> None:
    assert len(await soak.reranker.acompress_documents([Document(text) for text in "abc"], "a")) == 2


BLOCKING = [
    invoke, stream, leave, tools, completion, index_chat, index_stream, index_complete,
    embed, index_embed, rerank, index_rerank,
]  # fmt: skip
AWAITED = [ainvoke, astream, cancel, atools, acompletion, aindex_chat, aindex_stream, aembed, arerank]


# -- the run


def work(soak: Soak) -> None:
    while not soak.over.is_set():
        request = random.choice(BLOCKING)
        soak.ask(request.__name__, request)


def work_awaited(soak: Soak) -> None:
    """One event loop after another, each for half a minute."""

    async def one() -> None:
        until = time.monotonic() + 30
        while not soak.over.is_set() and time.monotonic() < until:
            request = random.choice(AWAITED)
            await soak.aask(request.__name__, request)

    async def loop() -> None:
        await asyncio.gather(*(one() for _ in range(TASKS)))

    while not soak.over.is_set():
        asyncio.run(loop())


def restart(soak: Soak, server: LocalServer) -> None:
    """Kills the server without a word, leaves it dead for a moment, and starts it again at the same place."""
    while not soak.over.wait(random.uniform(15, 30)):
        if server.pid:
            os.kill(server.pid, 9)
        soak.over.wait(random.uniform(0, 2))
        server.stop()
        server.start()
        soak.restarts += 1


@contextmanager
def servers() -> Iterator[tuple[LocalServer, LocalServer, LocalServer]]:
    small: Any = {"threads": 1, "threads_http": 16, "warmup": False, "parallel": 4}
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        script = build_scripted(directory / "chat.gguf", {"weather": CALL, "user": TEXT})
        encoder = build_random_encoder(directory / "encoder.gguf")
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        yield (
            stack.enter_context(LocalServer(script, ctx_size=8192, port=port, **small)),
            stack.enter_context(LocalServer(encoder, embeddings=True, pooling="mean", ctx_size=1024, **small)),
            stack.enter_context(LocalServer(encoder, reranking=True, ctx_size=1024, **small)),
        )


@dataclass
class Sample:
    minute: float
    requests: int
    descriptors: int
    memory: float
    threads: int


def sample(soak: Soak, began: float) -> Sample:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Sample(
        (time.monotonic() - began) / 60,
        sum(soak.started.values()),
        len(os.listdir("/proc/self/fd")),
        pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
        threading.active_count(),
    )


def run(minutes: float) -> tuple[Soak, list[Sample]]:
    samples = []
    with servers() as (chat, embedding, reranking), ExitStack() as stack:
        soak = Soak(chat.base_url, embedding.base_url, reranking.base_url)
        for fault in SPOILT:
            soak.proxies.append(stack.enter_context(Proxy(chat.base_url, fault)))
            soak.spoilt.append(Models.at(soak.proxies[-1].base_url))
        jobs = [(work, ())] * THREADS + [(work_awaited, ()), (restart, (chat,))]
        threads = [threading.Thread(target=job, args=(soak, *more)) for job, more in jobs]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        while (left := began + minutes * 60 - time.monotonic()) > 0:
            time.sleep(min(10, left))
            samples.append(sample(soak, began))
            for proxy in soak.proxies:
                proxy.requests.clear()
            print(samples[-1], len(soak.wrong), file=sys.stderr, flush=True)
        soak.over.set()
        for thread in threads:
            thread.join(LONGEST)
            if thread.is_alive():
                soak.wrong.append("! a request hangs")
    return soak, samples


def verdict(soak: Soak, samples: list[Sample]) -> list[str]:
    """What is wrong; nothing is what it should be."""
    wrong = list(soak.wrong)
    started, ended = sum(soak.started.values()), sum(soak.outcomes.values())
    if started != ended:
        wrong.append(f"{started} requests and {ended} outcomes")
    quarter = len(samples) // 4
    early, late = samples[quarter : 2 * quarter], samples[-quarter:]
    for name, most in (("descriptors", 10), ("threads", 5), ("memory", 10)):
        grown = median(getattr(s, name) for s in late) - median(getattr(s, name) for s in early) if quarter else 0
        if grown > most:
            wrong.append(f"{name} grew by {grown:.0f} from the second quarter to the last")
    return wrong


def report(soak: Soak, samples: list[Sample], minutes: float) -> str:
    packages = ("xllamacpp", "httpx", "langchain-core", "llama-index-core")
    lines = [
        "# Load and fuzz testing",
        "",
        f"`python -m tests.soak --minutes {minutes:g} --write`, on {platform.system()} {platform.machine()} with "
        f"{os.cpu_count()} cores, Python {platform.python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in packages)
        + ".",
        "",
        f"{THREADS} threads and {TASKS} tasks (a new event loop every half minute) send requests to three real servers "
        "without a pause, through LangChain and LlamaIndex. "
        f"A quarter of the chats goes through proxies with the faults of the [fault matrix](fault-matrix.md), and the "
        f"chat server was killed and restarted {soak.restarts} times. The model always generates one known text, so a "
        "wrong or truncated answer is detected.",
        "",
        "| requests | count |",
        "|---|---|",
        f"| sent | {sum(soak.started.values())} |",
        *(f"| {name} | {count} |" for name, count in sorted(soak.outcomes.items(), key=lambda o: -o[1])),
        f"| without an outcome | {sum(soak.started.values()) - sum(soak.outcomes.values())} |",
        "",
        "By kind: " + ", ".join(f"{name} {count}" for name, count in sorted(soak.started.items())) + ".",
        "",
        "| minute | requests | open files | memory, MiB | threads |",
        "|---|---|---|---|---|",
    ]
    step = max(len(samples) // 20, 1)
    for s in samples[step - 1 :: step]:
        lines.append(f"| {s.minute:.1f} | {s.requests} | {s.descriptors} | {s.memory:.0f} | {s.threads} |")
    found = verdict(soak, samples)
    good = "No request was lost or hung; resource usage did not grow."
    lines += ["", "Wrong: " + "; ".join(found) if found else good]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--write", action="store_true", help="the result into docs/soak.md")
    args = parser.parse_args()
    warnings.simplefilter("ignore", DeprecationWarning)
    soak, samples = run(args.minutes)
    text = report(soak, samples, args.minutes)
    print(text)
    if args.write:
        _, mark, rest = (DOCS.read_text(encoding="utf-8") if DOCS.exists() else "").partition(FUZZING)
        DOCS.write_text(text + mark + rest, encoding="utf-8")
    return bool(verdict(soak, samples))


if __name__ == "__main__":
    sys.exit(main())
