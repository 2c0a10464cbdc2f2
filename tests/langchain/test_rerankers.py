"""LlamaServerReranker on a real reranker: order, scores, what happens to documents, callbacks."""

import asyncio
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_core import exceptions as core
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.vectorstores import InMemoryVectorStore

import llamacpp_server
from langchain_llamacpp_server import LlamaServerEmbeddings, LlamaServerReranker
from llamacpp_server import LocalServer
from tests.wiretap import Wiretap

PATH = "/v1/rerank"
QUERY = "q"
TEXTS = [f"doc {i}" for i in range(10)]
TOO_LONG = "a b " * 600


@pytest.fixture
def make(rerank_server: LocalServer, wire: Wiretap) -> Callable[..., LlamaServerReranker]:
    def made(**fields: Any) -> LlamaServerReranker:
        return LlamaServerReranker(base_url=rerank_server.base_url, **wire.clients, **fields)

    return made


@pytest.fixture
def raw(rerank_server: LocalServer) -> list[tuple[int, float]]:
    """The server's own (index, score), best first."""
    ranks = rerank_server.client().rerank(QUERY, TEXTS)
    return [(ranking.index, ranking.score) for ranking in ranks]


def documents(texts: list[str] = TEXTS) -> list[Document]:
    return [Document(page_content=text, metadata={"source": f"{i}.txt"}, id=str(i)) for i, text in enumerate(texts)]


def scores(found: Any) -> list[float]:
    return [document.metadata["relevance_score"] for document in found]


class TestRanks:
    def test_order_and_scores_are_the_servers(self, make: Any, raw: Any) -> None:
        found = make(top_n=None, normalize="none").compress_documents(documents(), QUERY)
        assert [document.page_content for document in found] == [TEXTS[index] for index, _ in raw]
        assert scores(found) == pytest.approx([score for _, score in raw], abs=1e-2)

    def test_three_come_back_by_default(self, make: Any, raw: Any) -> None:
        assert [document.id for document in make().compress_documents(documents(), QUERY)] == [
            str(index) for index, _ in raw[:3]
        ]

    def test_batches_do_not_change_ranks(self, make: Any, raw: Any, wire: Wiretap) -> None:
        found = make(rank_batch_size=3, top_n=None).rerank(TEXTS, QUERY)
        assert [rank["index"] for rank in found] == [index for index, _ in raw]
        assert sorted(len(body["documents"]) for body in wire.bodies(PATH)) == [1, 3, 3, 3]

    def test_batches_run_at_once_up_to_the_slots(self, make: Any, wire: Wiretap) -> None:
        make(rank_batch_size=4).rerank(["some words " * 30] * 60, QUERY)
        assert wire.most_at_once[PATH] == 2

    async def test_awaited_is_the_same(self, make: Any, wire: Wiretap) -> None:
        reranker = make(top_n=4, rank_batch_size=3)
        found = await reranker.acompress_documents(documents(), QUERY)
        assert [document.id for document in found] == [
            document.id for document in reranker.compress_documents(documents(), QUERY)
        ]
        assert scores(found) == pytest.approx(
            [r["relevance_score"] for r in await reranker.arerank(TEXTS, QUERY)], abs=1e-2
        )

    def test_callers_documents_stay_as_they_are(self, make: Any) -> None:
        given = documents()
        found = make().compress_documents(given, QUERY)
        assert given == documents()
        assert all(document.metadata["source"] == f"{document.id}.txt" for document in found)

    def test_nothing_gives_nothing(self, make: Any, wire: Wiretap) -> None:
        assert make().compress_documents([], QUERY) == []
        assert not wire.requests


class TestScores:
    def test_logits_become_probabilities(self, make: Any, raw: Any) -> None:
        assert not all(0 <= score <= 1 for _, score in raw), "these must be logits for the test to mean anything"
        found = make(top_n=None).rerank(TEXTS, QUERY)
        expected = [1 / (1 + math.exp(-score)) for _, score in raw]
        assert [rank["relevance_score"] for rank in found] == pytest.approx(expected, abs=1e-2)

    def test_min_score_is_of_the_normalized_score(self, make: Any) -> None:
        everything = make(top_n=None).rerank(TEXTS, QUERY)
        bar = everything[4]["relevance_score"] - 1e-3
        few = make(top_n=None, min_score=bar).rerank(TEXTS, QUERY)
        assert [rank["index"] for rank in few] == [rank["index"] for rank in everything[: len(few)]]
        assert 5 <= len(few) < 10 and all(rank["relevance_score"] >= bar for rank in few)

    def test_top_n_of_a_call(self, make: Any) -> None:
        assert len(make(top_n=5).rerank(TEXTS, QUERY, top_n=2)) == 2


