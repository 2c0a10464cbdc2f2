"""Embedding and reranking requests, and checks of their replies.

Pure functions, without I/O. `_endpoints/embeddings.py` and `_endpoints/reranking.py` send the requests.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import exp, fsum, hypot, inf, isfinite, nan
from operator import mul
from os import PathLike
from pathlib import Path
from typing import Any, Final, Literal

from ._notices import warn_once
from ._values import RequestRepr
from .errors import BadRequestError, BadVectorError
from .requests import MediaPolicy

__all__ = [
    "EmbedRequest",
    "OnOversize",
    "RankRequest",
    "ScoreNormalization",
    "ScoreScale",
    "image_input",
    "late_interaction",
]

OnOversize = Literal["error", "truncate"]
"""How to handle texts that are too long for the server: raise an error, or truncate them."""

ScoreNormalization = Literal["auto", "sigmoid", "none"]

# A server answers when the whole batch is done, and until then is silent: 64 texts of 500 tokens are a minute or so on
# a slow CPU. It spreads the texts of one request over its slots, so small batches gain nothing.
DEFAULT_BATCH_SIZE: Final = 64
_BATCH_CHARACTERS: Final = 200_000

# Conversions without a rank head give scores of about 1e-20. A softmax in float32 does not get that close to 0.
_NO_RANK_HEAD: Final = 1e-15

# float32 gets a length of 1 right to about seven digits.
_UNIT_TOLERANCE: Final = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class EmbedRequest(RequestRepr):
    """Texts to embed, any number.

    Attributes:
        inputs: Texts, or `{"content": parts}` with images or audio for a multimodal model.
        prefix: Text added before each input; "" for none. None also adds nothing, but logs once if the model's family
            needs a prefix (`llamacpp_server.prefixes`).
        dimensions: Number of leading dimensions to keep (for models trained for it); None keeps all. Applied by this
            package, as the server ignores this field (b11434).
        normalize: Whether to scale vectors to length 1. False returns the model's raw values.
        on_oversize: How to handle a text that does not fit into the server's physical batch (`-ub`).
        batch_size: Maximum texts in one request.
        model: Name of the model (routers).
        extra_body: Further fields, such as `embd_normalize`.
        media: Which files and URLs of images and audio may be read.
    """

    inputs: Sequence[str | Mapping[str, Any]]
    prefix: str | None = None
    dimensions: int | None = None
    normalize: bool = True
    on_oversize: OnOversize = "error"
    batch_size: int = DEFAULT_BATCH_SIZE
    model: str | None = None
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    media: MediaPolicy = field(default_factory=MediaPolicy)


class ScoreScale:
    """Normalizes rerank scores to the range 0 to 1, and remembers which models need a sigmoid.

    llama-server returns the output of the model's head: unbounded logits for most models, probabilities for some
    (Qwen3). A sigmoid of a probability is wrong, so `auto` applies one only after a model has returned a score outside
    the range 0 to 1, from then on to all its scores.
    """

    def __init__(self) -> None:
        self._logits: set[object] = set()

    def apply(self, scores: Sequence[float], how: ScoreNormalization, model: object) -> list[float]:
        """Normalize scores without changing their order.

        Args:
            scores: The server's scores.
            how: `auto`, `sigmoid`, or `none`.
            model: Identifies the model: server and name.
        """
        if scores and max(map(abs, scores)) < _NO_RANK_HEAD:
            warn_once(
                "all rerank scores are close to zero: the model file probably has no rank head "
                "(convert it again with a current llama.cpp, or use another reranker)"
            )
            return list(scores)
        if how == "auto" and model not in self._logits and any(not 0 <= score <= 1 for score in scores):
            self._logits.add(model)
        if how == "sigmoid" or (how == "auto" and model in self._logits):
            return [sigmoid(score) for score in scores]
        return list(scores)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class RankRequest(RequestRepr):
    """Documents to rank by relevance to a query, any number.

    Attributes:
        query: The question.
        documents: Texts.
        top_n: Maximum number of documents to return; None returns all.
        min_score: Minimum score, after `normalize`; documents below it are left out. None keeps all.
        normalize: `auto` returns scores from 0 to 1 (see `ScoreScale`), `sigmoid` always applies a sigmoid, `none`
            returns raw scores.
        scale: The state of `auto`; use the same one for all scores that are compared.
        on_oversize: How to handle a document that does not fit together with the query.
        batch_size: Maximum documents in one request.
        model: Name of the model (routers).
        extra_body: Further fields, sent as they are.
    """

    query: str
    documents: Sequence[str]
    top_n: int | None = None
    min_score: float | None = None
    normalize: ScoreNormalization = "auto"
    scale: ScoreScale = field(default_factory=ScoreScale)
    on_oversize: OnOversize = "error"
    batch_size: int = DEFAULT_BATCH_SIZE
    model: str | None = None
    extra_body: Mapping[str, Any] = field(default_factory=dict)


def sigmoid(score: float) -> float:
    """1 / (1 + e^-score), without overflow."""
    if score >= 0:
        return 1 / (1 + exp(-score))
    power = exp(score)
    return power / (1 + power)


def batches(inputs: Sequence[Any], size: int) -> Iterator[tuple[int, list[Any]]]:
    """Consecutive parts of `inputs`, each with the position of its first.

    Args:
        inputs: Texts or other inputs.
        size: Most inputs of a part. A part ends sooner when its texts are long.

    Raises:
        BadRequestError: For a size below 1.
    """
    if size < 1:
        raise BadRequestError(f"batch_size must be at least 1, not {size}")
    part: list[Any] = []
    characters = first = 0
    for number, text in enumerate(inputs):
        length = len(text) if isinstance(text, str) else 0
        if part and (len(part) == size or characters + length > _BATCH_CHARACTERS):
            yield first, part
            part, characters, first = [], 0, number
        part.append(text)
        characters += length
    if part:
        yield first, part


def check_vectors(
    vectors: list[list[float]], first: int = 0, width: int | None = None, *, normalize: bool = False
) -> None:
    """Refuses what would poison a vector store without a word.

    One number tells it all: the length of a vector is NaN or infinite when one of its numbers is, and 0 when all are.
    That costs 6 µs for 768 numbers.

    Args:
        vectors: From the server.
        first: Position of the first one in what was asked for.
        width: Numbers that each must have; None takes those of the first one.
        normalize: Bring vectors to length 1, in place, that are not: llama-server's are (b11434), those of old builds
            and of other servers may not be.

    Raises:
        BadVectorError: For the first that holds null, NaN or infinity, is all zeros, or has another width.
    """
    for index, vector in enumerate(vectors):
        width = len(vector) if width is None else width
        try:
            length = hypot(*vector)
        except TypeError:
            length = nan
        if not 0 < length < inf or len(vector) != width:
            raise BadVectorError(
                f"the vector of text {first + index} {_what_is_wrong(vector, width)}", index=first + index
            )
        if normalize and abs(length - 1) > _UNIT_TOLERANCE:
            vectors[index] = [number / length for number in vector]


def _what_is_wrong(vector: Sequence[Any], width: int) -> str:
    if not vector:
        return "is empty"
    if len(vector) != width:
        return f"has {len(vector)} numbers instead of {width}"
    bad = [number for number in vector if number is None or not isfinite(number)]
    return f"contains {'null' if bad[0] is None else bad[0]}" if bad else "is all zeros"


def shorten(vectors: list[list[float]], dimensions: int | None, *, normalize: bool) -> list[list[float]]:
    """The first `dimensions` numbers of each vector, of length 1 again where that is wanted.

    Raises:
        BadRequestError: When the vectors have fewer.
    """
    if dimensions is None or not vectors or len(vectors[0]) == dimensions:
        return vectors
    if not 0 < dimensions <= len(vectors[0]):
        raise BadRequestError(f"dimensions={dimensions}: the model's vectors have {len(vectors[0])}")
    heads = [vector[:dimensions] for vector in vectors]
    return [_unit(head) for head in heads] if normalize else heads


def _unit(vector: list[float]) -> list[float]:
    length = hypot(*vector)
    return [number / length for number in vector] if length else vector


def media_input(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """An input for a multimodal embedder from content parts.

    A text is put last where there is none: an input that ends with an image or sound takes the whole server down
    (seen on xllamacpp 2026.10.11549).
    """
    ends_with_text = bool(parts) and parts[-1].get("type") == "text" and bool(parts[-1].get("text"))
    return {"content": [*parts, *([] if ends_with_text else [{"type": "text", "text": "\n"}])]}


def image_input(image: str | bytes | PathLike[str], text: str = "") -> dict[str, Any]:
    """Create the input of a multimodal embedder: an image, optionally with a text.

    Args:
        image: A file, its bytes, or a `data:` or `http(s):` address (the latter needs `fetch_urls`).
        text: Embedded together with the image.

    Raises:
        OSError: If the file can't be read.
    """
    if isinstance(image, str) and image.startswith(("data:", "http://", "https://")):
        url = image
    else:
        data = image if isinstance(image, bytes) else Path(str(image).removeprefix("file://")).read_bytes()
        # The server looks at the bytes, not at the type.
        url = "data:image/png;base64," + b64encode(data).decode()
    parts: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": url}}]
    return media_input([*parts, {"type": "text", "text": text}] if text else parts)


def late_interaction(query: Sequence[Sequence[float]], document: Sequence[Sequence[float]]) -> float:
    """Score a document for a query by their token vectors (ColBERT's MaxSim); higher is better.

    For each token of the query, the cosine of the document's nearest token; their mean, from -1 to 1.

    Args:
        query: Vectors of `embed_tokens`, normalized or not.
        document: The same.
    """
    if not query or not document:
        raise BadRequestError("late interaction requires at least one token vector on both sides")
    ours, theirs = [_unit(list(vector)) for vector in query], [_unit(list(vector)) for vector in document]
    nearest = (max(fsum(map(mul, one, other)) for other in theirs) for one in ours)
    return sum(nearest) / len(ours)
