"""The fields of a chat model, and the request made of them and the arguments of a call, in both adapters.

A call's argument overrides the field, and the field the server's default. One argument controls reasoning, whatever the
model's template calls it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import Field, PrivateAttr

from .._read_as import ReadAs, default_value
from ..controls import RunningReplies, ThinkingControl
from ..errors import BadRequestError, NotSupportedError
from ..info import ServerInfo, media_of
from ..replies import Repair
from ..requests import FORCED_CALL_WITHIN, LOOP_LIMIT, ChatRequest
from ..sampling import SamplingFields, merged_params
from ..wire import MessageDict
from .arguments import object_of
from .fields import ConnectionFields, MediaFields

__all__ = ["ChatFields", "ModelDefaults", "Thinking", "supported_effort", "thinking_params"]

Thinking = bool | int | str
"""True, False, an effort (`low`, `medium`, `high`, or another level of the template), or a budget in tokens."""

# What of a chat may be repaired, on its way out and back: fields of a `ChatRequest` by the same names.
_REPAIRS: Final = (
    *("history_repair", "clean_schemas", "check_calls", "forced_round", "forced_call_within"),
    *("break_special_tokens", "parse_text_calls", "loop_limit", "cache_salt", "split_n"),
)


class ChatFields(SamplingFields, MediaFields, ConnectionFields):
    """The fields of a chat model: request fields, reasoning and repairs.

    Values of a call override them. Each repair is logged once and listed in the reply.
    """

    thinking: Thinking | None = None
    """Turns reasoning on (True) or off (False), or sets its effort (such as `low`) or its limit in tokens."""
    max_thinking_seconds: float | None = Field(default=None, ge=0)
    """Ends the reasoning this many seconds after its first token; the answer follows."""
    history_repair: ReadAs[bool | list[str], bool | Collection[str] | None] = default_value(True)
    """Repairs of messages that the chat template would reject: True, False, a list of names to enable, or of names with
    a leading minus to disable.
    """
    clean_schemas: bool = True
    """Whether to rewrite schemas that the server's grammar converter would refuse."""
    check_calls: bool = True
    """Whether to check tool calls: names, IDs, a single call, and a required call."""
    forced_round: bool = True
    """Whether a missing required tool call is requested once more, constrained by a JSON schema."""
    forced_call_within: int | None = Field(default=FORCED_CALL_WITHIN, ge=1)
    """Maximum tokens before a required tool call begins, if `max_tokens` is not set; None sets no limit."""
    break_special_tokens: bool = True
    """Whether to break up special tokens in messages of users and tools and in earlier replies, so that no text can
    forge a turn. Disable it if you write special tokens yourself.
    """
    parse_text_calls: bool = False
    """Whether to parse calls of a bound tool that the server left in the text; they are reported either way."""
    loop_limit: int | None = Field(default=LOOP_LIMIT, ge=64)
    """Stops structured output without `max_tokens` that repeats itself for this many tokens; None sets no limit."""
    split_n: bool = True
    """Whether to split an `n` above the number of slots, which the server rejects, into several requests."""
    cache_salt: str | None = None
    """Text added to the start of the system message in brackets, so that sessions share no prefix in the server's
    cache. The model sees it, and it can make caching worse: see docs/prompt-cache.md.
    """

    _controls = PrivateAttr(default_factory=RunningReplies)

    def end_thinking(self) -> int:
        """End the reasoning of every running reply of this model; their answers follow.

        May be called from any thread, while a stream is read or `invoke` waits. It takes effect with the next token.
        Requires `reasoning_control=True` on the model or the call.

        Returns:
            Number of these replies; 0 if none is running.

        Raises:
            BadRequestError: If `reasoning_control` is off, so that no such reply can be running.
        """
        running = [control for control in list(self._controls) if not control.over]
        if not running and not self.reasoning_control:
            raise BadRequestError("no running reply has reasoning to end", remedy="give reasoning_control=True")
        for control in running:
            control.end()
        return len(running)

    def request_fields(self, call: dict[str, Any]) -> dict[str, Any]:
        """Return fields of a `ChatRequest` for the keyword arguments of a call, which are removed from it.

        Raises:
            BadRequestError: For an invalid time.
        """
        repairs = {name: call.pop(name, getattr(self, name)) for name in _REPAIRS}
        return {**repairs, **self._thinking_limits(call), "media": self.media_policy(call)}

    def _thinking_limits(self, call: dict[str, Any]) -> dict[str, Any]:
        seconds = call.pop("max_thinking_seconds", self.max_thinking_seconds)
        if seconds is not None and not (type(seconds) in (int, float) and seconds >= 0):
            raise BadRequestError(f"max_thinking_seconds must be a number that is not negative, got {seconds!r:.50}")
        limits: dict[str, Any] = {"max_thinking_seconds": seconds}
        if call.get("reasoning_control", self.reasoning_control):
            limits["thinking_control"] = control = ThinkingControl()
            self._controls.add(control)
        return limits


# The budget that ends a thought before its first token. 0 is taken for "no limit" where no message comes with it
# (2026.10.11549 wheel), and the end of the template's own line counts as one token.
_AT_ONCE: Final = 1


