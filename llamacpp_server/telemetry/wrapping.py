"""Wraps the methods of both clients, and takes the wrappers off again."""

from __future__ import annotations

import atexit
from collections.abc import AsyncIterator, Callable, Iterator
from functools import wraps
from typing import Any, Final, Protocol, Self

from .._lazy import require_extra

require_extra("opentelemetry.trace", "otel")

from opentelemetry.metrics import MeterProvider  # noqa: E402
from opentelemetry.trace import TracerProvider, use_span  # noqa: E402

from .. import __version__  # noqa: E402
from .._frames import hides_arguments  # noqa: E402
from ..async_client import AsyncLlamaServerClient  # noqa: E402
from ..client import LlamaServerClient  # noqa: E402
from .kept import Kept  # noqa: E402
from .operation import Caller, Instruments, Operation  # noqa: E402

__all__ = ["instrument", "uninstrument"]

Method = Callable[..., Any]
_Given = tuple[tuple[Any, ...], dict[str, Any]]

_CALLS: Final = {
    "chat": "chat",
    "complete": "text_completion",
    "infill": "text_completion",
    "embed": "embeddings",
    "embed_tokens": "embeddings",
    "embed_texts": "embeddings",
    "rerank": "rerank",
    "rank": "rerank",
    "decide": "decide",
    "choice_probabilities": "decide",
}
_STREAMS: Final = {
    "stream_chat": "chat",
    "stream_resumable_chat": "chat",
    "stream_complete": "text_completion",
    "stream_infill": "text_completion",
    # The methods that return a whole reply of these read their streams.
    "stream_response": "chat",
    "stream_message": "chat",
    "stream_transcription": "transcription",
}

_ORIGINALS: Final[list[tuple[type, str, Method | None]]] = []
_LOST: Final[list[Callable[[], None]]] = []


def instrument(
    tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None, *, genai: bool = True
) -> None:
    """Write a span and metrics for each chat, completion, embedding and ranking of this process from now on.

    Clients that exist already are included. The second call replaces the first.

    Args:
        tracer_provider: None takes the global one.
        meter_provider: None takes the global one.
        genai: False leaves model, tokens and operation of each span to an instrumentation of a framework whose spans
            can't be recognized; those of OpenInference and of opentelemetry-instrumentation-langchain are. Other
            attributes and all metrics stay.

    Raises:
        ModuleNotFoundError: Without the package opentelemetry-api (the extra `otel`).
    """
    uninstrument()
    instruments = Instruments(tracer_provider, meter_provider, __version__, genai=genai)
    for traced, stream, client in (
        (_traced, _stream, LlamaServerClient),
        (_async_traced, _async_stream, AsyncLlamaServerClient),
    ):
        for name, kind in _CALLS.items():
            _wrap(client, name, traced(instruments, kind, getattr(client, name)))
        for name, kind in _STREAMS.items():
            _wrap(client, name, stream(instruments, kind, getattr(client, name)))
    _LOST.append(instruments.end_lost)
    atexit.register(instruments.end_lost)


def uninstrument() -> None:
    """Write no more spans and metrics; does nothing where none are written."""
    while _ORIGINALS:
        client, name, own = _ORIGINALS.pop()
        if own is None:
            delattr(client, name)
        else:
            setattr(client, name, own)
    while _LOST:
        end_lost = _LOST.pop()
        end_lost()
        atexit.unregister(end_lost)


def _wrap(client: type, name: str, wrapper: Method) -> None:
    _ORIGINALS.append((client, name, vars(client).get(name)))  # None where it is inherited
    setattr(client, name, hides_arguments(wrapper))


class _Client(Protocol):
    settings: Any

    def with_settings(self, *, on_wait: Any) -> Self: ...