class TestOversize:
    def test_document_is_truncated_to_leave_room_for_its_query(self, make: Any, wire: Wiretap) -> None:
        found = make(top_n=None).compress_documents(documents(["short", TOO_LONG, "other"]), QUERY)
        assert sorted(document.page_content for document in found) == sorted(["short", TOO_LONG, "other"])
        sent = wire.bodies(PATH)[-1]["documents"]
        assert sent[0] == "short" and TOO_LONG.startswith(sent[1])
        assert len(sent[1]) == 512 - len(QUERY) - 3

    def test_or_it_is_an_error_with_its_position(self, make: Any) -> None:
        with pytest.raises(core.ContextOverflowError, match=r"document 1 \(\d+ tokens, 512 fit\)") as caught:
            make(on_oversize="error").rerank(["short", TOO_LONG, "other"], QUERY)
        assert isinstance(caught.value, llamacpp_server.ContextOverflowError) and caught.value.index == 1

    def test_query_that_leaves_no_room(self, make: Any) -> None:
        with pytest.raises(core.ContextOverflowError, match="shorten it"):
            make().rerank(["short"], TOO_LONG)


class Recorder(BaseCallbackHandler):
    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []

    def on_chain_start(self, serialized: Any, inputs: Any, **kwargs: Any) -> None:
        self.events.append((kwargs["name"], inputs))

    def on_chain_end(self, outputs: Any, **kwargs: Any) -> None:
        self.events.append(("end", outputs))

    def on_chain_error(self, error: BaseException, **kwargs: Any) -> None:
        self.events.append(("error", error))


class AsyncRecorder(AsyncCallbackHandler):
    def __init__(self) -> None:
        self.names: list[str] = []

    async def on_chain_start(self, serialized: Any, inputs: Any, **kwargs: Any) -> None:
        self.names.append(kwargs["name"])

    async def on_chain_end(self, outputs: Any, **kwargs: Any) -> None:
        self.names.append("end")


class TestCallbacks:
    def test_run_is_reported_to_callbacks(self, make: Any) -> None:
        recorder = Recorder()
        found = make().compress_documents(documents(), QUERY, callbacks=[recorder])
        assert recorder.events == [
            ("LlamaServerReranker", {"query": QUERY, "documents": documents()}),
            ("end", {"documents": found}),
        ]

    def test_failure_is_reported_to_callbacks(self, embedding_server: LocalServer) -> None:
        recorder = Recorder()
        with pytest.raises(llamacpp_server.NotSupportedError, match="--reranking") as caught:
            LlamaServerReranker(base_url=embedding_server.base_url).compress_documents(
                documents(), QUERY, callbacks=[recorder]
            )
        assert isinstance(caught.value, core.ModelInvalidRequestError)
        assert recorder.events[-1] == ("error", caught.value)

    async def test_awaited_run_is_reported_to_callbacks(self, make: Any) -> None:
        recorder = AsyncRecorder()
        await make().acompress_documents(documents(), QUERY, callbacks=[recorder])
        assert recorder.names == ["LlamaServerReranker", "end"]


class TestRetriever:
    @pytest.fixture
    def retriever(self, make: Any, embedding_server: LocalServer) -> ContextualCompressionRetriever:
        store = InMemoryVectorStore(LlamaServerEmbeddings(base_url=embedding_server.base_url))
        store.add_documents(documents())
        base = store.as_retriever(search_kwargs={"k": 6})
        return ContextualCompressionRetriever(base_compressor=make(top_n=2), base_retriever=base)

    def test_compression_retriever(self, retriever: ContextualCompressionRetriever) -> None:
        found = retriever.invoke(QUERY)
        candidates = retriever.base_retriever.invoke(QUERY)
        assert len(found) == 2 < len(candidates) == 6
        assert scores(found) == sorted(scores(found), reverse=True)
        assert {document.metadata["source"] for document in found} < {d.metadata["source"] for d in candidates}

    def test_callbacks_reach_the_reranker(self, retriever: ContextualCompressionRetriever) -> None:
        recorder = Recorder()
        retriever.invoke(QUERY, config={"callbacks": [recorder]})
        assert recorder.events[0][0] == "LlamaServerReranker"

    def test_awaited(self, rerank_server: LocalServer, embedding_server: LocalServer) -> None:
        store = InMemoryVectorStore(LlamaServerEmbeddings(base_url=embedding_server.base_url))
        store.add_documents(documents())
        retriever = ContextualCompressionRetriever(
            base_compressor=LlamaServerReranker(base_url=rerank_server.base_url), base_retriever=store.as_retriever()
        )
        assert len(asyncio.run(retriever.ainvoke(QUERY))) == 3


def test_pickle_keeps_what_is_known_of_the_scores(rerank_server: LocalServer) -> None:
    reranker = LlamaServerReranker(base_url=rerank_server.base_url, top_n=None)
    expected = reranker.rerank(TEXTS, QUERY)
    copied = pickle.loads(pickle.dumps(reranker))
    probability = 1 / (1 + math.exp(-0.5))
    assert [rank["index"] for rank in copied.rerank(TEXTS, QUERY)] == [rank["index"] for rank in expected]
    scale = copied.rank_request(QUERY, TEXTS, None).scale
    assert scale.apply([0.5], "auto", (rerank_server.base_url, None)) == [probability]


@pytest.mark.parametrize("wrong", ["topn", "min_scor"])
def test_misspelt_argument_is_an_error(wrong: str) -> None:
    with pytest.raises(ValueError, match="did you mean"):
        LlamaServerReranker(**{wrong: 1})
