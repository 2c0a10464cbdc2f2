"""Filters for the deltas of a reply, applied one after another.

A decoder converts bytes to deltas. A `Pipeline` is a decoder that passes each batch of deltas through a list of
filters, so one list shows what happens to a reply, in order.

The filters that look at one delta at a time are here. Those with rules of their own (reasoning, tool calls, special
tokens) have modules of their own.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any, Final, Generic, TypeVar, cast

from .._values import with_changes
from ..errors import LlamaServerError, UnfitAnswerError
from ..progress import Progress
from ..replies import ChatDelta, CompletionDelta
from .stream import StreamDecoder

D = TypeVar("D")
_ONLY_PIECES: Final = ChatDelta()[3:]
OfText = TypeVar("OfText", ChatDelta, CompletionDelta)


class DeltaFilter(Generic[D]):
    """One step in processing the deltas of a reply."""

    over: bool = False
    """Whether the reply is complete and no more of it is needed."""
    ignores_pieces: bool = False
    """Whether deltas that only add to an answer's text, reasoning or calls, as nearly all do, pass unchanged from now
    on. So do those that other filters make of them."""

    @abstractmethod
    def add(self, deltas: list[D]) -> list[D]:
        """Filter the next deltas; may hold some back, and raises an error for an unusable reply."""

    def end(self) -> list[D]:
        """Return the held-back deltas at the end of the reply; raises an error for an unusable reply."""
        return []

    def with_partial(self, error: LlamaServerError) -> LlamaServerError:
        """Return `error` with its partial reply filtered like the deltas."""
        return error


class Pipeline(Generic[D]):
    """A decoder whose deltas pass through filters.

    Args:
        decoder: Decodes what the server sends.
        filters: In the order in which they see the deltas.
    """

    def __init__(self, decoder: StreamDecoder[D], filters: Sequence[DeltaFilter[D]]) -> None:
        self._decoder = decoder
        self._filters = tuple(filters)
        if isinstance(decoder, Pipeline):  # one list instead of one within another, as each chunk passes all of it
            self._decoder, self._filters = decoder._decoder, (*decoder._filters, *self._filters)
        self._of_pieces = list(self._filters)
        self._over = False

    @property
    def is_done(self) -> bool:
        """Whether the end mark came."""
        return self._decoder.is_done

    @property
    def over(self) -> bool:
        """Whether no more of the reply is needed."""
        return self._over or self._decoder.over

    def feed(self, data: bytes) -> list[D]:
        """Deltas that `data` completes."""
        deltas = self._decoder.feed(data)
        first: Any = deltas[0] if len(deltas) == 1 else None
        pieces = type(first) is ChatDelta and first[3:] == _ONLY_PIECES
        for one in self._of_pieces if pieces else self._filters:
            deltas = one.add(deltas)
            if one.over:
                self._over = True
        if self._of_pieces:
            self._of_pieces = [one for one in self._of_pieces if not one.ignores_pieces]
        return deltas

    def close(self) -> list[D]:
        """Deltas that were left; raises when the reply is not at its end."""
        deltas = [] if self.over else self._decoder.close()
        for one in self._filters:
            deltas = one.add(deltas) + one.end()
        return deltas

    def with_partial(self, error: LlamaServerError) -> LlamaServerError:
        """`error`, with what had arrived attached."""
        error = self._decoder.with_partial(error)
        for one in self._filters:
            error = one.with_partial(error)
        return error


def pipeline(
    decoder: Callable[[], StreamDecoder[D]], filters: Sequence[Callable[[], DeltaFilter[D]]]
) -> Callable[[], StreamDecoder[D]]:
    """Create decoders, each with its own filters, so that a repeated request starts afresh.

    Args:
        decoder: Makes the decoder of what the server sends.
        filters: Make the filters, in order; none give `decoder` itself.
    """
    return (lambda: Pipeline(decoder(), [make() for make in filters])) if filters else decoder


class FirstTokenTimer(DeltaFilter[D]):
    """Add `first_token_ms` to the timings, as seen by the caller: the server does not know its waits and queues.

    A busy machine may let the caller see it late, when the server has generated others as well: it came no later than
    the time before the timings that the server took for all of them.

    Args:
        elapsed: Gives the seconds since the request was made.
    """

    def __init__(self, elapsed: Callable[[], float]) -> None:
        self._elapsed = elapsed
        self._first: float | None = None

    def add(self, deltas: list[D]) -> list[D]:
        """The deltas; those with timings have that of the first token, too."""
        if self._first is None:
            if not any(map(has_token, deltas)):
                return deltas
            self._first = round(self._elapsed() * 1000, 3)
            self.ignores_pieces = True
        # On every token's path: most have no timings.
        for delta in deltas:
            if getattr(delta, "timings", None) is not None:
                return [self._timed(one, self._first) for one in deltas]
        return deltas

    def _timed(self, delta: D, first: float) -> D:
        timings = getattr(delta, "timings", None)
        if timings is None:
            return delta
        latest = max(self._elapsed() * 1000 - timings.predicted_ms, timings.prompt_ms)
        timings = with_changes(timings, first_token_ms=min(first, round(latest, 3)))
        if isinstance(delta, ChatDelta | CompletionDelta):
            return cast(D, delta._replace(timings=timings))
        event = cast(Any, delta)  # of another API; its last one has the whole reply
        reply = getattr(event, "reply", None)
        return cast(D, replace(event, timings=timings, **({"reply": replace(reply, timings=timings)} if reply else {})))


_SPOKEN: Final = attrgetter("content", "reasoning_content", "tool_calls")
# Of completions, and of the typed events of other APIs.
_SPOKEN_ELSEWHERE: Final = ("text", "tokens", "reasoning", "thinking", "arguments")


def has_token(delta: object) -> bool:
    """Whether a delta contains model output."""
    if isinstance(delta, ChatDelta):
        return any(_SPOKEN(delta))
    return any(getattr(delta, name, None) for name in _SPOKEN_ELSEWHERE)


class WithoutTopLogprobs(DeltaFilter[ChatDelta]):
    """Keeps the log probabilities of the reply's own tokens only.

    The server returns none for `top_logprobs: 0` (b11434), so one was requested.
    """

    def add(self, deltas: list[ChatDelta]) -> list[ChatDelta]:
        """The deltas, without alternatives to their tokens."""
        return [_own_token(delta) for delta in deltas]


def _own_token(delta: ChatDelta) -> ChatDelta:
    if not delta.logprobs:
        return delta
    return delta._replace(logprobs={"content": [{**token, "top_logprobs": []} for token in delta.logprobs["content"]]})


class WithoutPrefill(DeltaFilter[ChatDelta]):
    """Remove the continued text from the start of each answer of a complete reply.

    A stream leaves it out where `echo` is false; a whole reply can't.

    Args:
        begun: That text.
    """

    def __init__(self, begun: str) -> None:
        self._begun = begun
        self._done: set[int] = set()

    def add(self, deltas: list[ChatDelta]) -> list[ChatDelta]:
        """The deltas of a whole reply, of which the first with a text has all of it."""
        return [self._without_prefix(delta) for delta in deltas]

    def _without_prefix(self, delta: ChatDelta) -> ChatDelta:
        if not delta.content or delta.choice in self._done:
            return delta
        self._done.add(delta.choice)
        return delta._replace(content=delta.content.removeprefix(self._begun))


class ProgressFilter(DeltaFilter[OfText]):
    """Report progress, and remove it from the deltas if it was requested only for the report.

    Args:
        report: Called for each step.
        keep: Whether deltas hold the progress as well.
    """

    def __init__(self, report: Callable[[Progress], None], *, keep: bool) -> None:
        self._report = report
        self._keep = keep

    def add(self, deltas: list[OfText]) -> list[OfText]:
        """Report the progress of the deltas."""
        if not any(delta.progress for delta in deltas):
            return deltas
        kept: list[OfText] = []
        for delta in deltas:
            if delta.progress is not None:
                self._report(Progress.of_prompt(delta.progress))
            rest = delta if self._keep or delta.progress is None else delta._replace(progress=None)
            if rest != type(delta)():
                kept.append(rest)
        return kept


_EACH: Final = 64
# A unit longer than this is text of its own; entries of a list that differ in one word are not a loop.
_LONGEST_UNIT: Final = 400
_LEAST_TIMES: Final = 8
_SHOWN: Final = 200


Piece = tuple[Hashable, str]
"""Which text, and what is added to it."""


class LoopFilter(DeltaFilter[OfText]):
    """Raise an error if an answer's text or a call's arguments end in many repetitions of one unit.

    A grammar keeps a model from ending an answer before its last brace. A small model then writes the same entry, digit
    or white space over and over, and without `max_tokens` the server lets it, to the end of the context.

    Args:
        limit: How many tokens have to be. The server sends about one event for each token.
        pieces: What a delta adds to which text.
    """

    def __init__(self, limit: int, pieces: Callable[[OfText], Iterable[Piece]]) -> None:
        self._limit = limit
        self._pieces_of: Callable[[OfText], Iterable[Piece]] = pieces
        self._pieces: dict[Hashable, list[str]] = {}
        self._loop: tuple[Hashable, str] | None = None

    def add(self, deltas: list[OfText]) -> list[OfText]:
        """The deltas as they are.

        Raises:
            UnfitAnswerError: When the text before them was a loop; that text was passed on.
        """
        if self._loop is not None:
            where, unit = self._loop
            raise UnfitAnswerError(
                f"stopped a repetitive answer: it repeated {unit!r} for {self._limit} tokens",
                reason="cut_off",
                text="".join(self._pieces[where]),
                remedy="set max_tokens or repeat_penalty, or change the prompt or model; loop_limit=None disables this",
            )
        for delta in deltas:
            for where, text in self._pieces_of(delta):
                self._note(where, text)
        return deltas

    def _note(self, where: Hashable, text: str) -> None:
        pieces = self._pieces.setdefault(where, [])
        pieces.append(text)
        if len(pieces) < self._limit or len(pieces) % _EACH or self._loop is not None:
            return
        if unit := repeated_unit("".join(pieces[-self._limit :]))[:_SHOWN]:
            self._loop = where, unit


def text_pieces(delta: CompletionDelta) -> Iterable[Piece]:
    """The text of a completion."""
    return ((delta.choice, delta.text),) if delta.text else ()


def answer_pieces(delta: ChatDelta) -> Iterable[Piece]:
    """The text of a chat's answer, and the arguments of its calls."""
    return ((delta.choice, delta.content),) if delta.content else argument_pieces(delta)


def argument_pieces(delta: ChatDelta) -> Iterable[Piece]:
    """The arguments of calls, which a grammar keeps to their tool's schema whatever else may be said."""
    if not delta.tool_calls:
        return ()
    return [((delta.choice, call.call_index), call.arguments) for call in delta.tool_calls if call.arguments]


def repeated_unit(text: str) -> str:
    """The unit that a text repeats; "" if it does not repeat."""
    end = text[-_LONGEST_UNIT:]
    for size in range(1, min(_LONGEST_UNIT, len(text) // _LEAST_TIMES) + 1):
        if end[-size:] * 2 != text[-2 * size :]:
            continue
        unit = end[-size:]
        repeated = unit * (len(text) // size + 2)
        if repeated.endswith(text):
            return unit
    return ""


__all__ = [
    "DeltaFilter",
    "FirstTokenTimer",
    "LoopFilter",
    "Pipeline",
    "ProgressFilter",
    "WithoutPrefill",
    "WithoutTopLogprobs",
    "answer_pieces",
    "argument_pieces",
    "has_token",
    "pipeline",
    "repeated_unit",
    "text_pieces",
]