def _begin(
    instruments: Instruments, kind: str, client: _Client, given: _Given, caller: Caller, stream: bool
) -> tuple[Operation, Any]:
    """A call that begins, and the client that tells it of waits."""
    args, kwargs = given
    request = next(iter((*args, *kwargs.values())), None)
    operation = Operation(
        instruments, kind, client.settings, request, stream=stream, caller=caller, model=kwargs.get("model")
    )
    return operation, client.with_settings(on_wait=operation.on_wait)


def _traced(instruments: Instruments, kind: str, original: Method) -> Method:
    @wraps(original)
    def call(self: _Client, *args: Any, **kwargs: Any) -> Any:
        operation, client = _begin(instruments, kind, self, (args, kwargs), Caller(self), False)
        try:
            with use_span(operation.span, record_exception=False, set_status_on_exception=False):
                reply = original(client, *args, **kwargs)
        except BaseException as error:
            operation.end(error=error)
            raise
        operation.end(reply)
        return reply

    return call


def _async_traced(instruments: Instruments, kind: str, original: Method) -> Method:
    @wraps(original)
    async def call(self: _Client, *args: Any, **kwargs: Any) -> Any:
        operation, client = _begin(instruments, kind, self, (args, kwargs), Caller(self), False)
        try:
            with use_span(operation.span, record_exception=False, set_status_on_exception=False):
                reply = await original(client, *args, **kwargs)
        except BaseException as error:
            operation.end(error=error)
            raise
        operation.end(reply)
        return reply

    return call


def _stream(instruments: Instruments, kind: str, original: Method, *, kept: type[_Seen] | None = None) -> Method:
    kept = kept or _Stream

    @wraps(original)
    def call(self: _Client, *args: Any, **kwargs: Any) -> Any:
        caller = Caller(self)

        @hides_arguments
        def begin() -> tuple[Operation, Any]:
            operation, client = _begin(instruments, kind, self, (args, kwargs), caller, True)
            return operation, original(client, *args, **kwargs)

        return kept(begin)

    return call


def _async_stream(instruments: Instruments, kind: str, original: Method) -> Method:
    return _stream(instruments, kind, original, kept=_AsyncStream)


class _Seen:
    """Data of a stream's deltas other than their text, which is not kept."""

    def __init__(self, begin: Callable[[], tuple[Operation, Any]]) -> None:
        self._begin = begin
        self._operation: Operation | None = None
        self._deltas: Any = None
        self._closed = False
        self._kept = Kept()

    def _open(self) -> Any:
        """The deltas; the span begins with the first that is wanted, as the request does."""
        if self._operation is None:
            self._operation, self._deltas = self._begin()
        return self._deltas

    def _note(self, item: Any) -> None:
        if self._kept.add(item) and self._operation is not None:
            self._operation.first_chunk()

    def _end(self, error: BaseException | None = None) -> None:
        if self._operation is not None:
            self._operation.end(self._kept.reply(), error)

    def __del__(self) -> None:
        if self._operation is not None and not self._operation.over:
            self._operation.lose(self._kept.reply())


class _Stream(_Seen, Iterator[Any]):
    """A stream of deltas with a span around it."""

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        if self._closed:
            raise StopIteration
        try:
            delta = next(self._open())
        except StopIteration:
            self._end()
            raise
        except BaseException as error:
            self._end(error)
            raise
        self._note(delta)
        return delta

    def close(self) -> None:
        """Stop the server's work and end the span."""
        self._closed = True
        if self._operation is not None:
            try:
                self._deltas.close()
            finally:
                self._end()


class _AsyncStream(_Seen, AsyncIterator[Any]):
    """A stream of deltas with a span around it."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        if self._closed:
            raise StopAsyncIteration
        try:
            delta = await anext(self._open())
        except StopAsyncIteration:
            self._end()
            raise
        except BaseException as error:
            self._end(error)
            raise
        self._note(delta)
        return delta

    async def aclose(self) -> None:
        """Stop the server's work and end the span."""
        self._closed = True
        if self._operation is not None:
            try:
                await self._deltas.aclose()
            finally:
                self._end()
