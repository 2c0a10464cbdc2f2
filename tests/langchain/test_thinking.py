"""Thinking ended by the clock and by the caller, in every way to ask for a reply."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from langchain_llamacpp_server import ChatLlamaServer
from llamacpp_server import BadRequestError, LocalServer

ANSWER = "The answer is 42."


@pytest.fixture
def thinker(pondering_server: LocalServer) -> ChatLlamaServer:
    return ChatLlamaServer(base_url=pondering_server.base_url)


async def test_the_clock_ends_the_thinking_in_every_form(thinker: ChatLlamaServer) -> None:
    llm = thinker.model_copy(update={"max_thinking_seconds": 0.05})
    assert llm.invoke("Hi").text == ANSWER
    assert "".join(chunk.text for chunk in llm.stream("Hi")) == ANSWER
    assert (await llm.ainvoke("Hi")).text == ANSWER
    assert "".join([chunk.text async for chunk in llm.astream("Hi")]) == ANSWER
    await llm.aclose()


def test_the_time_of_a_call_wins(thinker: ChatLlamaServer) -> None:
    llm = thinker.model_copy(update={"max_thinking_seconds": 60})
    reply = llm.invoke("Hi", max_thinking_seconds=0.05)
    assert reply.text == ANSWER
    assert "Hmm" in reply.additional_kwargs["reasoning_content"]
    with pytest.raises(ValueError, match="max_thinking_seconds"):
        llm.invoke("Hi", max_thinking_seconds=-1)


async def test_tokens_of_the_thinking_are_counted_where_timings_are(thinker: ChatLlamaServer) -> None:
    asked: dict[str, Any] = {"reasoning_budget_tokens": 20, "timings_per_token": True}
    one, *rest = thinker.stream("Hi", **asked)
    awaited = await thinker.ainvoke("Hi", **asked)
    await thinker.aclose()
    for message in (one + rest, thinker.invoke("Hi", **asked), awaited):
        thought = message.additional_kwargs["reasoning_content"]
        counts = message.usage_metadata
        assert counts is not None
        # Each of its tokens is a word here.
        assert counts["output_token_details"] == {"reasoning": len(thought.split())}
        assert counts["output_tokens"] == len(thought.split()) + 1 + len(ANSWER.split()) + 1  # and two tags
    usage = thinker.invoke("Hi", reasoning_budget_tokens=20).usage_metadata
    assert usage is not None
    assert "output_token_details" not in usage


def test_thinking_is_ended_while_it_is_read(thinker: ChatLlamaServer) -> None:
    llm = thinker.model_copy(update={"reasoning_control": True})
    assert llm.end_thinking() == 0
    text = ""
    for seen, chunk in enumerate(llm.bind(temperature=0).stream("Hi")):
        text += chunk.text
        if seen == 10:
            assert text == ""
            assert llm.end_thinking() == 1
    assert text == ANSWER


async def test_thinking_is_ended_while_others_wait(thinker: ChatLlamaServer) -> None:
    ended: list[int] = []

    def end() -> None:
        ended.append(thinker.end_thinking())

    threading.Timer(0.3, end).start()
    assert thinker.invoke("Hi", reasoning_control=True).text == ANSWER
    threading.Timer(0.3, end).start()
    assert (await thinker.ainvoke("Hi", reasoning_control=True)).text == ANSWER
    assert ended == [1, 1]
    await thinker.aclose()


def test_what_can_not_be_ended_is_said(thinker: ChatLlamaServer) -> None:
    with pytest.raises(BadRequestError, match="reasoning_control=True"):
        thinker.end_thinking()


@pytest.fixture(autouse=True)
def _idle_after(pondering_server: LocalServer, idle: Callable[[LocalServer], None]) -> Any:
    yield
    idle(pondering_server)


async def test_a_level_that_the_template_lacks_is_a_repair_of_every_reply(
    chat_server: LocalServer, caplog: pytest.LogCaptureFixture, fresh_notices: set[str]
) -> None:

    def named(message: Any) -> list[str]:
        return [repair["name"] for repair in message.response_metadata.get("llamacpp", {}).get("repairs", ())]

    llm = ChatLlamaServer(base_url=chat_server.base_url, max_tokens=3, reasoning_effort="low")
    assert named(llm.invoke("Hi")) == named(await llm.ainvoke("Hi")) == ["effort"]
    streamed = list(llm.stream("Hi"))
    assert named(sum(streamed[1:], streamed[0])) == ["effort"]
    assert named(llm.bind(reasoning_effort="high").invoke("Hi")) == ["effort"]
    assert named(llm.bind(reasoning_effort="none").invoke("Hi")) == []
    as_it_is = ChatLlamaServer(base_url=chat_server.base_url, max_tokens=3, extra_body={"reasoning_effort": "low"})
    assert named(as_it_is.invoke("Hi")) == []
    assert caplog.text.count("has no reasoning levels") == 1
    await llm.aclose()
