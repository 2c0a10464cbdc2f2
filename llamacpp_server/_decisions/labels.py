"""The labels that a model answers with, one for each option, and the ways in which it may write them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_lowercase, ascii_uppercase
from typing import Final

from ..decisions import LabelStyle, Noul, Score
from .questions import Asked

_LETTERS: Final = ascii_uppercase + ascii_lowercase
_SMALL_MODEL: Final = 1e9
_MOST_WORDS: Final = 20
_LONGEST_WORD: Final = 40
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


def labels_for(asked: Asked, style: LabelStyle, n_params: int | None) -> Labels:
    """The labels of a question.

    Args:
        asked: The question.
        style: As in `DecisionRequest`.
        n_params: Weights of the model; None where unknown.
    """
    if isinstance(asked.question, Noul):
        spellings = tuple(_YES_NO[at] for at in asked.order)
        return Labels(tuple(one[0] for one in spellings), spellings)
    keys = [key for key, _ in asked.shown]
    if isinstance(asked.question, Score) and len(keys) <= 10:
        return _plain(keys)
    small = style == "auto" and (n_params or _SMALL_MODEL) < _SMALL_MODEL and _short(keys)
    if (small or style == "words") and _distinct(keys):
        return Labels(tuple(keys), tuple((key.strip(),) for key in keys), words=True)
    if len(keys) <= len(_LETTERS):
        return _plain(list(_LETTERS[: len(keys)]))
    # Of one length, so that none is the beginning of another.
    width = len(str(len(keys)))
    return _plain([f"{number:0{width}}" for number in range(1, len(keys) + 1)])


def _plain(texts: Sequence[str]) -> Labels:
    return Labels(tuple(texts), tuple((text,) for text in texts))


def _short(keys: Sequence[str]) -> bool:
    return len(keys) <= _MOST_WORDS and all(len(key) <= _LONGEST_WORD and key.isprintable() for key in keys)


def _distinct(keys: Sequence[str]) -> bool:
    stripped = [key.strip() for key in keys]
    return all(stripped) and len(set(stripped)) == len(keys)
