"""Every class on a real router, with the model named by a field, and by a call of the LLM."""

import pytest
from llama_index.core.llms import ChatMessage
from llama_index.core.schema import NodeWithScore, TextNode

from llamaindex_llamacpp_server import LlamaServerEmbedding, LlamaServerRerank

pytestmark = pytest.mark.binary
HI = [ChatMessage(content="Hi")]


async def test_the_llm(make_llm, family_router):
    llm = make_llm(family_router, model="one", max_tokens=2)
    assert llm.chat(HI).additional_kwargs["model"] == "one"
    assert llm.chat(HI, model="two").additional_kwargs["model"] == "two"
    assert llm.complete("Hi", formatted=True, model="two").additional_kwargs["model"] == "two"
    assert list(llm.stream_chat(HI, model="two"))[-1].additional_kwargs["model"] == "two"
    assert (await llm.achat(HI, model="two")).additional_kwargs["model"] == "two"
    assert llm.metadata.context_window == 512
    assert {"one", "two"} <= {card.id for card in llm.client.running_models()}
    await llm.aclose()


def test_embedding_and_rerank(family_router):
    mean, cls = (
        LlamaServerEmbedding(base_url=family_router.base_url, model=model).get_query_embedding("text")
        for model in ("embedder", "other-embedder")
    )
    assert mean != cls
    nodes = [NodeWithScore(node=TextNode(text=text)) for text in ("a", "b")]
    for model in ("ranker", "other-ranker"):
        rerank = LlamaServerRerank(base_url=family_router.base_url, model=model, top_n=1)
        assert len(rerank.postprocess_nodes(nodes, query_str="query")) == 1
    assert {"ranker", "other-ranker"} <= {card.id for card in rerank.client.running_models()}
