"""Retrieval on a small corpus: an index, a query engine with citations, and a chat engine over it."""

from pathlib import Path

import pytest
from llama_index.core import Document, MockEmbedding, Settings, VectorStoreIndex
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.prompts import PromptTemplate
from llama_index.core.query_engine import CitationQueryEngine
from llama_index.core.response_synthesizers import ResponseMode, get_response_synthesizer
from llama_index.core.schema import NodeWithScore, TextNode
from pydantic import BaseModel

from llamaindex_llamacpp_server import LlamaServerEmbedding, LlamaServerRerank

CORPUS = {
    "llamas.txt": "Llamas live in the Andes. They carry up to thirty kilograms.",
    "whales.txt": "Whales live in the sea. They sing.",
}
# What the small encoder tells apart by far.
NOTES = {"code.txt": "The code of the garage is 4711.", "meeting.txt": "The meeting is on Thursday at noon."}


@pytest.fixture
def rag_llm(make_llm, scripted_server):
    llm = make_llm(
        scripted_server(
            {
                "garage": "It is 4711 [1].",
                "JSON schema": '{"animal": "llama", "kilograms": 30}',
                "Source 1": "They live in the Andes [1].",
                "user": "Thirty kilograms.",
            }
        ),
        thinking=False,
    )
    before = Settings._tokenizer
    Settings.tokenizer = llm.tokenizer
    yield llm
    Settings._tokenizer = before


@pytest.fixture
def index(rag_llm):
    documents = [Document(text=text, metadata={"file_name": name}) for name, text in CORPUS.items()]
    return VectorStoreIndex.from_documents(documents, embed_model=MockEmbedding(embed_dim=8))


def test_a_query_engine_with_citations(index, rag_llm):
    engine = CitationQueryEngine.from_args(index, llm=rag_llm, similarity_top_k=2)
    response = engine.query("Where do llamas live?")
    assert str(response) == "They live in the Andes [1]."
    assert len(response.source_nodes) == 2
    assert response.source_nodes[0].node.get_content().startswith("Source 1:")


@pytest.mark.parametrize("mode", [ResponseMode.COMPACT, ResponseMode.REFINE, ResponseMode.TREE_SUMMARIZE])
async def test_query_engines_sync_async_and_streamed(index, rag_llm, mode):
    engine = index.as_query_engine(llm=rag_llm, response_mode=mode)
    assert str(engine.query("How much?")) == "Thirty kilograms."
    assert str(await engine.aquery("How much?")) == "Thirty kilograms."
    streaming = index.as_query_engine(llm=rag_llm, response_mode=mode, streaming=True)
    assert "".join(streaming.query("How much?").response_gen) == "Thirty kilograms."
    await rag_llm.aclose()


async def test_all_three_of_ours_together(rag_llm, serve):
    """Embedded, found, ranked and answered by llama.cpp alone, with the model files that come with this project."""
    encoder = Path(__file__).parents[2] / "models" / "tiny-encoder.gguf"
    embeds = serve(encoder, embeddings=True, pooling="mean", parallel=2, ctx_size=512)
    ranks = serve(encoder, reranking=True, parallel=2, ctx_size=512)
    embedding = LlamaServerEmbedding(base_url=embeds.base_url)
    rerank = LlamaServerRerank(base_url=ranks.base_url, top_n=1)
    documents = [Document(text=text, metadata={"file_name": name}) for name, text in NOTES.items()]
    index = VectorStoreIndex.from_documents(documents, embed_model=embedding)
    engine = CitationQueryEngine.from_args(
        index, llm=rag_llm, similarity_top_k=2, node_postprocessors=[rerank], embed_model=embedding
    )
    question = "What is the code of the garage?"
    for response in (engine.query(question), await engine.aquery(question)):
        assert str(response) == "It is 4711 [1]."
        (source,) = response.source_nodes
        assert source.node.metadata["file_name"] == "code.txt"
        assert "The code of the garage" in source.node.get_content()
    for ours in (rag_llm, embedding, rerank):
        await ours.aclose()


def test_a_chat_engine_over_the_index(index, rag_llm):
    memory = ChatMemoryBuffer.from_defaults(llm=rag_llm, tokenizer_fn=rag_llm.tokenizer)
    engine = index.as_chat_engine(chat_mode="condense_plus_context", llm=rag_llm, memory=memory)
    assert str(engine.chat("How much?")) == "Thirty kilograms."
    assert "".join(engine.stream_chat("And now?").response_gen) == "Thirty kilograms."
    assert len(engine.chat_history) == 4


def test_a_synthesizer_with_an_output_class(rag_llm):
    class Load(BaseModel):
        animal: str
        kilograms: int

    synthesizer = get_response_synthesizer(llm=rag_llm, output_cls=Load)
    nodes = [NodeWithScore(node=TextNode(text=CORPUS["llamas.txt"]), score=1.0)]
    response = synthesizer.synthesize("How much?", nodes)
    assert response.response == Load(animal="llama", kilograms=30)


def test_the_context_is_cut_to_the_slot_of_the_server(rag_llm, recorded, scripted_server):
    """PromptHelper repacks what is too long by the window that the server told."""
    llm, bodies = recorded(scripted_server("Long."), thinking=False, context_window=700, max_tokens=50)
    prompt = PromptTemplate("{context_str} {query_str}")
    synthesizer = get_response_synthesizer(llm=llm, text_qa_template=prompt, refine_template=prompt)
    nodes = [NodeWithScore(node=TextNode(text="A sentence of words. " * 60), score=1.0)]
    assert str(synthesizer.synthesize("?", nodes)) == "Long."
    chats = [body for body in bodies if "messages" in body]
    assert len(chats) > 1
    assert all(len(llm.tokenize(body["messages"][0]["content"])) <= 650 for body in chats)
