"""OpenTelemetry's own exporter, kept in memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


@contextmanager
def traced(instrumentor: Any) -> Iterator[InMemorySpanExporter]:
    """Spans of whatever runs meanwhile, as this instrumentation writes them."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
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
