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
    """A client whose calls another tracer writes: spans of `telemetry` go under its span and leave the tokens to it.

    Args:
        client: Shares its connections with the one that is returned.
        span: Of OpenTelemetry; None gives the client itself.
    """
    if span is None:
        return client
    client = client.with_settings()
    setattr(client, _ABOVE, span)
    return client


def span_above(client: object) -> Any:
    """The span that `under_span` has given to a client; None where it has none."""
    return getattr(client, _ABOVE, None)
