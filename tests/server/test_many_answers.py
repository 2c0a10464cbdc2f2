"""More answers (`n`) than the server has slots, which llama-server refuses."""

import asyncio

import httpx
import pytest
from langchain_core.messages import HumanMessage
from llama_index.core.llms import ChatMessage

from langchain_llamacpp_server import ChatLlamaServer, LlamaServerLLM
from llamacpp_server import (
    AsyncLlamaServerClient,
    BadRequestError,
    ChatRequest,
    CompletionRequest,
    InfillRequest,
    LlamaServerClient,
    RequestTimeoutError,
    fold_chat,
    fold_completion,
)
from llamaindex_llamacpp_server import LlamaServer
from tests.unit.events import DONE, chunk, text
from tests.wire.scripted_server import ScriptedServer, error, reply, stream

MESSAGES = [{"role": "user", "content": "Hello"}]
DRAWN = {"max_tokens": 6, "temperature": 3.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "ignore_eos": True}
PLAIN = {**DRAWN, "chat_template_kwargs": {"enable_thinking": False}}


@pytest.fixture(scope="module")
def narrow(serve):
    return serve("random.gguf", parallel=2)


@pytest.fixture(scope="module")
def wide(serve):
    return serve("random.gguf", parallel=8)


def chat(n, **params):
    return ChatRequest(messages=MESSAGES, params={**PLAIN, "n": n, **params})


def texts(reply):
    return [getattr(choice, "text", None) or getattr(choice, "content", None) for choice in reply.choices]


def names(reply):
    return [repair.name for repair in reply.start.repairs]


@pytest.mark.parametrize("n", [3, 4, 5])
def test_a_chat_gets_the_answers_that_a_server_with_enough_slots_gives(narrow, wide, n):
    replies = []
    for server in (narrow, wide):
        with LlamaServerClient(server.base_url) as client:
            replies.append(client.chat(chat(n, seed=7)))
    split, unsplit = replies
    assert texts(split) == texts(unsplit)
    assert len(set(texts(split))) == n
    assert (split.usage.prompt_tokens, split.usage.completion_tokens) == (unsplit.usage.prompt_tokens, 6 * n)
    assert (names(split), names(unsplit)) == (["split_n"], [])


@pytest.mark.parametrize("prompt", ["Once", ["Once", "Upon a"]], ids=["one prompt", "two prompts"])
@pytest.mark.parametrize("field", ["n", "n_cmpl"])
def test_a_completion_does_too(narrow, wide, prompt, field):
    request = CompletionRequest(prompt=prompt, params={**DRAWN, "seed": 7}, extra_body={field: 5})
    replies = []
    for server in (narrow, wide):
        with LlamaServerClient(server.base_url) as client:
            replies.append(client.complete(request))
    split, unsplit = replies
    assert texts(split) == texts(unsplit)
    assert (split.usage.prompt_tokens, split.usage.completion_tokens) == (
        unsplit.usage.prompt_tokens, unsplit.usage.completion_tokens,
    )  # fmt: skip
    assert (names(split), names(unsplit)) == (["split_n"], [])


def test_code_to_fill_in_does_too(serve):
    server = serve("fim.gguf", parallel=2)
    with LlamaServerClient(server.base_url) as client:
        reply = client.infill(InfillRequest(prefix="a = ", suffix="b", params={**DRAWN, "n": 3}))
    assert len(reply.choices) == 3


REFUSED = r"[Vv]alue must be between|n_cmpl"


def test_without_split_n_the_server_refuses_too_many_answers(narrow, serve):
    with LlamaServerClient(narrow.base_url) as client:
        client.chat(chat(3))  # what it gives at once is known from here on
        for request in (
            ChatRequest(messages=MESSAGES, params={**PLAIN, "n": 3}, split_n=False),
            CompletionRequest(prompt="Once", params={**DRAWN, "n": 3}, split_n=False),
        ):
            with pytest.raises(BadRequestError, match=REFUSED):
                (client.chat if isinstance(request, ChatRequest) else client.complete)(request)
    with LlamaServerClient(serve("fim.gguf", parallel=2).base_url) as client, pytest.raises(BadRequestError):
        client.infill(InfillRequest(prefix="a = ", suffix="b", params={**DRAWN, "n": 3}, split_n=False))


