"""Labels that a model answers with, one for each option, and their possible spellings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_lowercase, ascii_uppercase
from typing import Final

from ..decisions import LabelStyle, Noul, Score
from .questions import Asked

_LETTERS: Final = ascii_uppercase + ascii_lowercase
_YES_NO: Final = (("yes", "Yes"), ("no", "No"))


@dataclass(frozen=True, slots=True)
class Labels:
    """Labels of a question's options, in the order in which they are shown.

    Attributes:
        texts: A label for each option.
        spellings: What counts as it: the label, and its form with a capital; a space before either may be there.
        words: Whether the labels are the options' own names, so that the model is shown no others.
    """

    texts: tuple[str, ...]
    spellings: tuple[tuple[str, ...], ...]
    words: bool = False


def labels_for(asked: Asked, style: LabelStyle) -> Labels:
    """The labels of a question.

    Args:
        asked: The question.
        style: As in `DecisionRequest`.
    """
    if isinstance(asked.question, Noul):
        spellings = tuple(_YES_NO[at] for at in asked.order)
        return Labels(tuple(one[0] for one in spellings), spellings)
    keys = [key for key, _ in asked.shown]
    if isinstance(asked.question, Score) and len(keys) <= 10:
        return _plain(keys)
    if style == "words" and _distinct(keys):
        return Labels(tuple(keys), tuple((key.strip(),) for key in keys), words=True)
    if len(keys) <= len(_LETTERS):
        return _plain(list(_LETTERS[: len(keys)]))
    # Of one length, so that none is the beginning of another.
    width = len(str(len(keys)))
    return _plain([f"{number:0{width}}" for number in range(1, len(keys) + 1)])


def _plain(texts: Sequence[str]) -> Labels:
    return Labels(tuple(texts), tuple((text,) for text in texts))


def _distinct(keys: Sequence[str]) -> bool:
    stripped = [key.strip() for key in keys]
    return all(stripped) and len(set(stripped)) == len(keys)
