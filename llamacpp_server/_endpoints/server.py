"""One program or stream for each endpoint of the server, run by the client's methods."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from numbers import Integral
from types import MappingProxyType, NoneType
from typing import Any, TypeVar

from .._media import (
    holds_media,
    with_media,
)
from .._replies import (
    CompletionBodyDecoder,
    CompletionStreamDecoder,
    LoopFilter,
    ProgressFilter,
    StreamDecoder,
    fold_completion,
    parse_embeddings,
    pipeline,
    text_pieces,
    usage_from_wire,
    usage_or_none,
)
from .._schemas import CONSTRAINTS
from .._tools import (
    is_limited,
    with_answer_tool,
)
from .._values import figure, integer, text
from ..errors import (
    BadRequestError,
    MalformedReplyError,
    NotFoundError,
    NotSupportedError,
    ServerFaultError,
    ServerLoadingError,
)
from ..info import ServerInfo
from ..progress import Progress
from ..replies import ChatDelta, CompletionDelta, CompletionReply, Repair
from ..requests import ChatRequest, CompletionRequest, InfillRequest, messages_of
from ..results import (
    Embeddings,
    Fit,
    Health,
    Metrics,
    ModelCard,
    Ranking,
    Rankings,
    ServerProps,
    SlotAction,
    SlotState,
    Token,
)
from ..settings import ServerSettings, redact_url
from ..transport import (
    Call,
    Program,
    ask,
    ask_text,
    ask_text_and_headers,
    begin,
    named,
    stream_reply,
)
from .adapt import adapt_request, diagnose_refusal, look_at_template, with_known_blocks
from .bodies import (
    answer_room,
    answers_of,
    chat_body,
    completion_body,
    countable,
    infill_body,
    with_cache_salt,
)
from .completion_forms import with_held_request
from .inputs import check_chat, check_completion, check_list, check_mapping, check_text, wrong_value
from .lora import scales_by_id, with_lora_ids
from .many_answers import Part, in_several_requests, part_filter
from .server_memory import recall, recall_by_props
from .special_tokens import break_special_tokens

T = TypeVar("T")
D = TypeVar("D", ChatDelta, CompletionDelta)


# -- chat and completion


def complete(settings: ServerSettings, request: CompletionRequest | InfillRequest) -> Program[CompletionReply]:
    """Return the complete reply of `stream_complete`."""
    deltas: list[CompletionDelta] = []
    yield from stream_complete(settings, request, deltas)
    return fold_completion(deltas)


def stream_complete(
    settings: ServerSettings,
    request: CompletionRequest | InfillRequest,
    collected: list[CompletionDelta] | None = None,
) -> Program[None]:
    """`/v1/completions`; `/completion` on a server that has only the native family, and for ids of tokens."""
    if isinstance(request, InfillRequest):
        return stream_infill(settings, request, collected)
    check_completion(request)
    return in_several_requests(_stream_complete, settings, request, collected, fold_completion)


def _stream_complete(
    settings: ServerSettings,
    request: CompletionRequest,
    collected: list[CompletionDelta] | None,
    part: Part | None = None,
) -> Program[None]:
    request, repairs = with_held_request(request)
    body = {**named(settings, None), **completion_body(request, collect=collected is not None)}
    decoder = _completion_decoder(body, request.loop_limit, repairs)
    if settings.on_progress is not None:
        decoder = with_progress(settings.on_progress, decoder, body)
    path = "/completion" if body.get("return_tokens") else "/v1/completions"
    return _completion(settings, path, body, pipeline(decoder, part_filter(part)), collected)


def infill(settings: ServerSettings, request: InfillRequest) -> Program[CompletionReply]:
    """Return the complete reply of `stream_infill`."""
    deltas: list[CompletionDelta] = []
    yield from stream_infill(settings, request, deltas)
    return fold_completion(deltas)


def stream_infill(
    settings: ServerSettings, request: InfillRequest, collected: list[CompletionDelta] | None = None
) -> Program[None]:
    """`/infill`."""
    check_completion(request)
    return in_several_requests(_stream_infill, settings, request, collected, fold_completion)


def _stream_infill(
    settings: ServerSettings, request: InfillRequest, collected: list[CompletionDelta] | None, part: Part | None = None
) -> Program[None]:
    request, repairs = with_held_request(request)
    body = {**named(settings, None), **infill_body(request, collect=collected is not None)}
    decoder = pipeline(_completion_decoder(body, request.loop_limit, repairs), part_filter(part))
    return _completion(settings, "/infill", body, decoder, collected)


def _completion(
    settings: ServerSettings,
    path: str,
    body: dict[str, Any],
    decoder: Callable[[], StreamDecoder[CompletionDelta]],
    collected: list[CompletionDelta] | None,
) -> Program[None]:
    delivery = yield from begin(settings, path, collected)
    body = yield from with_lora_ids(settings, body)
    call = Call(method="POST", path=path, body=body, takes_slot=True)
    native = None if path == "/infill" else replace(call, path="/completion")
    yield from stream_reply(delivery, call, decoder, fallback=native)


def with_progress(
    report: Callable[[Progress], None], decoder: Callable[[], StreamDecoder[D]], body: dict[str, Any]
) -> Any:
    """Return the decoder for a request that reports progress to a listener."""
    asked = bool(body.get("return_progress"))
    body["return_progress"] = bool(body.get("stream"))
    return pipeline(decoder, [partial(ProgressFilter[D], report, keep=asked)])


def _completion_decoder(
    body: Mapping[str, Any], loop_limit: int | None, repairs: tuple[Repair, ...]
) -> Callable[[], StreamDecoder[CompletionDelta]]:
    if not body.get("stream"):
        return partial(CompletionBodyDecoder, repairs)
    each, with_ids = body.get("n") or body.get("n_cmpl") or 1, bool(body.get("return_tokens"))
    decoder = partial(CompletionStreamDecoder, answers_of(body), each, with_ids, repairs)
    if loop_limit is None or is_limited(body) or not any(body.get(name) for name in CONSTRAINTS):
        return decoder
    return pipeline(decoder, [partial(LoopFilter[CompletionDelta], loop_limit, text_pieces)])


def end_reasoning(settings: ServerSettings, reply_id: str, model: str | None) -> Program[None]:
    """Raise BadRequestError with the server's words if there was nothing to end."""
    body = {**named(settings, model), "id": reply_id, "action": "reasoning_end"}
    call = Call(method="POST", path="/v1/chat/completions/control", body=body)
    ended, words = yield from ask(settings, call, lambda answer: (answer.get("success"), answer.get("message")))
    if not ended:
        raise BadRequestError(
            f"can't end the reasoning: {words}",
            remedy="the request must be running, and have been sent with reasoning_control=True",
        )


