"""Whether a conversation has room, and LangChain's splitters with the server's tokenizer."""

from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langchain_text_splitters import RecursiveCharacterTextSplitter, Tokenizer, split_text_on_tokens

from langchain_llamacpp_server import ChatLlamaServer, LlamaServerEmbeddings, LlamaServerLLM
from llamacpp_server import LocalServer
from tests.langchain.conftest import get_weather

TEXT = "One sentence is here. Größe ist alles! " * 20


async def test_fits(nonsense: ChatLlamaServer) -> None:
    messages: list[Any] = [HumanMessage("Hello")]
    fit = nonsense.fits(messages)
    assert fit
    assert fit.prompt_tokens == nonsense.get_num_tokens_from_messages(messages)
    assert (fit.answer_tokens, fit.available) == (16, 2048)
    with_tool = await nonsense.afits(messages, tools=[get_weather], max_tokens=100)
    assert with_tool.prompt_tokens == nonsense.get_num_tokens_from_messages(messages, tools=[get_weather])
    assert with_tool.needed == with_tool.prompt_tokens + 100
    assert not nonsense.fits(messages, max_tokens=2048)
    await nonsense.aclose()


def test_a_splitter_counts_as_the_server_does(nonsense: ChatLlamaServer) -> None:
    splitter = RecursiveCharacterTextSplitter(chunk_size=60, chunk_overlap=10, length_function=nonsense.tokenizer.count)
    chunks = splitter.split_text(TEXT)
    assert len(chunks) > 5
    lengths = [len(nonsense.client.tokenize(chunk)) for chunk in chunks]
    assert max(lengths) <= 60
    assert max(lengths) > 40


def test_splitting_on_tokens(nonsense: ChatLlamaServer) -> None:
    tokenizer = nonsense.tokenizer
    cutter = Tokenizer(chunk_overlap=0, tokens_per_chunk=50, encode=tokenizer.encode, decode=tokenizer.decode)
    plain = "abc " * 100
    chunks = split_text_on_tokens(text=plain, tokenizer=cutter)
    assert "".join(chunks) == plain
    assert {tokenizer.count(chunk) for chunk in chunks} == {50}


def test_every_class_has_its_models_tokenizer(
    recorded: Any, chat_server: LocalServer, embedding_server: LocalServer
) -> None:
    llm, requests = recorded(chat_server)
    assert llm.get_token_ids("Hello") == llm.get_token_ids("Hello") == llm.tokenizer("Hello")
    assert len(requests) == 1
    assert LlamaServerLLM(base_url=chat_server.base_url).get_token_ids("Hello") == llm.tokenizer("Hello")
    embeddings = LlamaServerEmbeddings(base_url=embedding_server.base_url)
    assert embeddings.tokenizer.count("Hello") == len(embeddings.client.tokenize("Hello"))


@pytest.mark.parametrize("change", [{"base_url": "http://127.0.0.1:9"}, {"model": "other"}])
def test_another_server_or_model_has_another_tokenizer(nonsense: ChatLlamaServer, change: Any) -> None:
    before = nonsense.tokenizer
    assert nonsense.tokenizer is before
    assert nonsense.model_copy(update=change).tokenizer is not before
