"""Request parameters: one table, inherited by every model class of both adapters.

The names are the server's own, and so are the meanings, read from llama.cpp b11434 (`tools/server/server-task.cpp`
and `server-common.cpp`). A field that is not given is not sent, so the server's own settings (its command line, the
model's metadata) stay in force. `0`, `False`, `""` and `[]` are values and are sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ._printable import did_you_mean
from ._read_as import ReadAs, default_value
from ._schemas import (
    CONSTRAINTS,
)
from .errors import BadRequestError

__all__ = ["ALIASES", "ELSEWHERE", "SAMPLING_FIELDS", "SamplingFields", "check_params", "merged_params"]


def read_grammar(given: Any) -> Any:
    """The text of a grammar; a path is read.

    Raises:
        ValueError: When the file can't be read.
    """
    if not isinstance(given, Path):
        return given
    try:
        return given.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"can't read the grammar: {error}") from error


class SamplingFields(BaseModel):
    """Request parameters of llama-server; None leaves them to the server."""

    model_config = ConfigDict(defer_build=True)  # nearly always, only a subclass is made

    # -- length
    max_tokens: int | None = Field(default=None, ge=-1)
    """Maximum tokens to generate; -1 continues to the end of the context. 0 still yields one token."""
    n_predict: int | None = Field(default=None, ge=-1)
    """The native name of `max_tokens`; overrides it."""
    stop: ReadAs[list[str] | str | None, Sequence[str] | None] = default_value(None)
    """Texts that end the answer; they are not part of it. Empty texts are dropped."""
    ignore_eos: bool | None = None
    """Continue generating after the end-of-text token."""
    n_indent: int | None = None
    """Minimum indentation of a line in characters (native endpoint)."""
    t_max_predict_ms: int | None = None
    """Time limit for generating, in milliseconds; checked only at the end of a line."""

    # -- sampling
    temperature: float | None = None
    """Sampling temperature; 0 is greedy. Server default: 0.8."""
    dynatemp_range: float | None = None
    """Dynamic temperature: temperature ± range; 0 is off."""
    dynatemp_exponent: float | None = None
    """Exponent of the dynamic temperature."""
    top_k: int | None = None
    """Keep the k most likely tokens; 0 is off. Server default: 40."""
    top_p: float | None = None
    """Keep the most likely tokens up to this total probability. Server default: 0.95."""
    min_p: float | None = None
    """Drop tokens below this share of the most likely one's probability. Server default: 0.05."""
    top_n_sigma: float | None = None
    """Keep tokens within n standard deviations; -1 is off."""
    typical_p: float | None = None
    """Locally typical sampling; 1 is off."""
    xtc_probability: float | None = None
    """Probability of dropping the top tokens (XTC); 0 is off."""
    xtc_threshold: float | None = None
    """Minimum probability of tokens that XTC drops; above 0.5 is off."""
    mirostat: ReadAs[Literal[0, 1, 2] | None, int | None] = default_value(None)
    """Mirostat version; 0 is off."""
    mirostat_tau: float | None = None
    """Mirostat's target entropy."""
    mirostat_eta: float | None = None
    """Mirostat's learning rate."""
    adaptive_target: float | None = None
    """Adaptive-p's target probability; negative is off."""
    adaptive_decay: float | None = Field(default=None, ge=0, le=0.99)
    """Adaptive-p's decay."""
    samplers: ReadAs[list[str] | str | None, Sequence[str] | None] = default_value(None)
    """Order of the samplers, by name or as one letter each; unknown names are ignored."""
    seed: int | None = None
    """Random seed; -1 picks a new one each time."""
    min_keep: int | None = Field(default=None, ge=0)
    """Minimum number of tokens that samplers keep."""
    backend_sampling: bool | None = None
    """Sample on the accelerator, if the build supports it."""

    # -- penalties
    repeat_penalty: float | None = None
    """Penalty for repeated tokens; 1 is off."""
    repeat_last_n: int | None = Field(default=None, ge=0)
    """Number of recent tokens that `repeat_penalty` considers; 0 is off."""
    presence_penalty: float | None = None
    """Flat penalty for tokens already used; 0 is off."""
    frequency_penalty: float | None = None
    """Penalty for each use of a token; 0 is off."""
    dry_multiplier: float | None = None
    """Strength of the DRY repetition penalty; 0 is off."""
    dry_base: float | None = None
    """Base of the DRY penalty."""
    dry_allowed_length: int | None = None
    """Length of repetitions that DRY allows."""
    dry_penalty_last_n: int | None = Field(default=None, ge=0)
    """Number of recent tokens that DRY considers."""
    dry_sequence_breakers: ReadAs[list[str] | None, Sequence[str] | None] = Field(
        default=default_value(None), min_length=1
    )
    """Texts that end a repetition for DRY."""
    logit_bias: ReadAs[
        dict[str | int, float | bool] | list[list[Any]] | None, Mapping[Any, float] | Sequence[Sequence[Any]] | None
    ] = default_value(None)
    """Bias by token id or text; False bans a token."""

    # -- constraints
    grammar: ReadAs[Annotated[str | None, BeforeValidator(read_grammar)], str | Path | None] = default_value(None)
    """GBNF grammar the answer must follow, or the path (`pathlib.Path`) of one. Not with tools."""
    regex: str | None = None
    """Regular expression that the whole answer must match; sent as a grammar. Not with tools."""
    choices: ReadAs[list[str] | None, Sequence[str] | None] = default_value(None)
    """Allowed answers; sent as a grammar. Not with tools."""
    json_schema: ReadAs[dict[str, Any] | None, Mapping[str, Any] | None] = default_value(None)
    """JSON schema the answer must follow; {} is any JSON."""
    response_format: ReadAs[dict[str, Any] | None, Mapping[str, Any] | None] = default_value(None)
    """A constraint in OpenAI's format: `json_object` or `json_schema`."""

    # -- template and reasoning
    chat_template_kwargs: ReadAs[dict[str, Any] | None, Mapping[str, Any] | None] = default_value(None)
    """Variables for the chat template, such as `enable_thinking` (a bool)."""
    reasoning_format: Literal["none", "auto", "deepseek", "deepseek-legacy"] | None = None
    """How reasoning is separated from the text; `none` leaves it in the text."""
    reasoning_effort: str | None = None
    """`none` turns reasoning off; other levels are passed to the template."""
    reasoning_budget_tokens: int | None = Field(default=None, ge=-1)
    """Maximum reasoning tokens, after which its end is forced; -1 sets no limit."""
    reasoning_budget_message: str | None = None
    """Text inserted before a forced end of reasoning."""
    reasoning_budget_start_tag: str | None = None
    """Text that starts the reasoning of a completion; for chats the template defines it."""
    reasoning_budget_end_tags: ReadAs[list[str] | None, Sequence[str] | None] = default_value(None)
    """Texts that end the reasoning of a completion; `reasoning_budget_tokens` forces the first one.

    That needs a `reasoning_budget_message` as well, which may be empty (b11549).
    """
    reasoning_control: bool | None = None
    """Allows `end_reasoning` to end the reasoning while it runs."""
    add_generation_prompt: bool | None = None
    """Whether the template starts an assistant turn."""
    continue_final_message: bool | Literal["content", "reasoning_content"] | None = None
    """Continue the last message; `echo=True` includes it in the answer."""
    echo: bool | None = None
    """Whether a stream starts with the text that is continued."""
    parse_tool_calls: bool | None = None
    """Whether tool calls in the text are parsed."""

    # -- response contents
    n: int | None = Field(default=None, ge=1)
    """Number of answers; if the server has fewer slots, they are split into several requests."""
    logprobs: bool | int | None = None
    """Return log probabilities."""
    top_logprobs: int | None = Field(default=None, ge=0)
    """Alternatives for each token; needs `logprobs=True`."""
    n_probs: int | None = Field(default=None, ge=0)
    """The native name of `top_logprobs`."""
    post_sampling_probs: bool | None = None
    """Return probabilities after the samplers instead of before."""
    timings_per_token: bool | None = None
    """Return timings with every delta of a stream."""
    return_progress: bool | None = None
    """Return events with the progress of prompt processing."""
    return_tokens: bool | None = None
    """Return the token IDs of a completion. Streams lack those of tokens that are only part of a character."""
    response_fields: ReadAs[list[str] | None, Sequence[str] | None] = default_value(None)
    """Which fields to return (native endpoint)."""
    sse_ping_interval: int | None = Field(default=None, ge=-1)
    """Seconds between keep-alive events; -1 is off."""

    # -- slot and cache
    cache_prompt: bool | None = None
    """Reuse the cached part of this prompt. Server default: on."""
    n_cache_reuse: int | None = Field(default=None, ge=0)
    """Minimum length in tokens of a chunk that is reused after it moved, such as after trimming a history; 0 is off.

    The chunk was computed with the removed text in view, so answers may differ from a full run. Not supported by every
    model and cache type.
    """
    n_keep: int | None = Field(default=None, ge=-1)
    """Tokens of the prompt kept when the context shifts."""
    n_discard: int | None = Field(default=None, ge=0)
    """Tokens dropped when the context shifts; 0 is half."""
    id_slot: int | None = Field(default=None, ge=-1)
    """Slot to run in, modulo the number of slots; -1 selects any.

    Dangerous on builds with a RAM cache (`--cache-ram`, on by default; b11434 and the 2026.10 wheel): if the slot is
    busy, the stream that runs in it continues with the text of this request. Requests of this process wait for each
    other; those of other processes can't. It rarely helps either: a named slot that was emptied skips the RAM cache, so
    more tokens are processed. See docs/prompt-cache.md.
    """
    lora: ReadAs[
        dict[int | str, float] | list[dict[str, Any]] | None, Mapping[Any, float] | Sequence[Mapping[str, Any]] | None
    ] = default_value(None)
    """Scales of LoRA adapters for this request, by name (the file's, without its ending) or number: `{"poet": 0.5}`;
    others are 0. Also in the server's form, `[{"id": 0, "scale": 0.5}]`.
    """

    def given(self) -> dict[str, Any]:
        """The parameters of this table that were given, by the server's names."""
        values = self.__dict__
        return {name: values[name] for name in SAMPLING_FIELDS if values[name] is not None}


