"""Tokens of a context that a request needs: a bound from its bytes, or the server's own count once known.

Where slots share one context (`--kv-unified`, the default with automatic `-np`), the gate lets requests run at once
only while they fit into it together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple, TypeGuard

from pydantic_core import to_json

# Slots of a server that reports none.
UNLIMITED: Final = 1 << 30
# What a template writes around a message, and what an image or a sound may need: nobody can count them from outside.
_AROUND_MESSAGE: Final = 16
_MEDIA: Final = 1000
# Bytes of a token, where the server does not count: English has more than four, other text fewer.
_BYTES_EACH: Final = 3
# Part of each slot's share that is kept free for the answer, where the limit of its tokens does not ask for less. Whole
# limits would let far fewer run than fit, as most answers end long before.
_ANSWER_PART: Final = 2
# Messages, and characters of one that is no text, which tell conversations apart.
_MOST_AHEAD: Final = 8
_MOST_SHOWN: Final = 2000
_LIMITS: Final = ("n_predict", "max_completion_tokens", "max_tokens")


class PromptSize:
    """The size of one request's prompt, worked out when it is needed.

    Args:
        body: The request as it is sent; what has no prompt needs nothing.

    Attributes:
        counted: Tokens by the server's count; None before it was asked.
        asked: Whether somebody asks it.
    """

    __slots__ = ("_body", "_bound", "asked", "counted")

    def __init__(self, body: object) -> None:
        self._body = body if isinstance(body, dict | Mapping) else {}
        self._bound: int | None = None
        self.counted: int | None = None
        self.asked = False

    def text(self) -> str:
        """All texts that the server tokenizes, without those that its template adds."""
        return "".join(piece for piece in self._pieces() if isinstance(piece, str))

    def count(self, text_tokens: int | None) -> None:
        """Take the server's count of `text`; None estimates it from the bytes."""
        around = sum(piece for piece in self._pieces() if isinstance(piece, int))
        self.counted = around + (len(self.text().encode()) // _BYTES_EACH if text_tokens is None else text_tokens)

    def needed(self, context: int, slots: int) -> int:
        """Tokens of a context that the request may need; all of it at most, so that it can always run alone.

        Args:
            context: Tokens of the context that the slots share.
            slots: How many do.
        """
        tokens = self.counted
        if tokens is None:
            if self._bound is None:  # no token is shorter than a byte
                self._bound = sum(p if isinstance(p, int) else len(p.encode()) for p in self._pieces())
            tokens = self._bound
        return min(context, tokens + self._answer(context // (_ANSWER_PART * slots))) if tokens else 0

    def _answer(self, most: int) -> int:
        limits = [self._body[name] for name in _LIMITS if name in self._body]
        return min([most, *(limit for limit in limits if isinstance(limit, int) and limit >= 0)])

    def _pieces(self) -> Iterator[str | int]:
        """Texts, and numbers of tokens of what is no text."""
        messages = self._body.get("messages")
        for message in messages if isinstance(messages, list) else ():
            yield _AROUND_MESSAGE
            if isinstance(message, Mapping):
                yield from _content(message.get("content"))
                yield from (_json(message[name]) for name in ("reasoning_content", "tool_calls") if message.get(name))
        if tools := self._body.get("tools"):
            yield _json(tools)
        prompts = self._body.get("prompt")
        for prompt in prompts if isinstance(prompts, list) else [prompts]:
            if isinstance(prompt, str):
                yield prompt
            elif isinstance(prompt, int):
                yield 1
            elif prompt is not None:
                yield from [len(prompt)] if isinstance(prompt, list) else _content([prompt])


class Occupancy(NamedTuple):
    """How full the context is that a server's slots share, by its `/slots`.

    Attributes:
        running: Slots that work on a request.
        tokens: Of the context, in those slots; None while a prompt is read, whose size nobody knows from outside.
        context: Tokens of the context.
        slots: How many there are.
        held: As in `tokens_held`.
    """

    running: int
    tokens: int | None
    context: int
    slots: int
    held: int

    @classmethod
    def of(cls, wire: Any) -> Occupancy:
        """The occupancy that a server reports."""
        busy = [slot for slot in wire if slot.get("is_processing")]
        decoded = [sum(token["n_decoded"] for token in slot.get("next_token") or ()) for slot in busy]
        tokens = sum(slot["n_prompt_tokens"] for slot in busy) if all(decoded) else None
        return cls(len(busy), tokens, max((slot["n_ctx"] for slot in wire), default=0), len(wire), tokens_held(wire))

    def has_room(self, prompt: PromptSize) -> bool:
        """Whether a prompt and its answer fit beside what runs."""
        needed = prompt.needed(self.context, max(1, self.slots))
        within_share = needed * self.slots <= self.context
        return within_share or (self.tokens is not None and self.tokens + needed <= self.context)


def is_count(wire: object) -> TypeGuard[int]:
    """Whether a server reports a number of slots or tokens that can be one."""
    return type(wire) is int and 0 < wire < UNLIMITED


def token_count(wire: Any) -> int:
    """Tokens of a text, by the server's answer."""
    return len(wire["tokens"])


def tokens_held(wire: Any) -> int:
    """Tokens that slots hold together, with none of a prompt that is being read: it may turn out not to fit."""
    idle = [slot for slot in wire if not slot.get("is_processing", True)]
    return sum(slot.get("n_prompt_tokens") or 0 for slot in idle) - len(wire)


def conversation(body: object) -> int | None:
    """A number that requests of one conversation share: of its beginning, up to the first message of its user."""
    messages = body.get("messages") if isinstance(body, dict | Mapping) else None
    if not isinstance(messages, list) or not messages:
        return None
    begun = list[object]()
    for message in messages[:_MOST_AHEAD]:
        if not isinstance(message, dict | Mapping):
            return None
        content = message.get("content")
        begun.append(content if isinstance(content, str) else repr(content)[:_MOST_SHOWN])
        if message.get("role") == "user":
            break
    return hash(tuple(begun))


def _content(content: object) -> Iterator[str | int]:
    if isinstance(content, str):
        yield content
    for part in content if isinstance(content, list) else ():
        text = part.get("text", part.get("prompt_string")) if isinstance(part, Mapping) else None
        yield text if isinstance(text, str) else _MEDIA


def _json(wire: Any) -> str:
    return wire if isinstance(wire, str) else to_json(wire).decode("utf-8", "replace")
