"""Prompts that are read ahead, saved, restored and kept apart: what the server really reused of them."""

from typing import Any

import pytest

from llamacpp_server import (
    BadRequestError,
    ChatRequest,
    LlamaServerClient,
    LocalServer,
    NotSupportedError,
    PromptRead,
)

TOOL: Any = {
    "type": "function",
    "function": {
        "name": "search",
        "description": "Searches.",
        "parameters": {"type": "object", "properties": {"text": {"type": "string"}}},
    },
}


def agent(about: str, *messages: Any) -> ChatRequest:
    """The beginning of an agent's conversation: about 400 tokens that no other one has."""
    system: Any = {"role": "system", "content": f"You know all about {about}. " + f"{about}, always {about}. " * 20}
    return ChatRequest(messages=[system, *messages], tools=[TOOL])


def asked(request: ChatRequest, **params: Any) -> ChatRequest:
    question: Any = {"role": "user", "content": "What do you know?"}
    params = {"max_tokens": 1, "temperature": 0, **params}
    return ChatRequest(messages=[*request.messages, question], tools=request.tools, params=params)


@pytest.fixture
def client(chat_server: LocalServer) -> LlamaServerClient:
    return chat_server.client()


def test_a_prompt_read_ahead_is_not_read_again(client: LlamaServerClient) -> None:
    read = client.prewarm(agent("owls"))
    assert read.tokens > 400
    assert read.reused < 100, "the beginning that all templates share"
    timings = client.chat(asked(agent("owls"))).timings
    assert timings is not None
    assert timings.cache_n is not None
    assert timings.cache_n > read.tokens - 60, "all but the end, where the question is"
    again = client.prewarm(agent("owls"))
    assert again.tokens == read.tokens
    assert again.reused > read.tokens - 60
    assert again.read == again.tokens - again.reused


async def test_awaited(chat_server: LocalServer) -> None:
    async with chat_server.async_client() as client:
        read = await client.prewarm(agent("newts"))
        timings = (await client.chat(asked(agent("newts")))).timings
    assert timings is not None
    assert (timings.cache_n or 0) > read.tokens - 60


def test_a_question_at_the_end_is_the_last_that_is_read(client: LlamaServerClient) -> None:
    request = asked(agent("mice"), max_tokens=50, n_predict=50)
    read = client.prewarm(request)
    assert read.tokens == client.count_tokens(request)
    assert client.prewarm(request).read == 1


def test_a_saved_prompt_comes_back_into_another_slot(client: LlamaServerClient) -> None:
    saved = client.save_prompt(agent("bees"), "bees.bin", id_slot=0)
    assert saved.slot.n_tokens >= saved.prompt.tokens - 1
    assert saved.slot.n_bytes > 10_000
    for slot in (0, 1):
        client.erase_slot(slot)
    restored = client.restore_prompt(asked(agent("bees")), "bees.bin", id_slot=1)
    assert restored.slot.n_tokens == saved.slot.n_tokens
    assert restored.prompt.reused > saved.prompt.tokens - 60


async def test_saved_and_restored_awaited(chat_server: LocalServer) -> None:
    async with chat_server.async_client() as client:
        saved = await client.save_prompt(agent("cats"), "cats.bin")
        await client.erase_slot(0)
        restored = await client.restore_prompt(agent("cats"), "cats.bin")
    assert restored.prompt.reused == saved.prompt.tokens - 1


def test_a_restored_cache_that_the_prompt_cannot_use_is_an_error(client: LlamaServerClient) -> None:
    client.save_prompt(agent("ants"), "ants.bin")
    with pytest.raises(BadRequestError, match=r"could reuse only \d+ of them.*must start like the saved one"):
        client.restore_prompt(agent("dogs"), "ants.bin")


def test_a_file_of_an_empty_slot_is_an_error(client: LlamaServerClient) -> None:
    """The server saves and restores nothing without a word."""
    client.erase_slot(0)
    assert client.save_slot(0, "nothing.bin").n_tokens == 0
    with pytest.raises(BadRequestError, match="restored 0 tokens"):
        client.restore_prompt(agent("eels"), "nothing.bin")


def test_a_file_that_is_not_there_is_the_servers_error(client: LlamaServerClient) -> None:
    with pytest.raises(BadRequestError, match="Unable to restore slot"):
        client.restore_prompt(agent("elks"), "missing.bin")


def test_without_a_directory_for_slots_the_flag_is_named(slow_server: LocalServer) -> None:
    with slow_server.client() as client, pytest.raises(NotSupportedError, match="--slot-save-path"):
        client.save_prompt(ChatRequest(messages=[{"role": "user", "content": "hi"}]), "x.bin")


def test_an_erased_prompt_may_still_be_in_the_ram_cache(client: LlamaServerClient) -> None:
    """The fact in the docstring of `erase_slot`: another request had put it there."""
    request = asked(agent("rats"))
    client.chat(asked(agent("rats"), id_slot=0))
    client.chat(asked(agent("hens"), id_slot=0))
    assert client.erase_slot(0).n_tokens > 0
    assert client.prewarm(request).reused > 300


def test_a_trimmed_history_is_reused_where_that_is_asked_for(serve: Any) -> None:
    server = serve("random.gguf", parallel=1, ctx_size=4096, cache_ram=0)
    turns: list[Any] = [{"role": "user", "content": f"Question {n}? " + f"word{n} " * 40} for n in range(4)]
    with server.client() as client:
        reused = {}
        for chunk in (0, 32):
            client.prewarm(agent("frogs", *turns))
            trimmed = agent("frogs", *turns[1:])
            reused[chunk] = client.prewarm(
                ChatRequest(messages=trimmed.messages, tools=trimmed.tools, params={"n_cache_reuse": chunk})
            ).reused
    assert reused[32] > reused[0] + 500


def test_salts_keep_prompts_apart_from_their_first_line(client: LlamaServerClient) -> None:
    def with_cache_salt(salt: str | None) -> ChatRequest:
        request = asked(agent("toads"))
        return ChatRequest(messages=request.messages, tools=request.tools, cache_salt=salt)

    assert "system\n[a]\nYou know all about toads" in client.apply_template(with_cache_salt("a"))
    assert "[a]" not in client.apply_template(with_cache_salt(None))
    assert client.count_tokens(with_cache_salt("a")) == client.count_tokens(with_cache_salt(None)) + len("[a]\n")
    client.prewarm(with_cache_salt("first"))
    assert client.prewarm(with_cache_salt("second")).reused < 30
    assert client.prewarm(with_cache_salt("first")).read == 1


@pytest.mark.parametrize("system", [None, [{"type": "text", "text": "Be brief."}]], ids=["none", "parts"])
def test_a_salt_without_a_system_text(client: LlamaServerClient, system: Any) -> None:
    messages: Any = [{"role": "user", "content": "hi"}]
    if system:
        messages.insert(0, {"role": "system", "content": system})
    prompt = client.apply_template(ChatRequest(messages=messages, cache_salt="a"))
    assert prompt.startswith("<|im_start|>system\n[a]")
    assert ("Be brief." in prompt) == bool(system)


def test_reads_replies_of_builds_that_do_not_report_what_was_cached() -> None:
    wire = {"usage": {"prompt_tokens": 20}, "timings": {"prompt_n": 3, "prompt_ms": 1.5}}
    assert PromptRead.from_wire(wire) == PromptRead(20, 17, 1.5)
