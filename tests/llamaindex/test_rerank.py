"""LlamaServerRerank on a real reranker, alone and in a query engine."""

import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload, LlamaDebugHandler
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.query_engine import CitationQueryEngine
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index_instrumentation import get_dispatcher

from llamacpp_server import ContextOverflowError, LocalServer, NotSupportedError
from llamaindex_llamacpp_server import LlamaServer, LlamaServerEmbedding, LlamaServerRerank
from tests.vector_stand_in import answering
from tests.wiretap import Wiretap

PATH = "/v1/rerank"
QUERY = "q"
TEXTS = [f"doc {i}" for i in range(10)]


@pytest.fixture
def make(rerank_server: LocalServer, wire: Wiretap) -> Callable[..., LlamaServerRerank]:
    def made(**fields: Any) -> LlamaServerRerank:
        return LlamaServerRerank(base_url=rerank_server.base_url, **wire.clients, **fields)

    return made


@pytest.fixture
def raw(rerank_server: LocalServer) -> list[tuple[int, float]]:
    return [(ranking.index, ranking.score) for ranking in rerank_server.client().rerank(QUERY, TEXTS)]


def nodes(texts: list[str] = TEXTS) -> list[NodeWithScore]:
    return [NodeWithScore(node=TextNode(text=text, id_=str(i)), score=0.1) for i, text in enumerate(texts)]


def test_class() -> None:
    assert BaseNodePostprocessor.__name__ in [cls.__name__ for cls in LlamaServerRerank.__mro__]
    assert LlamaServerRerank.class_name() == "LlamaServerRerank"


class TestRanks:
    def test_order_and_scores(self, make: Any, raw: Any) -> None:
        found = make(top_n=None).postprocess_nodes(nodes(), query_str=QUERY)
        assert [one.node.node_id for one in found] == [str(index) for index, _ in raw]
        assert [one.score for one in found] == pytest.approx([1 / (1 + math.exp(-s)) for _, s in raw], abs=1e-2)

    def test_raw_scores(self, make: Any, raw: Any) -> None:
        found = make(normalize="none").postprocess_nodes(nodes(), query_str=QUERY)
        assert [one.score for one in found] == pytest.approx([score for _, score in raw[:2]], abs=1e-2)

    async def test_awaited_is_the_same(self, make: Any) -> None:
        rerank = make(top_n=5, rank_batch_size=3)
        awaited = await rerank.apostprocess_nodes(nodes(), query_str=QUERY)
        found = rerank.postprocess_nodes(nodes(), query_str=QUERY)
        assert [one.node.node_id for one in awaited] == [one.node.node_id for one in found]

    def test_callers_nodes_stay_as_they_are(self, make: Any) -> None:
        given = nodes()
        found = make(keep_retrieval_score=True).postprocess_nodes(given, query_str=QUERY)
        assert [one.score for one in given] == [0.1] * 10 and all(one.node.metadata == {} for one in given)
        assert all(one.node.metadata == {"retrieval_score": 0.1} for one in found)
        assert all("retrieval_score" not in one.node.get_content("llm") for one in found)

    def test_min_score(self, make: Any) -> None:
        everything = make(top_n=None).postprocess_nodes(nodes(), query_str=QUERY)
        bar = everything[3].score - 1e-3
        found = make(top_n=None, min_score=bar).postprocess_nodes(nodes(), query_str=QUERY)
        assert 4 <= len(found) < 10 and all(one.score >= bar for one in found)

    def test_metadata_that_embedding_shows_is_read(self, make: Any, wire: Wiretap) -> None:
        node = TextNode(text="body", metadata={"title": "T", "path": "p"}, excluded_embed_metadata_keys=["path"])
        make().postprocess_nodes([NodeWithScore(node=node)], query_str=QUERY)
        assert wire.bodies(PATH)[0]["documents"] == ["title: T\n\nbody"]

    def test_model_is_sent(self, make: Any, wire: Wiretap) -> None:
        make(model="m").postprocess_nodes(nodes(), query_str=QUERY)
        assert wire.bodies(PATH)[0]["model"] == "m"

    def test_no_nodes_and_no_query(self, make: Any, wire: Wiretap) -> None:
        assert make().postprocess_nodes([], query_str=QUERY) == []
        with pytest.raises(ValueError, match="query"):
            make().postprocess_nodes(nodes())
        assert not wire.requests