# A wrong value is short: a longer text may be a key or a prompt.
_MOST_SHOWN: Final = 16

SAMPLING_FIELDS: Final = tuple(SamplingFields.model_fields)

ALIASES: Final[Mapping[str, str]] = {
    "max_completion_tokens": "max_tokens",
    "thinking_budget_tokens": "reasoning_budget_tokens",
    "n_cmpl": "n",
    "reasoning_budget_end_tag": "reasoning_budget_end_tags",
}
"""Other names that the server accepts for fields; the name in the table wins if both are given."""

_BY_TOOLS: Final = "set by the server for tools, and ignored in chats; for completions, pass it in `extra_body`"
_GONE: Final = "no effect: removed from llama-server in autumn 2026"
ELSEWHERE: Final[Mapping[str, str]] = {
    "messages": "`messages` of `ChatRequest`",
    "tools": "`tools` of `ChatRequest`",
    "tool_choice": "`tool_choice` of `ChatRequest`",
    "parallel_tool_calls": "`parallel_tool_calls` of `ChatRequest`",
    "prompt": "`prompt` of `CompletionRequest` and `InfillRequest`",
    "model": "`model` of the request",
    "input_prefix": "`prefix` of `InfillRequest`",
    "input_suffix": "`suffix` of `InfillRequest`",
    "input_extra": "`extra` of `InfillRequest`",
    "stream": "always set by the client",
    "stream_options": "always set by the client, to get the usage",
    "verbose": "in `extra_body`",
    "grammar_lazy": _BY_TOOLS,
    "grammar_triggers": _BY_TOOLS,
    "grammar_type": _BY_TOOLS,
    "preserved_tokens": _BY_TOOLS,
    "chat_format": _GONE,
    "chat_parser": _GONE,
    "generation_prompt": _GONE,
}
"""Request fields of the server that are not in the table, and where they are instead."""


