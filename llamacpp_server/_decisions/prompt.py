"""Prompt of a decision for a chat model: the state first, so that its questions share the cached prefix."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..decisions import Noul, Score
from ..wire import MessageDict
from .labels import Labels
from .questions import Asked
from .state import json_text

_LINE_END: Final = re.compile(r"\r\n|[\r\n]")
_CLOSED: Final = {"<think>": "</think>", "[THINK]": "[/THINK]", "<seed:think>": "</seed:think>"}
_HARMONY: Final = ("<|start|>assistant", "<|channel|>final<|message|>")


@dataclass(frozen=True, slots=True)
class Tail:
    """Text to append to a rendered prompt before the answer begins.

    Attributes:
        text: It; "" where the template ends at the answer.
        tag: The tag whose reasoning was open; None where none was.
    """

    text: str
    tag: str | None = None


def messages_for(state: str, images: list[Mapping[str, Any]], asked: Asked, labels: Labels) -> list[MessageDict]:
    """The conversation that asks one question."""
    text = f"{state}\n\n{_question(asked, labels)}"
    if not images:
        return [{"role": "user", "content": text}]
    parts: list[Any] = [*images, {"type": "text", "text": text}]
    return [{"role": "user", "content": parts}]


def tail_of(prompt: str) -> Tail:
    """Text that closes a reasoning block opened by the template at the end of a prompt.

    A label that is read within open reasoning is another answer, and nothing tells it.
    """
    if prompt.endswith(_HARMONY[0]):
        return Tail(_HARMONY[1])
    for opening, closing in _CLOSED.items():
        if prompt.rfind(opening) > prompt.rfind(closing):
            behind = prompt[prompt.rfind(opening) + len(opening) :]
            if not behind.strip():
                return Tail(("" if behind.endswith("\n") else "\n") + f"\n{closing}\n\n", opening)
    return Tail("")


def _question(asked: Asked, labels: Labels) -> str:
    question = asked.question
    lines = [f"Question about the above: {json_text(question.instructions)}"]
    if isinstance(question, Noul):
        for label, (_, text) in zip(labels.texts, asked.shown, strict=True):
            if text is not None:
                lines.append(f"{label}: {json_text(text)}")
        return "\n".join([*lines, f"Answer with {labels.texts[0]} or {labels.texts[1]}, and nothing else."])
    lines.append("Levels:" if isinstance(question, Score) else "Options:")
    for label, (key, text) in zip(labels.texts, asked.shown, strict=True):
        lines.append(_line(label, key, text, named=labels.words or isinstance(question, Score)))
    if labels.words:
        lines.append("Answer with one of the options, exactly as it is written above, and nothing else.")
    else:
        what = "number" if labels.texts[0].isdigit() else "letter"
        lines.append(f"Answer with the {what} of one of them, and nothing else.")
    return "\n".join(lines)


def _line(label: str, key: str, text: Any, *, named: bool) -> str:
    described = None if text is None else _one_line(json_text(text))
    if named:
        return f"{label}: {described}" if described is not None else f"{label}"
    return f"{label}: {_one_line(key)}" + (f" - {described}" if described is not None else "")


def _one_line(text: str) -> str:
    """A line's end within an option would look like the next option."""
    return _LINE_END.sub(" ", text)
