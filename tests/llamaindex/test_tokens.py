"""Token counts by the server, and what LlamaIndex does with them."""

import asyncio

import pytest
from llama_index.core import Settings
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.llms import ChatMessage
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.node_parser import SentenceSplitter

from llamaindex_llamacpp_server import LlamaServerTokenizer
from tests.llamaindex.tools import TOOLS


async def test_counts_are_what_the_server_then_reads(make_llm, caller):
    llm = make_llm(caller, thinking=False)
    messages = [ChatMessage(role="system", content="Be brief."), ChatMessage(content="just chat, Größe? 🦙")]
    counted = llm.count_tokens(messages, TOOLS)
    assert counted == await llm.acount_tokens(messages, tools=TOOLS)
    assert counted > llm.count_tokens(messages)
    response = llm.chat(messages, tools=TOOLS)
    assert response.raw["usage"]["prompt_tokens"] == counted
    await llm.aclose()


async def test_tokenize(llm):
    text = "Größe 🦙"
    tokens = llm.tokenize(text)
    assert tokens == await llm.atokenize(text) == llm.tokenizer(text)
    assert llm.client.detokenize(tokens) == text
    await llm.aclose()


def test_the_tokenizer_asks_once_for_a_text(recorded, chat_server):
    llm, bodies = recorded(chat_server)
    tokenizer = llm.tokenizer
    first = tokenizer("Hello there")
    first.append(0)  # what a caller does with the list is its own affair
    assert tokenizer("Hello there") == llm.tokenizer("Hello there") == first[:-1]
    assert len(bodies) == 1
    assert isinstance(tokenizer, LlamaServerTokenizer)


@pytest.fixture
def settings(llm):
    before = Settings._tokenizer
    Settings.tokenizer = llm.tokenizer
    yield Settings
    Settings._tokenizer = before


def test_it_can_be_the_tokenizer_of_all_of_llamaindex(settings, llm):
    splitter = SentenceSplitter(chunk_size=60, chunk_overlap=0)
    chunks = splitter.split_text("One sentence is here. " * 12)
    assert len(chunks) > 1
    assert all(len(llm.tokenize(chunk)) <= 60 for chunk in chunks)


def test_a_chat_engine_with_a_memory_that_is_trimmed_by_it(scripted_server, recorded):
    llm, bodies = recorded(scripted_server("Fine."), thinking=False)
    memory = ChatMemoryBuffer.from_defaults(token_limit=120, tokenizer_fn=llm.tokenizer)
    engine = SimpleChatEngine.from_defaults(llm=llm, memory=memory)
    for number in range(6):
        assert str(engine.chat(f"Message {number}: " + "word " * 5)) == "Fine."
    chats = [body for body in bodies if "messages" in body]
    assert len(memory.get_all()) == 12
    texts = [message["content"] for message in chats[-1]["messages"]]
    assert len(texts) < 11
    assert texts[-1].startswith("Message 5")
    assert sum(len(llm.tokenize(text)) for text in texts) <= 120


def _counted(handler: TokenCountingHandler) -> tuple[int, int]:
    return handler.prompt_llm_token_count, handler.completion_llm_token_count


def test_the_token_counting_handler_has_the_servers_numbers(make_llm, thinker):
    handler = TokenCountingHandler(tokenizer=lambda text: ["never", "asked"])
    llm = make_llm(thinker, callback_manager=CallbackManager([handler]))
    messages = [ChatMessage(content="Hello")]
    usage = llm.chat(messages).raw["usage"]
    true = (usage["prompt_tokens"], usage["completion_tokens"])
    assert _counted(handler) == true

    async def stream() -> None:
        async for _ in await llm.astream_chat(messages):
            pass
        async for _ in await llm.astream_complete("Hello"):
            pass
        await llm.aclose()

    for run in (
        lambda: list(llm.stream_chat(messages)),
        lambda: list(llm.stream_complete("Hello")),
        lambda: llm.complete("Hello"),
    ):
        handler.reset_counts()
        run()
        assert _counted(handler) == true
    handler.reset_counts()
    asyncio.run(stream())
    assert _counted(handler) == (2 * true[0], 2 * true[1])


async def test_fits(llm):
    messages = [ChatMessage(content="Hello")]
    fit = llm.fits(messages)
    assert fit
    assert fit.prompt_tokens == llm.count_tokens(messages)
    assert (fit.answer_tokens, fit.available) == (16, 2048)
    with_tools = await llm.afits(messages, TOOLS, max_tokens=100)
    assert with_tools.needed == llm.count_tokens(messages, TOOLS) + 100
    assert not llm.fits(messages, max_tokens=2048)
    await llm.aclose()
