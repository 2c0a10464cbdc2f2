"""`LlamaServerEmbedding`: llama-server's embeddings for LlamaIndex. Only hooks; the logic is in `llamacpp_server`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

from llama_index.core.base.embeddings.base import Embedding
from llama_index.core.callbacks import CBEventType, EventPayload
from llama_index.core.embeddings.multi_modal_base import MultiModalEmbedding
from llama_index.core.instrumentation.events.embedding import EmbeddingEndEvent, EmbeddingStartEvent
from llama_index.core.schema import ImageType
from llama_index_instrumentation import get_dispatcher
from pydantic import Field, model_validator

from llamacpp_server import EmbedRequest
from llamacpp_server.integration import (
    EmbeddingFields,
)
from llamacpp_server.vectors import image_input

from ._arguments import EMBEDDING, EmbeddingNames, constructor_arguments

__all__ = ["LlamaServerEmbedding"]

dispatcher = get_dispatcher(__name__)


class LlamaServerEmbedding(EmbeddingNames, EmbeddingFields, MultiModalEmbedding):
    """Embedding model backed by a llama-server with `--embeddings`.

    Examples:
        >>> embed_model = LlamaServerEmbedding(base_url="http://localhost:8080", preset="nomic")
        >>> embed_model.get_query_embedding("Why is the sky blue?")  # doctest: +SKIP

    Texts are sent unchanged, in concurrent batches up to the server's number of slots. Vectors are returned in the
    order of the texts. A vector with NaN, null or only zeros is an error that names the text, and so is a text that is
    too long, unless `on_oversize="truncate"`. Async methods are native.

    Most embedding models need a prefix for queries, and some for documents; `preset` sets them for nomic, e5, bge,
    mxbai, embeddinggemma, qwen3 and snowflake-arctic (sources: `llamacpp_server.prefixes`). An
    `embeddings_cache` stores queries separately if their prefix differs.

    Images require a multimodal embedding model (`--mmproj`). Errors are those of `llamacpp_server`.
    """

    query_instruction: str | None = None
    """Prefix of queries; None uses the preset's."""
    text_instruction: str | None = None
    """Prefix of texts; None uses the preset's."""
    embed_batch_size: int = Field(default=256, gt=0, le=2048)
    """Size of LlamaIndex's batches, which it uses with a cache or a progress bar."""
    request_batch_size: int = Field(default=64, ge=1)
    """Maximum texts in one request."""

    @model_validator(mode="before")
    @classmethod
    def _take_other_names(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("model_name") in _NO_NAME:
            values = {name: value for name, value in values.items() if name != "model_name"}
        return constructor_arguments(EMBEDDING, values, cls)

    @model_validator(mode="after")
    def _name_model(self) -> Self:
        if self.model is not None:
            self.__dict__["model_name"] = self.model
        return self

    @classmethod
    def class_name(cls) -> str:
        """The name used in serialized form."""
        return "LlamaServerEmbedding"

    # -- what the core calls

    def _get_query_embedding(self, query: str) -> Embedding:
        return self.client.embed_texts(self._queries([query])).vectors[0]

    async def _aget_query_embedding(self, query: str) -> Embedding:
        return (await self.async_client.embed_texts(self._queries([query]))).vectors[0]

    def _get_text_embedding(self, text: str) -> Embedding:
        return self._get_text_embeddings([text])[0]

    async def _aget_text_embedding(self, text: str) -> Embedding:
        return (await self._aget_text_embeddings([text]))[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[Embedding]:
        return self.client.embed_texts(self._texts(texts)).vectors

    async def _aget_text_embeddings(self, texts: list[str]) -> list[Embedding]:
        return (await self.async_client.embed_texts(self._texts(texts))).vectors

    def _get_image_embedding(self, img_file_path: ImageType) -> Embedding:
        return self._get_image_embeddings([img_file_path])[0]

    async def _aget_image_embedding(self, img_file_path: ImageType) -> Embedding:
        return (await self._aget_image_embeddings([img_file_path]))[0]

    def _get_image_embeddings(self, img_file_paths: list[ImageType]) -> list[Embedding]:
        return self.client.embed_texts(self._images(img_file_paths)).vectors

    async def _aget_image_embeddings(self, img_file_paths: list[ImageType]) -> list[Embedding]:
        return (await self.async_client.embed_texts(self._images(img_file_paths))).vectors

    # -- many texts: the core would cut them into batches of its own, one after the other, so that an error could only
    # -- name a place in a batch; and it would validate, that is copy, each number for its event

    def get_text_embedding_batch(self, texts: list[str], show_progress: bool = False, **kwargs: Any) -> list[Embedding]:
        """Embed texts: one vector for each, in order.

        Args:
            texts: Any number.
            show_progress: Whether to show a progress bar; batches of `embed_batch_size` are then sent sequentially.
            kwargs: Ignored; part of LlamaIndex's interface.

        Raises:
            ContextOverflowError: For a text that is too long; `index` is its position.
            BadVectorError: For an unusable vector; `index` is its position.
        """
        if show_progress or self.embeddings_cache is not None or not texts:
            return super().get_text_embedding_batch(texts, show_progress, **kwargs)
        with self._announced(texts) as found:
            if self.rate_limiter is not None:
                for _ in range(0, len(texts), self.embed_batch_size):
                    self.rate_limiter.acquire()
            found += self._get_text_embeddings(texts)
        return found

    async def aget_text_embedding_batch(
        self, texts: list[str], show_progress: bool = False, **kwargs: Any
    ) -> list[Embedding]:
        """Async version of `get_text_embedding_batch`."""
        if show_progress or self.embeddings_cache is not None or not texts:
            return await super().aget_text_embedding_batch(texts, show_progress, **kwargs)
        with self._announced(texts) as found:
            if self.rate_limiter is not None:
                for _ in range(0, len(texts), self.embed_batch_size):
                    await self.rate_limiter.async_acquire()
            found += await self._aget_text_embeddings(texts)
        return found

    @contextmanager
    def _announced(self, texts: list[str]) -> Iterator[list[Embedding]]:
        """Report texts and their vectors to events and callbacks."""
        found: list[Embedding] = []
        model = self.to_payload()
        dispatcher.event(EmbeddingStartEvent(model_dict=model))
        with self.callback_manager.event(CBEventType.EMBEDDING, payload={EventPayload.SERIALIZED: model}) as event:
            yield found
            event.on_end(payload={EventPayload.CHUNKS: texts, EventPayload.EMBEDDINGS: found})
        end = EmbeddingEndEvent(chunks=texts, embeddings=[])
        end.embeddings = found
        dispatcher.event(end)

    # -- the cache, whose key is the bare text for texts and queries alike

    def get_query_embedding(self, query: str) -> Embedding:
        """Embed a query.

        Raises:
            ContextOverflowError: If the query is too long.
        """
        return MultiModalEmbedding.get_query_embedding(self._with_query_keys(), query)

    async def aget_query_embedding(self, query: str) -> Embedding:
        """Async version of `get_query_embedding`."""
        return await MultiModalEmbedding.aget_query_embedding(self._with_query_keys(), query)

    def _with_query_keys(self) -> Self:
        prefix = self.query_text(self.query_instruction) or ""
        if self.embeddings_cache is None or prefix == (self.document_text(self.text_instruction) or ""):
            return self
        self.client, self.async_client  # noqa: B018 (opened here, the copy shares their connections)
        return self.model_copy(update={"embeddings_cache": _QueryCache(self.embeddings_cache, prefix)})

    # -- requests

    def _queries(self, queries: Sequence[str]) -> EmbedRequest:
        return self.embed_request(queries, self.query_text(self.query_instruction))

    def _texts(self, texts: Sequence[str]) -> EmbedRequest:
        return self.embed_request(texts, self.document_text(self.text_instruction), self.request_batch_size)

    def _images(self, images: Sequence[ImageType]) -> EmbedRequest:
        inputs = [image_input(image if isinstance(image, str) else image.getvalue()) for image in images]
        return self.embed_request(inputs, "", self.request_batch_size)


_NO_NAME = (None, "", "unknown")


class _QueryCache:
    """A store of vectors with separate keys for queries."""

    def __init__(self, store: Any, prefix: str) -> None:
        self._store = store
        self._prefix = f"{prefix}\0"

    def get(self, key: str, collection: str) -> Any:
        return self._store.get(key=self._prefix + key, collection=collection)

    def put(self, key: str, val: dict[str, Any], collection: str) -> None:
        self._store.put(key=self._prefix + key, val=val, collection=collection)

    async def aget(self, key: str, collection: str) -> Any:
        return await self._store.aget(key=self._prefix + key, collection=collection)

    async def aput(self, key: str, val: dict[str, Any], collection: str) -> None:
        await self._store.aput(key=self._prefix + key, val=val, collection=collection)
