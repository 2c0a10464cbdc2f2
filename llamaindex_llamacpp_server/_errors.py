"""Errors for unusable replies. LlamaIndex has no error classes of its own, so the others are the client's."""

from __future__ import annotations

from typing import Any

from llamacpp_server import ChatReply, UnfitAnswerError

__all__ = ["UnusableReplyError"]


class UnusableReplyError(UnfitAnswerError):
    """The server answered, and the answer is not what was asked for.

    No tool call where one was required, or JSON that was cut off or does not fit the model class.

    Attributes:
        partial: The reply.
        reason: As in `UnfitAnswerError`.
    """

    def __init__(self, message: str = "", *, reply: ChatReply | None = None, **details: Any) -> None:
        super().__init__(message, **details)
        self.partial = reply


def why_it_ended(finish_reason: str | None) -> str:
    """Describe the end of a reply, for messages."""
    if finish_reason == "length":
        return "it was cut off by max_tokens or the end of the context"
    return f"it ended with finish_reason={finish_reason!r}"
