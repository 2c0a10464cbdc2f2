"""Slots that share one context: long prompts at once crowd each other out, and each is answered all the same."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from langchain_llamacpp_server import ChatLlamaServer
from llamacpp_server import (
    ChatRequest,
    CompletionRequest,
    LlamaServerClient,
    LocalServer,
    ServerBusyError,
)
from llamacpp_server.transport import gate_for, note_context
from llamaindex_llamacpp_server import LlamaServer

MODEL = Path(__file__).parents[2] / "models" / "tiny-chat.gguf"
FEW: Any = {"max_tokens": 4, "temperature": 0}
LONG: Any = {"max_tokens": 60, "temperature": 0, "ignore_eos": True}
CONTEXT = 512


@pytest.fixture(scope="module")
def shared() -> Iterator[LlamaServerClient]:
    with LocalServer(MODEL, ctx_size=CONTEXT, threads=1) as server, server.client() as client:
        assert (client.props().total_slots, client.props().n_ctx) == (4, CONTEXT)
        yield client


@pytest.fixture(scope="module")
def texts(shared: LlamaServerClient) -> list[str]:
    each = len(shared.tokenize("the quiet river "))
    return [f"{number} " + "the quiet river " * (400 // each) for number in range(6)]


@pytest.fixture(params=[pytest.param("known", marks=pytest.mark.long), "unknown"])
def is_known(shared: LlamaServerClient, request: pytest.FixtureRequest) -> bool:
    """Whether the client knows that the slots share a context, as it does of a LocalServer, before it is full."""
    note_context(shared.settings.base_url, shared=True if request.param == "known" else None)
    return bool(request.param == "known")


def at_once(texts: list[str], number: int, ask: Callable[[str], object]) -> list[Any]:
    """What each text gives: an answer, or the error."""

    def one(text: str) -> object:
        try:
            return ask(text)
        except ServerBusyError as error:
            return error

    with ThreadPoolExecutor(number) as threads:
        return list(threads.map(one, texts))


@pytest.mark.usefixtures("is_known")
@pytest.mark.parametrize("number", [pytest.param(2, marks=pytest.mark.long), 6])
def test_unstreamed_replies_to_long_prompts_all_come(shared: LlamaServerClient, texts: list[str], number: int) -> None:
    def chat(text: str) -> object:
        return shared.chat(ChatRequest(messages=[{"role": "user", "content": text}], params=FEW)).finish_reason

    def complete(text: str) -> object:
        return shared.complete(CompletionRequest(prompt=text, params=FEW)).finish_reason

    for ask in (chat, complete):
        assert {type(found) for found in at_once(texts, number, ask)} == {str}


def streamed(client: LlamaServerClient, text: str) -> bool:
    """Whether a stream that is read as it comes ends as it should."""
    request = ChatRequest(messages=[{"role": "user", "content": text}], params=LONG)
    return any(delta.finish_reason is not None for delta in client.stream_chat(request))


@pytest.mark.usefixtures("is_known")
@pytest.mark.parametrize("number", [pytest.param(2, marks=pytest.mark.long), 6])
def test_streams_that_are_read_as_they_come_all_end(shared: LlamaServerClient, texts: list[str], number: int) -> None:
    def complete(text: str) -> bool:
        deltas = shared.stream_complete(CompletionRequest(prompt=text, params=LONG))
        return any(delta.finish_reason is not None for delta in deltas)

    assert at_once(texts, number, lambda text: streamed(shared, text)) == [True] * len(texts)
    assert at_once(texts, number, complete) == [True] * len(texts)


def test_streams_with_a_limit_of_their_own_all_end(shared: LlamaServerClient, texts: list[str]) -> None:
    note_context(shared.settings.base_url, shared=None)
    with shared.with_settings(max_concurrency=6) as client:
        assert at_once(texts, 6, lambda text: streamed(client, text)) == [True] * len(texts)


def test_streams_beside_unstreamed_replies_all_end(shared: LlamaServerClient, texts: list[str]) -> None:
    note_context(shared.settings.base_url, shared=None)

    def ask(text: str) -> bool:
        if int(text.split()[0]) % 2:
            return streamed(shared, text)
        return shared.complete(CompletionRequest(prompt=text, params=LONG)).finish_reason == "length"

    assert at_once(texts, 6, ask) == [True] * len(texts)


def test_a_full_context_teaches_that_it_is_shared(shared: LlamaServerClient, texts: list[str]) -> None:
    note_context(shared.settings.base_url, shared=None)
    at_once(texts, 6, lambda text: shared.complete(CompletionRequest(prompt=text, params=FEW)))
    assert gate_for(shared.settings.base_url).shares_context


@pytest.mark.usefixtures("is_known")
def test_short_prompts_still_run_at_once(shared: LlamaServerClient) -> None:
    gate, most = gate_for(shared.settings.base_url), 0

    def chat(text: str) -> bool:
        nonlocal most
        request = ChatRequest(messages=[{"role": "user", "content": text}], params=LONG)
        for _ in shared.stream_chat(request):
            most = max(most, gate.running())
        return True

    assert at_once([f"Hello {number}" for number in range(12)], 12, chat) == [True] * 12
    assert most == 4


@pytest.mark.usefixtures("is_known")
def test_batches_and_gathers_of_both_frameworks_all_come(shared: LlamaServerClient, texts: list[str]) -> None:
    from llama_index.core.llms import ChatMessage

    chat = ChatLlamaServer(base_url=shared.settings.base_url, **FEW)
    llm = LlamaServer(base_url=shared.settings.base_url, context_window=CONTEXT, **FEW)

    async def gathered() -> list[Any]:
        return await asyncio.gather(*(llm.achat([ChatMessage(text)]) for text in texts))

    async def all_streamed(text: str) -> int:
        return len([chunk async for chunk in chat.astream(text)]) + len(
            [chunk async for chunk in await llm.astream_chat([ChatMessage(text)])]
        )

    async def all_streams() -> list[int]:
        return await asyncio.gather(*map(all_streamed, texts))

    assert all(asyncio.run(all_streams()))
    assert all(reply.usage_metadata for reply in chat.batch(texts))
    assert all(reply.usage_metadata for reply in asyncio.run(chat.abatch(texts)))
    assert all(reply.raw for reply in asyncio.run(gathered()))


def test_a_context_that_is_not_shared_holds_nothing_back() -> None:
    with LocalServer(MODEL, ctx_size=4 * CONTEXT, parallel=4) as server:
        assert gate_for(server.base_url).shares_context is False


def test_what_slots_hold_together_shows_that_they_share_nothing(texts: list[str]) -> None:
    with LocalServer(MODEL, ctx_size=4 * CONTEXT, parallel=4, threads=1) as server, server.client() as client:
        note_context(server.base_url, shared=None)
        gate, most = gate_for(server.base_url), 0

        def ask(text: str) -> bool:
            nonlocal most
            deltas = client.stream_complete(CompletionRequest(prompt=text, params=LONG))
            for _ in deltas:
                most = max(most, gate.running())
            return True

        assert at_once(texts, 6, ask) == [True] * len(texts)
        assert most > 1, "the first ones wait for each other, until two slots hold more than one context has"


def test_kv_unified_false_divides_the_context_of_an_automatic_number_of_slots() -> None:
    with LocalServer(MODEL, ctx_size=CONTEXT, kv_unified=False) as server, server.client() as client:
        assert (client.props().total_slots, client.props().n_ctx) == (4, CONTEXT // 2)
        assert gate_for(server.base_url).shares_context is False
