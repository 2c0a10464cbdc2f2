"""Replies of a model: frozen values, free of HTTP and of frameworks.

A reply is either whole (`ChatReply`, `CompletionReply`) or a stream of deltas (`ChatDelta`, `CompletionDelta`).
Concatenating a stream's deltas, choice by choice, gives the whole reply (`llamacpp_server.fold_chat`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from .wire import LogprobsDict

__all__ = [
    "ChatChoice",
    "ChatDelta",
    "ChatReply",
    "CompletionChoice",
    "CompletionDelta",
    "CompletionReply",
    "PromptProgress",
    "Repair",
    "ReplyStart",
    "Timings",
    "ToolCall",
    "ToolCallFragment",
    "Usage",
]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of a request. With `n` > 1, the server reports only one choice (b11434).

    Attributes:
        prompt_tokens: Tokens of the rendered prompt, including cached ones.
        completion_tokens: Tokens generated, including reasoning.
        cached_tokens: Prompt tokens that came from the cache; None if not reported.
        reasoning_tokens: Completion tokens of the reasoning; None without `timings_per_token` (b11434).
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None

    @property
    def total_tokens(self) -> int:
        """Prompt and completion tokens together."""
        return self.prompt_tokens + self.completion_tokens

    def as_dict(self) -> dict[str, Any]:
        """Return the counts under OpenAI's names, with details only if reported."""
        counts: dict[str, Any] = {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.total_tokens,
        }
        if self.cached_tokens is not None:
            counts["prompt_tokens_details"] = {"cached_tokens": self.cached_tokens}
        if self.reasoning_tokens is not None:
            counts["completion_tokens_details"] = {"reasoning_tokens": self.reasoning_tokens}
        return counts


@dataclass(frozen=True, slots=True)
class Timings:
    """The server's own measurements of one request; times in milliseconds.

    Attributes:
        prompt_n: Prompt tokens processed, without those from the cache.
        prompt_ms: Time of prompt processing.
        predicted_n: Tokens generated.
        predicted_ms: Time of generation.
        cache_n: Prompt tokens from the cache; None if not reported.
        prompt_per_token_ms: As the server computes it.
        prompt_per_second: As the server computes it.
        predicted_per_token_ms: As the server computes it.
        predicted_per_second: As the server computes it.
        draft_n: Tokens drafted by speculative decoding; None without it.
        draft_n_accepted: Drafted tokens that were accepted; None without it.
        first_token_ms: Time from the request to its first token, including waits and queues. Measured by this package,
            only in streams; else None.
    """

    prompt_n: int = 0
    prompt_ms: float = 0.0
    predicted_n: int = 0
    predicted_ms: float = 0.0
    cache_n: int | None = None
    prompt_per_token_ms: float | None = None
    prompt_per_second: float | None = None
    predicted_per_token_ms: float | None = None
    predicted_per_second: float | None = None
    draft_n: int | None = None
    draft_n_accepted: int | None = None
    first_token_ms: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the reported values under the server's names."""
        return {name: value for name in self.__slots__ if (value := getattr(self, name)) is not None}


@dataclass(frozen=True, slots=True)
class PromptProgress:
    """Progress of prompt processing (`return_progress`).

    Attributes:
        total: Tokens of the prompt.
        cache: Tokens that came from the cache.
        processed: Tokens processed so far, including cached ones; equals `total` at the end.
        time_ms: Milliseconds so far.
    """

    total: int
    cache: int
    processed: int
    time_ms: float

    def as_dict(self) -> dict[str, Any]:
        """Return the values under the server's names."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call requested by the model.

    Attributes:
        id: Unique within the conversation.
        name: The tool's name.
        arguments: JSON text as the model wrote it; invalid if the reply was cut off.
    """

    id: str
    name: str
    arguments: str


