"""The arguments of one call of a chat model -> its request: call over field, field over the server's default. Pure.

Also the one switch for thinking, whatever the model's template calls it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ..chat import ChatRequest, Repair
from ..errors import BadRequestError, NotSupportedError
from ..info import ServerInfo, media_of
from ..sampling import merged_params
from ..wire import MessageDict
from .values import object_of

__all__ = ["ModelDefaults", "Thinking", "supported_effort", "thinking_params"]

# The budget that ends a thought before its first token. 0 is taken for "no limit" where no message comes with it
# (2026.10.11549 wheel), and the end of the template's own line counts as one token.
_AT_ONCE: Final = 1

Thinking = bool | int | str
"""True, False, an effort (`low`, `medium`, `high`, or what the template knows), or a budget in tokens."""


@dataclass(frozen=True, slots=True)
class ModelDefaults:
    """What a model's fields say, for calls that say nothing.

    Attributes:
        params: Request parameters of `SamplingFields`, by name.
        model: Name of the model; None leaves it to the server.
        extra_body: Fields sent as they are.
        thinking: The switch for thinking.
        request_fields: Further fields of a `ChatRequest`.
    """

    params: Mapping[str, Any]
    model: str | None = None
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    thinking: Thinking | None = None
    request_fields: Mapping[str, Any] = field(default_factory=dict)

    def common(self, call: dict[str, Any]) -> dict[str, Any]:
        """`model`, `extra_body` and `params` of a request: all that is left of the arguments of a call.

        A None of the call takes a field's value back: the server decides.
        """
        model = call.pop("model", None) or self.model
        extra_body = {**self.extra_body, **object_of(call.pop("extra_body", None), "extra_body")}
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
        """A chat request, checked against what is known of the server.

        Args:
            messages: The conversation as the server takes it.
            call: The call's arguments, with `tools` as the server takes them. What is no parameter is removed.
            info: The server; None trusts the request to it.
            adjusted: What a framework makes of the parameters.
            **fields: Further fields of the request.

        Raises:
            BadRequestError: For arguments that can't be meant.
            NotSupportedError: For what the server is known to lack.
        """
        info = info or ServerInfo()
        asked = {name: call.pop(name, None) for name in ("tool_choice", "parallel_tool_calls")}
        tools, shown = call.pop("tools", ()), call.pop("schema_in_prompt", None)
        thinking = call.pop("thinking", self.thinking)
        common = self.common(call)
        params = common.pop("params") if adjusted is None else adjusted(common.pop("params"))
        info.check_media(media_of(messages))
        if shown:
            from .structured import schema_of, with_schema  # few calls show one

            schema = shown if isinstance(shown, Mapping) else schema_of(params.get("response_format") or {})
            messages = with_schema(messages, schema)
        params, repairs = supported_effort(params, info)
        params = thinking_params(thinking, info, params)
        common |= {**asked, "repairs": repairs, **self.request_fields, **fields}
        return ChatRequest(messages=messages, tools=tools, params=params, **common)


def supported_effort(params: Mapping[str, Any], info: ServerInfo) -> tuple[dict[str, Any], tuple[Repair, ...]]:
    """Parameters without a `reasoning_effort` that the template would ignore, and the repair that lists it.

    A `ChatRequest` takes the repair. "none" is the server's own word, and an unknown template may have levels.
    """
    if params.get("reasoning_effort") in (None, "none") or info.efforts != ():
        return dict(params), ()
    kept = {name: value for name, value in params.items() if name != "reasoning_effort"}
    what = f"dropped: the chat template of {info.model} has no levels of reasoning; see `thinking`"
    return kept, (Repair("effort", "reasoning_effort", what),)


def thinking_params(thinking: Thinking | None, info: ServerInfo, params: Mapping[str, Any]) -> dict[str, Any]:
    """`params` with thinking switched as asked, by the means that this model's template has.

    A template has a variable `enable_thinking` (Qwen3 and many others), a variable `reasoning_effort` (gpt-oss), opens
    a thought by itself (DeepSeek R1), or does not support reasoning. The server keeps the budget for every template
    with tags around reasoning (`reasoning_budget_tokens`, b11434). It looks for the tags' tokens: if the vocabulary
    has a token that holds more than the tag, such as its line's end too, the budget is without effect.

    Args:
        thinking: None leaves it to the server. True and False are not the numbers 1 and 0.
        info: The model's server; with an unknown template the request is trusted to it.
        params: Request parameters so far; what they say of thinking themselves wins.

    Raises:
        NotSupportedError: When the template can't do it; asking in vain would only be noticed by its effect.
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
