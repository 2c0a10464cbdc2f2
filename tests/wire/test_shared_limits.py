"""What runs at once in one process: one limit for all spellings of an address, one for each model of a router."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from llama_index.core.llms import ChatMessage

from llamacpp_server import AsyncLlamaServerClient, ChatRequest, ContextOverflowError, LlamaServerClient
from llamacpp_server.transport import (
    gate_for,
)
from llamaindex_llamacpp_server import LlamaServer
from tests import behind_doors
from tests.unit.events import DONE, chunk, text
from tests.waiting import LONG
from tests.wire.scripted_server import Answer, ScriptedServer, error, reply, stream

SLOW = stream(text("Hello"), 0.05, chunk(finish="stop"), DONE)
BRISK = stream(text("Hello"), 0.02, chunk(finish="stop"), DONE)
ROUTER = reply({"role": "router", "max_instances": 4})
NOT_LOADED = error(400, "model is not loaded", "invalid_request_error")


def slots(number):
    return reply({"total_slots": number, "default_generation_settings": {}})


def of(model):
    return ChatRequest(messages=[{"role": "user", "content": "Hello"}], model=model)


def asks_for(model):
    return lambda request: request.path == "/v1/chat/completions" and request.json.get("model") == model


@pytest.mark.parametrize(
    "spelling", ["http://localhost:{}", "http://127.0.0.1:{}/v1/", "http://0.0.0.0:{}", "localhost:{}/v1/models"]
)
def test_all_spellings_of_an_address_share_one_limit(spelling):
    with ScriptedServer(BRISK, routes={"/props": [slots(2)]}) as server:
        names = [server.url, spelling.format(server.port)]
        clients = [LlamaServerClient(name) for name in names]
        with ThreadPoolExecutor(16) as pool:
            found = list(pool.map(lambda n: clients[n % 2].chat(of("m")).content, range(16)))
        for client in clients:
            client.close()
    assert found == ["Hello"] * 16
    assert server.most_at_once(asks_for("m")) <= 2


def test_other_servers_have_limits_of_their_own():
    names = ["http://localhost:1", "http://localhost:2", "http://localhost:1/prefix", "http://host:1", "unix:///x.sock"]
    assert len({id(gate_for(name)) for name in names}) == len(names)
    assert gate_for("http://HOST") is gate_for("http://host:80")
    assert gate_for("https://host") is gate_for("https://host:443")


def burst(server, *models):
    async def main():
        async with AsyncLlamaServerClient(server.url) as client:
            return await asyncio.gather(*(client.chat(of(model)) for model in models))

    return [answer.content for answer in asyncio.run(main())]


def test_each_model_of_a_router_has_slots_of_its_own():
    routes = {
        "/props": [ROUTER],
        "/props?model=a&autoload=false": [slots(3)],
        "/props?model=b&autoload=false": [slots(1)],
    }
    with ScriptedServer(SLOW, routes=routes) as server:
        assert burst(server, *"abaabaabaabaabab") == ["Hello"] * 16
        assert 1 < server.most_at_once(asks_for("a")) <= 3
        assert server.most_at_once(asks_for("b")) == 1
        assert len(server.probes) <= 6, "the slots are asked for, but not by every request"


def test_a_model_that_is_not_loaded_gets_one_request_until_its_slots_are_known():
    routes = {"/props": [ROUTER], "/props?model=a&autoload=false": [NOT_LOADED, slots(4)]}
    with ScriptedServer(SLOW, routes=routes) as server:
        assert burst(server, *"aaaaaaaaaaaa") == ["Hello"] * 12
        assert 1 < server.most_at_once(asks_for("a")) <= 4
        first = min(server.spans, key=lambda span: (not asks_for("a")(span[0]), span[1]))
        assert not [b for r, b, _ in server.spans if asks_for("a")(r) and first[1] < b < first[2]]


def test_a_server_that_reports_no_slots_is_not_limited():
    with ScriptedServer(SLOW, lacks=("/props", "/apply-template")) as server:
        assert burst(server, *"aaaaaaaa") == ["Hello"] * 8
        assert server.most_at_once(asks_for("a")) > 1


def test_places_are_given_in_the_order_of_asking():
    with ScriptedServer(BRISK, routes={"/props": [slots(1)]}) as server:
        assert burst(server, *"abcdefgh") == ["Hello"] * 8
        came = [request.json["model"] for request, *_ in server.spans if request.path == "/v1/chat/completions"]
        assert came == list("abcdefgh")


def test_a_crowd_that_needs_no_slots_does_not_run_the_server_over():
    with ScriptedServer(Answer((0.02, *reply({"tokens": [1]}).parts))) as server:

        async def main():
            async with AsyncLlamaServerClient(server.url) as client:
                return await asyncio.gather(*(client.tokenize("x") for _ in range(40)))

        assert asyncio.run(main()) == [[1]] * 40
        assert 1 < server.most_at_once() <= 4


def test_a_crowd_that_starts_at_once_asks_once_what_the_model_can_do():
    routes = {"/props": [slots(2)], "/v1/models": [reply({"data": [{"id": "m"}]})]}
    with ScriptedServer(BRISK, routes=routes) as server:
        llm = LlamaServer(base_url=server.url)

        async def main():
            answers = await asyncio.gather(*(llm.achat([ChatMessage("Hello")]) for _ in range(12)))
            await llm.aclose()
            return [answer.message.content for answer in answers]

        assert asyncio.run(main()) == ["Hello"] * 12
        assert len([probe for probe in server.probes if probe.path == "/v1/models"]) == 1


def test_threads_and_event_loops_share_one_limit():
    with ScriptedServer(BRISK, routes={"/props": [slots(2)]}) as server, LlamaServerClient(server.url) as client:
        loops = [threading.Thread(target=burst, args=(server, *"aaaa")) for _ in range(3)]
        threads = [threading.Thread(target=client.chat, args=(of("a"),)) for _ in range(4)]
        for thread in loops + threads:
            thread.start()
        for thread in loops + threads:
            thread.join(LONG)
        assert server.most_at_once(asks_for("a")) <= 2
        assert len([request for request, *_ in server.spans if asks_for("a")(request)]) == 16


CROWDED = error(500, "Context size has been exceeded.", "server_error")
CONTEXT_OF_512 = reply({"total_slots": 4, "default_generation_settings": {"n_ctx": 512}})


@pytest.mark.parametrize(("tokens", "ends"), [(100, "Hello"), (600, ContextOverflowError)])
def test_a_prompt_that_fits_is_sent_again_while_other_processes_fill_the_context(monkeypatch, tokens, ends):
    monkeypatch.setattr(behind_doors.FIRST_BACKOFF, 0.01)
    counted = reply({"tokens": list(range(tokens))})
    routes = {"/props": [CONTEXT_OF_512], "/tokenize": [counted], "/slots": [reply([])]}
    with ScriptedServer(*[CROWDED] * 6, SLOW, routes=routes) as server, LlamaServerClient(server.url) as client:
        if ends == "Hello":
            assert client.chat(of("m")).content == ends
        else:
            with pytest.raises(ContextOverflowError, match="does not fit even alone"):
                client.chat(of("m"))
