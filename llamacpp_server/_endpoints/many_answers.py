"""Split more answers (`n`) than the server has slots into several requests, read as one reply (b11434)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, TypeVar

from .._notices import log_repairs
from .._replies import DeltaFilter
from ..errors import BadRequestError, LlamaServerError
from ..replies import ChatDelta, CompletionDelta, Repair, Usage
from ..requests import ChatRequest, CompletionRequest, InfillRequest
from ..results import ServerProps
from ..settings import ServerSettings, without_waits
from ..transport import Call, Program, ask, deadline_in, within
from .server_memory import recall

R = TypeVar("R", ChatRequest, CompletionRequest, InfillRequest)

_NAMES: Final = ("n", "n_cmpl")
# "Field 'n': Value must be between 1 <= value <= 4, but got 9" (b11549).
_REFUSED: Final = re.compile(r"'n(_cmpl)?'|\bn_cmpl\b")
_BETWEEN: Final = re.compile(r"between \d+ (?:and|<= value <=) (\d+)")
# A number by mistake does not keep the server busy for hours.
_MOST: Final = 1000


@dataclass(frozen=True, slots=True)
class Part:
    """The part of the answers that one request gets.

    Attributes:
        before: How many others got.
        size: How many it gets.
        total: How many all get.
        repairs: That the request was split, in the first one.
    """

    before: int
    size: int
    total: int
    repairs: tuple[Repair, ...] = ()

    def of(self, request: R) -> R:
        """The request for these answers. The server adds an answer's number to a seed, and so does this."""
        given = {**request.params, **request.extra_body}
        names = [name for name in _NAMES if name in given]
        changed: dict[str, Any] = dict.fromkeys(names, self.size)
        if type(seed := given.get("seed")) is int and seed >= 0:
            changed["seed"] = seed + self.before
        inner = {name: changed.get(name, value) for name, value in request.params.items()}
        outer = {name: changed.get(name, value) for name, value in request.extra_body.items()}
        return replace(request, params=inner, extra_body=outer)


class PartFilter(DeltaFilter[Any]):
    """Renumber a part's answers within the complete reply, which starts once and counts its prompt once."""

    def __init__(self, part: Part) -> None:
        self._part = part

    def add(self, deltas: list[Any]) -> list[Any]:
        """Renumber deltas within the complete reply."""
        return [self._renumber(delta) for delta in deltas]

    def _renumber(self, delta: ChatDelta | CompletionDelta) -> ChatDelta | CompletionDelta:
        part = self._part
        prompt, answer = divmod(delta.choice, part.size)
        delta = delta._replace(choice=prompt * part.total + part.before + answer)
        if delta.start is not None:
            begun = replace(delta.start, repairs=(*part.repairs, *delta.start.repairs))
            delta = delta._replace(start=None if part.before else begun)
        if part.before and isinstance(delta, CompletionDelta) and delta.usage is not None:
            delta = delta._replace(usage=Usage(0, delta.usage.completion_tokens, 0))
        return delta


def part_filter(part: Part | None) -> list[Callable[[], DeltaFilter[Any]]]:
    """Return the filter for a part; none for a complete reply."""
    return [] if part is None else [partial(PartFilter, part)]


def is_too_many(error: LlamaServerError) -> bool:
    """Whether a request was refused for the number of its answers."""
    return isinstance(error, BadRequestError) and _REFUSED.search(error.server_message or "") is not None


def in_several_requests(
    stream: Callable[..., Program[None]],
    settings: ServerSettings,
    request: R,
    collected: list[Any] | None,
    fold: Callable[[Sequence[Any]], Any],
) -> Program[None]:
    """Run a request as several, if it asks for more answers than the server allows per request.

    Args:
        stream: Makes the program of a request, as of settings, request, `collected` and a part.
        settings: Where it goes.
        request: The request.
        collected: As in `begin`.
        fold: Makes a reply of deltas.
    """
    count = _count(request)
    if count < 2 or not request.split_n:
        return stream(settings, request, collected)
    most = recall(settings, request.model).answers
    first = stream(settings, request, collected) if most is None or count <= most else None
    return _remaining_parts(stream, settings, request, collected, fold, first)


def _remaining_parts(
    stream: Callable[..., Program[None]],
    settings: ServerSettings,
    request: R,
    collected: list[Any] | None,
    fold: Callable[[Sequence[Any]], Any],
    first: Program[None] | None,
) -> Program[None]:
    count, done, memory = _count(request), 0, recall(settings, request.model)
    deadline, most = deadline_in(settings.total_timeout), memory.answers if first is None else None
    while done < count:
        size = min(most or count, count - done)
        part = Part(done, size, count, () if done or most is None else _split(count, most))
        once = within(settings, deadline)
        try:
            yield from first or stream(once, part.of(request), collected, None if most is None else part)
        except BadRequestError as error:
            most = yield from _most_at_once(once, request.model, error, size)
            if most is None:
                raise
            memory.answers, first = most, None
            continue
        except LlamaServerError as error:
            if done and collected:
                error.partial = fold(collected)
            raise
        done += size


def _split(count: int, most: int) -> tuple[Repair, ...]:
    requests = -(-count // most)
    repairs = (
        Repair("split_n", "n", f"{count} answers need {requests} requests: the server allows {most} per request"),
    )
    log_repairs(repairs)
    return repairs


def _count(request: ChatRequest | CompletionRequest | InfillRequest) -> int:
    given = {**request.params, **request.extra_body}
    if given.keys().isdisjoint(_NAMES):
        return 1
    return max((count for name in _NAMES if type(count := given.get(name)) is int), default=1)


def _most_at_once(
    settings: ServerSettings, model: str | None, error: BadRequestError, refused: int
) -> Program[int | None]:
    """Answers allowed per request, if the server refused one because of their number; else None."""
    if not 1 < refused <= _MOST or not is_too_many(error):
        return None
    slots: int | None
    if (between := _BETWEEN.search(error.server_message or "")) is not None:
        slots = int(between[1])
    else:
        name = model or settings.model
        once = without_waits(settings)
        query = {"model": name, "autoload": "false"} if name else {}
        try:
            slots = (
                yield from ask(once, Call(method="GET", path="/props", query=query), ServerProps.from_wire)
            ).total_slots
        except LlamaServerError:
            slots = None
    return slots if slots is not None and 0 < slots < refused else None
