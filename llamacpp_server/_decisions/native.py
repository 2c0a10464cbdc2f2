"""`/v1/systemone`: its body, its limits and its answer (b11549)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ..decisions import Noul, Score
from .questions import Asked

_MOST_OPTIONS: Final = 255  # of the types with codes; those with letters take 52, and only the server knows
_MOST_LEVELS: Final = 10
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def native_limit(asked: Asked) -> str | None:
    """Why the server would refuse a question; None if it accepts it."""
    n = len(asked.options)
    if isinstance(asked.question, Score):
        if n > _MOST_LEVELS:
            return f"questions[{asked.name!r}] has {n} levels; a decision model supports at most {_MOST_LEVELS}"
    elif n > _MOST_OPTIONS:
        return f"questions[{asked.name!r}] has {n} options; a decision model supports at most {_MOST_OPTIONS}"
    # JSON can't hold them, and the server names its probabilities by what it was sent instead.
    if any(_SURROGATE.search(text) for text in (asked.name, *(key for key, _ in asked.options))):
        return f"questions[{asked.name!r}] has lone surrogates in its name or its options"
    return None


def is_option_limit(error: Exception) -> bool:
    """Whether the server refused a question because its decision model supports fewer options."""
    return "too many options" in str(error)


def native_body(state: Any, asked: Mapping[str, Asked]) -> dict[str, Any]:
    """The body; the names are those of `asked`."""
    return {"state": state, "questions": {name: _question(one) for name, one in asked.items()}}


def native_probabilities(asked: Asked, answer: Mapping[str, Any]) -> list[float]:
    """The probabilities in the order of the question's options."""
    if isinstance(asked.question, Noul):
        yes = _share(answer["noul"])
        return [yes, 1.0 - yes]
    given = answer["probabilities"]
    if not isinstance(asked.question, Score):
        return [_share(given[key]) for key, _ in asked.options]
    shown = [_share(given[str(level)]) for level in range(len(asked.options))]
    found = [0.0] * len(shown)
    for at, p in zip(asked.order, shown, strict=True):
        found[at] = p
    return found


def _share(wire: Any) -> float:
    """A probability.

    Raises:
        ValueError: For anything else.
    """
    share = float(wire)
    if not 0 <= share <= 1.001:
        raise ValueError("a probability is not between 0 and 1")
    return share


def _question(asked: Asked) -> dict[str, Any]:
    question = asked.question
    body: dict[str, Any] = {"type": question.type, "instructions": question.instructions}
    if isinstance(question, Noul):
        if question.true is not None or question.false is not None:
            body["criteria"] = {"true": question.true, "false": question.false}
    elif isinstance(question, Score):
        body["criteria"] = _descriptions(asked)
    else:
        body["criteria"] = dict(asked.shown)
    return body


def _descriptions(asked: Asked) -> Sequence[Any]:
    return [text for _, text in asked.shown]
