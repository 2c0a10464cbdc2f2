"""Facts about each model of each server, remembered for as long as that server runs.

A server can be replaced by another one at the same address, with another template, model or build. Facts about the old
one are dropped

- when a connection to the address was refused since,
- when a reply names another model or build (`system_fingerprint`) than the replies before,
- when `/props` shows another template, model file or build. It is asked again before something learned changes a
  request, unless the server has confirmed it within a twentieth of a second: a restart takes longer, even of a tiny
  model.

The table holds the 1,000 models that were used last. It is the only one: no other module keeps what it learned.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from .._replies import DeltaFilter
from .._values import text
from ..replies import ChatDelta, ReplyStart
from ..results import ServerProps
from ..settings import ServerSettings
from ..transport import refused_at

_MOST: Final = 1000
_MOST_WAYS: Final = 1000
# Seconds for which `/props` is believed: where a request is changed, and where a template is only known to have tools.
_CHANGES_FOR: Final = 0.05
_TOOLS_FOR: Final = 60.0


@dataclass(slots=True)
class ServerMemory:
    """Facts about one model of one server.

    Attributes:
        needs: Repairs that its template needs.
        plain: Whether it wants one type for each node of a tool's schema.
        blind: Media that the model was found not to read: `image`, `audio`, `video`.
        unread: Media that it does not read by its own word, in `/props`.
        tools: Whether its template knows tools at all; None where that is not known.
        looked: Whether the server was asked for the template.
        tags: Those that its template writes; None where that is not known.
        special: What of texts has the form of a special token, and whether it is one. It does not grow beyond a bound.
        answers: The most answers (`n`) to one request; None where it did not refuse more.
        ways: How structured output worked, by its schema, where the usual way did not.
        served: Model and build that its replies name; None before the first.
        seen: What `/props` identifies it by; None where it was not asked or does not answer.
        since: When this memory was begun, on the monotonic clock.
        confirmed: When `/props` was asked last.
    """

    needs: frozenset[str] = frozenset()
    plain: bool = False
    blind: frozenset[str] = frozenset()
    unread: frozenset[str] = frozenset()
    tools: bool | None = None
    looked: bool = False
    tags: frozenset[str] | None = None
    special: dict[str, bool] = field(default_factory=dict)
    answers: int | None = None
    ways: dict[str, str] = field(default_factory=dict)
    served: tuple[str, str] | None = None
    seen: tuple[object, ...] | None = None
    since: float = field(default_factory=time.monotonic)
    confirmed: float = 0.0

    def is_due(self, *, tools: bool) -> bool:
        """Whether `/props` has to confirm this before a request is made by it.

        Args:
            tools: Whether the request has tools.
        """
        if self.seen is None:
            return False
        age = time.monotonic() - self.confirmed
        changes = self.needs or self.plain or self.blind or self.ways or (tools and self.tools is False)
        return age > _CHANGES_FOR if changes else tools and age > _TOOLS_FOR

    def remember_way(self, form: str, way: str) -> None:
        """Remember how structured output of a schema worked."""
        if len(self.ways) >= _MOST_WAYS:
            self.ways.clear()
        self.ways[form] = way


_memories: OrderedDict[tuple[str, str | None], ServerMemory] = OrderedDict()
_lock = threading.Lock()


def memory_of(base_url: str, model: str | None) -> ServerMemory:
    """Return the memory of a model, renewed if the server went away since.

    Args:
        base_url: As `ServerSettings` has it.
        model: Its name; None for a server's only one.
    """
    with _lock:
        memory = _memories.get((base_url, model))
        if memory is None or memory.since < refused_at(base_url):
            memory = _memories[base_url, model] = ServerMemory()
        _memories.move_to_end((base_url, model))
        if len(_memories) > _MOST:
            _memories.popitem(last=False)
    return memory


def recall(settings: ServerSettings, model: str | None) -> ServerMemory:
    """The memory of a model; None stands for that of the settings."""
    return memory_of(settings.base_url, model or settings.model)


def forget(base_url: str, model: str | None) -> None:
    """Drop what was learned of a model."""
    with _lock:
        _memories.pop((base_url, model), None)


def recall_by_props(settings: ServerSettings, model: str | None, props: ServerProps) -> ServerMemory:
    """The memory of the model that `/props` describes: a new one where it is another than was seen before."""
    memory = recall(settings, model)
    template = props.chat_template, text(props.raw.get("chat_template_tool_use"))
    seen = (hash(template), props.model_path, props.model_alias, props.build_info, props.n_ctx, props.total_slots)
    if memory.seen not in (None, seen):
        forget(settings.base_url, model or settings.model)
        memory = recall(settings, model)
    memory.seen, memory.confirmed = seen, time.monotonic()
    return memory


class OriginCheck(DeltaFilter[ChatDelta]):
    """Drop the memory of a server when a reply comes from another one."""

    def __init__(self, settings: ServerSettings, model: str | None) -> None:
        self._settings, self._model = settings, model
        self._begun = False

    def add(self, deltas: list[ChatDelta]) -> list[ChatDelta]:
        """The deltas as they are."""
        if not self._begun:
            for delta in deltas:
                if delta.start is not None:
                    self._begun = self.ignores_pieces = True
                    self._compare(delta.start)
        return deltas

    def _compare(self, start: ReplyStart) -> None:
        served = start.model, start.system_fingerprint
        memory = recall(self._settings, self._model)
        if memory.served not in (None, served):
            forget(self._settings.base_url, self._model or self._settings.model)
            memory = recall(self._settings, self._model)
        memory.served = served
