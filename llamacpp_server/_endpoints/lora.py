"""LoRA adapters by name: requests know them by number only (b11434)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import BadRequestError
from ..results import LoraAdapter
from ..settings import ServerSettings, redact_url
from ..transport import (
    Call,
    Program,
    ask,
)
from .inputs import wrong_value


def lora_adapters(settings: ServerSettings, model: str | None) -> Program[list[LoraAdapter]]:
    """`/lora-adapters`."""
    model = settings.model if model is None else model
    query = {} if model is None else {"model": model}
    call = Call(method="GET", path="/lora-adapters", query=query)
    return (yield from ask(settings, call, lambda answer: [LoraAdapter.from_wire(entry) for entry in answer]))


def scales_by_id(
    settings: ServerSettings, scales: Mapping[int | str, float], model: str | None
) -> Program[list[dict[str, Any]]]:
    """Return scales in the server's format. Names are looked up on the server; numbers are sent unchanged.

    Raises:
        BadRequestError: For a name that matches no adapter, or several.
    """
    if not isinstance(scales, Mapping):
        raise wrong_value("scales", "an object", scales)
    named = any(isinstance(key, str) for key in scales)
    adapters = (yield from lora_adapters(settings, model)) if named else []
    return [
        {"id": key if isinstance(key, int) else _id_of(key, adapters, settings), "scale": scale}
        for key, scale in scales.items()
    ]


def _id_of(name: str, adapters: Sequence[LoraAdapter], settings: ServerSettings) -> int:
    found = [adapter.id for adapter in adapters if name in (adapter.name, adapter.path)]
    if len(found) == 1:
        return found[0]
    there = ", ".join(f"{adapter.name} ({adapter.id})" for adapter in adapters) or "none"
    words = "several LoRA adapters match" if found else "the server has no LoRA adapter"
    raise BadRequestError(
        f"{words} {name!r}; it has: {there}",
        url=redact_url(settings.base_url),
        remedy="use its number" if found else "start the server with --lora file.gguf",
    )


def with_lora_ids(settings: ServerSettings, body: dict[str, Any]) -> Program[dict[str, Any]]:
    """Replace names of adapters in a request's body with the server's numbers."""
    if body.get("lora") is None or not isinstance(body["lora"], Mapping):
        return body
    return {**body, "lora": (yield from scales_by_id(settings, body["lora"], body.get("model")))}
