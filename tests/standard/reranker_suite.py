"""What every LangChain reranker should do; langchain-tests has no suite for document compressors.

Subclass `RerankerTests`, say which class with which parameters, and pytest finds the tests.
"""

import asyncio
import pickle
from typing import Any

import pytest
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.retrievers import BaseRetriever

QUERY = "Where does the cat sleep?"
TEXTS = ["The cat sleeps on the sofa.", "Bread is baked in an oven.", "Paris lies at the Seine.", "A dog barks.", "x"]


class Shelf(BaseRetriever):
    """Gives all its documents for any query."""

    documents: list[Document]

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        return self.documents


class RerankerTests:
    """Standard tests of a reranker with `top_n` that puts `relevance_score` into the metadata."""

    @property
    def reranker_class(self) -> type[BaseDocumentCompressor]:
        raise NotImplementedError

    @property
    def reranker_params(self) -> dict[str, Any]:
        return {}

    @pytest.fixture
    def reranker(self) -> Any:
        return self.reranker_class(**{"top_n": 3, **self.reranker_params})

    @pytest.fixture
    def documents(self) -> list[Document]:
        return [Document(page_content=text, metadata={"number": i}) for i, text in enumerate(TEXTS)]

    def test_best_come_first(self, reranker: Any, documents: list[Document]) -> None:
        found = reranker.compress_documents(documents, QUERY)
        scores = [document.metadata["relevance_score"] for document in found]
        assert len(found) == 3 and all(isinstance(score, float) for score in scores)
        assert scores == sorted(scores, reverse=True)

    def test_documents_come_back_whole(self, reranker: Any, documents: list[Document]) -> None:
        for document in reranker.compress_documents(documents, QUERY):
            assert document.page_content == TEXTS[document.metadata["number"]]

    def test_callers_documents_are_not_changed(self, reranker: Any, documents: list[Document]) -> None:
        reranker.compress_documents(documents, QUERY)
        assert all(document.metadata == {"number": i} for i, document in enumerate(documents))

    def test_fewer_documents_than_wanted(self, reranker: Any, documents: list[Document]) -> None:
        assert len(reranker.compress_documents(documents[:2], QUERY)) == 2
        assert reranker.compress_documents([], QUERY) == []

    def test_equal_documents_are_kept_apart(self, reranker: Any) -> None:
        twins = [Document(page_content="same", metadata={"number": i}) for i in range(2)]
        assert {d.metadata["number"] for d in reranker.compress_documents(twins, QUERY)} == {0, 1}

    async def test_awaited_is_the_same(self, reranker: Any, documents: list[Document]) -> None:
        found = reranker.compress_documents(documents, QUERY)
        awaited = await reranker.acompress_documents(documents, QUERY)
        assert [document.page_content for document in awaited] == [document.page_content for document in found]

    def test_rerank_gives_positions(self, reranker: Any, documents: list[Document]) -> None:
        ranks = reranker.rerank(TEXTS, QUERY)
        assert [set(rank) for rank in ranks] == [{"index", "relevance_score"}] * 3
        found = reranker.compress_documents(documents, QUERY)
        assert [rank["index"] for rank in ranks] == [document.metadata["number"] for document in found]
        assert [rank["index"] for rank in reranker.rerank(documents, QUERY)] == [rank["index"] for rank in ranks]

    def test_in_a_retriever(self, reranker: Any, documents: list[Document]) -> None:
        retrievers = pytest.importorskip("langchain_classic.retrievers")
        retriever = retrievers.ContextualCompressionRetriever(
            base_compressor=reranker, base_retriever=Shelf(documents=documents)
        )
        assert len(retriever.invoke(QUERY)) == 3
        assert len(retriever.batch([QUERY, QUERY])) == 2

    def test_pickle(self, reranker: Any, documents: list[Document]) -> None:
        found = reranker.compress_documents(documents, QUERY)
        again = pickle.loads(pickle.dumps(reranker)).compress_documents(documents, QUERY)
        assert [document.page_content for document in again] == [document.page_content for document in found]

    def test_event_loop_after_event_loop(self, reranker: Any, documents: list[Document]) -> None:
        for _ in range(3):
            assert len(asyncio.run(reranker.acompress_documents(documents, QUERY))) == 3
