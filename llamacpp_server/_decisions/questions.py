"""Questions in one form, with their options in the orders in which the model sees them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ..decisions import Choice, Noul, Score
from ..errors import BadRequestError

_FIELDS: Final = {"noul": {"instructions", "criteria"}, "choice": {"instructions", "criteria"},
                  "score": {"instructions", "criteria"}}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with its options in one order.

    Attributes:
        name: The question's name.
        question: It.
        options: (key, description) of each option, in the order of the question.
        order: Positions of the options in the order in which the model sees them.
    """

    name: str
    question: Noul | Choice | Score
    options: tuple[tuple[str, Any], ...]
    order: tuple[int, ...]

    @property
    def shown(self) -> list[tuple[str, Any]]:
        """The options in the order in which the model sees them."""
        return [self.options[at] for at in self.order]


def check_questions(questions: object) -> dict[str, Asked]:
    """The questions by name.

    Raises:
        BadRequestError: When there are none, or one can't be asked; the message names it.
    """
    if not isinstance(questions, Mapping) or not questions:
        raise BadRequestError("questions must be a mapping of names to questions, with at least one question")
    found: dict[str, Asked] = {}
    for name, given in questions.items():
        question = _from_wire(str(name), given) if isinstance(given, Mapping) else given
        if not isinstance(question, Noul | Choice | Score):
            raise BadRequestError(f"questions[{name!r}] must be a Noul, Choice or Score, got {type(given).__name__}")
        if question.instructions is None or question.instructions == "":
            raise BadRequestError(f"questions[{name!r}] has no instructions")
        options = _options(str(name), question)
        found[str(name)] = Asked(str(name), question, options, tuple(range(len(options))))
    return found


def rotations_of(asked: Asked, rotations: int) -> list[Asked]:
    """The question with its options in several orders, each beginning somewhere else.

    The levels of a score are turned round instead of rotated: a scale that begins in its middle makes no sense.
    """
    n = len(asked.options)
    if isinstance(asked.question, Noul | Score):
        orders = [tuple(range(n)), tuple(reversed(range(n)))][:rotations]
    else:
        starts = [round(turn * n / min(rotations, n)) for turn in range(min(rotations, n))]
        orders = [tuple((at + start) % n for at in range(n)) for start in starts]
    return [Asked(asked.name, asked.question, asked.options, order) for order in orders]


def _from_wire(name: str, given: Mapping[str, Any]) -> Noul | Choice | Score:
    kind, criteria = given.get("type"), given.get("criteria")
    if kind not in _FIELDS:
        raise BadRequestError(f"questions[{name!r}] has the unknown type {kind!r}; use noul, choice or score")
    if unknown := sorted(set(map(str, given)) - _FIELDS[kind] - {"type"}):
        raise BadRequestError(f"questions[{name!r}] has unknown fields: {', '.join(unknown)}")
    instructions = given.get("instructions")
    if kind == "noul":
        criteria = criteria or {}
        if not isinstance(criteria, Mapping) or not set(criteria) <= {"true", "false"}:
            raise BadRequestError(f"criteria of questions[{name!r}] must describe 'true' and 'false'")
        return Noul(instructions, criteria.get("true"), criteria.get("false"))
    if criteria is None:
        raise BadRequestError(f"questions[{name!r}] has no criteria")
    return Choice(instructions, criteria) if kind == "choice" else Score(instructions, criteria)


def _options(name: str, question: Noul | Choice | Score) -> tuple[tuple[str, Any], ...]:
    if isinstance(question, Noul):
        return (("true", question.true), ("false", question.false))
    criteria = question.criteria
    if isinstance(question, Score):
        if isinstance(criteria, str | Mapping) or not isinstance(criteria, Sequence) or len(criteria) < 2:
            raise BadRequestError(f"criteria of questions[{name!r}] must be a list of at least two levels")
        return tuple((str(level), text) for level, text in enumerate(criteria))
    if isinstance(criteria, Mapping):
        options = [(str(key), text) for key, text in criteria.items()]
    elif isinstance(criteria, Sequence) and not isinstance(criteria, str):
        options = [(str(key), None) for key in criteria]
    else:
        raise BadRequestError(f"criteria of questions[{name!r}] must be a mapping of options, or a list of them")
    if not options:
        raise BadRequestError(f"questions[{name!r}] has no options")
    if len({key for key, _ in options}) < len(options):
        raise BadRequestError(f"questions[{name!r}] has the same option twice")
    return tuple(options)
