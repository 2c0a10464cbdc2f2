"""What every LangChain reranker should do; langchain-tests has no suite for document compressors.

Subclass `RerankerTests`, say which class with which parameters, and pytest finds the tests.
"""

import asyncio
import copy
import pickle
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler, CallbackManagerForRetrieverRun
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.retrievers import BaseRetriever
from pydantic import SecretStr

QUERY = "Where does the cat sleep?"
TEXTS = ["The cat sleeps on the sofa.", "Bread is baked in an oven.", "Paris lies at the Seine.", "A dog barks.", "x"]


class Shelf(BaseRetriever):
    """Gives all its documents for any query."""

    documents: list[Document]

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        return self.documents


class Recorder(BaseCallbackHandler):
    """Queries and documents of the runs."""

    def __init__(self) -> None:
        self.begun, self.ended = list[str](), list[list[Document]]()

    def on_chain_start(self, serialized: Any, inputs: Any, **kwargs: Any) -> None:
        self.begun.append(inputs["query"])

    def on_chain_end(self, outputs: Any, **kwargs: Any) -> None:
        self.ended.append(outputs["documents"])


class RerankerTests:
    """Standard tests of a reranker with `top_n` that puts `relevance_score` into the metadata."""

    @property
    def reranker_class(self) -> type[BaseDocumentCompressor]:
        raise NotImplementedError

    @property
    def reranker_params(self) -> dict[str, Any]:
        return {}

    @property
    def init_from_env_params(self) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        """Environment, arguments, and the attributes that they make; secrets in clear."""
        return {}, {}, {}

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

    def test_documents_are_returned_in_full(self, reranker: Any, documents: list[Document]) -> None:
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

    def test_all_come_back_without_top_n(self, documents: list[Document]) -> None:
        reranker: Any = self.reranker_class(**{**self.reranker_params, "top_n": None})
        found = reranker.compress_documents(documents, QUERY)
        assert {document.metadata["number"] for document in found} == set(range(len(TEXTS)))

    def test_callbacks(self, reranker: Any, documents: list[Document]) -> None:
        recorder = Recorder()
        found = reranker.compress_documents(documents, QUERY, callbacks=[recorder])
        assert recorder.begun == [QUERY] and recorder.ended == [found]

    def test_init_from_env(self, monkeypatch: pytest.MonkeyPatch) -> None:
        environment, arguments, expected = self.init_from_env_params
        if not environment:
            pytest.skip("init_from_env_params not specified.")
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        made = self.reranker_class(**arguments)
        for name, value in expected.items():
            found = getattr(made, name)
            assert (found.get_secret_value() if isinstance(found, SecretStr) else found) == value

    def test_copies(self, reranker: Any, documents: list[Document]) -> None:
        found = [document.page_content for document in reranker.compress_documents(documents, QUERY)]
        for other in (pickle.loads(pickle.dumps(reranker)), copy.deepcopy(reranker), reranker.model_copy()):
            again = other.compress_documents(documents, QUERY)
            assert [document.page_content for document in again] == found

    def test_event_loop_after_event_loop(self, reranker: Any, documents: list[Document]) -> None:
        for _ in range(3):
            assert len(asyncio.run(reranker.acompress_documents(documents, QUERY))) == 3