class TestErrors:
    def test_server_without_reranking(self, embedding_server: LocalServer) -> None:
        with pytest.raises(NotSupportedError, match="--reranking"):
            LlamaServerRerank(base_url=embedding_server.base_url).postprocess_nodes(nodes(), query_str=QUERY)

    def test_too_long_node(self, make: Any) -> None:
        long = nodes(["short", "a b " * 600])
        assert len(make().postprocess_nodes(long, query_str=QUERY)) == 2
        with pytest.raises(ContextOverflowError, match="document 1"):
            make(on_oversize="error").postprocess_nodes(long, query_str=QUERY)

    def test_model_without_a_rank_head(
        self, serve: Any, caplog: pytest.LogCaptureFixture, fresh_notices: set[str]
    ) -> None:
        results = [{"index": i, "relevance_score": 1e-20 * i} for i in range(10)]
        with answering({"results": results}) as url:
            LlamaServerRerank(base_url=url).postprocess_nodes(nodes(), query_str=QUERY)
        assert "no rank head" in caplog.text

    def test_misspelt_field(self) -> None:
        with pytest.raises(ValueError, match="did you mean 'min_score'"):
            LlamaServerRerank(min_scor=1)  # type: ignore[call-arg]


class TestObservability:
    def test_events_and_callbacks(self, make: Any) -> None:
        class Events(BaseEventHandler):
            def handle(self, event: Any, **kwargs: Any) -> None:
                if isinstance(event, ReRankStartEvent | ReRankEndEvent):
                    seen.append(event)

        seen: list[Any] = []
        handler, debug = Events(), LlamaDebugHandler(print_trace_on_end=False)
        dispatcher = get_dispatcher()
        dispatcher.add_event_handler(handler)
        try:
            found = make(model="m", callback_manager=CallbackManager([debug])).postprocess_nodes(
                nodes(), query_str=QUERY
            )
        finally:
            dispatcher.event_handlers.remove(handler)
        start, end = seen
        assert (start.model_name, start.top_n, len(start.nodes)) == ("m", 2, 10) and end.nodes == found
        [(started, ended)] = debug.get_event_pairs(CBEventType.RERANKING)
        assert started.payload[EventPayload.QUERY_STR] == QUERY and started.payload[EventPayload.TOP_K] == 2
        assert ended.payload[EventPayload.NODES] == found


def test_pickle_and_serialization(make: Any, rerank_server: LocalServer) -> None:
    rerank = LlamaServerRerank(base_url=rerank_server.base_url, api_key="s3cr3t", top_n=3)
    expected = [one.node.node_id for one in rerank.postprocess_nodes(nodes(), query_str=QUERY)]
    copied = pickle.loads(pickle.dumps(rerank))
    assert [one.node.node_id for one in copied.postprocess_nodes(nodes(), query_str=QUERY)] == expected
    assert "s3cr3t" not in rerank.to_json() and LlamaServerRerank.from_json(rerank.to_json()).top_n == 3


class TestRag:
    """A small corpus, our embedding, our reranker and our LLM, all on real servers."""

    @pytest.fixture
    def index(self, embedding_server: LocalServer) -> VectorStoreIndex:
        embedding = LlamaServerEmbedding(base_url=embedding_server.base_url)
        return VectorStoreIndex([one.node for one in nodes()], embed_model=embedding)

    @pytest.fixture
    def llm(self, scripted_server: Any) -> LlamaServer:
        return LlamaServer(base_url=scripted_server("As the source says [1].").base_url, is_chat_model=True)

    def test_retrieved_are_reranked(self, index: VectorStoreIndex, make: Any) -> None:
        candidates = index.as_retriever(similarity_top_k=6).retrieve(QUERY)
        found = make(top_n=3, keep_retrieval_score=True).postprocess_nodes(candidates, query_str=QUERY)
        assert len(found) == 3 and {one.node.node_id for one in found} < {one.node.node_id for one in candidates}
        by_id = {one.node.node_id: one.score for one in candidates}
        assert all(one.node.metadata["retrieval_score"] == by_id[one.node.node_id] for one in found)

    def test_query_engine_with_citations(self, index: VectorStoreIndex, make: Any, llm: LlamaServer) -> None:
        engine = CitationQueryEngine.from_args(index, llm=llm, similarity_top_k=6, node_postprocessors=[make(top_n=2)])
        response = engine.query(QUERY)
        assert "[1]" in str(response)
        assert [one.node.get_content().split(":")[0] for one in response.source_nodes] == ["Source 1", "Source 2"]

    async def test_awaited_query_engine(
        self, embedding_server: LocalServer, rerank_server: LocalServer, llm: LlamaServer
    ) -> None:
        embedding = LlamaServerEmbedding(base_url=embedding_server.base_url)
        rerank = LlamaServerRerank(base_url=rerank_server.base_url)
        index = VectorStoreIndex([one.node for one in nodes()], embed_model=embedding)
        engine = index.as_query_engine(llm=llm, similarity_top_k=6, node_postprocessors=[rerank])
        response = await engine.aquery(QUERY)
        assert "[1]" in str(response) and len(response.source_nodes) == 2
        for model in (embedding, rerank, llm):
            await model.aclose()
