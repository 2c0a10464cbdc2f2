"""The first change between the prompts of two requests of one session."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ..requests import ChatRequest

Render = Callable[[ChatRequest], str | None]

_CLOCK: Final = re.compile(
    r"\d+|\b(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|mon|tues?|wed(?:nes)?|thurs?|fri|satur|sat|sun)[a-z]*\b"
    r"|\b[ap]m\b",
    re.IGNORECASE,
)
_SHOWN: Final = 24
# Characters at the end of a prompt that open the answer: a template may write them otherwise later.
_OPENING: Final = 80


@dataclass(frozen=True, slots=True)
class Change:
    """The change that made a session process cached tokens again.

    Attributes:
        kind: `tools_order`, `tools`, `clock`, `system`, `trimmed`, `inserted`, `message`, `template` or `cache`.
        where: Such as `tools` or `messages[0]`; "the server" if the prompt is unchanged.
        what: A short description of the change.
        hint: What to do about it.
    """

    kind: str
    where: str
    what: str
    hint: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what} -- {self.hint}"


def compare(before: ChatRequest, now: ChatRequest, render: Render, others: int) -> Change:
    """Find the first change; without one, report what happened to the cache.

    Args:
        before: The earlier turn.
        now: The turn that processed its tokens again.
        render: Renders a prompt; None if that is not possible.
        others: Number of turns of other sessions between the two.
    """
    found = [change for change in (_tools(before.tools, now.tools), _messages(before, now)) if change is not None]
    # Templates show the tools in the system message or right behind it.
    first = next((change for change in found if change.where == "messages[0]"), found[0] if found else None)
    return first or _template(before, now, render) or _cache(others)


def _tools(before: Sequence[Any], now: Sequence[Any]) -> Change | None:
    if list(before) == list(now):
        return None
    old, new = [_name(tool) for tool in before], [_name(tool) for tool in now]
    if sorted(map(_text, before)) == sorted(map(_text, now)):
        at = next(n for n, (one, other) in enumerate(zip(old, new, strict=True)) if one != other)
        what = f"in another order, from {new[at]!r} on"
        return Change("tools_order", "tools", what, "bind the tools in the same order each turn")
    gone, come = [name for name in old if name not in new], [name for name in new if name not in old]
    parts = [f"{', '.join(map(repr, names))} {verb}" for names, verb in ((come, "added"), (gone, "removed")) if names]
    if not parts:
        at = next(n for n, (one, other) in enumerate(zip(before, now, strict=True)) if one != other)
        parts = [f"{old[at]!r}: {_difference(_text(before[at]), _text(now[at]))}"]
    return Change("tools", "tools", "; ".join(parts), "do not change the tools within a session")


def _messages(before: ChatRequest, now: ChatRequest) -> Change | None:
    old, new = [_text(message) for message in before.messages], [_text(message) for message in now.messages]
    at = next((n for n, (one, other) in enumerate(zip(old, new, strict=False)) if one != other), None)
    if at is None and len(new) >= len(old):
        return None
    at = len(new) if at is None else at
    where, later = f"messages[{at}]", set(old[at:])
    kept = next((n for n in range(at, len(new)) if new[n] in later), None)
    if kept is None and at == len(new):
        return Change("trimmed", where, f"{_counted(len(old) - at)} removed at the end", "the session was rewound")
    if kept is not None and old[at] not in new[at:]:
        gone = old.index(new[kept], at) - at
        if gone > kept - at:
            hint = "history trimmed: trim rarely and in large steps, or see n_cache_reuse"
            return Change("trimmed", where, f"{_counted(gone)} removed from here on", hint)
    if old[at] in new[at:]:
        return Change("inserted", where, "a message was inserted before it", "add messages at the end only")
    return _edited(before.messages[at], now.messages[at], where)


def _edited(old: Mapping[str, Any], new: Mapping[str, Any], where: str) -> Change:
    role = str(new.get("role"))
    field = next((name for name in {**old, **new} if old.get(name) != new.get(name)), "content")
    one, other = (_plain(message.get(field)) for message in (old, new))
    what = f"{role}'s {field}, {_difference(one, other)}"
    place = "the system prompt" if role in ("system", "developer") else "an old message"
    if one and other and _CLOCK.sub("0", one) == _CLOCK.sub("0", other):
        return Change(
            "clock", where, what, f"a clock or a counter in {place}: move it into the newest message, and keep it there"
        )
    if role in ("system", "developer"):
        return Change(
            "system", where, what, "keep the system prompt unchanged; put changing text into the newest message"
        )
    return Change("message", where, what, "history edited: send old messages unchanged")


def _template(before: ChatRequest, now: ChatRequest, render: Render) -> Change | None:
    one, other = render(before), render(now)
    if one is None or other is None:
        return None
    same = _common(one, other)
    if len(one) - same <= _OPENING:
        return None
    at = _message_at(before.messages, one, same)
    where = "the prompt" if at is None else f"messages[{at}]"
    thought = _plain(before.messages[at].get("reasoning_content")).strip() if at is not None else ""
    what = f"the same message is rendered differently, {_difference(one, other)}"
    if thought and thought in one[max(0, same - len(thought)) :] and thought not in other:
        hint = "the template drops old reasoning; some have a switch, such as chat_template_kwargs preserve_thinking"
    else:
        hint = "the chat template renders old turns differently from new ones"
    return Change("template", where, what, hint)


def _message_at(messages: Sequence[Any], prompt: str, offset: int) -> int | None:
    """The message whose text is at an offset of the prompt, or the next one behind it."""
    cursor = 0
    for at, message in enumerate(messages):
        for text in (_plain(message.get("reasoning_content")).strip(), _plain(message.get("content")).strip()):
            found = prompt.find(text, cursor) if text else -1
            if found >= 0:
                cursor = found + len(text)
        if cursor > offset:
            return at
    return None


def _cache(others: int) -> Change:
    if others:
        what = f"the same prompt, but no longer cached; {others} turns of other sessions in between"
        hint = (
            "another session evicted it: use explicit slots with --slot-prompt-similarity 0.9, or more "
            "--cache-ram (docs/prompt-cache.md)"
        )
    else:
        what = "the same prompt, but no longer cached; no other session of this report in between"
        hint = (
            "the server chose another slot (--slot-prompt-similarity is too high for so much new text), was restarted, "
            "or serves another program as well"
        )
    return Change("cache", "the server", what, hint)


def _difference(one: str, other: str) -> str:
    at = _common(one, other)
    start = max(0, at - 8)
    return f"character {at}: {one[start : at + _SHOWN]!r} is now {other[start : at + _SHOWN]!r}"


def _common(one: str, other: str) -> int:
    """Characters that two texts begin with alike."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[low:middle] == other[low:middle] else (low, middle - 1)
    return low


def _counted(number: int) -> str:
    return f"{number} messages were" if number > 1 else "a message was"


def _name(tool: Mapping[str, Any]) -> str:
    return str((tool.get("function") or {}).get("name"))


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else _text(value)


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