def merged_params(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """A call's parameters over a model's; a constraint of the call replaces whatever constraint the model has.

    A None of the call takes the model's value back: the server decides.
    """
    if not given:
        return dict(defaults)
    constrained = any(given.get(name) is not None for name in CONSTRAINTS)
    kept = {name: value for name, value in defaults.items() if not (constrained and name in CONSTRAINTS)}
    return {**kept, **given}


def check_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of one call, validated by the table; None means "not given" and is dropped.

    Raises:
        BadRequestError: For an unknown name (with the nearest known one) or a value of the wrong type.
    """
    given = {name: value for name, value in params.items() if value is not None}
    if not given:
        return given
    for alias in ALIASES.keys() & given.keys():
        value = given.pop(alias)
        given.setdefault(ALIASES[alias], [value] if alias == "reasoning_budget_end_tag" else value)
    for name in given:
        if name in ELSEWHERE:
            raise BadRequestError(f"{name!r} is not a parameter", remedy=f"{name}: {ELSEWHERE[name]}")
        if name not in SAMPLING_FIELDS:
            hint = f"{did_you_mean(name, SAMPLING_FIELDS)} Fields of a newer server go into extra_body."
            raise BadRequestError(f"unknown parameter {name!r}", remedy=hint.lstrip())
    try:
        return SamplingFields.model_validate(given).given()
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadRequestError(f"parameter {where!r}: {first['msg']}, got {_short(first['input'])}") from None


def _short(given: object) -> str:
    """A plain value in short; of what may hold a secret, only its type."""
    if isinstance(given, str):
        return repr(given[:_MOST_SHOWN])
    return repr(given) if type(given) in (bool, int, float) else type(given).__name__
