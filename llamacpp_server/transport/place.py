"""One request's part in a gate, which `gate` describes."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .gate import Gate
    from .prompt_size import PromptSize

# A stream whose reader pauses for this many seconds does not hold up others.
PATIENCE: Final = 1.0


class Place:
    """One request's part in a gate. Its attributes are plain values, so each store is whole.

    Attributes:
        gate: Where it is; None before it entered one.
        model: Name of the model that is asked; a router has a gate for each.
        slot: The slot that it names; None leaves it to the server.
        limit: Most requests that may run at once for this one to start; None takes the server's slots.
        counted: Whether it takes one of the places.
        thread: Identifier of the thread that carries it on, or that its event loop runs on.
        loop: Reference to its event loop; None for a blocking request.
        paused: Time on the monotonic clock since when its reader does something else than read; None while it reads.
        wake: Called (from any thread) when it is granted; takes no lock. Set by whoever waits.
        left: Whether its owner has given it up.
        alone: Whether nothing may start beside it: it did not fit into a context that slots share.
        background: Whether it goes behind all that is not in the background.
        session: Tells apart the conversations whose prompts begin alike; None for what is no conversation.
        prompt: Size of its prompt, which counts where the slots share one context; None counts nothing.
        shown: Whether its answer is read as it comes, so that it can't be begun anew.
        entered: Grants of the gate until it entered.
        began: Time on the monotonic clock when it was granted.
        returns: Whether its conversation had run before, when it was granted.
    """

    __slots__ = (
        *("alone", "background", "began", "counted", "entered", "gate", "left", "limit", "loop", "model", "paused"),
        *("prompt", "returns", "session", "shown", "slot", "thread", "wake"),
    )

    def __init__(
        self,
        model: str = "",
        slot: int | None = None,
        limit: int | None = None,
        counted: bool = True,
        *,
        background: bool = False,
        session: int | None = None,
        prompt: PromptSize | None = None,
        shown: bool = False,
    ) -> None:
        self.gate: Gate | None = None
        self.model = model
        self.slot = slot
        self.limit = limit
        self.counted = counted
        self.thread = threading.get_ident()
        self.loop: weakref.ref[Any] | None = None
        self.paused: float | None = None
        self.wake: Callable[[], None] | None = None
        self.left = False
        self.alone = False
        self.background = background
        self.session = session
        self.prompt = prompt
        self.shown = shown
        self.entered = 0
        self.began = 0.0
        self.returns = False

    def is_gone(self) -> bool:
        """Whether nobody is there any more to give it back."""
        if self.left or self.loop is None:
            return self.left
        loop = self.loop()
        return loop is None or (hasattr(loop, "is_closed") and loop.is_closed())

    def is_idle(self, now: float) -> bool:
        """Whether it can't go on just now, whatever others do."""
        if self.paused is not None and now - self.paused >= PATIENCE:
            return True
        loop = None if self.loop is None else self.loop()
        return loop is not None and hasattr(loop, "is_running") and not loop.is_running()

    def is_blocked_by(self, waiting: Place) -> bool:
        """Whether it can't go on because `waiting` blocks its thread."""
        return waiting.loop is None and self.thread == waiting.thread
