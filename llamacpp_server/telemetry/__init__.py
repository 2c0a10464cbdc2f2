"""OpenTelemetry spans and metrics of the client (the extra `otel`), for the bare client and both frameworks.

`instrument` switches them on, `uninstrument` off. They hold numbers and names, never a text of a prompt or a reply.
OpenTelemetry is not imported before `instrument` is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy

if TYPE_CHECKING:
    from .wrapping import instrument as instrument
    from .wrapping import uninstrument as uninstrument

__all__ = ["instrument", "uninstrument"]

__getattr__, __dir__ = lazy(__name__, {"wrapping": __all__})