class ToolCallFragment(NamedTuple):
    """A piece of a tool call. Concatenate `id`, `name` and `arguments` of the pieces with the same `call_index`.

    Attributes:
        call_index: Position of the call in the reply, from 0.
        id: Set only on the first fragment; "" on the others.
        name: The name, or the rest of a name sent in parts; "" otherwise.
        arguments: The next characters of the JSON text.
    """

    call_index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Repair:
    """One rewrite of a request or reply.

    Attributes:
        name: Kind of the repair, such as `pattern` or `invalid_arguments`; use it to disable the repair.
        where: Path of the rewritten value, such as `search.properties.query` or `messages[3].tool_calls[0]`.
        what: The rewrite and its reason, as a sentence.
    """

    name: str
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"

    def as_dict(self) -> dict[str, str]:
        """Return the repair as a dict for JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class ReplyStart:
    """Metadata of a reply, reported once.

    Attributes:
        id: ID of the reply; "" on native endpoints.
        model: The server's name for the model, often a file name.
        created: Unix time; 0 if not reported.
        system_fingerprint: Build, such as `b11434-abc`; "" if not reported.
        repairs: Rewrites of the request; in a whole reply, also rewrites of the reply.
    """

    id: str = ""
    model: str = ""
    created: int = 0
    system_fingerprint: str = ""
    repairs: tuple[Repair, ...] = ()


class ChatDelta(NamedTuple):
    """The content of one event of a chat stream. A NamedTuple, since one is created for every token.

    Attributes:
        content: Text to append; may be "".
        reasoning_content: Reasoning to append; may be "".
        tool_calls: Pieces of tool calls.
        finish_reason: `stop`, `length` or `tool_calls`, on the last delta of a choice; else None.
        choice: Index of the answer; other than 0 only with `n` > 1.
        logprobs: Log probabilities of the tokens of this delta, in the server's format.
        usage: Token counts; set once near the end (once per choice with `n` > 1).
        timings: The server's measurements; set near the end, or on every delta with `timings_per_token`.
        progress: Progress of prompt processing, with `return_progress`.
        start: Metadata of the reply; set only on the first delta.
        repairs: Rewrites of the reply, near the end; those of the request are in `start`.
        raw: The event as the server sent it, if it contains more than the other attributes: fields of newer builds,
            `__verbose`, native fields. Usually None.
    """

    content: str = ""
    reasoning_content: str = ""
    tool_calls: tuple[ToolCallFragment, ...] = ()
    finish_reason: str | None = None
    choice: int = 0
    logprobs: LogprobsDict | None = None
    usage: Usage | None = None
    timings: Timings | None = None
    progress: PromptProgress | None = None
    start: ReplyStart | None = None
    repairs: tuple[Repair, ...] = ()
    raw: Mapping[str, Any] | None = None


class CompletionDelta(NamedTuple):
    """The content of one event of a completion stream.

    Attributes:
        text: Text to append; may be "".
        tokens: IDs of the tokens (`return_tokens`, native endpoint). Streams lack those of tokens that are only part of
            a character (b11549); `complete` returns all.
        finish_reason: `stop` or `length` on the last delta of a choice; else None.
        choice: Index of the answer: prompts times `n`, in order.
        logprobs: Log probabilities of the tokens of this delta, in the format of chats.
        usage: Token counts, on the last delta of a choice.
        timings: The server's measurements, on the last delta of a choice, or on every delta with `timings_per_token`.
        progress: Progress of prompt processing, with `return_progress`.
        start: Metadata of the reply; set only on the first delta.
        raw: As in `ChatDelta`; on the last delta of a native endpoint, the whole event.
    """

    text: str = ""
    tokens: tuple[int, ...] = ()
    finish_reason: str | None = None
    choice: int = 0
    logprobs: LogprobsDict | None = None
    usage: Usage | None = None
    timings: Timings | None = None
    progress: PromptProgress | None = None
    start: ReplyStart | None = None
    raw: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ChatChoice:
    """One answer of a chat reply; attributes as in `ChatDelta`, but complete."""

    content: str = ""
    reasoning_content: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str | None = None
    logprobs: LogprobsDict | None = None


@dataclass(frozen=True, slots=True)
class CompletionChoice:
    """One answer of a text completion; attributes as in `CompletionDelta`, but complete.

    The native endpoint (`return_tokens`) reports more, in `raw` and in the properties.
    """

    text: str = ""
    tokens: tuple[int, ...] = ()
    finish_reason: str | None = None
    logprobs: LogprobsDict | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def truncated(self) -> bool:
        """Whether the prompt or the answer was truncated to fit in the context."""
        return self.raw.get("truncated") is True

    @property
    def stop_type(self) -> str | None:
        """Cause of the end: `eos`, `word`, `limit` or `none`."""
        return _typed(self.raw.get("stop_type"), str)

    @property
    def stopping_word(self) -> str | None:
        """The text of `stop` that ended the answer; "" if none did."""
        return _typed(self.raw.get("stopping_word"), str)

    @property
    def tokens_cached(self) -> int | None:
        """Tokens in the slot's cache after the answer."""
        return _typed(self.raw.get("tokens_cached"), int)

    @property
    def prompt(self) -> str | None:
        """The prompt as processed by the server."""
        return _typed(self.raw.get("prompt"), str)

    @property
    def generation_settings(self) -> Mapping[str, Any]:
        """The parameters used by the server; empty if not reported."""
        return _typed(self.raw.get("generation_settings"), dict) or {}


def _typed(value: Any, kind: type[T]) -> T | None:
    """A value of the server where it is of its kind; a server that says it otherwise says nothing."""
    return value if type(value) is kind else None


@dataclass(frozen=True, slots=True)
class ChatReply:
    """A whole chat reply. The properties are those of the first choice.

    Attributes:
        choices: The answers, one for each of `n`; never empty.
        start: ID, model, build and repairs.
        usage: Token counts; None if the server reported none. Sums the choices where it reported each.
        timings: The server's measurements; None if it reported none.
        raw: Further fields from the server: the merged `raw` of the deltas.
    """

    choices: tuple[ChatChoice, ...]
    start: ReplyStart = field(default_factory=ReplyStart)
    usage: Usage | None = None
    timings: Timings | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def content(self) -> str:
        """The text."""
        return self.choices[0].content

    @property
    def reasoning_content(self) -> str:
        """The reasoning; "" if there is none."""
        return self.choices[0].reasoning_content

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The requested tool calls."""
        return self.choices[0].tool_calls

    @property
    def finish_reason(self) -> str | None:
        """Why the reply ended: `stop`, `length` or `tool_calls`."""
        return self.choices[0].finish_reason

    @property
    def logprobs(self) -> LogprobsDict | None:
        """Log probabilities, if requested."""
        return self.choices[0].logprobs


@dataclass(frozen=True, slots=True)
class CompletionReply:
    """A whole text completion. `text` and `finish_reason` are those of the first choice.

    Attributes:
        choices: The answers: prompts times `n`, in order; never empty.
        start: ID, model, build and repairs.
        usage: Token counts; None if not reported. See `Usage` for batches.
        timings: The server's measurements; None if it reported none.
    """

    choices: tuple[CompletionChoice, ...]
    start: ReplyStart = field(default_factory=ReplyStart)
    usage: Usage | None = None
    timings: Timings | None = None

    @property
    def raw(self) -> Mapping[str, Any]:
        """Further fields of the first choice from the server."""
        return self.choices[0].raw

    @property
    def text(self) -> str:
        """The text."""
        return self.choices[0].text

    @property
    def finish_reason(self) -> str | None:
        """Why the reply ended: `stop`, `length` or `tool_calls`."""
        return self.choices[0].finish_reason
