"""One client in many places: threads, event loops one after another and at once, trio, forks, copies and pickles."""

import asyncio
import copy
import gc
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading

import httpx
import pytest
import trio
import uvloop

from llamacpp_server import (
    AsyncLlamaServerClient,
    ChatRequest,
    LlamaServerClient,
    LlamaServerError,
    ServerSettings,
)

CHAT = ChatRequest(messages=[{"role": "user", "content": "Hello"}], params={"max_tokens": 3, "ignore_eos": True})
KEY = "sk-verysecret-4711"


async def answered(client):
    reply = await client.chat(CHAT)
    assert reply.usage is not None
    return reply.usage.completion_tokens


# -- event loops


def test_one_event_loop_after_another(chat_server):
    client = AsyncLlamaServerClient(chat_server.base_url)
    assert [asyncio.run(answered(client)) for _ in range(3)] == [3, 3, 3]
    gc.collect()  # what was left open would be reported here, and every warning is an error


def test_event_loops_in_threads_at_once(chat_server):
    client, found = AsyncLlamaServerClient(chat_server.base_url), []
    threads = [threading.Thread(target=lambda: found.append(asyncio.run(answered(client)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert found == [3] * 4
    gc.collect()


def test_trio_and_asyncio_by_turns(chat_server):
    client = AsyncLlamaServerClient(chat_server.base_url)

    async def on_trio():
        async with client:
            return await answered(client)

    assert [trio.run(on_trio), asyncio.run(answered(client)), trio.run(on_trio)] == [3, 3, 3]
    gc.collect()


def test_uvloop_and_asyncio_by_turns(chat_server):
    client = AsyncLlamaServerClient(chat_server.base_url)
    assert [uvloop.run(answered(client)), asyncio.run(answered(client)), uvloop.run(answered(client))] == [3, 3, 3]
    gc.collect()


# What notebooks do: blocking calls inside a running loop, and loops within loops.
NOTEBOOK = """
import asyncio, sys, nest_asyncio
{imports}

async def cells():
    llm = Model(base_url=sys.argv[1], max_tokens=3)
    found = [{blocking}, (await {awaited}).text, {blocking}]
    found += ["".join([chunk.text async for chunk in {streamed}])]
    nest_asyncio.apply()
    found += [asyncio.run({awaited}).text, (await {awaited}).text]
    await llm.aclose()
    return found

loop = asyncio.new_event_loop()
found = [text for _ in range(2) for text in loop.run_until_complete(cells())]
loop.run_until_complete(loop.shutdown_asyncgens())
loop.close()
print(len([text for text in found if isinstance(text, str)]))
"""


@pytest.mark.parametrize(
    "calls",
    [
        {
            "imports": "from langchain_llamacpp_server import ChatLlamaServer as Model",
            "blocking": 'llm.invoke("Hi").text',
            "awaited": 'llm.ainvoke("Hi")',
            "streamed": 'llm.astream("Hi")',
        },
        pytest.param(
            {
                "imports": "from llamaindex_llamacpp_server import LlamaServer as Model",
                "blocking": 'llm.complete("Hi").text',
                "awaited": 'llm.acomplete("Hi")',
                "streamed": 'await llm.astream_complete("Hi")',
            },
            marks=pytest.mark.long,
        ),
    ],
    ids=["langchain", "llamaindex"],
)
def test_a_loop_that_is_kept_between_cells_and_loops_within_it(chat_server, calls):
    """In a process of its own, since nest_asyncio patches asyncio for good."""
    # nest_asyncio asks for a loop in a way of old that Python 3.12 and later warn about.
    command = [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c"]
    command += [NOTEBOOK.format(**calls), chat_server.base_url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout.strip(), done.stderr) == ("12", "")


def test_a_client_is_of_use_after_it_was_closed(connect, chat_server):
    client = connect(chat_server)
    for _ in range(2):
        assert client.health().ready
        getattr(client, "aclose" if client.kind == "async" else "close")()
    assert client.health().ready


def test_many_at_once_in_one_loop(chat_server):
    async def main():
        async with AsyncLlamaServerClient(chat_server.base_url) as client:
            return await asyncio.gather(*(answered(client) for _ in range(12)))

    assert asyncio.run(main()) == [3] * 12


def test_many_threads_with_one_client(chat_server):
    with LlamaServerClient(chat_server.base_url) as client:
        found = []
        threads = [threading.Thread(target=lambda: found.append(client.chat(CHAT).usage)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert [usage.completion_tokens for usage in found] == [3] * 8


# -- copies and pickles


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))],
                         ids=["copy", "deepcopy", "pickle"])  # fmt: skip
def test_a_copy_of_a_used_client_works(connect, chat_server, again):
    client = connect(chat_server, model="m", read_timeout=7.5)
    assert client.health().ready
    other = again(client.client)
    assert other.settings == client.client.settings
    if client.kind == "sync":
        assert other.health().ready
        other.close()
    else:
        assert client.runner.run(other.health()).ready
        client.runner.run(other.aclose())
    assert client.health().ready


@pytest.mark.parametrize("cls", [LlamaServerClient, AsyncLlamaServerClient])
def test_a_pickle_carries_the_key_and_shows_it_to_nobody(cls):
    client = cls("http://localhost:1", api_key=KEY)
    other = pickle.loads(pickle.dumps(client))
    assert other.settings.request_headers() == {"Authorization": f"Bearer {KEY}"}
    assert KEY not in repr(other) + str(other) + repr(vars(other)) + repr(other.settings)


@pytest.mark.parametrize(
    ("cls", "own"), [(LlamaServerClient, httpx.Client), (AsyncLlamaServerClient, httpx.AsyncClient)]
)
def test_connections_of_the_callers_are_not_pickled_and_that_is_said(cls, own):
    client = cls("http://localhost:1", http_client=own())
    with pytest.raises(TypeError, match="http_client"):
        pickle.dumps(client)
    assert repr(copy.deepcopy(client)) == repr(client)


def _ask_in_a_child(client, answers):
    answers.put((os.getpid(), client.health().ready))


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_client_goes_into_another_process(chat_server, method):
    context = multiprocessing.get_context(method)
    answers = context.SimpleQueue()
    with LlamaServerClient(chat_server.base_url) as client:
        assert client.health().ready
        child = context.Process(target=_ask_in_a_child, args=(client, answers))
        child.start()
        pid, ready = answers.get()
        child.join(20)
        child.close()
        assert (pid != os.getpid(), ready) == (True, True)
        assert client.health().ready, "the child closed its parent's connection"


# -- settings and connections of the caller's own


def test_connections_can_be_shared_with_other_settings(connect, chat_server):
    client = connect(chat_server)
    other = client.client.with_settings(model="mine")
    assert (other.settings.model, client.client.settings.model) == ("mine", None)
    assert other.transport is client.client.transport


def test_an_http_client_of_the_callers_own_is_used_and_never_closed(chat_server):
    with httpx.Client(headers={"X-Mine": "1"}, trust_env=False) as own:
        with LlamaServerClient(chat_server.base_url, http_client=own) as client:
            assert client.health().ready
            assert list(client.stream_chat(CHAT))
        assert not own.is_closed
        assert own.get(f"{chat_server.base_url}/health").status_code == 200


async def test_an_awaiting_http_client_of_the_callers_own_is_used_and_never_closed(chat_server):
    async with httpx.AsyncClient(trust_env=False) as own:
        async with AsyncLlamaServerClient(chat_server.base_url, http_client=own) as client:
            assert (await client.health()).ready
            assert await answered(client) == 3
        assert not own.is_closed
        assert (await own.get(f"{chat_server.base_url}/health")).status_code == 200


def test_settings_are_given_as_one_object_or_field_by_field_and_the_environment_fills_the_rest(
    monkeypatch, chat_server
):
    monkeypatch.setenv("LLAMACPP_BASE_URL", f"{chat_server.base_url}/v1")
    monkeypatch.setenv("LLAMACPP_MODEL", "from-env")
    with LlamaServerClient() as client:
        assert client.health().ready
        assert client.model_name() == "from-env"
    settings = ServerSettings(base_url="http://elsewhere", model="m")
    client = LlamaServerClient(chat_server.base_url, settings=settings, read_timeout=3)
    assert (client.settings.base_url, client.settings.model, client.settings.read_timeout) == (
        chat_server.base_url, "m", 3
    )  # fmt: skip


def test_every_failure_is_one_of_ours(connect, chat_server):
    client = connect(chat_server)
    with pytest.raises(LlamaServerError):
        client.chat(ChatRequest(messages=[{"role": "user", "content": float("nan")}]))
    with pytest.raises(LlamaServerError):
        client.chat(ChatRequest(messages=[{"role": "user", "content": 5}]))
    assert client.health().ready
