"""The keyword arguments of one call -> requests for the server: call over field, field over server default."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llama_index.core.base.llms.types import ChatMessage

from llamacpp_server import ChatRequest, CompletionRequest, InfillRequest

from ._messages import to_wire
from ._tools import resolve_choice, tool_dict

__all__ = ["Defaults", "Turn"]


@dataclass(frozen=True, slots=True)
class Turn:
    """A chat request and what its answer has to keep to.

    Attributes:
        request: What is sent.
        one_call: The answer may hold one tool call only; the server itself does not see to it.
        forced: The `tool_choice` that demands a call; None when none is demanded.
    """

    request: ChatRequest
    one_call: bool = False
    forced: str | None = None


@dataclass(frozen=True, slots=True)
class Defaults:
    """What the model's fields say, for calls that say nothing.

    Attributes:
        params: The given ones of `SamplingFields`.
        extra_body: Fields sent as they are.
        replay_thinking: Send earlier thinking back.
    """

    params: Mapping[str, Any]
    extra_body: Mapping[str, Any]
    replay_thinking: bool

    def turn(self, messages: Sequence[ChatMessage], kwargs: Mapping[str, Any]) -> Turn:
        """A chat request.

        Raises:
            BadRequestError: For a message or a tool choice that can't be sent.
        """
        call = dict(kwargs)
        tools = [tool_dict(tool) for tool in call.pop("tools", None) or ()]
        choice = resolve_choice(call.pop("tool_choice", None), bool(call.pop("tool_required", False)))
        parallel = call.pop("parallel_tool_calls", None)
        request = ChatRequest(
            messages=to_wire(messages, replay_thinking=call.pop("replay_thinking", self.replay_thinking)),
            tools=tools,
            tool_choice=choice,
            parallel_tool_calls=parallel,
            **self._common(call),
        )
        forced = choice if choice not in (None, "auto", "none") else None
        return Turn(request, one_call=parallel is False, forced=forced)

    def completion(self, prompt: str, kwargs: Mapping[str, Any]) -> CompletionRequest:
        """A text completion."""
        return CompletionRequest(prompt=prompt, **self._common(dict(kwargs)))

    def infill(
        self, prefix: str, suffix: str, prompt: str, extra: Sequence[tuple[str, str]], kwargs: Mapping[str, Any]
    ) -> InfillRequest:
        """A gap to fill."""
        return InfillRequest(prefix=prefix, suffix=suffix, prompt=prompt, extra=extra, **self._common(dict(kwargs)))

    def _common(self, call: dict[str, Any]) -> dict[str, Any]:
        model = call.pop("model", None)
        extra_body = {**self.extra_body, **(call.pop("extra_body", None) or {})}
        # A None of the call takes a field's value back: the server decides.
        return {"model": model, "extra_body": extra_body, "params": {**self.params, **call}}
