"""OpenTelemetry's own exporter, kept in memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import wrapt
import wrapt.patches
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


@contextmanager
def undone() -> Iterator[None]:
    """Undoes what is wrapped meanwhile.

    opentelemetry-instrumentation-langchain 0.62 leaves its wrappers when it is taken out, and with them no event of a
    text model arrives (`astream_events`, LangChain's own fake ones too): tests that come later would fail.
    """
    wrapped: list[tuple[Any, str, Any]] = []
    resolve = wrapt.patches.resolve_path

    def noted(target: Any, name: str) -> Any:
        wrapped.append(found := resolve(target, name))
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wrapt.patches, "resolve_path", noted)
        yield
    for parent, attribute, original in reversed(wrapped):
        setattr(parent, attribute, original)


@contextmanager
def traced(instrumentor: Any) -> Iterator[InMemorySpanExporter]:
    """Spans of whatever runs meanwhile, as this instrumentation writes them."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with undone():
        instrumentor.instrument(tracer_provider=provider)
        try:
            yield exporter
        finally:
            instrumentor.uninstrument()
            provider.shutdown()


def taken(exporter: InMemorySpanExporter) -> ReadableSpan:
    """The one span that there is; none is left."""
    (span,) = exporter.get_finished_spans()
    exporter.clear()
    return span
