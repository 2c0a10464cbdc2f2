"""Requests that name a slot: what the server does to two of them, and that ours never overlap.

The model here looks into its context before each word: for a conversation about Alice it says "alice" and for one about
Bob "bob", without end. A text with both in it is a stream whose context was exchanged while it ran.
"""

import asyncio
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from llamacpp_server import (
    AsyncLlamaServerClient,
    ChatRequest,
    CompletionRequest,
    LlamaServerClient,
    LocalServer,
    RequestTimeoutError,
)
from llamacpp_server.transport import (
    gate_for,
)
from tests import behind_doors
from tests.models import Script, build_scripted

ALICE = [{"role": "user", "content": "Who is she? " * 20 + "Alice"}]
BOB = [{"role": "user", "content": "What is his name? " * 20 + "Bob"}]
SHORT, LONG, ENDLESS = 4, 1000, 10**8


@pytest.fixture(scope="module")
def twofaced(tmp_path_factory: pytest.TempPathFactory, serve: Any) -> LocalServer:
    path = tmp_path_factory.mktemp("twofaced") / "twofaced.gguf"
    faces = {name: Script(says=[f"{name.lower()} "], endless=True, looks_back=True) for name in ("Alice", "Bob")}
    build_scripted(path, {**faces, "user": "nobody"}, context_length=65536)
    return serve(path, parallel=2, ctx_size=131072, context_shift=True)


def request(messages: Any, tokens: int, **params: Any) -> ChatRequest:
    kwargs = {"enable_thinking": False}
    return ChatRequest(messages=messages, params={"max_tokens": tokens, "chat_template_kwargs": kwargs, **params})


def names_in(text: str) -> set[str]:
    return set(text.split())


# -- the server


def raw(url: str, messages: Any, tokens: int, slot: int) -> Iterator[str]:
    body = {
        "messages": messages,
        "max_tokens": tokens,
        "id_slot": slot,
        "stream": True,
        "chat_template_kwargs": {"enable_thinking": False},
    }
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=20, trust_env=False) as response:
        for line in response.iter_lines():
            if line.startswith("data: {"):
                choices = json.loads(line[6:])["choices"]
                yield (choices[0]["delta"].get("content") or "") if choices else ""


def test_the_server_mixes_two_sessions_when_a_second_request_names_a_busy_slot(
    twofaced: LocalServer, idle: Callable[..., None]
) -> None:
    """The fact for which there is a lock (b11434, 2026.10.11549). Without it, this file can go."""
    url = twofaced.base_url
    assert names_in("".join(raw(url, BOB, SHORT, 0))) == {"bob"}
    stream = raw(url, ALICE, 20_000, 0)  # Bob's context goes into the server's RAM cache
    before = "".join(itertools.islice(stream, 20))
    assert names_in(before) == {"alice"}
    second = threading.Thread(target=lambda: list(raw(url, BOB, SHORT, 0)))
    second.start()
    swapped = any("bob" in text for text in stream)
    stream.close()  # type: ignore[attr-defined]
    second.join()
    assert swapped, "the server swaps the context of a running request no more: the lock can go"
    idle(twofaced)


# -- our client


def remember_bob(client: LlamaServerClient) -> None:
    """Bob's session ran once, and Alice's after it, so his context is in the server's RAM cache."""
    for messages in (BOB, ALICE):
        client.chat(request(messages, SHORT, id_slot=0))


@pytest.mark.parametrize("first_slot", [0, None, 2], ids=["named", "unnamed", "the same one by another number"])
def test_threads_never_overlap_in_a_slot(twofaced: LocalServer, first_slot: int | None) -> None:
    """A stream that names no slot may be in any; and the server takes the number modulo its slots."""
    named = {} if first_slot is None else {"id_slot": first_slot}
    ended: list[str] = []
    with LlamaServerClient(twofaced.base_url) as client:
        remember_bob(client)
        stream = client.stream_chat(request(ALICE, LONG, **named))
        text = "".join(delta.content for delta in itertools.islice(stream, 20))

        def second() -> None:
            ended.append(client.chat(request(BOB, SHORT, id_slot=0)).content)

        thread = threading.Thread(target=second)
        thread.start()
        for delta in stream:
            text += delta.content
            assert not ended, "it waits for the stream"
        thread.join()
    assert names_in(text) == {"alice"}
    assert names_in(ended[0]) == {"bob"}
    assert not gate_for(twofaced.base_url).state().held


async def test_event_loops_and_threads_never_overlap_in_a_slot(twofaced: LocalServer) -> None:
    """Sessions of one process, blocking and awaited, in several loops and without a limit, all in one slot."""

    def blocking(messages: Any) -> str:
        with LlamaServerClient(twofaced.base_url, max_concurrency=None) as client:
            return client.chat(request(messages, 200, id_slot=0)).content

    with LlamaServerClient(twofaced.base_url) as client:
        remember_bob(client)

    async def session(messages: Any) -> str:
        async with AsyncLlamaServerClient(twofaced.base_url) as client:
            asked = request(messages, 200)
            asked = ChatRequest(messages=messages, params=asked.params, extra_body={"id_slot": 0})
            return (await client.chat(asked)).content

    def loop_of_its_own(messages: Any) -> str:
        return asyncio.run(session(messages))

    people = [ALICE, BOB] * 3
    works = [session, *[lambda m, f=f: asyncio.to_thread(f, m) for f in (blocking, loop_of_its_own)]]
    texts = await asyncio.gather(*(works[n // 2 % 3](messages) for n, messages in enumerate(people)))
    assert [names_in(text) for text in texts] == [{"alice"}, {"bob"}] * 3


def test_requests_that_name_different_slots_run_together(twofaced: LocalServer) -> None:
    with LlamaServerClient(twofaced.base_url) as client:
        stream = client.stream_chat(request(ALICE, ENDLESS, id_slot=0))
        next(stream)
        assert names_in(client.chat(request(BOB, SHORT, id_slot=1)).content) == {"bob"}
        assert gate_for(twofaced.base_url).state().held, "the first one still runs"
        stream.close()  # type: ignore[attr-defined]


def test_a_text_completion_waits_too(twofaced: LocalServer) -> None:
    with LlamaServerClient(twofaced.base_url) as client:
        stream = client.stream_chat(request(ALICE, ENDLESS, id_slot=0))
        next(stream)
        asked = CompletionRequest(prompt="Bob", params={"max_tokens": 1, "id_slot": 0})
        with pytest.raises(RequestTimeoutError):
            client.with_settings(total_timeout=0.1).complete(asked)
        stream.close()  # type: ignore[attr-defined]


def test_within_a_stream_that_has_ended_on_the_server_its_slot_can_be_named(
    twofaced: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody reads the stream while its own reader waits; the server is done with it, so the slot is free."""
    for patience in (behind_doors.PATIENCE, f"{behind_doors.SHELLS}.PATIENCE"):
        monkeypatch.setattr(patience, 0.1)
    with LlamaServerClient(twofaced.base_url) as client:
        stream = client.stream_chat(request(ALICE, 200, id_slot=0))
        text = next(stream).content
        started = time.monotonic()
        assert names_in(client.chat(request(BOB, SHORT, id_slot=0)).content) == {"bob"}
        assert time.monotonic() - started < 30
        text += "".join(delta.content for delta in stream)
    assert names_in(text) == {"alice"}
