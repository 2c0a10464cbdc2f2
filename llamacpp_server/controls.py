"""Control of a running reply: ending its reasoning early."""

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

    The stream of the reply calls the server's control endpoint when it reads the next token (b11434). Builds without
    that endpoint continue reasoning, which is logged once.

    Attributes:
        ended: Whether `end` was called.
        over: Whether the reasoning has ended, for any reason.
    """

    __slots__ = ("__weakref__", "ended", "over")

    def __init__(self) -> None:
        self.ended = False
        self.over = False

    def end(self) -> None:
        """End the reasoning; if it has not begun yet, it ends when it does."""
        self.ended = True


class RunningReplies(WeakSet[ThinkingControl]):
    """The controls of a model's running replies. Copies and pickles of the model have none."""

    def __reduce__(self) -> tuple[type[RunningReplies], tuple[()]]:
        return type(self), ()
