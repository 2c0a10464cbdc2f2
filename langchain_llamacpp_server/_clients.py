"""The client of one call: the model's, with what the call asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun

if TYPE_CHECKING:
    from llamacpp_server import AsyncLlamaServerClient, LlamaServerClient

from ._progress import Report, adispatching, dispatching

BACKGROUND: Final = "background"
"""The tag of a run whose requests go behind all others."""


class _Call(Protocol):
    @property
    def settings(self) -> Mapping[str, Any]:
        """Fields of `ServerSettings` that differ for the call."""


def client_for(
    client: LlamaServerClient, call: _Call, run: CallbackManagerForLLMRun | None = None
) -> LlamaServerClient:
    """`client` with the settings of a call, which tells the callbacks of its run of progress."""
    report = dispatching(_progress_callback(client, call), run)
    return client.with_settings(**changes) if (changes := _changes(client, call, report, run)) else client


def async_client_for(
    client: AsyncLlamaServerClient, call: _Call, run: AsyncCallbackManagerForLLMRun | None = None
) -> AsyncLlamaServerClient:
    """`client_for`, for awaited calls."""
    report = adispatching(_progress_callback(client, call), run)
    return client.with_settings(**changes) if (changes := _changes(client, call, report, run)) else client


def _progress_callback(client: LlamaServerClient | AsyncLlamaServerClient, call: _Call) -> Report | None:
    report: Report | None = call.settings.get("on_progress", client.settings.on_progress)
    return report


def _changes(
    client: LlamaServerClient | AsyncLlamaServerClient,
    call: _Call,
    report: Report | None,
    run: CallbackManagerForLLMRun | AsyncCallbackManagerForLLMRun | None,
) -> dict[str, Any]:
    """A call's headers and query come on top of the model's, and its tags may say that it can wait."""
    changes = dict(call.settings)
    for name in changes.keys() & {"headers", "query"}:
        changes[name] = {**getattr(client.settings, name), **changes[name]}
    if report is not client.settings.on_progress:
        changes["on_progress"] = report
    if run is not None and BACKGROUND in run.tags:
        changes.setdefault("priority", BACKGROUND)
    return changes
