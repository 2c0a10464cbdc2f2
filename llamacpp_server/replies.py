"""Replies of a model: frozen values, free of HTTP and of frameworks.

A reply is either whole (`ChatReply`, `CompletionReply`) or a stream of deltas (`ChatDelta`, `CompletionDelta`).
Concatenating a stream's deltas, choice by choice, gives the whole reply (`llamacpp_server.fold_chat`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
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
    """Token counts of a request. The server reports one choice only when `n` > 1 (b11434).

    Attributes:
        prompt_tokens: Tokens of the rendered prompt, cached ones included.
        completion_tokens: Tokens generated, thinking included.
        cached_tokens: Prompt tokens that came from the cache; None where the build does not say.
        reasoning_tokens: Completion tokens of the thinking; None without `timings_per_token` (b11434).
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
        """The counts under OpenAI's names, as the server writes them; details only where it gave them."""
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
        prompt_n: Prompt tokens that were read (not from the cache).
        prompt_ms: Time spent on them.
        predicted_n: Tokens generated.
        predicted_ms: Time spent on them.
        cache_n: Prompt tokens taken from the cache; None on builds that don't say.
        prompt_per_token_ms: As the server computes it.
        prompt_per_second: As the server computes it.
        predicted_per_token_ms: As the server computes it.
        predicted_per_second: As the server computes it.
        draft_n: Tokens drafted by speculative decoding; None without it.
        draft_n_accepted: Drafted tokens that were kept; None without it.
        first_token_ms: From the request to its first token as its caller saw it, waits and queues included. Measured
            by this package, in streams only; None elsewhere.
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
        """The figures that the server gave, under its own names."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True)
class PromptProgress:
    """Progress of prompt processing (`return_progress`).

    Attributes:
        total: Tokens of the prompt.
        cache: Tokens that came from the cache.
        processed: Tokens done so far, cached ones included; equals `total` at the end.
        time_ms: Milliseconds spent so far.
    """

    total: int
    cache: int
    processed: int
    time_ms: float

    def as_dict(self) -> dict[str, Any]:
        """The figures under the server's own names."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call requested by the model.

    Attributes:
        id: Unique within the conversation.
        name: The tool's name.
        arguments: JSON text as the model wrote it. It is not valid JSON when the reply was cut off.
    """

    id: str
    name: str
    arguments: str


class ToolCallFragment(NamedTuple):
    """A piece of a tool call. Concatenate `id`, `name` and `arguments` of the pieces with one `call_index`.

    Attributes:
        call_index: Which call of the reply this belongs to, from 0.
        id: Set on the first fragment only; "" on the others.
        name: The name, or the rest of a name that grew; "" otherwise.
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
        name: Kind of the repair, such as `pattern` or `invalid_arguments`; what switches it off.
        where: Path of what was rewritten, such as `search.properties.query` or `messages[3].tool_calls[0]`.
        what: What was done and why, as a sentence.
    """

    name: str
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"

    def as_dict(self) -> dict[str, str]:
        """Return the repair as a dict for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ReplyStart:
    """Facts about a reply that are reported once.

    Attributes:
        id: The reply's id; "" on native endpoints.
        model: The server's name of the model, often a file name.
        created: Unix time; 0 where the endpoint does not say.
        system_fingerprint: Build, such as `b11434-abc`; "" where the endpoint does not say.
        repairs: What was rewritten in the request before it was sent; of a whole reply, also what was of the reply.
    """

    id: str = ""
    model: str = ""
    created: int = 0
    system_fingerprint: str = ""
    repairs: tuple[Repair, ...] = ()


