"""The fields of a chat model, in both adapters."""

from __future__ import annotations

from typing import Any, Final

from pydantic import Field, PrivateAttr

from ..chat import FORCED_CALL_WITHIN, LOOP_LIMIT
from ..controls import RunningReplies, ThinkingControl
from ..errors import BadRequestError
from ..sampling import SamplingFields
from .fields import ConnectionFields, MediaFields
from .thinking import Thinking

__all__ = ["ChatFields"]

# What of a chat may be repaired, on its way out and back: fields of a `ChatRequest` by the same names.
_REPAIRS: Final = (
    *("history_repair", "clean_schemas", "check_calls", "forced_round", "forced_call_within"),
    *("break_special_tokens", "parse_text_calls", "loop_limit", "cache_salt"),
)


class ChatFields(SamplingFields, MediaFields, ConnectionFields):
    """A chat model's request fields, how it thinks, and what of a chat may be repaired.

    What is given with a call wins. Each repair is logged once and listed in the reply.
    """

    thinking: Thinking | None = None
    """One switch for every model: True, False, an effort such as `low`, or a budget in tokens."""
    max_thinking_seconds: float | None = Field(default=None, ge=0)
    """Ends the thinking after this time, from its first token on; the answer follows."""
    history_repair: bool | list[str] = True
    """Repairs of messages that would wedge the chat template: True, False, names of those to do, or names with a minus
    before them of those to leave out.
    """
    clean_schemas: bool = True
    """Whether schemas are rewritten where the server's grammar converter would refuse them."""
    check_calls: bool = True
    """Whether tool calls are held to what was asked: names, ids, one call, and a demanded call."""
    forced_round: bool = True
    """Whether a demanded call that did not come is asked for once more, held to a JSON schema."""
    forced_call_within: int | None = Field(default=FORCED_CALL_WITHIN, ge=1)
    """Tokens after which a demanded call has to have begun, without `max_tokens`; None: no limit."""
    break_special_tokens: bool = True
    """Whether the model's special tokens are broken up in what users, tools and earlier replies say, so that no text
    can forge a turn. Switch it off for a conversation that you wrote yourself, token by token.
    """
    parse_text_calls: bool = False
    """Whether a call of a bound tool that the server left in the text is taken as a call; reported either way."""
    loop_limit: int | None = Field(default=LOOP_LIMIT, ge=64)
    """Tokens of one unit over and over that stop structured output without `max_tokens`; None: no limit."""
    cache_salt: str | None = None
    """Put in brackets at the head of the system message, to keep the prompts of sessions apart in the server's cache.
    The model sees it, and it can make things worse: see docs/prompt-cache.md.
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