# -- the server and its models


def health(settings: ServerSettings) -> Program[Health]:
    """Check the health without waiting; servers without `/health` are asked for their models."""
    settings = settings.replace(wait_while_loading=False)
    try:
        return (yield from _ready(settings))
    except ServerLoadingError as error:
        return Health(ready=False, message=error.server_message or "loading")


def wait_until_ready(settings: ServerSettings, timeout: float | None) -> Program[Health]:
    """Wait for a server that refuses connections or is loading."""
    timeout = settings.load_timeout if timeout is None else timeout
    return _ready(settings.replace(wait_while_loading=True, wait_while_refused=True, load_timeout=timeout))


def _ready(settings: ServerSettings) -> Program[Health]:
    try:
        return Health.from_text((yield from ask_text(settings, Call(method="GET", path="/health"))))
    except NotFoundError:
        yield from models(settings)
        return Health(ready=True, message="ok")


def models(settings: ServerSettings, reload: bool = False) -> Program[list[ModelCard]]:
    """`/v1/models`; with `reload` a router reads its directory or preset file again first."""
    call = Call(method="GET", path="/v1/models", query={"reload": "1"} if reload else {})
    return (yield from ask(settings, call, ModelCard.list_from_wire))


def model_name(settings: ServerSettings) -> Program[str]:
    """Return the given name, else that of a loaded model, else of the first model."""
    if settings.model is not None:
        return settings.model
    cards = yield from models(settings)
    loaded = [card for card in cards if card.status in (None, "loaded", "sleeping")]
    if not cards:
        raise BadRequestError("the server does not list any model", url=_shown_url(settings), remedy="pass a model")
    return (loaded or cards)[0].id


def props(settings: ServerSettings, model: str | None) -> Program[ServerProps]:
    """`/props`. Never makes a router load a model."""
    name = named(settings, model)
    query = {**name, "autoload": "false"} if name else {}
    return (yield from ask(settings, Call(method="GET", path="/props", query=query), ServerProps.from_wire))


