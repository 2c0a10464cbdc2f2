"""`LlamaServerEmbeddings`: llama-server's embeddings for LangChain. Only hooks; the logic is in `llamacpp_server`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, Final

from langchain_core.embeddings import Embeddings
from pydantic import Field, model_validator

from llamacpp_server import BadRequestError, EmbedRequest
from llamacpp_server.integration import (
    EmbeddingFields,
    hides_arguments,
    object_of,
)
from llamacpp_server.vectors import DEFAULT_BATCH_SIZE, image_input

from ._argument_names import EmbeddingNames
from ._arguments import EMBEDDINGS
from ._clients import async_client_for, client_for
from ._errors import langchain_errors
from ._server_model import ServerModel

__all__ = ["LlamaServerEmbeddings"]

# Request fields that a call may give by name.
_OF_CALLS: Final = ("model", "dimensions", "encoding_format", "embd_normalize", "user")


@dataclass(frozen=True, slots=True)
class _Call:
    """One call's arguments: fields of `ServerSettings`, and of the request."""

    settings: Mapping[str, Any]
    extra: Mapping[str, Any]


def _read(kwargs: Mapping[str, Any]) -> _Call:
    if not kwargs:
        return _Call({}, {})
    from ._calls import call_settings  # few calls have arguments

    given = EMBEDDINGS.call(kwargs)
    body = object_of(given.pop("extra_body", None), "extra_body")
    settings = call_settings(given)
    for name in given:
        if name not in _OF_CALLS:
            raise BadRequestError(EMBEDDINGS.unknown(name, _OF_CALLS))
    return _Call(settings, {**given, **body})


class LlamaServerEmbeddings(EmbeddingNames, ServerModel, EmbeddingFields, Embeddings):
    """Embedding model backed by a llama-server with `--embeddings`.

    Examples:
        >>> embeddings = LlamaServerEmbeddings(base_url="http://localhost:8080", preset="nomic")
        >>> embeddings.embed_query("Why is the sky blue?")  # doctest: +SKIP

    Texts are sent as text, in concurrent batches up to the server's number of slots. Vectors are returned in the order
    of the texts. A vector with NaN, null or only zeros is an error that names the text, and so is a text that is too
    long, unless `on_oversize="truncate"`. Async methods are native.

    Most embedding models need a prefix for queries, and some for documents; `preset` sets them for nomic, e5, bge,
    mxbai, embeddinggemma, qwen3 and snowflake-arctic (sources: `llamacpp_server.prefixes`).

    Also accepts the arguments of OpenAIEmbeddings; those without an effect here are logged once.
    """

    query_prefix: str | None = None
    """Prefix of queries; None uses the preset's."""
    document_prefix: str | None = None
    """Prefix of documents; None uses the preset's."""
    batch_size: int = Field(default=DEFAULT_BATCH_SIZE, ge=1)
    """Maximum texts in one request."""

    @model_validator(mode="before")
    @classmethod
    def _take_other_names(cls, values: Any) -> Any:
        return EMBEDDINGS.constructor(values, cls) if isinstance(values, dict) else values

    @hides_arguments
    def embed_documents(self, texts: list[str], chunk_size: int | None = None, **kwargs: Any) -> list[list[float]]:
        """Embed texts: one vector for each, in order.

        Args:
            texts: Any number.
            chunk_size: Maximum texts in one request; None uses `batch_size`.
            kwargs: `model`, `dimensions`, `extra_body`, and limits and headers of the call, as in `ChatLlamaServer`.

        Raises:
            BadRequestError: For an argument that no class has; fields of a newer server go into `extra_body`.
            ContextOverflowError: For a text that is too long; `index` is its position.
            BadVectorError: For an unusable vector; `index` is its position.
        """
        with langchain_errors:
            call = _read(kwargs)
            client = client_for(self.client, call)
            return client.embed_texts(self._documents(texts, chunk_size, call.extra)).vectors

    @hides_arguments
    def embed_query(self, text: str, **kwargs: Any) -> list[float]:
        """Embed a query; arguments and errors as in `embed_documents`."""
        with langchain_errors:
            call = _read(kwargs)
            client = client_for(self.client, call)
            return client.embed_texts(self._query(text, call.extra)).vectors[0]

    @hides_arguments
    async def aembed_documents(
        self, texts: list[str], chunk_size: int | None = None, **kwargs: Any
    ) -> list[list[float]]:
        """Async version of `embed_documents`."""
        with langchain_errors:
            call = _read(kwargs)
            client = async_client_for(self.async_client, call)
            return (await client.embed_texts(self._documents(texts, chunk_size, call.extra))).vectors

    @hides_arguments
    async def aembed_query(self, text: str, **kwargs: Any) -> list[float]:
        """Async version of `embed_query`."""
        with langchain_errors:
            call = _read(kwargs)
            client = async_client_for(self.async_client, call)
            return (await client.embed_texts(self._query(text, call.extra))).vectors[0]

    def embed_image(self, uris: Sequence[str | bytes | PathLike[str]]) -> list[list[float]]:
        """Embed images: one vector for each; requires a multimodal embedding model (`--mmproj`).

        Args:
            uris: Paths of files, bytes, `data:` URLs, or with `fetch_urls` `http(s):` URLs. Vector stores use this
                name.

        Raises:
            NotSupportedError: If the model does not support images.
        """
        with langchain_errors:
            return self.client.embed_texts(self._images(uris)).vectors

    async def aembed_image(self, uris: Sequence[str | bytes | PathLike[str]]) -> list[list[float]]:
        """Async version of `embed_image`."""
        with langchain_errors:
            return (await self.async_client.embed_texts(self._images(uris))).vectors

    def _documents(self, texts: Sequence[str], chunk_size: int | None, extra: Mapping[str, Any]) -> EmbedRequest:
        prefix = self.document_text(self.document_prefix)
        return self.embed_request(texts, prefix, chunk_size or self.batch_size, **extra)

    def _query(self, text: str, extra: Mapping[str, Any]) -> EmbedRequest:
        return self.embed_request([text], self.query_text(self.query_prefix), **extra)

    def _images(self, images: Sequence[str | bytes | PathLike[str]]) -> EmbedRequest:
        return self.embed_request([image_input(image) for image in images], "", self.batch_size)
