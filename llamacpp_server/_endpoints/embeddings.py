"""Embed any number of texts in concurrent batches; overlong texts are truncated or rejected, vectors are checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from .._media import (
    media_parts,
)
from .._notices import warn_once
from ..errors import BadRequestError, BadVectorError, ContextOverflowError
from ..prefixes import PREFIXES, family_of
from ..replies import Usage
from ..results import Embeddings
from ..settings import ServerSettings
from ..transport import (
    Program,
    side_by_side,
)
from ..vectors import EmbedRequest, batches, check_vectors, media_input, shorten
from .inputs import check_list, check_request, wrong_value
from .oversize import counts, truncate_to_tokens
from .server import embed

# The limit is known from the first refusal; where a build does not say it, each further try halves.
_MOST_CUTS: Final = 8


def embed_texts(settings: ServerSettings, request: EmbedRequest) -> Program[Embeddings]:
    """`/v1/embeddings`, as often as it takes."""
    check_request(request, EmbedRequest)
    check_list(request.inputs, "the texts to embed", (str, Mapping))
    prefix = request.prefix or ""
    inputs: list[Any] = []
    for at, one in enumerate(request.inputs):
        if isinstance(one, str):
            inputs.append(prefix + one)
        else:
            if not isinstance(one.get("content"), str | list | tuple):
                raise wrong_value(f"inputs[{at}].content", "a string or a list of parts", one.get("content"))
            inputs.append(media_input((yield from media_parts(one["content"], request.media, f"inputs[{at}]"))))
    parts = [_batch(settings, request, first, texts) for first, texts in batches(inputs, request.batch_size)]
    found = yield from side_by_side(settings, parts)
    if not found:
        return Embeddings([])
    vectors = [vector for part in found for vector in part.vectors]
    if len(found) > 1:
        _same_width(found)
    model = found[0].model
    if request.prefix is None:
        _suggest_prefix(model)
    vectors = shorten(vectors, request.dimensions, normalize=request.normalize)
    return Embeddings(vectors, model, _total(found), found[0].raw)


def _batch(settings: ServerSettings, request: EmbedRequest, first: int, texts: list[Any]) -> Program[Embeddings]:
    body = {**({} if request.normalize else {"embd_normalize": -1}), **request.extra_body}
    for _ in range(_MOST_CUTS):
        try:
            found = yield from embed(settings, texts, request.model, body)
            break
        except ContextOverflowError as error:
            texts = yield from _without_oversize(settings, request, first, texts, error)
        except BadRequestError as error:
            if "empty" in (error.server_message or ""):
                yield from _name_empty(settings, request, first, texts, error)
            raise
    else:
        raise BadRequestError(f"the texts from index {first} on don't fit, even when truncated")
    try:
        check_vectors(found.vectors, first, normalize=request.normalize)
    except BadVectorError as error:
        error.remedy = "a server started with --reranking returns such vectors; otherwise the model file may be corrupt"
        raise
    return found


def _without_oversize(
    settings: ServerSettings, request: EmbedRequest, first: int, texts: list[Any], error: ContextOverflowError
) -> Program[list[Any]]:
    """Truncate the texts that don't fit, or raise the error with the position of the first one."""
    lengths = yield from counts(settings, texts, request.model, special=True)
    longest = max(lengths)
    room = error.n_ctx or longest // 2
    over = [number for number, length in enumerate(lengths) if length > room]
    if not over:
        raise error
    index = first + over[0]
    if request.on_oversize == "error":
        error.n_prompt_tokens, error.n_ctx = lengths[over[0]], error.n_ctx
        raise locate(error, index, "text", hint="or pass on_oversize='truncate'")
    warn_once(f"truncating texts longer than {room} tokens (on_oversize='truncate')")
    texts = list(texts)
    for number in over:
        texts[number] = yield from truncate_to_tokens(settings, texts[number], room, request.model, special=True)
        if len(texts[number]) <= len(request.prefix or ""):
            raise locate(error, first + number, "text", hint="not even one character fits")
    return texts


def locate(error: ContextOverflowError, index: int, what: str, hint: str) -> ContextOverflowError:
    """The error with the position of what it is about."""
    error.index = index
    size = f" ({error.n_prompt_tokens} tokens, {error.n_ctx} fit)" if error.n_ctx else ""
    error.message = f"{what} {index}{size} is too long: {error.message}"
    error.args = (error.message,)
    error.remedy = f"{error.remedy}; {hint}" if error.remedy else hint
    return error


def _name_empty(
    settings: ServerSettings, request: EmbedRequest, first: int, texts: Sequence[Any], error: BadRequestError
) -> Program[None]:
    for number, text in enumerate(texts):
        if isinstance(text, str) and not (yield from counts(settings, [text], request.model, special=True))[0]:
            error.message = f"text {first + number} is empty: {error.message}"
            return


def _same_width(found: Sequence[Embeddings]) -> None:
    """Check that all batches were embedded by the same model, since one address may have several."""
    width, first = len(found[0].vectors[0]), 0
    for part in found:
        check_vectors(part.vectors[:1], first, width)
        first += len(part.vectors)


def _suggest_prefix(model: str) -> None:
    family = family_of(model)
    if family is not None:
        wanted = PREFIXES[family]
        warn_once(
            f"{model} looks like a {family!r} model, which retrieves much better with "
            f"{wanted.query!r} before queries and {wanted.document!r} before documents: pass preset={family!r}, "
            "or preset='none' to use none"
        )


def _total(found: Sequence[Embeddings]) -> Usage | None:
    usages = [part.usage for part in found if part.usage is not None]
    return Usage(sum(usage.prompt_tokens for usage in usages), 0) if usages else None
