"""Fields of the embedding and reranking classes of both adapters, and the requests made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field, PrivateAttr

from .._read_as import ReadAs, default_value
from ..prefixes import PREFIXES, PrefixFamily
from ..vectors import (
    DEFAULT_BATCH_SIZE,
    EmbedRequest,
    OnOversize,
    RankRequest,
    ScoreNormalization,
    ScoreScale,
)
from .fields import ConnectionFields, MediaFields

__all__ = ["EmbeddingFields", "RankFields"]


class EmbeddingFields(ConnectionFields, MediaFields):
    """The fields of an embedding class: prefixes, dimensions, normalization and limits."""

    preset: PrefixFamily | None = None
    """Model family: sets the query and document prefixes, unless they are given. `none` uses no prefix."""
    dimensions: int | None = Field(default=None, ge=1)
    """Truncates vectors to this many dimensions and renormalizes them, for models trained for it."""
    normalize: bool = True
    """Whether to normalize vectors to length 1."""
    on_oversize: OnOversize = "error"
    """For a text longer than the server's physical batch: `error`, or `truncate` to embed its beginning."""
    extra_body: ReadAs[dict[str, Any], Mapping[str, Any] | None] = Field(default_factory=default_value(dict))
    """Request fields that are sent unchanged and override all others."""

    def query_text(self, own: str | None) -> str | None:
        """The prefix of queries: `own` if given, else the preset's, else None."""
        return own if own is not None else PREFIXES[self.preset].query if self.preset else None

    def document_text(self, own: str | None) -> str | None:
        """The prefix of documents: `own` if given, else the preset's, else None."""
        return own if own is not None else PREFIXES[self.preset].document if self.preset else None

    def embed_request(
        self,
        inputs: Sequence[str | Mapping[str, Any]],
        prefix: str | None,
        batch_size: int = DEFAULT_BATCH_SIZE,
        **extra: Any,
    ) -> EmbedRequest:
        """Create the request for these inputs. `extra` is added to `extra_body` for this request."""
        return EmbedRequest(
            inputs=inputs,
            prefix=prefix,
            dimensions=extra.pop("dimensions", None) or self.dimensions,
            normalize=self.normalize,
            on_oversize=self.on_oversize,
            batch_size=batch_size,
            extra_body={**self.extra_body, **extra},
            media=self.media_policy(),
        )


class RankFields(ConnectionFields):
    """The fields of a reranker: which documents are returned, and how scores are normalized."""

    top_n: int | None = Field(default=None, ge=1)
    """Number of documents to return; None returns all."""
    min_score: float | None = None
    """Documents with a lower score (after `normalize`) are dropped."""
    normalize: ScoreNormalization = "auto"
    """Scores from 0 to 1: `auto` applies a sigmoid if the model returns logits, `sigmoid` always, `none` never."""
    on_oversize: OnOversize = "truncate"
    """For a document that does not fit next to the query: `truncate` ranks its beginning, or `error`."""
    rank_batch_size: int = Field(default=DEFAULT_BATCH_SIZE, ge=1)
    """Maximum documents per request."""

    _scale = PrivateAttr(default_factory=ScoreScale)

    def rank_request(self, query: str, documents: Sequence[str], top_n: int | None) -> RankRequest:
        """Create the request for these documents."""
        return RankRequest(
            query=query,
            documents=documents,
            top_n=top_n,
            min_score=self.min_score,
            normalize=self.normalize,
            scale=self._scale,
            on_oversize=self.on_oversize,
            batch_size=self.rank_batch_size,
        )