class ChatDelta(NamedTuple):
    """What one event of a chat stream adds. A NamedTuple because building it is on every token's path.

    Attributes:
        content: Text to append; "" when there is none.
        reasoning_content: Thinking to append; "" when there is none.
        tool_calls: Pieces of tool calls.
        finish_reason: `stop`, `length` or `tool_calls`, on the last delta of a choice; else None.
        choice: Which answer, from 0; other than 0 only with `n` > 1.
        logprobs: Log probabilities of the tokens of this delta, in the server's shape.
        usage: Set once, near the end (once per choice with `n` > 1).
        timings: Near the end; on every delta with `timings_per_token`.
        progress: Set on the events that `return_progress` asks for.
        start: Set on the first delta only.
        repairs: What was repaired of the reply itself, near the end; what was of the request is in `start`.
        raw: The event as the server sent it, where it says more than the other attributes: fields of newer builds,
            `__verbose`, native fields. None for the others, as nearly all are.
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
    """What one event of a text completion stream adds.

    Attributes:
        text: Text to append; "" when there is none.
        tokens: Ids of the tokens (`return_tokens`, native endpoint). Those of tokens that are part of a character only
            are missing in a stream (b11549); `complete` has them all.
        finish_reason: `stop` or `length` on the last delta of a choice; else None.
        choice: Which answer: prompts times `n`, in order.
        logprobs: Log probabilities of the tokens of this delta, in the server's chat shape.
        usage: On the last delta of a choice.
        timings: On the last delta of a choice; on every one with `timings_per_token`.
        progress: Set on the events that `return_progress` asks for.
        start: Set on the first delta only.
        raw: As in `ChatDelta`; on the last delta of a native endpoint it has all that such a reply says.
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
    """One of the answers of a chat reply; attributes as in `ChatDelta`, whole."""

    content: str = ""
    reasoning_content: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str | None = None
    logprobs: LogprobsDict | None = None


@dataclass(frozen=True, slots=True)
class CompletionChoice:
    """One of the answers of a text completion; attributes as in `CompletionDelta`, whole.

    The native endpoint (`return_tokens`) says more of an answer, in `raw` and in the properties.
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
        """What ended it: `eos`, `word`, `limit` or `none`."""
        return _typed(self.raw.get("stop_type"), str)

    @property
    def stopping_word(self) -> str | None:
        """The text of `stop` that ended it; "" where none did."""
        return _typed(self.raw.get("stopping_word"), str)

    @property
    def tokens_cached(self) -> int | None:
        """Tokens that the slot's cache holds after it."""
        return _typed(self.raw.get("tokens_cached"), int)

    @property
    def prompt(self) -> str | None:
        """The prompt as the server read it."""
        return _typed(self.raw.get("prompt"), str)

    @property
    def generation_settings(self) -> Mapping[str, Any]:
        """The parameters as the server understood them; empty where it did not say."""
        return _typed(self.raw.get("generation_settings"), dict) or {}


def _typed(value: Any, kind: type[T]) -> T | None:
    """A value of the server where it is of its kind; a server that says it otherwise says nothing."""
    return value if type(value) is kind else None


@dataclass(frozen=True, slots=True)
class ChatReply:
    """A whole chat reply. The properties are those of the first choice.

    Attributes:
        choices: One per `n`, by index; never empty.
        start: Id, model, build.
        usage: None where the server reported none. Sums the choices where it reported each.
        timings: The server's measurements; None where it gave none.
        raw: What the server said beyond that: the `raw` of the deltas, later ones over earlier ones.
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
        """The thinking; "" when there was none."""
        return self.choices[0].reasoning_content

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The calls that the model asks for."""
        return self.choices[0].tool_calls

    @property
    def finish_reason(self) -> str | None:
        """Why it ended."""
        return self.choices[0].finish_reason

    @property
    def logprobs(self) -> LogprobsDict | None:
        """Log probabilities, if asked for."""
        return self.choices[0].logprobs


@dataclass(frozen=True, slots=True)
class CompletionReply:
    """A whole text completion. `text` and `finish_reason` are those of the first choice.

    Attributes:
        choices: Prompts times `n`, in order; never empty.
        start: Id, model, build.
        usage: None where the server reported none; see `Usage` for batches.
        timings: The server's measurements; None where it gave none.
    """

    choices: tuple[CompletionChoice, ...]
    start: ReplyStart = field(default_factory=ReplyStart)
    usage: Usage | None = None
    timings: Timings | None = None

    @property
    def raw(self) -> Mapping[str, Any]:
        """What the server said of the first choice beyond the other attributes."""
        return self.choices[0].raw

    @property
    def text(self) -> str:
        """The text."""
        return self.choices[0].text

    @property
    def finish_reason(self) -> str | None:
        """Why it ended."""
        return self.choices[0].finish_reason
