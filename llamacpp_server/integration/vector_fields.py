"""The fields that the embedding and reranking classes of both adapters share, and the requests they make of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field, PrivateAttr

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
    """What becomes of texts before they are embedded, and of vectors before they are returned."""

    preset: PrefixFamily | None = None
    """Family of the model: sets both prefixes, where they are not given. `none` wants no prefix."""
    dimensions: int | None = Field(default=None, ge=1)
    """Keep the first so many numbers (models trained for it); of length 1 again."""
    normalize: bool = True
    """Vectors of length 1; False gives the model's own numbers."""
    on_oversize: OnOversize = "error"
    """Of a text longer than the server's physical batch: an error, or only its beginning."""
    extra_body: dict[str, Any] = Field(default_factory=dict)
    """Request fields sent as they are, over all others."""

    def query_text(self, own: str | None) -> str | None:
        """What is put in front of a query: `own` where it is given, else the preset's; None where neither is."""
        return own if own is not None else PREFIXES[self.preset].query if self.preset else None

    def document_text(self, own: str | None) -> str | None:
        """What is put in front of a document, likewise."""
        return own if own is not None else PREFIXES[self.preset].document if self.preset else None

    def embed_request(
        self,
        inputs: Sequence[str | Mapping[str, Any]],
        prefix: str | None,
        batch_size: int = DEFAULT_BATCH_SIZE,
        **extra: Any,
    ) -> EmbedRequest:
        """The request for these inputs. `extra` is added to `extra_body` for this request."""
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
    """Which documents come back from a reranker, and with which scores."""

    top_n: int | None = Field(default=None, ge=1)
    """How many come back; None returns all."""
    min_score: float | None = None
    """What scores less (after `normalize`) is left out."""
    normalize: ScoreNormalization = "auto"
    """`auto` gives 0...1: a sigmoid where the model gives logits. `sigmoid` always, `none` never."""
    on_oversize: OnOversize = "truncate"
    """Of a document that does not fit beside the query: its beginning, or an error."""
    rank_batch_size: int = Field(default=DEFAULT_BATCH_SIZE, ge=1)
    """Most documents of one request."""

    _scale: ScoreScale = PrivateAttr(default_factory=ScoreScale)

    def rank_request(self, query: str, documents: Sequence[str], top_n: int | None) -> RankRequest:
        """The request for these documents."""
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
