"""How many Python functions a request and a chunk take: the cost, counted, since times are noise on shared machines.

Functions of this package, of httpx and of the writer of JSON count, and those of LlamaIndex, which makes events whether
or not anything gets them; LangChain's, and how the frameworks are built, are not ours. The bounds are what was measured
and ten percent: whoever adds a call for each chunk, or for each message, sees it here.
"""

import asyncio
import gc
import sys
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool

from benchmarks.replay import replaying, text_events
from langchain_llamacpp_server import ChatLlamaServer
from llamacpp_server import AsyncLlamaServerClient, ChatRequest, LlamaServerClient
from llamacpp_server.transport import Gate, Place, Ticket
from llamaindex_llamacpp_server import LlamaServer

COUNTED = (
    *("llamacpp_server/", "langchain_llamacpp_server/", "llamaindex_llamacpp_server/", "httpx/", "json/"),
    *("llama_index", "wrapt/"),
)
FEW, MANY = 20, 120
MOST_MODULES, MOST_FUNCTIONS = 55, 258

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": f"tool_{number}",
            "description": "Forecast for a city.",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "Its name."},
                    "days": {"type": "integer", "minimum": 1, "default": 3},
                    "units": {"enum": ["c", "f"]},
                },
                "required": ["city"],
            },
        },
    }
    for number in range(10)
]
HISTORY = [
    message for turn in range(20) for message in (HumanMessage(f"question {turn}"), AIMessage(f"answer {turn}"))
][:-1]


@pytest.fixture(scope="module")
def servers():
    with replaying(text_events(FEW), at_once=True) as few, replaying(text_events(MANY), at_once=True) as many:
        yield {FEW: few, MANY: many}


@contextmanager
def counting():
    """A list whose first entry is how many functions were called meanwhile."""
    count = [0]

    def note(frame, event, _):
        if event == "call" and any(part in frame.f_code.co_filename for part in COUNTED):
            count[0] += 1

    gc.disable()  # so that no finaliser of others runs
    sys.setprofile(note)
    try:
        yield count
    finally:
        sys.setprofile(None)
        gc.enable()


@contextmanager
def noting() -> Iterator[set[tuple[str, str]]]:
    """The functions of our packages that are called meanwhile, each as its file and its name."""
    passed: set[tuple[str, str]] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and "llamacpp_server/" in frame.f_code.co_filename:
            passed.add((frame.f_code.co_filename, frame.f_code.co_qualname))

    gc.disable()
    sys.setprofile(note)
    try:
        yield passed
    finally:
        sys.setprofile(None)
        gc.enable()


def core(url):
    client = LlamaServerClient(url)
    return lambda: client.stream_chat(ChatRequest(messages=[{"role": "user", "content": "Hello"}]))


def langchain(url):
    model = ChatLlamaServer(base_url=url)
    return lambda: model.stream("Hello")


def langchain_tools(url):
    model = ChatLlamaServer(base_url=url).bind_tools(TOOLS)
    return lambda: model.stream("Hello")


def langchain_history(url):
    model = ChatLlamaServer(base_url=url)
    return lambda: model.stream(HISTORY)


def llamaindex(url):
    model = LlamaServer(base_url=url, context_window=4096)
    model._rests = model._info_key(), float("inf")  # this server tells nothing of itself, and is asked now and then
    messages = [ChatMessage(role="user", content="Hello")]
    return lambda: model.stream_chat(messages)


def search(text: str, most: int = 3) -> str:
    """Searches a catalogue."""
    return text + str(most)


def llamaindex_tools(url):
    model = LlamaServer(base_url=url, context_window=4096)
    model._rests = model._info_key(), float("inf")
    tools = [FunctionTool.from_defaults(search, name=f"search_{number}") for number in range(10)]
    return lambda: model.stream_chat_with_tools(tools, "Hello")


def to_the_first_chunk(stream):
    for _ in range(3):  # connections, caches and what is imported late
        deque(stream(), maxlen=0)
    with counting() as count:
        chunks = iter(stream())
        next(chunks)
    deque(chunks, maxlen=0)
    return count[0]


def of_all_chunks(stream):
    for _ in range(3):
        deque(stream(), maxlen=0)
    with counting() as count:
        deque(stream(), maxlen=0)
    return count[0]


