"""Fast path for events that differ only in one text, as most of a stream do: only that text is parsed.

A JSON string can replace another without affecting anything around it. An event that starts and ends with the bytes of
a parsed event, with a JSON string in between, is therefore that event with another text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from pydantic_core import from_json

from ..replies import ChatDelta, ToolCallFragment

Reader = Callable[[bytes], ChatDelta | None]

_TEXT: Final = re.compile(rb'"(?:content|reasoning_content|reasoning|arguments)"\s*:\s*("(?:[^"\\]|\\.)+")')
_PROBE: Final = b'"?"'
_NOTHING_ELSE: Final = ChatDelta()[5:]
# Not the constructors: their defaults, filled in by Python code, cost more than the rest.
_tuple: Final = tuple.__new__


def reader_like(payload: bytes, delta: ChatDelta) -> Reader | None:
    """Return a fast parser for events like this one, which returns None for others; None if there is none.

    Args:
        payload: A whole event.
        delta: What was made of it: no model when it is more than one piece of text.
    """
    make = _maker(delta)
    if make is None:
        return None
    found = _TEXT.search(payload)
    if found is None:
        return None
    before, behind = payload[: found.start(1)], payload[found.end(1) :]
    # That the text stands there, and nowhere else, is tried and not assumed.
    if from_json(before + _PROBE + behind) != _probed(from_json(payload)):
        return None
    start, end = len(before), -len(behind)

    def read(payload: bytes) -> ChatDelta | None:
        if not (payload.startswith(before) and payload.endswith(behind)):
            return None
        try:
            text = from_json(payload[start:end])
        except ValueError:
            return None
        return make(text) if type(text) is str and text else None

    return read


def _probed(chunk: dict[str, Any]) -> dict[str, Any] | None:
    """Return the event with the probe instead of its text."""
    if len(chunk["choices"]) != 1:
        return None
    holder = chunk["choices"][0]["delta"]
    if holder.get("tool_calls"):
        holder, key = holder["tool_calls"][0]["function"], "arguments"
    else:
        key = next(key for key in ("content", "reasoning_content", "reasoning") if holder.get(key))
    holder[key] = from_json(_PROBE)
    return chunk


def _maker(delta: ChatDelta) -> Callable[[str], ChatDelta] | None:
    """Return a maker of the same delta with another text; None for a delta with more than one piece of text."""
    content, thinking, fragments, finish, choice, *others = delta
    if finish or tuple(others) != _NOTHING_ELSE or bool(content) + bool(thinking) + len(fragments) != 1:
        return None
    if content:
        return lambda text: _tuple(ChatDelta, (text, "", (), None, choice, *_NOTHING_ELSE))
    if thinking:
        return lambda text: _tuple(ChatDelta, ("", text, (), None, choice, *_NOTHING_ELSE))
    index, call_id, name, arguments = fragments[0]
    if call_id or name or not arguments:
        return None

    def piece_of_call(text: str) -> ChatDelta:
        fragment: ToolCallFragment = _tuple(ToolCallFragment, (index, "", "", text))
        return _tuple(ChatDelta, ("", "", (fragment,), None, choice, *_NOTHING_ELSE))

    return piece_of_call
