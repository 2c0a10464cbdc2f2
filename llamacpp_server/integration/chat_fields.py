"""The fields of a chat model, in both adapters."""

from __future__ import annotations

from typing import Any, Final

from pydantic import Field, PrivateAttr

from ..chat import FORCED_CALL_WITHIN, LOOP_LIMIT
from ..controls import RunningReplies, ThinkingControl
from ..errors import BadRequestError
from ..sampling import SamplingFields
from .chat_calls import Thinking
from .fields import ConnectionFields, MediaFields

__all__ = ["ChatFields"]

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
    history_repair: bool | list[str] = True
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
    """Whether an `n` above the server's slots is split into several requests; the server refuses it otherwise."""
    cache_salt: str | None = None
    """Text added to the start of the system message in brackets, so that sessions share no prefix in the server's
    cache. The model sees it, and it can make caching worse: see docs/prompt-cache.md.
    """

    _controls: RunningReplies = PrivateAttr(default_factory=RunningReplies)

    def end_thinking(self) -> int:
        """End the reasoning of every running reply of this model; their answers follow.

        May be called from any thread, while a stream is read or `invoke` waits. It takes effect with the next token
        that arrives. Replies can be ended when `reasoning_control=True` was given to the model or to the call.

        Returns:
            How many replies it was: 0 when none is running.

        Raises:
            BadRequestError: When none can be running, because `reasoning_control` is off.
        """
        running = [control for control in list(self._controls) if not control.over]
        if not running and not self.reasoning_control:
            raise BadRequestError("no running reply has reasoning to end", remedy="give reasoning_control=True")
        for control in running:
            control.end()
        return len(running)

    def request_fields(self, call: dict[str, Any]) -> dict[str, Any]:
        """Fields of a `ChatRequest`, for the keyword arguments of a call, which are removed from it.

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
