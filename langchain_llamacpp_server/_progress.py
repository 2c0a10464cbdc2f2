"""Convert the server's progress to LangChain's custom events, for callbacks that listen to them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing
from contextvars import ContextVar
from functools import partial
from sys import modules
from typing import Any, Final, NamedTuple, cast
from uuid import UUID, uuid4

from langchain_core.callbacks.base import AsyncCallbackHandler, Callbacks, RunManagerMixin
from langchain_core.callbacks.manager import (
    AsyncCallbackManagerForLLMRun,
    CallbackManager,
    CallbackManagerForLLMRun,
    ahandle_event,
    handle_event,
)
from langchain_core.messages import AIMessageChunk
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config, var_child_runnable_config

from llamacpp_server import Progress

PROGRESS_EVENT = "llamacpp_progress"
"""The name of the events."""

BACKGROUND: Final = "background"
"""The tag of a run whose requests have low priority."""
_OPENINFERENCE: Final = "openinference.instrumentation.langchain"

Report = Callable[[Progress], None]


class StreamRun(NamedTuple):
    """The run of a stream, of which LangChain does not tell `_stream` (langchain-core 1.7)."""

    handlers: list[Any]
    run_id: UUID
    tags: list[str]
    metadata: dict[str, Any]


Run = CallbackManagerForLLMRun | AsyncCallbackManagerForLLMRun | StreamRun
_run: ContextVar[StreamRun | None] = ContextVar("llamacpp_server_run", default=None)
_SILENT = {RunManagerMixin.on_custom_event, AsyncCallbackHandler.on_custom_event}


def current_run(run: CallbackManagerForLLMRun | AsyncCallbackManagerForLLMRun | None) -> Run | None:
    """The run of a call: the one that is given, or that of the stream whose first chunk is wanted."""
    return run or _run.get()


def dispatching(report: Report | None, run: Run | None) -> Report | None:
    """Receivers of progress: `report`, and the callbacks of a run; None if nothing listens."""
    if run is None or not (listeners := _listeners(run.handlers)):
        return report
    return partial(_dispatch, report, run, listeners)


def adispatching(report: Report | None, run: Run | None) -> Report | None:
    """`dispatching` for a run on an event loop."""
    if run is None or not (listeners := _listeners(run.handlers)):
        return report
    return partial(_adispatch, report, run, listeners)


def _listeners(handlers: Sequence[Any]) -> list[Any]:
    return [one for one in handlers if type(one).on_custom_event not in _SILENT and not one.ignore_custom_event]


def _dispatch(report: Report | None, run: Run, listeners: list[Any], progress: Progress) -> None:
    if report is not None:
        report(progress)
    handle_event(listeners, *_event(progress), **_run_fields(run))


# The loop holds its tasks weakly.
_tasks = set[asyncio.Task[None]]()


def _adispatch(report: Report | None, run: Run, listeners: list[Any], progress: Progress) -> None:
    if report is not None:
        report(progress)
    task = asyncio.get_running_loop().create_task(ahandle_event(listeners, *_event(progress), **_run_fields(run)))
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


def _event(progress: Progress) -> tuple[Any, ...]:
    return "on_custom_event", "ignore_custom_event", PROGRESS_EVENT, progress.as_dict()


def _run_fields(run: Run) -> dict[str, Any]:
    return {"run_id": run.run_id, "tags": run.tags, "metadata": run.metadata}


def with_listeners(
    config: RunnableConfig | None, callbacks: Callbacks, tags: Sequence[str] | None
) -> tuple[StreamRun | None, RunnableConfig | None]:
    """The run of a stream that has to be known, with the config that names it; None where nothing depends on it.

    Args:
        config: Of the call.
        callbacks: Of the model. Some listen for progress, and OpenInference's has a span for each run.
        tags: Of the model; one of them says that the call can wait.
    """
    hooks = _has_hooks() or _OPENINFERENCE in modules
    if not (config or var_child_runnable_config.get() or callbacks or tags or hooks):
        return None, config
    config = ensure_config(config)
    known = [*(config.get("tags") or ()), *(tags or ())]
    if not (BACKGROUND in known or config.get("callbacks") or callbacks or hooks):
        return None, config
    handlers = CallbackManager.configure(config.get("callbacks"), callbacks).handlers
    if not (BACKGROUND in known or _listeners(handlers) or any(map(is_of_openinference, handlers))):
        return None, config
    run_id = config.get("run_id") or uuid4()
    run = StreamRun(handlers, run_id, known, config.get("metadata") or {})
    return run, {**config, "run_id": run_id}


def is_of_openinference(handler: Any) -> bool:
    """Whether a callback is OpenInference's tracer, which makes no span the current one."""
    return type(handler).__module__.startswith(_OPENINFERENCE) and hasattr(handler, "get_span")


def _has_hooks() -> bool:
    """Whether LangChain may add callbacks by itself that are not its own tracers: those hear of no such events."""
    # Where nobody imported it, nobody added any: it takes as long as all of our own modules.
    context = sys.modules.get("langchain_core.tracers.context")
    if context is None:
        return False
    hooks = getattr(context, "_configure_hooks", None)
    return hooks is None or bool([1 for var, _, _, env_var in hooks if var.get() is not None or env_var is not None])


def within_run(run: StreamRun, chunks: Iterator[AIMessageChunk]) -> Iterator[AIMessageChunk]:
    """The chunks; the request is made with the first of them, and knows of its run then."""
    token = _run.set(run)
    try:
        first = next(chunks, None)
    finally:
        _run.reset(token)
    if first is not None:
        yield first
        yield from chunks


async def awithin_run(run: StreamRun, chunks: AsyncIterator[AIMessageChunk]) -> AsyncIterator[AIMessageChunk]:
    """Async version of `within_run`."""
    async with aclosing(cast(Any, chunks)):
        token = _run.set(run)
        try:
            first = await anext(chunks, None)
        finally:
            _run.reset(token)
        if first is not None:
            yield first
            async for chunk in chunks:
                yield chunk
