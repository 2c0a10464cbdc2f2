"""The keyword arguments of one call -> requests for the server: call over field, field over server default."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llama_index.core.base.llms.types import ChatMessage

from llamacpp_server import ChatRequest, CompletionRequest, InfillRequest, ServerInfo
from llamacpp_server.info import media_of
from llamacpp_server.integration import (
    Thinking,
    list_of,
    object_of,
    supported_effort,
    thinking_params,
    with_schema,
)
from llamacpp_server.sampling import merged_params

from ._arguments import LLM_CALLS
from ._messages import to_wire
from ._tools import tool_dict

__all__ = ["Defaults"]


@dataclass(frozen=True, slots=True)
class Defaults:
    """What the model's fields say, for calls that say nothing.

    Attributes:
        params: The given ones of `SamplingFields`.
        extra_body: Fields sent as they are.
        replay_thinking: Send earlier thinking back.
        thinking: The switch for thinking.
        request_fields: Further fields of a `ChatRequest`.
        loop_limit: As in `CompletionRequest`.
        strict: Require every property of each tool's arguments.
        split_n: As in `ChatRequest`, for completions.
    """

    params: Mapping[str, Any]
    extra_body: Mapping[str, Any]
    replay_thinking: bool
    thinking: Thinking | None
    request_fields: Mapping[str, Any] = field(default_factory=dict)
    loop_limit: int | None = None
    strict: bool = False
    split_n: bool = True

    def chat(self, messages: Sequence[ChatMessage], kwargs: Mapping[str, Any], info: ServerInfo | None) -> ChatRequest:
        """A chat request, checked against what is known of the server.

        Raises:
            BadRequestError: For a message or a tool choice that can't be sent.
            NotSupportedError: For what the server is known to lack.
        """
        call = LLM_CALLS.call(kwargs)
        info = info or ServerInfo()
        strict = bool(call.pop("strict", self.strict))
        tools = [tool_dict(tool, strict=strict) for tool in list_of(call.pop("tools", None) or (), "tools")]
        choice, required = call.pop("tool_choice", None), call.pop("tool_required", False)
        choice = "required" if required and choice in (None, "auto") else choice
        parallel = call.pop("parallel_tool_calls", None)
        wire = to_wire(messages, replay_thinking=call.pop("replay_thinking", self.replay_thinking))
        wire = with_schema(wire, call.pop("schema_in_prompt", None))
        info.check_media(media_of(wire))
        thinking = call.pop("thinking", self.thinking)
        common = self._common(call)
        params, repairs = supported_effort(common["params"], info)
        common |= {"params": thinking_params(thinking, info, params), "repairs": repairs}
        common |= self.request_fields
        return ChatRequest(messages=wire, tools=tools, tool_choice=choice, parallel_tool_calls=parallel, **common)

    def completion(self, prompt: str, kwargs: Mapping[str, Any]) -> CompletionRequest | InfillRequest:
        """A text completion, or with a `suffix` the text for the gap between."""
        call = LLM_CALLS.call(kwargs)
        suffix, extra = call.pop("suffix", None), call.pop("input_extra", None) or ()
        if suffix is None:
            return CompletionRequest(prompt=prompt, **self._of_completion(call))
        return InfillRequest(prefix=prompt, suffix=suffix, extra=extra, **self._of_completion(call))

    def infill(
        self, prefix: str, suffix: str, prompt: str, extra: Sequence[tuple[str, str]], kwargs: Mapping[str, Any]
    ) -> InfillRequest:
        """A gap to fill."""
        common = self._of_completion(LLM_CALLS.call(kwargs))
        return InfillRequest(prefix=prefix, suffix=suffix, prompt=prompt, extra=extra, **common)

    def _of_completion(self, call: dict[str, Any]) -> dict[str, Any]:
        call.pop("strict", None)  # which is about tools
        limit = call.pop("loop_limit", self.loop_limit)
        return {**self._common(call), "loop_limit": limit}

    def _common(self, call: dict[str, Any]) -> dict[str, Any]:
        model, split_n = call.pop("model", None), call.pop("split_n", self.split_n)
        extra_body = {**self.extra_body, **object_of(call.pop("extra_body", None), "extra_body")}
        # A None of the call takes a field's value back: the server decides.
        params = {name: value for name, value in merged_params(self.params, call).items() if value is not None}
        return {"model": model, "extra_body": extra_body, "params": params, "split_n": split_n}
