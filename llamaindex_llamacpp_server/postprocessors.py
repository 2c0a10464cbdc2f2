"""`LlamaServerRerank`: llama-server's reranking for LlamaIndex. Only hooks; the logic is in `llamacpp_server`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from llama_index.core.callbacks import CBEventType, EventPayload
from llama_index.core.callbacks.base import EventContext
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle
from llama_index_instrumentation import get_dispatcher
from pydantic import Field, model_validator

from llamacpp_server.integration import (
    RankFields,
)

from ._arguments import RERANK, RerankNames, constructor_arguments

if TYPE_CHECKING:
    from llamacpp_server import Ranking, RankRequest

__all__ = ["LlamaServerRerank"]

dispatcher = get_dispatcher(__name__)

_KEPT: Final = "retrieval_score"


class RerankRuns(BaseNodePostprocessor):
    """Base class of the rerankers: reports their runs to events, and scores new nodes."""

    if TYPE_CHECKING:  # fields of the subclasses
        model: str | None
        top_n: int | None
    keep_retrieval_score: bool = False
    """Whether to keep the retriever's score in the node's metadata, as `retrieval_score`."""

    def _scored(self, one: NodeWithScore, score: float) -> NodeWithScore:
        node = one.node.model_copy()
        if self.keep_retrieval_score:
            node.metadata = {**node.metadata, _KEPT: one.score}
            # For people: neither the next reranker nor the LLM is shown it.
            node.excluded_embed_metadata_keys = [*node.excluded_embed_metadata_keys, _KEPT]
            node.excluded_llm_metadata_keys = [*node.excluded_llm_metadata_keys, _KEPT]
        return NodeWithScore(node=node, score=score)

    @contextmanager
    def _announced(self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None) -> Iterator[_Run]:
        """Report a run to events and callbacks, as LlamaIndex's other rerankers do."""
        count = len(nodes) if self.top_n is None else self.top_n
        name = self.model or "unknown"
        dispatcher.event(ReRankStartEvent(query=query_bundle, nodes=nodes, top_n=count, model_name=name))
        if query_bundle is None:
            raise ValueError("a reranker needs the query: pass query_bundle or query_str")
        run = _Run(query_bundle.query_str)
        if nodes:
            payload: dict[str, Any] = {
                EventPayload.NODES: nodes,
                EventPayload.MODEL_NAME: name,
                EventPayload.QUERY_STR: run.query,
                EventPayload.TOP_K: count,
            }
            with self.callback_manager.event(CBEventType.RERANKING, payload=payload) as run.event:
                yield run
        else:
            yield run
        dispatcher.event(ReRankEndEvent(nodes=run.found))


class LlamaServerRerank(RerankNames, RankFields, RerankRuns):
    """Reranker backed by a llama-server with `--reranking`.

    Examples:
        >>> rerank = LlamaServerRerank(base_url="http://localhost:8080", top_n=3)
        >>> engine = index.as_query_engine(similarity_top_k=20, node_postprocessors=[rerank])  # doctest: +SKIP

    Returns new nodes, best first; the original nodes keep their scores. Nodes are ranked with their embedding metadata.
    Scores are from 0 to 1 unless `normalize="none"`. Async methods are native. Errors are those of `llamacpp_server`.
    """

    top_n: int | None = Field(default=2, ge=1)
    """Number of nodes to return; None returns all."""

    @model_validator(mode="before")
    @classmethod
    def _take_other_names(cls, values: Any) -> Any:
        return constructor_arguments(RERANK, values, cls)

    @classmethod
    def class_name(cls) -> str:
        """The name used in serialized form."""
        return "LlamaServerRerank"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        with self._announced(nodes, query_bundle) as run:
            if nodes:
                run.end(self._chosen(nodes, self.client.rank(self._request(nodes, run.query))))
        return run.found

    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        with self._announced(nodes, query_bundle) as run:
            if nodes:
                run.end(self._chosen(nodes, await self.async_client.rank(self._request(nodes, run.query))))
        return run.found

    def _request(self, nodes: Sequence[NodeWithScore], query: str) -> RankRequest:
        texts = [one.node.get_content(metadata_mode=MetadataMode.EMBED) for one in nodes]
        return self.rank_request(query, texts, self.top_n)

    def _chosen(self, nodes: Sequence[NodeWithScore], ranks: Sequence[Ranking]) -> list[NodeWithScore]:
        return [self._scored(nodes[ranking.index], ranking.score) for ranking in ranks]


class _Run:
    """One run of a reranker and its result."""

    def __init__(self, query: str) -> None:
        self.query = query
        self.found: list[NodeWithScore] = []
        self.event: EventContext | None = None

    def end(self, found: list[NodeWithScore]) -> None:
        self.found = found
        if self.event is not None:
            self.event.on_end(payload={EventPayload.NODES: found})
