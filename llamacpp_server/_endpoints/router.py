"""Servers with several models: llama-server's router mode (b11434), and llama-swap where it has an equivalent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final
from urllib.parse import quote

from pydantic_core import from_json

from .._replies import (
    SSEDecoder,
)
from .._values import text
from ..errors import (
    BadRequestError,
    LlamaServerError,
    MalformedReplyError,
    NotFoundError,
    NotSupportedError,
    ServerFaultError,
    ServerLoadingError,
)
from ..progress import ModelEvent, Progress
from ..results import ModelCard
from ..settings import ServerSettings, redact_url
from ..transport import (
    Bound,
    Call,
    Program,
    Read,
    Sleep,
    Ticket,
    ask,
    ask_text,
    begin,
    stream_reply,
)
from .server import models

_EVENTS: Final = Call(method="GET", path="/models/sse")
LOADED: Final = ("loaded", "sleeping")
_ENDS: Final = (*LOADED, "failed", "unloaded")
# llama-swap's words for what a router calls otherwise.
_SWAP_STATES: Final = {"ready": "loaded", "starting": "loading", "stopped": "unloaded", "shutdown": "unloaded"}


def running_models(settings: ServerSettings) -> Program[list[ModelCard]]:
    """List the loaded and loading models."""
    cards = yield from models(settings)
    if any(card.status is not None for card in cards):
        return [card for card in cards if card.status in ("loading", *LOADED)]
    try:
        return (yield from ask(settings, Call(method="GET", path="/running"), _swapped_in))
    except NotFoundError:
        return cards  # a server with one model


def _swapped_in(answer: Any) -> list[ModelCard]:
    return [
        ModelCard(text(entry["model"]), status=_swap_state(entry.get("state")), raw=entry)
        for entry in answer["running"]
    ]


def _swap_state(wire: object) -> str | None:
    """Return a model's state in the terms of a router."""
    return _SWAP_STATES.get(text(wire), text(wire)) or None


def load_model(settings: ServerSettings, model: str, timeout: float | None) -> Program[ModelCard]:
    """Load a model and wait, reporting progress; a failed load raises immediately."""
    if settings.on_progress is not None:
        card = yield from card_of(settings, model)
        if card.status is not None and card.status not in LOADED:
            yield from _watched_load(settings, settings.on_progress, card.id, timeout)
    try:
        yield from _begin(settings, model)
    except NotFoundError:
        return (yield from _swap_in(settings, model, timeout))
    left = settings.load_timeout if timeout is None else timeout
    while True:
        card = yield from card_of(settings, model)
        if card.status in LOADED:
            return card
        if card.status == "failed":
            raise ServerFaultError(
                f"the model {model!r} failed to load (exit code {card.exit_code})",
                url=_shown_url(settings),
                remedy="see the router's log",
            )
        if left <= 0:
            raise ServerLoadingError(f"the model {model!r} is still {card.status}", url=_shown_url(settings))
        yield Sleep(min(0.1, left))
        left -= 0.1


def _begin(settings: ServerSettings, model: str) -> Program[None]:
    try:
        yield from ask(settings, Call(method="POST", path="/models/load", body={"model": model}), _ignore_body)
    except BadRequestError as error:
        if "already" not in (error.server_message or ""):
            raise


def _swap_in(settings: ServerSettings, model: str, timeout: float | None) -> Program[ModelCard]:
    """Load a model of llama-swap, which starts it on the first request and answers once it runs."""
    card = yield from card_of(settings, model)
    if card.status is not None:
        raise NotFoundError(f"the server can't load the model {model!r}", url=_shown_url(settings))
    patience = settings.load_timeout if timeout is None else timeout
    try:
        path = f"/upstream/{quote(card.id, safe='')}/health"
        yield from ask_text(settings.replace(read_timeout=patience), Call(method="GET", path=path))
    except NotFoundError:
        raise _no_router(settings) from None
    return ModelCard(card.id, aliases=card.aliases, status="loaded", raw=card.raw)


def unload_model(settings: ServerSettings, model: str) -> Program[None]:
    """Unload a model and wait until it is done."""
    try:
        yield from ask(settings, Call(method="POST", path="/models/unload", body={"model": model}), _ignore_body)
    except NotFoundError:
        call = Call(method="POST", path=f"/api/models/unload/{quote(model, safe='')}")
        try:
            yield from ask_text(settings, call)
        except NotFoundError:
            yield from card_of(settings, model)
            raise _no_router(settings) from None
        return
    for _ in range(300):
        card = yield from card_of(settings, model)
        if card.status in ("unloaded", "failed"):
            return
        yield Sleep(0.1)
    raise ServerFaultError(f"the model {model!r} is still {card.status or 'loaded'}", url=_shown_url(settings))


