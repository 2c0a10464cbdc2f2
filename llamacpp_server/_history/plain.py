"""Conversations of complete messages, as agents send them again and again: found out once for each request.

Such a message is a text, an answer with complete calls, or the result of one. No check and no repair has anything to do
with it, and all that it says is known as one text, so that a look at a long history is a look at that.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NoReturn

_TEXT: Final = frozenset({"role", "content", "name"})
_RESULT: Final = frozenset({"role", "content", "name", "tool_call_id"})
_SAID: Final = frozenset({"role", "content"})
_ONLY_TEXTS: Final = frozenset({str})
_ANSWER: Final = frozenset({"role", "content", "reasoning_content", "name", "tool_calls"})
# The fields that a message of each role may have.
_FIELDS: Final = {
    **dict.fromkeys(("user", "system", "developer"), _TEXT),
    "tool": _RESULT,
    "assistant": _ANSWER,
}
_FEWEST: Final = len(_SAID)
_CALL: Final = frozenset({"id", "type", "function"})
_FUNCTION: Final = frozenset({"name", "arguments"})
_LONGEST_KEPT: Final = 1024  # characters of arguments that are remembered


class PlainMessages(list[Any]):
    """Complete messages, copied from those of a caller. Nobody changes them.

    Args:
        messages: What `plain_text` takes.
        text: All that they say.
    """

    __slots__ = ("text",)

    def __init__(self, messages: Sequence[Mapping[str, Any]], text: str) -> None:
        super().__init__(map(dict, messages))
        self.text = text


def plain_text(messages: Sequence[Mapping[str, Any]]) -> str | None:
    """All that is said in a conversation of complete messages; None for others."""
    if type(messages) is PlainMessages:
        return messages.text
    texts: list[str] = []
    for message in messages:
        if type(message) is not dict or type(text := message.get("content")) is not str:
            return None
        role = message.get("role")
        fields = _FIELDS.get(role) if type(role) is str else None
        if fields is None:
            return None
        if len(message) == _FEWEST and role != "tool":
            texts.append(text)
            continue
        if not message.keys() <= fields or (others := _texts_of(message)) is None:
            return None
        texts += others
    return "\n".join(texts)


def _texts_of(message: Mapping[str, Any]) -> list[str] | None:
    """What a message says in all of its fields; None for one that is not complete."""
    if "tool_calls" in message:
        return _texts_of_answer(message) if is_plain_answer(message) else None
    if message["role"] == "tool" and not message.get("tool_call_id"):
        return None
    texts = list(message.values())
    return texts if _ONLY_TEXTS.issuperset(map(type, texts)) else None


def _texts_of_answer(message: Mapping[str, Any]) -> list[str] | None:
    texts = [text for name, text in message.items() if name != "tool_calls"]
    for call in message["tool_calls"]:
        function = call["function"]
        arguments = text_of_object(function["arguments"])
        if arguments is None or not call["id"]:
            return None
        texts += (arguments, function["name"], call["id"])
    return texts


def is_plain_answer(message: Mapping[str, Any]) -> bool:
    """Whether a message is an answer with complete calls, as agents send it back: texts, and no nulls."""
    if type(message) is not dict or not _SAID <= message.keys() <= _ANSWER:
        return False
    if [name for name, value in message.items() if type(value) is not str and name != "tool_calls"]:
        return False
    calls = message.get("tool_calls")
    return type(calls) is list and bool(calls) and all(map(_is_complete_call, calls))


def _is_complete_call(call: object) -> bool:
    if type(call) is not dict or call.keys() != _CALL or type(call["id"]) is not str:
        return False
    function = call["function"]
    if call["type"] != "function" or type(function) is not dict or function.keys() != _FUNCTION:
        return False
    return type(function["name"]) is str and type(function["arguments"]) is str


def text_of_object(arguments: str) -> str | None:
    """What the arguments of a call say, where the server's parser reads an object; None otherwise.

    An agent sends the same arguments again with each of its turns.
    """
    return _kept_text(arguments) if len(arguments) <= _LONGEST_KEPT else _read_text(arguments)


@lru_cache(maxsize=1024)
def _kept_text(arguments: str) -> str | None:
    return _read_text(arguments)


def _read_text(arguments: str) -> str | None:
    """No NaN, and no half of a surrogate pair; without a backslash they say as JSON what they say as values."""
    try:
        value = json.loads(arguments, parse_constant=_refuse)
        written = json.dumps(value, ensure_ascii=False)
        written.encode()
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    return f"{arguments}\n{written}" if "\\" in arguments else arguments


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)
