"""A server's slots, counters and models at one time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from ..client import LlamaServerClient
from ..errors import LlamaServerError, NotSupportedError
from ..results import SlotState
from ..settings import redact_url

# Asked again and again: a server that does not answer is shown as such, not waited for.
_IMPATIENT: Final[dict[str, Any]] = {
    "connect_timeout": 2.0,
    "read_timeout": 5.0,
    "total_timeout": 10.0,
    "max_retries": 0,
    "wait_while_loading": False,
    "wait_while_refused": False,
}
_RATES: Final = {
    "read": "prompt_tokens_total",
    "cached": "prompt_tokens_cached_total",
    "written": "tokens_predicted_total",
}


@dataclass(frozen=True, slots=True)
class SlotView:
    """One slot.

    Attributes:
        id: Its number.
        busy: Whether a request runs in it.
        n_ctx: Context of the slot, in tokens.
        prompt: Tokens of the prompt that runs or ran last.
        read: Those of them that were read; 0 where all were in the cache.
        cached: Those of them that were in the cache.
        written: Tokens generated.
    """

    id: int
    busy: bool
    n_ctx: int | None
    prompt: int = 0
    read: int = 0
    cached: int = 0
    written: int = 0


@dataclass(frozen=True, slots=True)
class ModelView:
    """One model of a server, or a server's only one.

    Attributes:
        name: As requests name it.
        status: As in `ModelCard`; `sleeping` for a server whose model sleeps.
        slots: None where `/slots` is off.
        counters: Of `/metrics`; None where it is off.
    """

    name: str
    status: str = "loaded"
    slots: tuple[SlotView, ...] | None = None
    counters: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """State of a server at one time.

    Attributes:
        taken: When, on the monotonic clock.
        base_url: The server, without user name and password.
        build: Its build; "" where unknown.
        models: One, or those of a router.
        notes: What is switched off, with the flag that switches it on.
        error: Why nothing was found; None where something was.
    """

    taken: float
    base_url: str
    build: str = ""
    models: tuple[ModelView, ...] = ()
    notes: tuple[str, ...] = ()
    error: str | None = None


def take_snapshot(client: LlamaServerClient) -> Snapshot:
    """Query a server; never raises if it does not answer, and never wakes a sleeping model."""
    client, taken = client.with_settings(**_IMPATIENT), time.monotonic()
    notes, address = dict[str, None](), redact_url(client.settings.base_url)
    try:
        info = client.info()
        if info.is_router:
            cards = client.models()
            models = [_model(client, c.id, c.status or "loaded", notes) for c in cards]
        else:
            status = "sleeping" if info.is_sleeping else "loaded"
            models = [_model(client, info.model or "the model", status, notes, named=False)]
    except LlamaServerError as error:
        return Snapshot(taken, address, error=str(error))
    return Snapshot(taken, address, info.build, tuple(models), tuple(notes))


def _model(
    client: LlamaServerClient, name: str, status: str, notes: dict[str, None], *, named: bool = True
) -> ModelView:
    if status != "loaded":
        return ModelView(name, status)
    model = name if named else None
    slots: tuple[SlotView, ...] | None = None
    counters: Mapping[str, float] | None = None
    try:
        slots = tuple(_slot(slot) for slot in client.slots(model))
    except NotSupportedError:
        notes["no slots are shown: the server was started with --no-slots"] = None
    except LlamaServerError as error:
        notes[f"slots of {name}: {error}"] = None
    try:
        counters = client.metrics(model).values
    except NotSupportedError:
        notes["no rates are shown: start the server with --metrics"] = None
    except LlamaServerError as error:
        notes[f"metrics of {name}: {error}"] = None
    return ModelView(name, status, slots, counters)


def _slot(state: SlotState) -> SlotView:
    return SlotView(
        state.id,
        state.is_processing,
        state.n_ctx,
        _count(state.raw, "n_prompt_tokens"),
        _count(state.raw, "n_prompt_tokens_processed"),
        _count(state.raw, "n_prompt_tokens_cache"),
        state.n_decoded or 0,
    )


def _count(raw: Mapping[str, Any], name: str) -> int:
    value = raw.get(name)
    return value if isinstance(value, int) else 0


def rates(now: ModelView, before: ModelView | None, seconds: float) -> dict[str, float] | None:
    """Tokens per second `read`, `cached` and `written` between two snapshots; None if unknown."""
    if now.counters is None or before is None or before.counters is None or seconds <= 0:
        return None
    found = {
        name: (now.counters.get(key, 0.0) - before.counters.get(key, 0.0)) / seconds for name, key in _RATES.items()
    }
    return None if min(found.values()) < 0 else found  # the server was restarted in between


def as_json(now: Snapshot, before: Snapshot | None = None) -> dict[str, Any]:
    """A snapshot as JSON, with the rates since the one before."""
    earlier = {model.name: model for model in before.models} if before is not None else {}
    seconds = now.taken - before.taken if before is not None else 0.0
    models = [{**asdict(m), "tokens_per_second": rates(m, earlier.get(m.name), seconds)} for m in now.models]
    return {"base_url": now.base_url, "build": now.build, "models": models, "notes": now.notes, "error": now.error}
