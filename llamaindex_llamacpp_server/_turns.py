"""Convert the keyword arguments of one call to requests; they override fields, which override server defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, MessageRole

from llamacpp_server import ChatRequest, CompletionRequest, InfillRequest, ServerInfo
from llamacpp_server.integration import (
    ModelDefaults,
    list_of,
)

from ._arguments import LLM_CALLS
from ._messages import to_wire
from ._tools import tool_dict

__all__ = ["ChatDefaults", "count_arguments", "user_message", "with_system_message"]


@dataclass(frozen=True, slots=True)
class ChatDefaults(ModelDefaults):
    """Defaults of calls, from the model's fields.

    Attributes:
        replay_thinking: Send earlier thinking back.
        loop_limit: As in `CompletionRequest`.
        strict: Require every property of each tool's arguments.
        split_n: As in `ChatRequest`, for completions.
    """

    replay_thinking: bool = True
    loop_limit: int | None = None
    strict: bool = False
    split_n: bool = True

    def chat_request(
        self, messages: Sequence[ChatMessage], kwargs: Mapping[str, Any], info: ServerInfo | None
    ) -> ChatRequest:
        """Create a chat request, checked against the known capabilities of the server.

        Raises:
            BadRequestError: For a message or a tool choice that can't be sent.
            NotSupportedError: For capabilities that the server is known to lack.
        """
        call = LLM_CALLS.call(kwargs)
        strict = bool(call.pop("strict", self.strict))
        tools = call.pop("tools", None)
        call["tools"] = [tool_dict(tool, strict=strict) for tool in list_of(tools, "tools")] if tools else []
        if call.pop("tool_required", False) and call.get("tool_choice") in (None, "auto"):
            call["tool_choice"] = "required"
        wire = to_wire(messages, replay_thinking=call.pop("replay_thinking", self.replay_thinking))
        return self.chat(wire, call, info)

    def completion(self, prompt: str, kwargs: Mapping[str, Any]) -> CompletionRequest | InfillRequest:
        """A text completion, or with a `suffix` fill-in-the-middle."""
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
        split_n = call.pop("split_n", self.split_n)
        return {**self.common(call), "loop_limit": limit, "split_n": split_n}


def count_arguments(tools: Sequence[Any], max_tokens: int | None, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call to count."""
    return {**kwargs, "tools": tools, **({} if max_tokens is None else {"max_tokens": max_tokens})}


def with_system_message(system: str | None, messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """A conversation with its system message, where one is given."""
    first = [] if system is None else [ChatMessage(role=MessageRole.SYSTEM, content=system)]
    return [*first, *messages]


def user_message(prompt: str) -> list[ChatMessage]:
    """A prompt as the only message of a conversation."""
    return [ChatMessage(role=MessageRole.USER, content=prompt)]
