"""Thinking ended by the clock and by the caller, in every way to ask for a reply."""

import threading

import pytest
from llama_index.core.llms import ChatMessage

from llamacpp_server import BadRequestError

ANSWER = "The answer is 42."
HI = [ChatMessage(content="Hi")]


async def test_the_clock_ends_the_thinking_in_every_form(make_llm, pondering_server):
    llm = make_llm(pondering_server, max_thinking_seconds=0.05)
    assert llm.chat(HI).message.content == ANSWER
    assert llm.complete("Hi").text == ANSWER
    assert list(llm.stream_chat(HI))[-1].message.content == ANSWER
    assert list(llm.stream_complete("Hi"))[-1].text == ANSWER
    assert (await llm.achat(HI)).message.content == ANSWER
    assert (await llm.acomplete("Hi")).text == ANSWER
    assert [item async for item in await llm.astream_chat(HI)][-1].message.content == ANSWER
    assert [item async for item in await llm.astream_complete("Hi")][-1].text == ANSWER
    await llm.aclose()


def test_the_time_of_a_call_wins(make_llm, pondering_server):
    llm = make_llm(pondering_server, max_thinking_seconds=60)
    assert llm.chat(HI, max_thinking_seconds=0.05).message.content == ANSWER
    with pytest.raises(BadRequestError, match="max_thinking_seconds"):
        llm.chat(HI, max_thinking_seconds=-1)


def test_tokens_of_the_thinking_are_counted_where_timings_are(make_llm, pondering_server):
    llm = make_llm(pondering_server, reasoning_budget_tokens=20, timings_per_token=True)
    for reply in (llm.chat(HI), list(llm.stream_chat(HI))[-1]):
        assert reply.additional_kwargs["reasoning_tokens"] == 19
        assert reply.raw["usage"]["completion_tokens_details"] == {"reasoning_tokens": 19}
    assert "reasoning_tokens" not in llm.chat(HI, timings_per_token=False).additional_kwargs


def test_thinking_is_ended_while_it_is_read(make_llm, pondering_server):
    llm = make_llm(pondering_server, reasoning_control=True)
    assert llm.end_thinking() == 0
    for seen, item in enumerate(llm.stream_chat(HI)):
        if seen == 10:
            assert not item.message.content
            assert llm.end_thinking() == 1
    assert item.message.content == ANSWER


async def test_thinking_is_ended_while_others_wait(make_llm, pondering_server):
    llm = make_llm(pondering_server, reasoning_control=True)
    ended = []
    for _ in range(2):
        threading.Timer(0.3, lambda: ended.append(llm.end_thinking())).start()
        assert (llm.chat(HI) if not ended else await llm.achat(HI)).message.content == ANSWER
    assert ended == [1, 1]
    await llm.aclose()


def test_what_can_not_be_ended_is_said(make_llm, pondering_server):
    with pytest.raises(BadRequestError, match="reasoning_control=True"):
        make_llm(pondering_server).end_thinking()


async def test_a_level_that_the_template_lacks_is_a_repair_of_every_reply(make_llm, chat_server):
    def named(reply):
        return [repair["name"] for repair in reply.additional_kwargs.get("llamacpp", {}).get("repairs", ())]

    llm = make_llm(chat_server, max_tokens=3, reasoning_effort="low")
    assert named(llm.chat(HI)) == named(await llm.achat(HI)) == named(list(llm.stream_chat(HI))[-1]) == ["effort"]
    assert named(llm.chat(HI, reasoning_effort="none")) == []
    as_it_is = make_llm(chat_server, max_tokens=3, extra_body={"reasoning_effort": "low"})
    assert named(as_it_is.chat(HI)) == []
    await llm.aclose()
