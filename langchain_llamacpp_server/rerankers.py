"""`LlamaServerReranker`: llama-server's reranking for LangChain. Only hooks; the logic is in `llamacpp_server`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import AsyncCallbackManager, CallbackManager, Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from pydantic import Field, model_validator

from llamacpp_server.integration import (
    RankFields,
    list_of,
)

from ._argument_names import OpenAINames
from ._arguments import RERANKER
from ._errors import langchain_errors

if TYPE_CHECKING:
    from llamacpp_server import Ranking

__all__ = ["LlamaServerReranker"]


class LlamaServerReranker(OpenAINames, RankFields, BaseDocumentCompressor):
    """Reranker backed by a llama-server with `--reranking`.

    Examples:
        >>> reranker = LlamaServerReranker(base_url="http://localhost:8080", top_n=3)
        >>> retriever = ContextualCompressionRetriever(  # doctest: +SKIP
        ...     base_compressor=reranker, base_retriever=store.as_retriever(search_kwargs={"k": 20})
        ... )

    Returns copies of the documents with `metadata["relevance_score"]`, best first. Scores are from 0 to 1 unless
    `normalize="none"`. Callbacks receive a run with the query and the documents before and after. Async methods are
    native.
    """

    top_n: int | None = Field(default=3, ge=1)
    """Number of documents to return; None returns all."""

    @model_validator(mode="before")
    @classmethod
    def _take_other_names(cls, values: Any) -> Any:
        return RERANKER.constructor(values, cls) if isinstance(values, dict) else values

    def rerank(
        self, documents: Sequence[str | Document], query: str, *, top_n: int | None = None
    ) -> list[dict[str, Any]]:
        """Rank documents: return indices and scores without the documents.

        Args:
            documents: Texts or documents.
            query: The question.
            top_n: Number of documents to return; None uses the field.

        Returns:
            `{"index": position, "relevance_score": score}`, best first.

        Raises:
            NotSupportedError: If the server runs without `--reranking`.
        """
        with langchain_errors:
            ranks = self.client.rank(self.rank_request(query, _texts(documents), top_n or self.top_n))
        return [_as_dict(ranking) for ranking in ranks]

    async def arerank(
        self, documents: Sequence[str | Document], query: str, *, top_n: int | None = None
    ) -> list[dict[str, Any]]:
        """Async version of `rerank`."""
        with langchain_errors:
            ranks = await self.async_client.rank(self.rank_request(query, _texts(documents), top_n or self.top_n))
        return [_as_dict(ranking) for ranking in ranks]

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """Return the best documents for a query, best first, as copies with their score.

        Args:
            documents: The documents of a retriever.
            query: The question.
            callbacks: Callbacks for the run.

        Raises:
            NotSupportedError: If the server runs without `--reranking`.
        """
        manager = CallbackManager.configure(inheritable_callbacks=callbacks)
        inputs = {"query": query, "documents": list_of(documents, "documents", Document)}
        run = manager.on_chain_start(None, inputs, name=type(self).__name__)
        try:
            found = _ranked(documents, self.rerank(documents, query))
        except BaseException as error:
            run.on_chain_error(error)
            raise
        run.on_chain_end({"documents": found})
        return found

    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """Async version of `compress_documents`."""
        manager = AsyncCallbackManager.configure(inheritable_callbacks=callbacks)
        inputs = {"query": query, "documents": list_of(documents, "documents", Document)}
        run = await manager.on_chain_start(None, inputs, name=type(self).__name__)
        try:
            found = _ranked(documents, await self.arerank(documents, query))
        except BaseException as error:
            await run.on_chain_error(error)
            raise
        await run.on_chain_end({"documents": found})
        return found


def _texts(documents: Sequence[str | Document]) -> list[str]:
    given = list_of(documents, "documents", (str, Document))
    return [document.page_content if isinstance(document, Document) else document for document in given]


def _as_dict(ranking: Ranking) -> dict[str, Any]:
    return {"index": ranking.index, "relevance_score": ranking.score}


def _ranked(documents: Sequence[Document], ranks: list[dict[str, Any]]) -> list[Document]:
    found = []
    for rank in ranks:
        document = documents[rank["index"]]
        metadata = {**document.metadata, "relevance_score": rank["relevance_score"]}
        found.append(document.model_copy(update={"metadata": metadata}))
    return found
