"""The client of one call: the model's, with the call's settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun

from llamacpp_server import BadRequestError
from llamacpp_server.integration import under_span

if TYPE_CHECKING:
    from llamacpp_server import AsyncLlamaServerClient, LlamaServerClient

from ._progress import BACKGROUND, Report, Run, adispatching, current_run, dispatching, is_of_openinference

C = TypeVar("C", "LlamaServerClient", "AsyncLlamaServerClient")


class _Call(Protocol):
    @property
    def settings(self) -> Mapping[str, Any]:
        """Fields of `ServerSettings` that differ for the call."""


def client_for(
    client: LlamaServerClient, call: _Call, run: CallbackManagerForLLMRun | None = None
) -> LlamaServerClient:
    """`client` with the settings of a call, which tells the callbacks of its run of progress."""
    return _fitted(client, call, run, dispatching)


def async_client_for(
    client: AsyncLlamaServerClient, call: _Call, run: AsyncCallbackManagerForLLMRun | None = None
) -> AsyncLlamaServerClient:
    """`client_for`, for awaited calls."""
    return _fitted(client, call, run, adispatching)


def _fitted(
    client: C,
    call: _Call,
    run: CallbackManagerForLLMRun | AsyncCallbackManagerForLLMRun | None,
    announcing: Callable[[Report | None, Run | None], Report | None],
) -> C:
    known = current_run(run)
    if known is None and not call.settings:
        return client
    report = announcing(_progress_callback(client, call), known)
    if changes := _changes(client, call, report, known):
        try:
            client = client.with_settings(**changes)
        except ValueError as error:  # settings raise it, for a bad argument of the call here
            raise BadRequestError(str(error)) from None
    return under_span(client, _span_of(known))


def _span_of(run: Run | None) -> object:
    """The span that OpenInference's tracer, a callback that makes no span the current one, has for a run."""
    tracer = None if run is None else next(filter(is_of_openinference, run.handlers), None)
    return None if run is None or tracer is None else tracer.get_span(run.run_id)


def _progress_callback(client: LlamaServerClient | AsyncLlamaServerClient, call: _Call) -> Report | None:
    report: Report | None = call.settings.get("on_progress", client.settings.on_progress)
    return report


def _changes(
    client: LlamaServerClient | AsyncLlamaServerClient,
    call: _Call,
    report: Report | None,
    run: Run | None,
) -> dict[str, Any]:
    """A call's headers and query are added to the model's, and its tags may give it low priority."""
    changes = dict(call.settings)
    for name in changes.keys() & {"headers", "query"}:
        changes[name] = {**getattr(client.settings, name), **changes[name]}
    if report is not client.settings.on_progress:
        changes["on_progress"] = report
    if run is not None and BACKGROUND in run.tags:
        changes.setdefault("priority", BACKGROUND)
    return changes
