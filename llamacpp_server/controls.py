"""Controls of a running reply: ending its reasoning early."""

from __future__ import annotations

from weakref import WeakSet

__all__ = ["RunningReplies", "ThinkingControl"]


class ThinkingControl:
    """Control that ends the reasoning of one reply: call `end()` from any thread, and the answer follows.

    Examples:
        >>> control = ThinkingControl()
        >>> request = ChatRequest(messages=[...], thinking_control=control)  # doctest: +SKIP
        >>> for delta in client.stream_chat(request):  # doctest: +SKIP
        ...     if enough(delta):
        ...         control.end()

    The reply's own stream carries it out with the next token that it reads, by the server's control endpoint (b11434).
    A build without it goes on thinking, which is said once in the log.

    Attributes:
        ended: Whether `end` was called.
        over: Whether the thinking is over, for whatever reason.
    """

    __slots__ = ("__weakref__", "ended", "over")

    def __init__(self) -> None:
        self.ended = False
        self.over = False

    def end(self) -> None:
        """End the reasoning; if it has not begun yet, it ends when it does."""
        self.ended = True


class RunningReplies(WeakSet[ThinkingControl]):
    """The controls of the replies that a model is giving. A copy of the model, or a pickle, has none of them."""

    def __reduce__(self) -> tuple[type[RunningReplies], tuple[()]]:
        return type(self), ()