def info(settings: ServerSettings, model: str | None) -> Program[ServerInfo]:
    """`/v1/models`, then `/props` of the model unless a router would have to load it."""
    name = model if model is not None else settings.model
    if name is not None:
        check_text(name, "model")
    cards = yield from models(settings)
    try:
        found = yield from props(settings, name)
        if found.is_router and (loaded := ServerInfo.build_from(found, cards, name)).status in ("loaded", "sleeping"):
            found = yield from props(settings, loaded.model)
    except (BadRequestError, NotFoundError, NotSupportedError):
        found = None  # a router's model that is not loaded, or another server that lists models only
    built = ServerInfo.build_from(found, cards, name)
    known = recall(settings, name) if found is None or found.is_router else recall_by_props(settings, name, found)
    known.tools, known.looked = built.tools, built.tools is not None
    return built


def slots(settings: ServerSettings, model: str | None, fail_when_busy: bool = False) -> Program[list[SlotState]]:
    """`/slots`. Wakes a sleeping model."""
    query = {**named(settings, model), **({"fail_on_no_slot": "1"} if fail_when_busy else {})}
    if fail_when_busy:
        settings = settings.replace(max_retries=0)
    call = Call(method="GET", path="/slots", query=query)
    return (yield from ask(settings, call, lambda answer: [SlotState.from_wire(entry) for entry in answer]))


def slot_action(
    settings: ServerSettings, id_slot: int, action: str, filename: str | None, model: str | None
) -> Program[SlotAction]:
    """`/slots/{id}`."""
    if not isinstance(id_slot, Integral) or isinstance(id_slot, bool):
        raise wrong_value("id_slot", "a number", id_slot)
    if filename is not None:
        check_text(filename, "filename")
    body = {**named(settings, model), **({"filename": filename} if filename else {})}
    call = Call(method="POST", path=f"/slots/{id_slot}", body=body, query={"action": action})
    return (yield from ask(settings, call, SlotAction.from_wire))


def set_lora_adapters(settings: ServerSettings, scales: Mapping[int | str, float]) -> Program[None]:
    """`/lora-adapters`; adapters that are not named get scale 0."""
    body = yield from scales_by_id(settings, scales, None)
    yield from ask(settings, Call(method="POST", path="/lora-adapters", body=body), _ignore_body)


def metrics(settings: ServerSettings, model: str | None) -> Program[Metrics]:
    """`/metrics`."""
    call = Call(method="GET", path="/metrics", query=named(settings, model))
    text, headers = yield from ask_text_and_headers(settings, call)
    return Metrics.from_text(text, headers)


# -- vectors and ranks


def embed(
    settings: ServerSettings, inputs: Sequence[Any], model: str | None, extra_body: Mapping[str, Any]
) -> Program[Embeddings]:
    """`/v1/embeddings`, transferred as base64 float32 (a quarter of the bytes of decimal text)."""
    refuse_text(inputs, "the texts to embed")
    check_mapping(extra_body, "extra_body")
    if not inputs:
        return Embeddings([])
    body = {**named(settings, model), "input": list(inputs), "encoding_format": "base64", **extra_body}
    call = Call(method="POST", path="/v1/embeddings", body=body, takes_slot=True)
    found = yield from ask(settings, call, _embeddings, parse_embeddings)
    if len(found.vectors) != len(inputs):
        raise MalformedReplyError(
            f"sent {len(inputs)} texts, but got {len(found.vectors)} vectors", url=_shown_url(settings)
        )
    return found


def embed_tokens(
    settings: ServerSettings, inputs: Sequence[Any], model: str | None, extra_body: Mapping[str, Any]
) -> Program[list[list[list[float]]]]:
    """`/embeddings`, the native form: one vector for each token with `--pooling none`, else one vector."""
    refuse_text(inputs, "the texts to embed")
    check_mapping(extra_body, "extra_body")
    if not inputs:
        return []
    body = {**named(settings, model), "input": list(inputs), **extra_body}
    call = Call(method="POST", path="/embeddings", body=body, takes_slot=True)
    found = yield from ask(settings, call, _token_vectors)
    if len(found) != len(inputs):
        raise MalformedReplyError(
            f"sent {len(inputs)} texts, but got vectors for {len(found)}", url=_shown_url(settings)
        )
    return found


