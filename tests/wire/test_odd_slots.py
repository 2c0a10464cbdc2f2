"""A server that tells an impossible number of slots holds nobody up."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from llamacpp_server import ChatRequest, LlamaServerClient
from tests.unit.events import DONE, chunk, text
from tests.wire.scripted_server import Answer, ScriptedServer, head, reply
from tests.wire.scripted_server import chunk as piece

CHAT = ChatRequest(messages=[{"role": "user", "content": "Hello"}])
HELLO = Answer((0.02, head(), piece(text("Hello") + chunk(finish="stop") + DONE), b"0\r\n\r\n"))


@pytest.mark.parametrize("slots", [-1, 0, "4", 0.5, 1e308, True, [1], {"a": 1}, 10**30, None, float("nan")])
def test_all_calls_are_answered_whatever_number_of_slots_is_reported(slots):
    with ScriptedServer(HELLO, routes={"/props": [reply({"total_slots": slots})]}) as server:
        client = LlamaServerClient(server.url)
        with ThreadPoolExecutor(6) as threads:
            calls = [threads.submit(client.chat, CHAT) for _ in range(6)]
            assert [call.result(20).content for call in calls] == ["Hello"] * 6


@pytest.mark.parametrize("entries", [[None], ["x"], [1], {"a": 1}, [{"id": [1]}]])
def test_odd_entries_of_slots_hold_nobody_up(entries):
    routes = {"/props": [reply({"total_slots": 2})], "/slots": [reply(entries)]}
    with ScriptedServer(HELLO, routes=routes) as server:
        client = LlamaServerClient(server.url, total_timeout=20)
        first = client.stream_chat(ChatRequest(messages=CHAT.messages, params={"id_slot": 0}))
        next(first)
        first.close()  # type: ignore[attr-defined]
        assert client.chat(ChatRequest(messages=CHAT.messages, params={"id_slot": 0})).content == "Hello"