@dataclass(frozen=True, slots=True)
class ModelDefaults:
    """The defaults of calls, from a model's fields.

    Attributes:
        params: Request parameters of `SamplingFields`, by name.
        model: Name of the model; None leaves it to the server.
        extra_body: Fields that are sent unchanged.
        thinking: The control of reasoning.
        request_fields: Further fields of a `ChatRequest`.
    """

    params: Mapping[str, Any]
    model: str | None = None
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    thinking: Thinking | None = None
    request_fields: Mapping[str, Any] = field(default_factory=dict)

    def common(self, call: dict[str, Any]) -> dict[str, Any]:
        """Return `model`, `extra_body` and `params` of a request, from the remaining arguments of a call.

        None in a call uses the server default instead of the field.
        """
        model = call.pop("model", None) or self.model
        extra_body = dict(self.extra_body)
        if (given := call.pop("extra_body", None)) is not None:
            extra_body |= object_of(given, "extra_body")
        params = {name: value for name, value in merged_params(self.params, call).items() if value is not None}
        return {"model": model, "extra_body": extra_body, "params": params}

    def chat(
        self,
        messages: Sequence[MessageDict],
        call: dict[str, Any],
        info: ServerInfo | None,
        adjusted: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
        **fields: Any,
    ) -> ChatRequest:
        """Create a chat request, checked against the known capabilities of the server.

        Args:
            messages: The conversation in the server's format.
            call: The call's arguments, with `tools` in the server's format. Arguments that are not parameters are
                removed.
            info: Capabilities of the server; None skips the checks.
            adjusted: A framework's adjustment of the parameters.
            **fields: Further fields of the request.

        Raises:
            BadRequestError: For invalid arguments.
            NotSupportedError: For capabilities that the server is known to lack.
        """
        asked = {"tool_choice": call.pop("tool_choice", None)}
        asked["parallel_tool_calls"] = call.pop("parallel_tool_calls", None)
        tools, shown = call.pop("tools", ()), call.pop("schema_in_prompt", None)
        thinking = call.pop("thinking", self.thinking)
        common = self.common(call)
        params = common.pop("params") if adjusted is None else adjusted(common.pop("params"))
        if info is not None:
            info.check_media(media_of(messages))
        if shown:
            from .structured import schema_of, with_schema  # few calls show one

            schema = shown if isinstance(shown, Mapping) else schema_of(params.get("response_format") or {})
            messages = with_schema(messages, schema)
        repairs: tuple[Repair, ...] = ()
        if params.get("reasoning_effort") is not None and info is not None:
            params, repairs = supported_effort(params, info)
        if thinking is not None:
            params = thinking_params(thinking, info or ServerInfo(), params)
        common |= {**asked, "repairs": repairs, **self.request_fields, **fields}
        return ChatRequest(messages=messages, tools=tools, params=params, **common)


def supported_effort(params: Mapping[str, Any], info: ServerInfo) -> tuple[dict[str, Any], tuple[Repair, ...]]:
    """Return parameters without a `reasoning_effort` that the template would ignore, and the repair.

    A `ChatRequest` takes the repair. "none" is the server's own word, and an unknown template may have levels.
    """
    if params.get("reasoning_effort") in (None, "none") or info.efforts != ():
        return dict(params), ()
    kept = {name: value for name, value in params.items() if name != "reasoning_effort"}
    what = f"dropped: the chat template of {info.model} has no reasoning levels; see `thinking`"
    return kept, (Repair("effort", "reasoning_effort", what),)


def thinking_params(thinking: Thinking | None, info: ServerInfo, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return `params` with reasoning set as requested, in the way that this model's template supports.

    A template has a variable `enable_thinking` (Qwen3 and many others), a variable `reasoning_effort` (gpt-oss), opens
    a thought by itself (DeepSeek R1), or does not support reasoning. The server keeps the budget for every template
    with tags around reasoning (`reasoning_budget_tokens`, b11434). It looks for the tags' tokens: if the vocabulary
    has a token that holds more than the tag, such as its line's end too, the budget is without effect.

    Args:
        thinking: None uses the server default. True and False are not the numbers 1 and 0.
        info: The model's server; with an unknown template, the request is sent as it is.
        params: Request parameters so far; their own reasoning options take precedence.

    Raises:
        NotSupportedError: If the template does not support it; otherwise the setting would be silently ignored.
        BadRequestError: For a negative budget.
    """
    if thinking is None:
        return dict(params)
    if isinstance(thinking, bool):
        switched = _switch(thinking, info)
    elif isinstance(thinking, int):
        if thinking < 0:
            raise BadRequestError(f"a reasoning budget must not be negative, got {thinking}")
        switched = {**_switch(True, info), "reasoning_budget_tokens": thinking} if thinking else _switch(False, info)
    elif thinking == "none":
        switched = _switch(False, info)
    else:
        switched = _effort(thinking, info)
    merged = {**switched, **params}
    if "chat_template_kwargs" in switched and params.get("chat_template_kwargs"):
        merged["chat_template_kwargs"] = {**switched["chat_template_kwargs"], **params["chat_template_kwargs"]}
    return merged


def _switch(on: bool, info: ServerInfo) -> dict[str, Any]:
    match info.thinking:
        case "enable_thinking" | None:
            return {"chat_template_kwargs": {"enable_thinking": on}}
        case "reasoning_effort":
            return {} if on else {"reasoning_effort": "none"}
        case "always":
            return {} if on else {"reasoning_budget_tokens": _AT_ONCE}
        case "none" if on:
            raise NotSupportedError(f"the chat template of {info.model} does not support reasoning")
    return {}


def _effort(effort: str, info: ServerInfo) -> dict[str, Any]:
    if info.thinking in ("reasoning_effort", None):
        return {"reasoning_effort": effort}
    if info.efforts:
        return {**_switch(True, info), "reasoning_effort": effort}
    raise NotSupportedError(
        f"the chat template of {info.model} does not support reasoning efforts such as {effort!r}",
        remedy="use thinking=True, False or a number of tokens",
    )
