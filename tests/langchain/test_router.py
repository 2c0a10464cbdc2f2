"""Every class on a real router, with the model named by a field and by a call."""

from typing import Any

import pytest

from langchain_llamacpp_server import ChatLlamaServer, LlamaServerEmbeddings, LlamaServerLLM, LlamaServerReranker
from llamacpp_server import LocalServer

pytestmark = pytest.mark.binary


async def test_the_chat_model(family_router: LocalServer) -> None:
    llm = ChatLlamaServer(base_url=family_router.base_url, model="one", max_tokens=2)
    assert llm.invoke("Hi").response_metadata["model_name"] == "one"
    assert llm.invoke("Hi", model="two").response_metadata["model_name"] == "two"
    assert (await llm.ainvoke("Hi", model="two")).response_metadata["model_name"] == "two"
    streamed = list(llm.bind(model="two").stream("Hi"))
    assert streamed[0].response_metadata["model_name"] == "two"
    assert llm.fits([("user", "Hi")], model="two")
    assert llm.client.load_model("one").status == "loaded"
    await llm.aclose()


def test_the_llm(family_router: LocalServer) -> None:
    llm = LlamaServerLLM(base_url=family_router.base_url, model="one", max_tokens=2)
    names = [llm.generate(["Hi"], **call).llm_output["model_name"] for call in ({}, {"model": "two"})]  # type: ignore[index]
    assert names == ["one", "two"]


async def test_the_embeddings(family_router: LocalServer) -> None:
    embeddings = LlamaServerEmbeddings(base_url=family_router.base_url, model="embedder")
    mean, cls = embeddings.embed_query("text"), embeddings.embed_query("text", model="other-embedder")
    assert mean != cls
    assert embeddings.embed_documents(["text"], model="other-embedder") == [cls]
    assert embeddings.server_info().pooling == "mean"
    assert embeddings.client.info("one").pooling is None
    assert await embeddings.aembed_query("text", model="other-embedder") == cls
    await embeddings.aclose()


def test_the_reranker(family_router: LocalServer, models_dir: Any) -> None:
    for model in ("ranker", "other-ranker"):
        reranker = LlamaServerReranker(base_url=family_router.base_url, model=model)
        assert [rank["index"] for rank in reranker.rerank(["a", "b"], "query")]
        assert reranker.client.running_models()
    assert reranker.server_info().pooling == "rank"
    loaded = {card.id for card in reranker.client.running_models()}
    assert {"ranker", "other-ranker"} <= loaded
