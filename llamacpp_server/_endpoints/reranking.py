"""Rank any number of documents in concurrent batches; overlong ones are truncated or rejected, scores are scaled."""

from __future__ import annotations

from typing import Final

from .._notices import warn_once
from ..errors import BadRequestError, ContextOverflowError
from ..replies import Usage
from ..results import Ranking, Rankings
from ..settings import ServerSettings
from ..transport import (
    Program,
    side_by_side,
)
from ..vectors import RankRequest, batches
from .embeddings import locate
from .inputs import check_list, check_request
from .oversize import counts, truncate_to_tokens
from .server import rerank

_MOST_CUTS: Final = 8


def rank(settings: ServerSettings, request: RankRequest) -> Program[Rankings]:
    """`/v1/rerank`, as often as it takes."""
    check_request(request, RankRequest)
    check_list(request.documents, "the documents to rank", (str,))
    parts = [_batch(settings, request, first, texts) for first, texts in batches(request.documents, request.batch_size)]
    parts_found = yield from side_by_side(settings, parts)
    found = [ranking for part in parts_found for ranking in part]
    model = (settings.base_url, request.model or settings.model)
    scores = request.scale.apply([ranking.score for ranking in found], request.normalize, model)
    ranks = [Ranking(ranking.index, score) for ranking, score in zip(found, scores, strict=True)]
    # Raw scores break ties: far from 0, a sigmoid has none left to tell them by.
    order = sorted(range(len(found)), key=lambda number: (-found[number].score, found[number].index))
    kept = [ranks[number] for number in order if request.min_score is None or scores[number] >= request.min_score]
    kept = kept if request.top_n is None else kept[: max(request.top_n, 0)]
    return Rankings(kept, parts_found[0].model if parts_found else "", _sum([part.usage for part in parts_found]))


def _sum(usages: list[Usage | None]) -> Usage | None:
    known = [usage for usage in usages if usage is not None]
    return Usage(sum(u.prompt_tokens for u in known), sum(u.completion_tokens for u in known)) if known else None


def _batch(settings: ServerSettings, request: RankRequest, first: int, texts: list[str]) -> Program[Rankings]:
    for _ in range(_MOST_CUTS):
        try:
            found = yield from rerank(settings, request.query, texts, None, request.model, request.extra_body)
            ranks = [Ranking(first + ranking.index, ranking.score) for ranking in found]
            return Rankings(ranks, found.model, found.usage)
        except ContextOverflowError as error:
            texts = yield from _without_oversize(settings, request, first, texts, error)
    raise BadRequestError(f"the documents from index {first} on don't fit, even when truncated")


def _without_oversize(
    settings: ServerSettings, request: RankRequest, first: int, texts: list[str], error: ContextOverflowError
) -> Program[list[str]]:
    """Truncate documents that don't fit next to the query, or raise the error with the position of the longest."""
    lengths = yield from counts(settings, texts, request.model, special=False)
    longest = lengths.index(max(lengths))
    # What the server puts around a document (the query, a template) is known once a single one was refused.
    alone = error if len(texts) == 1 else (yield from _refusal(settings, request, texts[longest]))
    if request.on_oversize == "error" or alone is None:
        raise locate(alone or error, first + longest, "document", hint="or pass on_oversize='truncate'")
    around = (alone.n_prompt_tokens or 0) - lengths[longest]
    room = alone.n_ctx - around if alone.n_ctx and around > 0 else lengths[longest] // 2
    if room < 1:
        raise locate(alone, first + longest, "document", hint="the query leaves no room for a document; shorten it")
    warn_once(f"truncating documents longer than {room} tokens (on_oversize='truncate')")
    texts = list(texts)
    for number, length in enumerate(lengths):
        if length > room:
            texts[number] = yield from truncate_to_tokens(settings, texts[number], room, request.model, special=False)
    return texts


def _refusal(settings: ServerSettings, request: RankRequest, text: str) -> Program[ContextOverflowError | None]:
    try:
        yield from rerank(settings, request.query, [text], None, request.model, request.extra_body)
    except ContextOverflowError as error:
        return error
    return None
