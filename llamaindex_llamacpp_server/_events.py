"""Events of LlamaIndex's instrumentation: those of each call, and the progress of the server.

LlamaIndex creates and validates its events, span IDs and payloads even if nothing receives them, which costs a third of
a stream's CPU time. Calls skip that work then.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any, Final, TypeVar, cast

from llama_index.core.callbacks import CallbackManager
from llama_index.core.llms.callbacks import dispatcher as _of_callbacks
from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.base import BaseEvent
from llama_index_instrumentation.event_handlers import NullEventHandler
from llama_index_instrumentation.span_handlers import NullSpanHandler

from llamacpp_server import Progress
from llamacpp_server.integration import hides_arguments

__all__ = ["LlamaServerProgressEvent", "announcing", "has_listeners", "with_events"]

F = TypeVar("F", bound=Callable[..., Any])

dispatcher = get_dispatcher(__name__)
# What does nothing with an event or a span; the core's root has one of each.
_NULL: Final = (NullEventHandler, NullSpanHandler)


class LlamaServerProgressEvent(BaseEvent):
    """Progress of a loading model, a wait for a server, or prompt processing.

    Attributes:
        progress: As passed to `on_progress`.
    """

    progress: Progress

    @classmethod
    def class_name(cls) -> str:
        """The name used in serialized form."""
        return "LlamaServerProgressEvent"


def announcing(report: Callable[[Progress], None] | None) -> Callable[[Progress], None] | None:
    """Return `report`, plus an event for each step if a handler receives it."""
    if not has_listeners():
        return report

    def announce(progress: Progress) -> None:
        if report is not None:
            report(progress)
        dispatcher.event(LlamaServerProgressEvent(progress=progress))

    return announce


def has_listeners() -> bool:
    """Whether any handler receives events of this module."""
    return _is_heard(dispatcher, spans=False)


def with_events(callbacks: Callable[[F], F]) -> Callable[[F], F]:
    """Decorate a method of an LLM with LlamaIndex's callbacks, span and events, for as long as something receives them.

    Handlers that are added during a call get the events of the next one. Arguments are kept out of frames, as by
    `hides_arguments`.

    Args:
        callbacks: LlamaIndex's decorator. It skips what another one has wrapped, so it stands inside.
    """

    def decorate(method: F) -> F:
        own, first = get_dispatcher(method.__module__), method.__code__.co_varnames[1]
        observed = own.span(hides_arguments(callbacks(method)))

        @wraps(observed)  # which marks it as one with a span, so that LlamaIndex adds no other
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            # Bound, because the span belongs to an object. LlamaIndex's decorators say which argument is missing.
            plain = (args or first in kwargs) and not _is_observed(self, own)
            return (method if plain else observed).__get__(self)(*args, **kwargs)

        @wraps(observed)
        async def acall(self: Any, *args: Any, **kwargs: Any) -> Any:
            plain = (args or first in kwargs) and not _is_observed(self, own)
            return await (method if plain else observed).__get__(self)(*args, **kwargs)

        return cast(F, hides_arguments(acall if iscoroutinefunction(method) else call))

    return decorate


def _is_observed(llm: Any, own: Any) -> bool:
    """Whether a call has to go through LlamaIndex's decorators, which also wait for a rate limiter."""
    manager = llm.callback_manager
    if type(manager) is not CallbackManager or manager.handlers or llm.rate_limiter is not None:
        return True
    return _is_heard(own) or _is_heard(_of_callbacks) or _is_heard(dispatcher)


def _is_heard(first: Any, *, spans: bool = True) -> bool:
    """Whether a dispatcher, or one that it passes events and spans on to, has a handler that does something."""
    at = first
    while at is not None:
        for handler in (*at.event_handlers, *at.span_handlers) if spans else at.event_handlers:
            if type(handler) not in _NULL:
                return True
        at = at.parent if at.propagate and at.parent_name else None
    return False
