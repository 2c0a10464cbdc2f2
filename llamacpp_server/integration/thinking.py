"""One switch for thinking, whatever the model's template calls it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..chat import Repair
from ..errors import BadRequestError, NotSupportedError
from ..info import ServerInfo

__all__ = ["Thinking", "supported_effort", "thinking_params"]

# The budget that ends a thought before its first token. 0 is taken for "no limit" where no message comes with it
# (2026.10.11549 wheel), and the end of the template's own line counts as one token.
_AT_ONCE: Final = 1

Thinking = bool | int | str
"""True, False, an effort (`low`, `medium`, `high`, or what the template knows), or a budget in tokens."""


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