@pytest.mark.parametrize(
    ("way", "most"),
    [
        (core, 267),
        (langchain, 334),
        (langchain_tools, 413),
        (langchain_history, 353),
        *[(llamaindex, 366), (llamaindex_tools, 515)],
    ],
)
def test_a_request_takes_few_functions_up_to_its_first_chunk(servers, way, most):
    assert to_the_first_chunk(way(servers[FEW])) <= most * 1.1


def test_one_chat_with_a_tool_passes_few_functions_in_few_modules(servers: dict[int, str]) -> None:
    """How far a reader has to walk, from `stream` to the first chunk; comprehensions are no functions."""
    stream = langchain_tools(servers[FEW])
    for _ in range(3):
        deque(stream(), maxlen=0)
    with noting() as passed:
        chunks = iter(stream())
        next(chunks)
    deque(chunks, maxlen=0)
    named = {function for function in passed if not function[1].endswith(("comp>", "<genexpr>", "<lambda>"))}
    assert len(named) > 100
    assert len({module for module, _ in passed}) <= MOST_MODULES
    assert len(named) <= MOST_FUNCTIONS


@pytest.mark.parametrize(("way", "most"), [(core, 11), (langchain, 16), (llamaindex, 19)])
def test_a_chunk_takes_few_functions(servers, way, most):
    counts = {number: of_all_chunks(way(url)) for number, url in servers.items()}
    assert (counts[MANY] - counts[FEW]) / (MANY - FEW) <= most * 1.1


def acore(url):
    client = AsyncLlamaServerClient(url)
    return client, lambda: client.stream_chat(ChatRequest(messages=[{"role": "user", "content": "Hello"}]))


def alangchain(url):
    model = ChatLlamaServer(base_url=url)
    return model, lambda: model.astream("Hello")


def in_a_crowd(way, url, streams):
    """Functions for each chunk of so many streams at once in one event loop."""

    async def read(stream):
        return [None async for _ in stream()]

    async def main():
        owner, stream = way(url)
        await asyncio.gather(*(read(stream) for _ in range(streams)))
        with counting() as count:
            await asyncio.gather(*(read(stream) for _ in range(streams)))
        await owner.aclose()
        await asyncio.sleep(0)  # asyncio closes sockets one step later
        return count[0] / streams / MANY

    return asyncio.run(main())


@pytest.mark.parametrize("way", [acore, pytest.param(alangchain, marks=pytest.mark.long)])
def test_a_chunk_takes_as_many_functions_in_a_crowd_as_alone(servers, way):
    alone, crowd = in_a_crowd(way, servers[MANY], 1), in_a_crowd(way, servers[MANY], 48)
    assert crowd <= alone * 1.15


class Loop:
    """Stands for an event loop: without one, a request waits for the thread of others."""


def in_a_gate(size, requests):
    """Functions for each request of so many that come at once and run as there is room."""
    loop, gate = Loop(), Gate()
    first = Ticket()
    first.enter(gate, Place())
    gate.resize(size)
    tickets = []
    with counting() as count:
        for session in range(requests):
            place = Place(session=session % 7)
            place.loop = weakref.ref(loop)
            tickets.append(Ticket())
            tickets[-1].enter(gate, place)
        first.leave()
        for _ in tickets:
            gate.state().held[0].left = True
            gate.settle()
    assert not gate.state().held
    return count[0] / requests


@pytest.mark.parametrize("size", [4, 1 << 30])
def test_a_request_costs_the_same_however_many_wait_or_run(size):
    assert in_a_gate(size, 400) <= in_a_gate(size, 40) * 1.15


class CountedGate(Gate):
    """Counts how often it goes through all that wait."""

    settled = 0

    def settle(self) -> None:
        self.settled += 1
        super().settle()


def test_one_of_many_that_wait_looks_for_all_of_them() -> None:
    loop, gate, first = Loop(), CountedGate(), Ticket()
    first.enter(gate, Place())
    gate.resize(1)
    places = [Place() for _ in range(400)]
    for place in places:
        place.loop = weakref.ref(loop)
        gate.enter(place)
    gate.look(places[0])
    before = gate.settled
    for place in places[1:50]:
        gate.look(place)
    assert gate.settled - before < 25, "each one would go through all others"
    gate.look(places[0])
    assert gate.settled > before, "the first in the queue always looks"
    first.leave()
    assert gate.state().held == (places[0],)
