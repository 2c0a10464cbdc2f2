"""Probabilities -> answers, with the server's own formulas for confidence (b11549)."""

from __future__ import annotations

from collections.abc import Sequence

from ..decisions import Answer, ChoiceAnswer, Noul, NoulAnswer, Score, ScoreAnswer
from ..errors import BadRequestError
from .questions import Asked


def answer_of(asked: Asked, probabilities: Sequence[float], mass: float | None) -> Answer:
    """The answer to a question.

    Args:
        asked: The question.
        probabilities: In the order of its options.
        mass: As in `NoulAnswer`.
    """
    shares = clamped(probabilities)
    if isinstance(asked.question, Noul):
        return NoulAnswer(shares[0], mass)
    best = max(range(len(shares)), key=shares.__getitem__)
    if isinstance(asked.question, Score):
        score = sum(level * share for level, share in enumerate(shares))
        legend = {level: text for level, (_, text) in enumerate(asked.options)}
        return ScoreAnswer(score, legend, dict(enumerate(shares)), _score_confidence(shares, best), mass)
    keys = [key for key, _ in asked.options]
    return ChoiceAnswer(keys[best], dict(zip(keys, shares, strict=True)), _choice_confidence(shares, best), mass)


def clamped(probabilities: Sequence[float]) -> list[float]:
    """Normalize probabilities to sum to 1; all zeros become equal probabilities."""
    kept = [max(p, 0.0) for p in probabilities]
    total = sum(kept)
    if not total > 0.0:
        return [1.0 / len(kept)] * len(kept)
    return [p / total for p in kept]


def right_position(asked: Asked, right: object) -> int:
    """The position of the right option.

    Raises:
        BadRequestError: When the question has no such option.
    """
    if isinstance(asked.question, Noul) and isinstance(right, bool):
        return 0 if right else 1
    keys = [key for key, _ in asked.options]
    if isinstance(right, bool) or str(right) not in keys:
        raise BadRequestError(f"{right!r} is not an answer to the question {asked.name!r}")
    return keys.index(str(right))


def _choice_confidence(shares: Sequence[float], best: int) -> float:
    n = len(shares)
    return 1.0 if n == 1 else max((shares[best] - 1 / n) / (1 - 1 / n), 0.0)


def _score_confidence(shares: Sequence[float], best: int) -> float:
    distance = sum(share * abs(level - best) for level, share in enumerate(shares))
    uniform = sum(abs(level - best) for level in range(len(shares))) / len(shares)
    return max(1.0 - distance / uniform, 0.0)
