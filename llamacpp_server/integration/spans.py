"""The span of a framework's tracer that has a call already, where the tracer does not make it the current one."""

from __future__ import annotations

from typing import Any, Final, Protocol, Self, TypeVar

__all__ = ["span_above", "under_span"]

_ABOVE: Final = "_span_above"


class _Client(Protocol):
    def with_settings(self) -> Self:
        """As in the client."""


C = TypeVar("C", bound=_Client)


def under_span(client: C, span: object) -> C:
    """Return a client whose calls another tracer records: spans of `telemetry` go under its span, without token counts.

    Args:
        client: Shares its connections with the returned client.
        span: Span of OpenTelemetry; None returns the client itself.
    """
    if span is None:
        return client
    client = client.with_settings()
    setattr(client, _ABOVE, span)
    return client


def span_above(client: object) -> Any:
    """Return the span set on a client by `under_span`; None if there is none."""
    return getattr(client, _ABOVE, None)