def _token_vectors(answer: Any) -> list[list[list[float]]]:
    entries = _by_index(answer, "vectors")
    # Builds of 2024 gave one flat vector.
    return [
        [list(vector) for vector in found] if found and isinstance(found[0], list) else [list(found)]
        for found in (entry["embedding"] for entry in entries)
    ]


def _embeddings(answer: Any) -> Embeddings:
    entries = _by_index(answer["data"], "data")
    for entry in entries:
        if entry["embedding"] is None:
            raise MalformedReplyError(f"the vector at index {entry['index']} of the response is null")
    vectors = [_vector(entry["embedding"]) for entry in entries]
    raw = {name: value for name, value in answer.items() if name != "data"}
    return Embeddings(vectors, text(answer.get("model")), usage_from_wire(answer.get("usage")), raw)


def refuse_text(texts: Sequence[Any], what: str) -> None:
    """Refuse anything but a list of texts (or of other inputs), such as a single text."""
    check_list(texts, what, (str, Mapping, list, int))


def _by_index(entries: Any, where: str) -> list[Any]:
    """Sort the entries by index, as numbers."""
    indices = [int(at) if isinstance(at := entry["index"], str) and at.isdecimal() else at for entry in entries]
    for at in indices:
        if type(at) is not int or at < 0:
            raise MalformedReplyError(f"{where} of the response contains the index {at!r:.40}, which is not a position")
    _refuse_repeated(indices, where)
    return [entries[number] for number in sorted(range(len(indices)), key=indices.__getitem__)]


def _refuse_repeated(indices: Sequence[Any], where: str) -> None:
    """Reject an answer with a repeated index: one text would have no vector, or another one's."""
    repeated = next((one for one, other in pairwise(sorted(indices)) if one == other), None)
    if repeated is not None:
        raise MalformedReplyError(f"{where} of the response contains the index {repeated} twice")


def _vector(wire: bytes | list[float]) -> list[float]:
    """Little-endian float32, or numbers from a build that does not know base64."""
    if not isinstance(wire, bytes):
        if any(type(number) not in (float, int, NoneType) for number in wire):
            raise TypeError("expected a list of numbers")
        return [number if number is None else float(number) for number in wire]
    numbers = array("f", wire)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tolist()


def rerank(
    settings: ServerSettings,
    query: str,
    documents: Sequence[str],
    top_n: int | None,
    model: str | None,
    extra_body: Mapping[str, Any] = MappingProxyType({}),
) -> Program[Rankings]:
    """`/v1/rerank`."""
    check_list(documents, "the documents to rank", (str,))
    check_text(query, "query")
    check_mapping(extra_body, "extra_body")
    if not documents and "texts" not in extra_body:
        return Rankings()
    body: dict[str, Any] = {**named(settings, model), "query": query}
    if documents:
        body["documents"] = list(documents)
    if top_n is not None:
        body["top_n"] = top_n
    body.update(extra_body)
    found = yield from ask(settings, Call(method="POST", path="/v1/rerank", body=body, takes_slot=True), _rankings)
    strange = next((rank.index for rank in found if documents and not 0 <= rank.index < len(documents)), None)
    if strange is not None:
        what = f"results of the response contains the index {strange}, and {len(documents)} documents were sent"
        raise MalformedReplyError(what, url=_shown_url(settings))
    return found


def _rankings(answer: Any) -> Rankings:
    # The form of Text Embeddings Inference is a bare list, with `score`.
    found = answer if isinstance(answer, list) else answer["results"]
    if not isinstance(found, list):
        raise MalformedReplyError(f"results of the response must be a list, not {type(found).__name__}")
    scored = "score" if isinstance(answer, list) else "relevance_score"
    ranks = [Ranking(*_score(entry["index"], entry[scored]), text(entry.get("text"))) for entry in found]
    _refuse_repeated([rank.index for rank in ranks], "results")
    ranks.sort(key=lambda rank: -rank.score)
    if isinstance(answer, list):
        return Rankings(ranks, raw=answer)
    model = answer.get("model")
    return Rankings(ranks, model if isinstance(model, str) else "", usage_or_none(answer.get("usage")), answer)


def _score(index: object, score: object) -> tuple[int, float]:
    if (at := integer(index)) is None or (number := figure(score)) is None:
        raise MalformedReplyError("results of the response must have a number as index and as score")
    return at, number


