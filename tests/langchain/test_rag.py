"""Retrieval in LangChain, with a vector store of another project: embed, find, rerank, answer with sources."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_core.documents import Document
from langchain_core.prompts import PromptTemplate
from langchain_core.runnables import RunnablePassthrough
from langchain_core.vectorstores import InMemoryVectorStore, VectorStore
from langchain_qdrant import QdrantVectorStore
from qdrant_client import QdrantClient
from qdrant_client.http.models import Distance, VectorParams

from langchain_llamacpp_server import LlamaServerEmbeddings, LlamaServerLLM, LlamaServerReranker
from llamacpp_server import LocalServer

ENCODER = Path(__file__).parents[2] / "models" / "tiny-encoder.gguf"
FACTS = [
    "Mira lives in Oslo.",
    "The meeting is on Tuesday.",
    "The red car costs 300 euros.",
    "Paul works as a baker.",
    "The library closes at six.",
    "Anna has a dog named Rex.",
]


@pytest.fixture(scope="module")
def embeddings(serve: Any) -> LlamaServerEmbeddings:
    return LlamaServerEmbeddings(base_url=serve(ENCODER, embeddings=True, parallel=2, ctx_size=512).base_url)


@pytest.fixture
def reranker(serve: Any) -> LlamaServerReranker:
    server = serve(ENCODER, reranking=True, parallel=2, ctx_size=512)
    return LlamaServerReranker(base_url=server.base_url, top_n=2)


@pytest.fixture(params=["memory", "qdrant"])
def store(request: pytest.FixtureRequest, embeddings: LlamaServerEmbeddings) -> Iterator[VectorStore]:
    if request.param == "memory":
        yield InMemoryVectorStore(embeddings)
        return
    client = QdrantClient(":memory:")
    client.create_collection("facts", vectors_config=VectorParams(size=128, distance=Distance.COSINE))
    yield QdrantVectorStore(client, "facts", embeddings)
    client.close()


@pytest.fixture
def filled(store: VectorStore) -> VectorStore:
    store.add_documents([Document(page_content=fact, metadata={"source": f"{i}.txt"}) for i, fact in enumerate(FACTS)])
    return store


@pytest.mark.parametrize(
    ("question", "fact"),
    [("Where does Mira live?", 0), ("When is the meeting?", 1), ("What does the red car cost?", 2)],
)
def test_nearest_is_the_answer(filled: VectorStore, question: str, fact: int) -> None:
    [found] = filled.similarity_search(question, k=1)
    assert (found.page_content, found.metadata["source"]) == (FACTS[fact], f"{fact}.txt")


def test_scores_are_cosines(filled: VectorStore) -> None:
    [(found, score)] = filled.similarity_search_with_score(FACTS[3], k=1)
    assert found.page_content == FACTS[3] and score == pytest.approx(1, abs=1e-3)


def test_answer_with_sources(filled: VectorStore, reranker: LlamaServerReranker, scripted_server: Any) -> None:
    retriever = ContextualCompressionRetriever(
        base_compressor=reranker, base_retriever=filled.as_retriever(search_kwargs={"k": 4})
    )
    prompt = PromptTemplate.from_template("{context}\n\nQuestion: {question}\nAnswer:")
    server: LocalServer = scripted_server("In Oslo.")

    def joined(inputs: dict[str, Any]) -> str:
        return "\n".join(document.page_content for document in inputs["documents"])

    answer = RunnablePassthrough.assign(context=joined) | prompt | LlamaServerLLM(base_url=server.base_url)
    chain = {"documents": retriever, "question": RunnablePassthrough()} | RunnablePassthrough.assign(answer=answer)
    result = chain.invoke("Where does Mira live?")
    assert "Oslo" in result["answer"]
    sources = [document.metadata["source"] for document in result["documents"]]
    assert len(sources) == len(set(sources)) == 2
    assert all(0 <= document.metadata["relevance_score"] <= 1 for document in result["documents"])
