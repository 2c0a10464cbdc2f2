"""Completion: on the chat endpoint by default, and on the completion endpoint where it is asked for."""

import pytest
from llama_index.core.llms import ChatMessage
from llama_index.core.prompts import PromptTemplate

from llamacpp_server import NotSupportedError


@pytest.fixture
def thinking_llm(make_llm, thinker):
    return make_llm(thinker)


def _check(items):
    assert "".join(item.delta for item in items) == items[-1].text == "The answer is 42."
    assert items[-1].additional_kwargs["finish_reason"] == "stop"
    assert items[-1].additional_kwargs["thinking"].strip() == "Let me think."
    assert items[-1].raw["usage"]["completion_tokens"] > 0


def test_complete(thinking_llm):
    response = thinking_llm.complete("Hello")
    response.delta = response.text
    _check([response])


async def test_acomplete(thinking_llm):
    response = await thinking_llm.acomplete("Hello")
    response.delta = response.text
    _check([response])


def test_stream_complete(thinking_llm):
    _check(list(thinking_llm.stream_complete("Hello")))


async def test_astream_complete(thinking_llm):
    _check([item async for item in await thinking_llm.astream_complete("Hello")])


async def test_formatted_text_is_sent_as_it_is(recorded, chat_server):
    llm, bodies = recorded(chat_server, max_tokens=2, ignore_eos=True)
    full = llm.complete("<|im_start|>user\n", True)
    *_, last = llm.stream_complete("once", formatted=True)
    assert [body["prompt"] for body in bodies] == ["<|im_start|>user\n", "once"]
    assert full.raw["usage"]["completion_tokens"] == last.raw["usage"]["completion_tokens"] == 2
    assert last.additional_kwargs["finish_reason"] == "length"
    assert last.additional_kwargs["timings"]
    assert (await llm.acomplete("once", formatted=True)).raw["usage"]["completion_tokens"] == 2
    *_, last = [item async for item in await llm.astream_complete("once", formatted=True)]
    assert last.raw["object"] == "text_completion"
    await llm.aclose()


def test_a_given_completion_to_prompt_is_applied_once(recorded, chat_server):
    llm, bodies = recorded(chat_server, max_tokens=1, completion_to_prompt=lambda prompt: f"[INST]{prompt}[/INST]")
    llm.complete("a")
    llm.complete("[INST]b[/INST]", formatted=True)
    assert [body["prompt"] for body in bodies] == ["[INST]a[/INST]", "[INST]b[/INST]"]


async def test_a_text_model_uses_the_completion_endpoint_for_everything(recorded, chat_server):
    llm, bodies = recorded(
        chat_server, max_tokens=1, ignore_eos=True, is_chat_model=False, messages_to_prompt=lambda m: m[0].content
    )
    assert not llm.metadata.is_chat_model
    llm.complete("a")
    assert llm.chat([ChatMessage(content="b")]).message.role == "assistant"
    *_, last = llm.stream_chat([ChatMessage(content="c")])
    assert last.raw["usage"]["completion_tokens"] == 1
    llm.predict(PromptTemplate("{letter}"), letter="d")
    assert [body["prompt"] for body in bodies] == ["a", "b", "c", "d"]
    assert (await llm.achat([ChatMessage(content="e")])).raw["object"] == "text_completion"
    *_, last = [item async for item in await llm.astream_chat([ChatMessage(content="f")])]
    assert last.additional_kwargs["finish_reason"] == "length"
    await llm.aclose()


def test_predict_and_stream_keep_the_system_prompt(recorded, chat_server):
    llm, bodies = recorded(chat_server, max_tokens=1, system_prompt="Be brief.")
    llm.predict(PromptTemplate("Name {thing}"), thing="a llama")
    list(llm.stream(PromptTemplate("Name {thing}"), thing="a llama"))
    for body in bodies:
        assert [message["content"] for message in body["messages"]] == ["Be brief.", "Name a llama"]


async def test_infill(make_llm, serve):
    llm = make_llm(serve("fim.gguf", parallel=1, ctx_size=1024), max_tokens=4, ignore_eos=True)
    for response in (
        llm.infill("def add(a, b):\n    ", "\n    return c", extra=[("util.py", "x = 1")]),
        await llm.ainfill("def add(a, b):\n    ", "\n    return c", prompt="c ="),
    ):
        assert response.additional_kwargs["completion_tokens"] == 4
        assert response.raw["choices"][0]["finish_reason"] == "length"
    await llm.aclose()


async def test_a_completion_with_a_suffix_fills_the_gap_in_all_four_ways(make_llm, serve):
    llm = make_llm(serve("fim.gguf", parallel=1, ctx_size=1024), max_tokens=4, ignore_eos=True)
    prefix, gap = "def add(a, b):\n    ", {"suffix": "\n    return c", "input_extra": [("util.py", "x = 1")]}
    expected = llm.infill(prefix, gap["suffix"], extra=gap["input_extra"]).raw["usage"]["prompt_tokens"]
    *_, streamed = llm.stream_complete(prefix, **gap)
    *_, awaited = [item async for item in await llm.astream_complete(prefix, **gap)]
    for response in (llm.complete(prefix, **gap), await llm.acomplete(prefix, **gap), streamed, awaited):
        assert response.raw["usage"]["prompt_tokens"] == expected
        assert response.additional_kwargs["completion_tokens"] == 4
    await llm.aclose()


def test_infill_without_the_tokens_for_it(llm):
    with pytest.raises(NotSupportedError, match=r"fill-in-the-middle"):
        llm.infill("a", "b")


def test_completion_log_probabilities(thinking_llm):
    response = thinking_llm.complete("once", formatted=True, logprobs=2)
    assert len(response.logprobs) == len(response.raw["choices"][0]["logprobs"]["content"]) > 3
    items = list(thinking_llm.stream_complete("once", formatted=True, logprobs=2))
    assert any(item.logprobs for item in items)


def test_choices_and_expressions(make_llm, chat_server):
    llm = make_llm(chat_server, choices=["yes"])
    assert llm.complete("Is it?").text == "yes"
    assert llm.complete("Is it?", formatted=True).text == "yes"
    assert llm.complete("Is it?", regex="[ab]{2}").text in ("aa", "ab", "ba", "bb")
    assert [item.text for item in llm.stream_complete("Is it?", choices=["no"])][-1] == "no"