# -- tokens and templates


def tokenize(
    settings: ServerSettings, text: str, add_special: bool, parse_special: bool, model: str | None
) -> Program[list[int]]:
    """`/tokenize`."""
    check_text(text, "text")
    body = {**named(settings, model), "content": text, "add_special": add_special, "parse_special": parse_special}
    return (yield from ask(settings, Call(method="POST", path="/tokenize", body=body), lambda a: _ids(a["tokens"])))


def _ids(wire: Any) -> list[int]:
    if any(type(token) is not int for token in wire):
        raise TypeError("a token is a number")
    return list(wire)


def tokenize_pieces(
    settings: ServerSettings, text: str, add_special: bool, parse_special: bool, model: str | None
) -> Program[list[Token]]:
    """`/tokenize` with pieces."""
    check_text(text, "text")
    body = {**named(settings, model), "content": text, "add_special": add_special, "parse_special": parse_special}
    call = Call(method="POST", path="/tokenize", body={**body, "with_pieces": True})
    return (yield from ask(settings, call, lambda answer: [Token.from_wire(entry) for entry in answer["tokens"]]))


def detokenize(settings: ServerSettings, tokens: Sequence[int], model: str | None) -> Program[str]:
    """`/detokenize`."""
    check_list(tokens, "tokens", (int,))
    body = {**named(settings, model), "tokens": list(tokens)}
    return (yield from ask(settings, Call(method="POST", path="/detokenize", body=body), lambda a: str(a["content"])))


def apply_template(settings: ServerSettings, request: ChatRequest) -> Program[str]:
    """`/apply-template`."""
    return (yield from ask_fitted(settings, "/apply-template", request, lambda answer: str(answer["prompt"])))


def count_tokens(settings: ServerSettings, request: ChatRequest) -> Program[int]:
    """The server's own count; on builds without it the rendered prompt is tokenized (media are not counted then)."""
    check_chat(request)
    request, path = countable(request), "/v1/chat/completions/input_tokens"
    try:
        return (yield from ask_fitted(settings, path, request, lambda answer: int(answer["input_tokens"])))
    except NotFoundError:
        prompt = yield from apply_template(settings, request)
        tokens = yield from tokenize(settings, prompt, True, True, request.model)
        return len(tokens)


def fits(settings: ServerSettings, request: ChatRequest) -> Program[Fit]:
    """Compare the server's count with its context. A router may load the model to count, so it is counted first."""
    prompt = yield from count_tokens(settings, request)
    n_ctx = (yield from info(settings, request.model)).n_ctx
    if n_ctx is None:
        raise NotSupportedError("the server does not report its model's context size", url=_shown_url(settings))
    return Fit(prompt, answer_room({**request.params, **request.extra_body}), n_ctx)


def ask_fitted(
    settings: ServerSettings, path: str, request: ChatRequest, read: Callable[[Any], T], *, takes_slot: bool = False
) -> Program[T]:
    """Send a chat request to an endpoint that describes it, or request its answer unstreamed."""
    check_chat(request)
    request = with_cache_salt(with_known_blocks(request)[0])
    if recall(settings, request.model).is_due(tools=bool(request.tools)):
        yield from look_at_template(settings, request.model)
    if request.tools:
        request, _, _ = with_answer_tool(request)
    if holds_media(messages_of(request)):
        request, _ = yield from with_media(request)
    request, _ = yield from break_special_tokens(settings, request)
    body = _unstreamed(settings, request)
    try:
        return (yield from ask(settings, Call(method="POST", path=path, body=body, takes_slot=takes_slot), read))
    except (BadRequestError, ServerFaultError) as error:
        if not (yield from diagnose_refusal(settings, request, body, error)):
            raise
    body = _unstreamed(settings, request)
    return (yield from ask(settings, Call(method="POST", path=path, body=body, takes_slot=takes_slot), read))


def _unstreamed(settings: ServerSettings, request: ChatRequest) -> dict[str, Any]:
    body = {**named(settings, None), **chat_body(adapt_request(settings, request)[0])}
    body.pop("stream", None)
    body.pop("stream_options", None)
    body.pop("lora", None)
    return body


def _ignore_body(answer: object) -> object:
    """For answers that say no more than their status."""
    return answer


def _shown_url(settings: ServerSettings) -> str:
    return redact_url(settings.base_url)
