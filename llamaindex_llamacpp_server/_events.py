"""Progress of the server as events of LlamaIndex's instrumentation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.base import BaseEvent
from llama_index_instrumentation.event_handlers import NullEventHandler

from llamacpp_server import Progress

__all__ = ["LlamaServerProgressEvent", "announcing"]

dispatcher = get_dispatcher(__name__)


class LlamaServerProgressEvent(BaseEvent):
    """Progress of a loading model, a wait for a server, or prompt processing.

    Attributes:
        progress: As `on_progress` is told it.
    """

    progress: Progress

    @classmethod
    def class_name(cls) -> str:
        """The name used in serialized form."""
        return "LlamaServerProgressEvent"


def announcing(report: Callable[[Progress], None] | None) -> Callable[[Progress], None] | None:
    """`report`, and an event for each step where some handler is there to get it."""
    if not has_listeners():
        return report

    def announce(progress: Progress) -> None:
        if report is not None:
            report(progress)
        dispatcher.event(LlamaServerProgressEvent(progress=progress))

    return announce


def has_listeners() -> bool:
    """Whether some handler is there to get events."""
    at: Any = dispatcher
    while at is not None:
        # The core's root has one that does nothing.
        if [handler for handler in at.event_handlers if not isinstance(handler, NullEventHandler)]:
            return True
        at = at.parent if at.propagate and at.parent_name else None
    return False
