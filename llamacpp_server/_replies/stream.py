"""Bytes of a reply's stream -> deltas.

A decoder has `feed(bytes) -> list of deltas` and `close()`. `close` raises `StreamCutOffError` when the stream ended
before its end mark, because a short answer and a dead server must not look alike.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable
from typing import Any, Final, Generic, Protocol, TypeVar

from pydantic_core import from_json

from .._notices import warn_once
from ..errors import LlamaServerError, MalformedReplyError, StreamCutOffError
from ..replies import (
    ChatDelta,
    ChatReply,
    CompletionDelta,
    CompletionReply,
    Repair,
    ReplyStart,
    ToolCallFragment,
    Usage,
)
from .failures import event_failure, not_a_stream, not_this_api
from .fast_path import reader_like
from .fold import fold_chat, fold_completion, join_texts
from .parse import (
    arguments_of,
    content_of,
    fallback_call_id,
    logprobs_of,
    native_finish_reason,
    native_logprobs,
    native_usage,
    number_of,
    progress_from_wire,
    says_more,
    start_from_wire,
    text_of,
    timings_from_wire,
    usage_from_wire,
)

MAX_EVENT_BYTES = 256 * 1024 * 1024
"""Longest event that is buffered. The longest that a server sends on purpose is a reply with all its
log probabilities, tens of MiB; without a bound an endless line would fill the memory."""

_LINE_END = re.compile(rb"\r\n|\n|\r")
_A_FIELD = b"data"  # a stream may be cut off in the middle of the word
_FIELDS = (b"event", b"id", b"retry")
_FOREIGN_KEPT = 4000


class SSEDecoder:
    """`feed` bytes as they come and get the payloads of the events that they complete; `close` at the end.

    An `error: {...}` line (llama-server before #16486) comes out as the payload `{"error": {...}}`.

    Attributes:
        foreign: The start of what came and belongs to no event stream, such as a web page or a JSON text.
    """

    __slots__ = ("_data", "_held", "_line", "_skip_lf", "foreign")

    def __init__(self) -> None:
        self.foreign = b""
        self._line = bytearray()
        self._data: list[bytes] = []
        self._held = 0
        self._skip_lf = False

    def feed(self, data: bytes) -> list[bytes]:
        """Payloads of the events completed by `data`, which may be cut anywhere."""
        # Nearly always a read is one event of one line; then nothing needs to be split or buffered.
        if (
            not self._line
            and not self._data
            and data[:6] == b"data: "
            and data.find(b"\n") == len(data) - 2
            and data[-1:] == b"\n"
            and b"\r" not in data
        ):
            self._skip_lf = False
            return [data[6:-2]]
        return self._feed_slowly(data)

    def close(self) -> list[bytes]:
        """Payloads of what was left without its blank line."""
        self._end_line(bytes(self._line))
        self._line.clear()
        return self._take_event()

    def _feed_slowly(self, data: bytes) -> list[bytes]:
        if not data:
            return []
        if self._skip_lf:
            data = data.removeprefix(b"\n")
        *ended, rest = _LINE_END.split(data)
        payloads: list[bytes] = []
        for piece in ended:
            self._line += piece
            if self._line:
                self._end_line(bytes(self._line))
                self._line.clear()
            else:
                payloads += self._take_event()
        self._line += rest
        self._skip_lf = data.endswith(b"\r")
        if self._held + len(self._line) > MAX_EVENT_BYTES:
            raise MalformedReplyError(f"an event of the stream is longer than {MAX_EVENT_BYTES} bytes")
        return payloads

    def _end_line(self, line: bytes) -> None:
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        self._held += len(line)
        if field == b"data":
            self._data.append(value)
        elif field == b"error":
            self._data.append(b'{"error":' + value + b"}")
        elif not _A_FIELD.startswith(field) and field not in _FIELDS and len(self.foreign) < _FOREIGN_KEPT:
            self.foreign += line[:_FOREIGN_KEPT]

    def _take_event(self) -> list[bytes]:
        data, self._data, self._held = self._data, [], 0
        return [b"\n".join(data)] if data else []


S = TypeVar("S")
D = TypeVar("D", ChatDelta, CompletionDelta)


_NOTHING: dict[str, Any] = {}
_NO_CHOICE: tuple[dict[str, Any]] = (_NOTHING,)
# Events that were taken for a model in vain before none is taken any more.
VAIN_TEMPLATES: Final = 8
# Deltas kept one by one for the partial reply of an error. More are joined: a long reply costs the memory of its text,
# and the garbage collector has no object of each token to go through.
KEPT_APART: Final = 256


def _unlike(payload: bytes) -> None:
    return None


class StreamDecoder(Protocol[S]):
    """Interface of a decoder for the transport."""

    @property
    def is_done(self) -> bool:
        """Whether the end mark came: a connection that breaks now cuts nothing off."""

    @property
    def over(self) -> bool:
        """Whether nothing more of the reply is wanted: it is left, which stops the server's work."""

    def feed(self, data: bytes) -> list[S]:
        """Deltas that `data` completes."""

    def close(self) -> list[S]:
        """Deltas that were left; raises when the stream is not at its end."""

    def with_partial(self, error: LlamaServerError) -> LlamaServerError:
        """`error`, with what had arrived attached."""


class _ReplyDecoder(Generic[D]):
    """Events of one reply: JSON, end mark, `error` events. Subclasses read one chunk."""

    over: bool = False

    def __init__(self, repairs: tuple[Repair, ...] = ()) -> None:
        self._repairs = repairs
        self._sse = SSEDecoder()
        self._start: ReplyStart | None = None
        self._deltas: list[D] = []
        self._join_at, self._joined_away = KEPT_APART, 0
        self._done = False
        # Reads an event that differs from an earlier one in its text alone; None for others.
        self._read_fast: Callable[[bytes], D | None] = _unlike

    @property
    def is_done(self) -> bool:
        """Whether the end mark came."""
        return self._done

    def feed(self, data: bytes) -> list[D]:
        """Deltas that `data` completes."""
        if len(self._deltas) >= self._join_at:
            self._join_deltas()
        payloads = self._sse.feed(data)
        if len(payloads) == 1 and (delta := self._read_fast(payloads[0])) is not None:
            self._deltas.append(delta)
            return [delta]
        return self._decode(payloads)

    def close(self) -> list[D]:
        """Deltas that were left without their blank line.

        Raises:
            StreamCutOffError: When the end mark did not come.
            LlamaServerError: When this was no stream at all.
        """
        try:
            deltas = self._decode(self._sse.close())
        except MalformedReplyError:
            deltas = []  # half an event
        if not (self._done or self._deltas) and self._sse.foreign:
            raise not_a_stream(self._sse.foreign)
        if not self._done:
            raise self.with_partial(
                StreamCutOffError(
                    "the stream ended before the reply was complete: the server stopped, or a proxy cut it off",
                    remedy="see the server's log, and retry once it is up",
                )
            )
        return deltas

    def with_partial(self, error: LlamaServerError) -> LlamaServerError:
        """`error`, with what had arrived attached."""
        if self._deltas:
            error.partial = self._fold(self._deltas)
        return error

    def _decode(self, payloads: list[bytes]) -> list[D]:
        deltas: list[D] = []
        try:
            for payload in payloads:
                delta = self._read_fast(payload)
                if delta is not None:
                    deltas.append(delta)
                elif payload == b"[DONE]":
                    self._done = True
                else:
                    self._decode_one(payload, deltas)
        except LlamaServerError as error:
            self._deltas += deltas
            raise self.with_partial(error) from None
        self._deltas += deltas
        return deltas

    def _join_deltas(self) -> None:
        """Join the deltas since the last time."""
        kept, before = self._deltas, len(self._deltas)
        kept[self._join_at - KEPT_APART :] = join_texts(kept[self._join_at - KEPT_APART :])
        self._joined_away += before - len(kept)
        self._join_at = len(kept) + KEPT_APART

    def _decode_one(self, payload: bytes, deltas: list[D]) -> None:
        try:
            chunk = from_json(payload)
            # `data: null` starts the second and later prompts of a batch.
            if type(chunk) is not dict:
                return
            if not chunk.get("error"):
                self._read(chunk, deltas)
                return
        except (AttributeError, KeyError, TypeError, ValueError):
            raise not_this_api(payload, "", "") from None
        raise event_failure(chunk["error"])

    @abstractmethod
    def _read(self, chunk: dict[str, Any], deltas: list[D]) -> None: ...

    @abstractmethod
    def _fold(self, deltas: list[D]) -> Any: ...


def _is_json(text: str) -> bool:
    try:
        from_json(text)
    except ValueError:
        return False
    return True


class ChatStreamDecoder(_ReplyDecoder[ChatDelta]):
    """Events of `/v1/chat/completions` with `stream: true`."""

    def __init__(self, repairs: tuple[Repair, ...] = ()) -> None:
        super().__init__(repairs)
        self._calls: dict[tuple[int, int], tuple[str, str]] = {}
        self._moved: dict[tuple[int, int], int] = {}
        self._unnumbered: dict[tuple[int, int], str] = {}  # arguments of calls without a number
        self._thought: dict[int, int] = {}  # tokens of each choice when its thinking was last heard of
        self._model_at, self._useless_templates = 0, 0

    def _decode_one(self, payload: bytes, deltas: list[ChatDelta]) -> None:
        before = len(deltas)
        super()._decode_one(payload, deltas)
        # What is not like the others may change what they mean, such as the call that a number stands for.
        self._read_fast = _unlike
        if len(deltas) != before + 1 or self._useless_templates == VAIN_TEMPLATES:
            return
        reader = reader_like(payload, deltas[-1])
        if reader is not None:
            at = self._joined_away + len(self._deltas) + len(deltas)
            self._useless_templates = 0 if at > self._model_at + VAIN_TEMPLATES else self._useless_templates + 1
            self._read_fast, self._model_at = reader, at

    def _read(self, chunk: dict[str, Any], deltas: list[ChatDelta]) -> None:
        get = chunk.get
        choices, usage, timings, progress = get("choices"), get("usage"), get("timings"), get("prompt_progress")
        start = None
        raw = chunk if says_more(chunk) else None
        if self._start is None:
            start = self._start = start_from_wire(chunk, self._repairs)
        if usage or timings or progress:
            thought = sum(self._thought.values()) or None
            usage, timings = usage_from_wire(usage, timings, thought), timings_from_wire(timings)
            progress = progress_from_wire(progress)
        for choice in choices or _NO_CHOICE:
            get = choice.get
            delta = get("delta") or _NOTHING
            finish, logprobs = get("finish_reason"), get("logprobs")
            content, index = delta.get("content") or "", get("index") or 0
            if type(content) is not str:
                content = content_of(content)
            if type(index) is not int:
                raise TypeError("expected a number as index")
            thinking = text_of(delta.get("reasoning_content") or delta.get("reasoning"))
            finish, logprobs, calls = text_of(finish) or None, logprobs_of(logprobs), delta.get("tool_calls")
            fragments = self._fragments(index, calls) if calls else ()
            if thinking and timings:
                self._thought[index] = timings.predicted_n
            if content or thinking or fragments or finish or logprobs or usage or timings or progress or start or raw:
                others = logprobs, usage, timings, progress, start, (), raw
                deltas.append(ChatDelta(content, thinking, fragments, finish, index, *others))
                start = usage = timings = progress = raw = None

    def _fragments(self, choice: int, calls: list[dict[str, Any]]) -> tuple[ToolCallFragment, ...]:
        """Pieces to concatenate. The server may send id and name again, or a name that grew (b11434).

        Some servers number all calls 0; another id with a name is another call then. Some give neither number nor id; a
        name after whole arguments is another call then.
        """
        fragments = []
        for position, call in enumerate(calls):
            index = position if call.get("index") is None else number_of(call["index"])
            given, function = text_of(call.get("id")), call.get("function") or {}
            name, arguments = text_of(function.get("name")), arguments_of(function.get("arguments"))
            index = self._moved.get((choice, index), index)
            known, known_id = self._calls.get((choice, index), (None, ""))
            other = given and known_id and given != known_id
            if call.get("index") is None:
                other = other or (not given and _is_json(self._unnumbered.get((choice, index), "")))
            if known is not None and name and other:
                index, known = self._next_index(choice, index), None
            if call.get("index") is None:
                self._unnumbered[choice, index] = self._unnumbered.get((choice, index), "") + arguments
            call_id = ""
            if known is None:
                call_id = given or fallback_call_id(self._start or ReplyStart(), choice, index)
                self._calls[choice, index] = name, given
            elif name:
                full = name if name.startswith(known) else known + name
                self._calls[choice, index] = full, known_id
                name = full.removeprefix(known)
            fragments.append(ToolCallFragment(index, call_id, name, arguments))
        return tuple(fragments)

    def _next_index(self, choice: int, index: int) -> int:
        """A number of its own for a call whose number is taken, which later pieces with the old number go to."""
        free = 1 + max(taken for answer, taken in self._calls if answer == choice)
        first = next((old for (answer, old), new in self._moved.items() if (answer, new) == (choice, index)), index)
        self._moved[choice, first] = free
        return free

    def _fold(self, deltas: list[ChatDelta]) -> ChatReply:
        return fold_chat(deltas)


class CompletionStreamDecoder(_ReplyDecoder[CompletionDelta]):
    """Events of `/v1/completions`, and of the native endpoints, which have no `[DONE]`.

    Args:
        answers: How many answers were asked for. A native stream is whole once each has had its last event.
        each: How many of them are to one prompt, whose tokens are counted once.
        with_ids: Whether somebody asked for the ids of the tokens.
        repairs: What was rewritten in the request.
    """

    def __init__(
        self, answers: int = 1, each: int = 1, with_ids: bool = False, repairs: tuple[Repair, ...] = ()
    ) -> None:
        super().__init__(repairs)
        self._with_ids = with_ids
        self._answers = answers
        self._each = each
        self._ended: set[int] = set()
        self._ids: Counter[int] = Counter()

    def _read(self, chunk: dict[str, Any], deltas: list[CompletionDelta]) -> None:
        start = None
        if self._start is None:
            start = self._start = start_from_wire(chunk, self._repairs)
        timings = timings_from_wire(chunk.get("timings"))
        progress = progress_from_wire(chunk.get("prompt_progress"))
        raw = chunk if says_more(chunk) else None
        if "choices" not in chunk:
            deltas.append(self._native(chunk)._replace(timings=timings, progress=progress, start=start, raw=raw))
            return
        usage = usage_from_wire(chunk.get("usage"), chunk.get("timings"))
        for choice in chunk["choices"] or [{}]:
            index = number_of(choice.get("index"))
            if usage and index % self._each:
                usage = Usage(0, usage.completion_tokens, 0)
            deltas.append(
                CompletionDelta(
                    text_of(choice.get("text")),
                    (),
                    text_of(choice.get("finish_reason")) or None,
                    index,
                    logprobs_of(choice.get("logprobs")),
                    usage,
                    timings,
                    progress,
                    start,
                    raw,
                )
            )
            start = usage = timings = progress = raw = None

    def _native(self, chunk: dict[str, Any]) -> CompletionDelta:
        index = number_of(chunk.get("index"))
        text, tokens = text_of(chunk.get("content")), tuple(chunk.get("tokens") or ())
        self._ids[index] += len(tokens)
        if not chunk.get("stop"):
            return CompletionDelta(text, tokens, None, index, native_logprobs(chunk))
        self._ended.add(index)
        self._done = len(self._ended) >= self._answers
        # The last event repeats the probabilities (and with `return_tokens` the tokens) of the whole reply.
        usage = native_usage(chunk)
        if self._with_ids and self._ids[index] < usage.completion_tokens:
            warn_once("the stream omits the ids of tokens with only part of a character; `complete` returns them all")
        if index % self._each:
            usage = Usage(0, usage.completion_tokens, 0)
        return CompletionDelta(text, (), native_finish_reason(chunk), index, None, usage)

    def _fold(self, deltas: list[CompletionDelta]) -> CompletionReply:
        return fold_completion(deltas)