@pytest.mark.parametrize("at", ["model", "call"])
def test_both_frameworks_switch_splitting_off(narrow, at):
    of_model, of_call = ({"split_n": False}, {}) if at == "model" else ({}, {"split_n": False})
    fields = {"base_url": narrow.base_url, "max_tokens": 2, "n": 3, **of_model}
    llama_index = LlamaServer(**fields)
    for call in (
        lambda: ChatLlamaServer(**fields).generate([[HumanMessage("Hi")]], **of_call),
        lambda: LlamaServerLLM(**fields).generate(["Hi"], **of_call),
        lambda: llama_index.chat([ChatMessage("Hi")], **of_call),
        lambda: llama_index.complete("Hi", formatted=True, **of_call),
    ):
        with pytest.raises(BadRequestError, match=REFUSED):
            call()


def test_a_stream_numbers_all_answers_and_begins_once(narrow):
    with LlamaServerClient(narrow.base_url) as client:
        deltas = list(client.stream_chat(chat(5)))
        pieces = list(client.stream_complete(CompletionRequest(prompt="Once", params={**DRAWN, "n": 5})))
    for found, fold in ((deltas, fold_chat), (pieces, fold_completion)):
        assert {delta.choice for delta in found} == set(range(5))
        assert len([delta for delta in found if delta.start]) == 1
        assert len(fold(found).choices) == 5
        assert names(fold(found)) == ["split_n"]


def test_awaited_calls_are_split_too(narrow):
    async def main():
        async with AsyncLlamaServerClient(narrow.base_url) as client:
            return await client.chat(chat(3)), [delta.choice async for delta in client.stream_chat(chat(3))]

    reply, numbers = asyncio.run(main())
    assert len(reply.choices) == 3
    assert set(numbers) == {0, 1, 2}


@pytest.mark.usefixtures("fresh_memory")
def test_the_number_is_learned_once(serve):
    server, paths = serve("random.gguf", parallel=2, alias="learned"), []
    hooks = {"request": [lambda request: paths.append(request.url.path)]}
    with httpx.Client(event_hooks=hooks) as given:
        client = LlamaServerClient(server.base_url, http_client=given, max_concurrency=None)
        client.chat(chat(3))
        assert paths == ["/v1/chat/completions"] * 3, "one refusal and two halves"
        client.chat(chat(3))
    assert len(paths) == 5


def test_one_bound_of_time_holds_for_all_requests(narrow):
    with LlamaServerClient(narrow.base_url, total_timeout=0.5) as client, pytest.raises(RequestTimeoutError):
        client.chat(chat(200, max_tokens=200))


def test_other_refusals_stay(narrow):
    with LlamaServerClient(narrow.base_url) as client, pytest.raises(BadRequestError) as caught:
        client.chat(ChatRequest(messages=MESSAGES, params={"n": 2, "grammar": "not a grammar"}))
    assert "'n'" not in str(caught.value)


def test_langchain_generates_more_answers_than_slots(narrow):
    model = ChatLlamaServer(base_url=narrow.base_url, temperature=3.0, max_tokens=4, thinking=False)
    result = model.generate([[HumanMessage("Hi")], [HumanMessage("Ho")]], n=5)
    assert [len(answers) for answers in result.generations] == [5, 5]
    made = LlamaServerLLM(base_url=narrow.base_url, temperature=3.0, max_tokens=4).generate(["Hi", "Ho"], n=3)
    assert [len(answers) for answers in made.generations] == [3, 3]


def test_llamaindex_accepts_it_too(narrow):
    model = LlamaServer(base_url=narrow.base_url, max_tokens=4, thinking=False)
    assert model.chat([ChatMessage(role="user", content="Hi")], n=3).message.content is not None


@pytest.mark.parametrize(
    ("words", "asks"), [("Field 'n': Value must be between 1 and 2", False), ("n_cmpl is more than the slots", True)]
)
def test_the_number_is_read_from_the_refusal_or_asked_for(words, asks):
    answers = [error(400, words, "invalid_request_error"), stream(text("a"), chunk(finish="stop"), DONE)]
    with ScriptedServer(*answers, routes={"/props": [reply({"total_slots": 2})]}) as server:
        with LlamaServerClient(server.url, max_concurrency=None) as client:
            client.chat(ChatRequest(messages=MESSAGES, params={"n": 3}))
        assert [request.json["n"] for request in server.requests] == [3, 2, 1]
        assert [probe.path for probe in server.probes] == ["/props"] * asks