def card_of(settings: ServerSettings, model: str) -> Program[ModelCard]:
    """The entry of a model, by its name or an alias."""
    for card in (yield from models(settings)):
        if model == card.id or model in card.aliases:
            return card
    raise NotFoundError(f"the server does not list the model {model!r}", url=_shown_url(settings))


def download_model(settings: ServerSettings, model: str) -> Program[None]:
    """Starts a download into the router's cache."""
    yield from ask(settings, Call(method="POST", path="/models", body={"model": model}), _ignore_body)


def delete_model(settings: ServerSettings, model: str) -> Program[None]:
    """Removes a downloaded model from the router's cache."""
    yield from ask(settings, Call(method="DELETE", path="/models", query={"model": model}), _ignore_body)


def watch_models(settings: ServerSettings) -> Program[None]:
    """`/models/sse`, or the events of llama-swap."""
    settings = settings.replace(read_timeout=None)  # nothing may happen for hours
    delivery = yield from begin(settings, _EVENTS.path)
    swap = Call(method="GET", path="/api/events")
    yield from stream_reply(delivery, _EVENTS, ModelEventDecoder, fallback=swap)


def _watched_load(
    settings: ServerSettings, report: Callable[[Progress], None], model: str, timeout: float | None
) -> Program[None]:
    """Load a model once its events are being received, and report its progress until the end."""
    patience = settings.load_timeout if timeout is None else timeout
    settings = settings.replace(read_timeout=patience, total_timeout=patience)
    delivery = yield from begin(settings, _EVENTS.path, [])
    ticket = Ticket()
    try:
        reply = yield from delivery.open(ticket, _EVENTS)
        try:
            yield from _begin(settings, model)
        except LlamaServerError as error:
            with suppress(LlamaServerError):
                yield Read(reply, 0.0)  # a time long past: the events end at once
            raise error from error.__cause__
        yield from delivery.relay(ticket, reply, _EVENTS, _LoadDecoder(model), partial(_report_load, report, model))
    finally:
        ticket.place.left = True
        ticket.leave()
    yield Bound(None)


def _report_load(report: Callable[[Progress], None], model: str, events: Sequence[ModelEvent]) -> None:
    for event in events:
        if event.model == model and event.progress is not None:
            report(event.progress)


class ModelEventDecoder:
    """Decode model events of either server. The end of the stream is the end of the server."""

    is_done = False
    over: bool = False

    def __init__(self) -> None:
        self._sse = SSEDecoder()

    def feed(self, data: bytes) -> list[ModelEvent]:
        """Events that `data` completes."""
        return [event for payload in self._sse.feed(data) for event in _events(payload)]

    def close(self) -> list[ModelEvent]:
        """Nothing is left."""
        return []

    def with_partial(self, error: LlamaServerError) -> LlamaServerError:
        """`error` as it is."""
        return error


class _LoadDecoder(ModelEventDecoder):
    """Decode events of a server until a model is loaded or has failed."""

    def __init__(self, model: str) -> None:
        super().__init__()
        self._model = model

    def feed(self, data: bytes) -> list[ModelEvent]:
        """Events that `data` completes."""
        events = super().feed(data)
        self.over = any(event.model == self._model and event.status in _ENDS for event in events)
        return events


def _events(payload: bytes) -> list[ModelEvent]:
    try:
        event = from_json(payload)
        if event.get("type") is None:
            return [ModelEvent.from_wire(event)]
        if event["type"] != "modelStatus":
            return []  # llama-swap sends logs and figures as well
        return [
            ModelEvent(text(model["id"]), "modelStatus", _swap_state(model.get("state")), raw=model)
            for model in from_json(event["data"])
        ]
    except (AttributeError, LookupError, TypeError, ArithmeticError, RecursionError, ValueError):
        raise MalformedReplyError(f"not a model event: {payload[:200]!r}") from None


def _no_router(settings: ServerSettings) -> NotSupportedError:
    return NotSupportedError(
        "the server has a single model, which can't be loaded or unloaded",
        url=_shown_url(settings),
        remedy="start llama-server without -m and with --models-dir (router mode), or use llama-swap",
    )


def _ignore_body(answer: object) -> object:
    """For answers that say no more than their status."""
    return answer


def _shown_url(settings: ServerSettings) -> str:
    return redact_url(settings.base_url)
