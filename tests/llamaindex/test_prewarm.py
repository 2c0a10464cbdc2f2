"""Prompts of agents read ahead, and sessions kept apart by a salt, from LlamaIndex."""

from llama_index.core.base.llms.types import ChatMessage

from tests.llamaindex.tools import TOOLS

SYSTEM = "You know the weather of LlamaIndex's cities. " * 8


def test_the_first_call_of_an_agent_reads_its_question_only(make_llm, caller):
    llm = make_llm(caller)
    read = llm.prewarm(SYSTEM, TOOLS)
    assert read.read > 300
    messages = [ChatMessage(SYSTEM, role="system"), ChatMessage("just chat")]
    reply = llm.chat(messages, tools=TOOLS)
    assert reply.additional_kwargs["timings"]["prompt_n"] < 50
    assert llm.prewarm(SYSTEM, TOOLS).reused > read.tokens - 40


async def test_awaited_with_a_conversation_that_goes_on(make_llm, caller):
    llm = make_llm(caller)
    history = [ChatMessage("Tell me of workflows. " * 10)]
    read = await llm.aprewarm(SYSTEM, messages=history, thinking=False)
    messages = [ChatMessage(SYSTEM, role="system"), *history]
    assert read.tokens == llm.count_tokens(messages, thinking=False)
    reply = await llm.achat(messages, thinking=False)
    assert reply.additional_kwargs["timings"]["prompt_n"] == 1
    await llm.aclose()


def test_a_salt_of_the_model_or_of_a_call(recorded, caller):
    llm, bodies = recorded(caller, cache_salt="ann")
    llm.chat([ChatMessage("Be brief.", role="system"), ChatMessage("just chat")])
    llm.chat([ChatMessage("just chat")], cache_salt="bob")
    llm.chat([ChatMessage("just chat")], cache_salt=None)
    # One may be sent twice, where the server had just closed the connection.
    assert list(dict.fromkeys(body["messages"][0]["content"] for body in bodies)) == [
        "[ann]\nBe brief.",
        "[bob]",
        "just chat",
    ]
    assert "cache_salt" not in bodies[0]
