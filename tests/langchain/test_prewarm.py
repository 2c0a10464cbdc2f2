"""Prompts of agents read ahead, and sessions kept apart by a salt, from LangChain."""

from typing import Any

from langchain.agents import create_agent
from langchain_core.messages import HumanMessage, SystemMessage

from langchain_llamacpp_server import ChatLlamaServer
from llamacpp_server import LocalServer
from tests.langchain.conftest import get_weather

SYSTEM = "You know the weather of LangChain's cities. " * 8


def test_the_first_call_of_an_agent_reads_its_question_only(talker: LocalServer) -> None:
    llm = ChatLlamaServer(base_url=talker.base_url)
    read = llm.prewarm(SYSTEM, [get_weather])
    assert read.read > 300
    agent = create_agent(llm, [get_weather], system_prompt=SYSTEM)
    first = agent.invoke({"messages": [HumanMessage("How is the weather?")]})["messages"][1]
    assert first.response_metadata["timings"]["prompt_n"] < 50
    assert llm.prewarm(SYSTEM, [get_weather]).reused > read.tokens - 40


async def test_awaited_with_a_conversation_that_goes_on(talker: LocalServer) -> None:
    llm = ChatLlamaServer(base_url=talker.base_url)
    history = [HumanMessage("Tell me of LangGraph. " * 10)]
    read = await llm.aprewarm(SystemMessage(SYSTEM), messages=history, thinking=False)
    assert read.tokens == llm.get_num_tokens_from_messages([SystemMessage(SYSTEM), *history], thinking=False)
    reply = await llm.ainvoke([SystemMessage(SYSTEM), *history], thinking=False)
    assert reply.response_metadata["timings"]["prompt_n"] == 1
    await llm.aclose()


def test_a_salt_of_the_model_or_of_a_call(talker: LocalServer, recorded: Any) -> None:
    llm, requests = recorded(talker, cache_salt="ann")
    llm.invoke([SystemMessage("Be brief."), HumanMessage("hi")])
    llm.invoke("hi", cache_salt="bob")
    llm.invoke("hi", cache_salt=None)
    # One may be sent twice, where the server had just closed the connection.
    firsts = dict.fromkeys(request["messages"][0]["content"] for request in requests)
    assert list(firsts) == ["[ann]\nBe brief.", "[bob]", "hi"]
    assert "cache_salt" not in requests[0]
