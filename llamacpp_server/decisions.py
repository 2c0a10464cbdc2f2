"""Decisions: typed questions about a state, answered with a probability for every option. See docs/decisions.md.

Questions and answers use the names and format of llama-server's `/v1/systemone`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from .calibration import Calibration
from .replies import Usage
from .requests import MediaPolicy

__all__ = [
    "Answer",
    "Choice",
    "ChoiceAnswer",
    "DecisionEngine",
    "DecisionRequest",
    "Decisions",
    "LabelStyle",
    "Noul",
    "NoulAnswer",
    "Question",
    "Score",
    "ScoreAnswer",
]

DecisionEngine = Literal["auto", "native", "logits"]
"""`native` is the server's `/v1/systemone`, for decision models; `logits` reads the next token of any chat model;
`auto` is native if the server reports a decision model."""

LabelStyle = Literal["auto", "letters", "words"]
"""Labels that the model answers with (engine `logits`): a letter for each option, or the option's name."""


class Question:
    """A question about a state: a `Noul`, a `Choice` or a `Score`."""

    __slots__ = ()

    type: ClassVar[str]
    instructions: Any


@dataclass(frozen=True, slots=True)
class Noul(Question):
    """A yes/no question; its answer is the probability of yes.

    Attributes:
        instructions: The whole question: text, or JSON.
        true: Description of yes; None for none.
        false: Description of no; None for none.
    """

    type: ClassVar[Literal["noul"]] = "noul"
    instructions: Any
    true: Any = None
    false: Any = None


@dataclass(frozen=True, slots=True)
class Choice(Question):
    """A question with unordered options.

    Attributes:
        instructions: The whole question: text, or JSON.
        criteria: The options with a description each (or None), or only the options.
    """

    type: ClassVar[Literal["choice"]] = "choice"
    instructions: Any
    criteria: Mapping[str, Any] | Sequence[str]


@dataclass(frozen=True, slots=True)
class Score(Question):
    """A question about the level on a described scale; level 0 comes first.

    Attributes:
        instructions: The whole question: text, or JSON.
        criteria: Descriptions of at least two levels, in order.
    """

    type: ClassVar[Literal["score"]] = "score"
    instructions: Any
    criteria: Sequence[Any]


@dataclass(frozen=True, slots=True)
class NoulAnswer:
    """The answer to a `Noul`.

    Attributes:
        noul: Probability of yes.
        mass: Probability that the model answers with any of the labels; None unless `mass=True` (engine `logits`).
    """

    type: ClassVar[Literal["noul"]] = "noul"
    noul: float
    mass: float | None = None


@dataclass(frozen=True, slots=True)
class ChoiceAnswer:
    """The answer to a `Choice`.

    Attributes:
        choice: The most probable option.
        probabilities: A probability for each option; they sum to 1.
        confidence: 0 for equal probabilities, 1 for a certain answer: (p_max - 1/n) / (1 - 1/n).
        mass: As in `NoulAnswer`.
    """

    type: ClassVar[Literal["choice"]] = "choice"
    choice: str
    probabilities: Mapping[str, float]
    confidence: float
    mass: float | None = None


@dataclass(frozen=True, slots=True)
class ScoreAnswer:
    """The answer to a `Score`.

    Attributes:
        score: The expected level; it may lie between two levels.
        legend: The descriptions by level.
        probabilities: A probability for each level; they sum to 1.
        confidence: 1 minus the mean distance to the most probable level, divided by that of equal probabilities.
        mass: As in `NoulAnswer`.
    """

    type: ClassVar[Literal["score"]] = "score"
    score: float
    legend: Mapping[int, Any]
    probabilities: Mapping[int, float]
    confidence: float
    mass: float | None = None


Answer = NoulAnswer | ChoiceAnswer | ScoreAnswer


@dataclass(frozen=True, slots=True)
class Decisions:
    """The answers to the questions about one state.

    Attributes:
        answers: By the names of the questions.
        engine: `native` or `logits`.
        model: The model's name; "" if the server reports none.
        usage: Tokens of all requests. Prompt tokens include those from the cache, for each question.
        requests: Number of requests sent.
    """

    answers: Mapping[str, Answer]
    engine: Literal["native", "logits"]
    model: str = ""
    usage: Usage = field(default_factory=lambda: Usage(0, 0, 0))
    requests: int = 1

    @property
    def nouls(self) -> dict[str, NoulAnswer]:
        """Answers to yes/no questions."""
        return {name: answer for name, answer in self.answers.items() if isinstance(answer, NoulAnswer)}

    @property
    def choices(self) -> dict[str, ChoiceAnswer]:
        """Answers to choices."""
        return {name: answer for name, answer in self.answers.items() if isinstance(answer, ChoiceAnswer)}

    @property
    def scores(self) -> dict[str, ScoreAnswer]:
        """Answers to scores."""
        return {name: answer for name, answer in self.answers.items() if isinstance(answer, ScoreAnswer)}


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRequest:
    """One state and the questions about it.

    Attributes:
        state: Text, or JSON. Images (`{"type": "image_url", ...}`, at any depth) are sent as images.
        questions: By name: `Noul`, `Choice`, `Score`, or dicts in the server's format.
        engine: See `DecisionEngine`.
        rotations: Number of orders in which the options are shown; averaging removes the model's preference for a
            position. Each order costs a request. At most the number of options.
        labels: See `LabelStyle`. `auto` uses letters.
        mass: Also measure the probability that the model answers with a label at all (engine `logits`; one more request
            for each question). A value near 0 means that the question or the chat template is unsuitable.
        thinking: Maximum reasoning tokens before the answer (engine `logits`); 0 turns reasoning off.
        calibration: Result of `calibrate`; None leaves the model's probabilities unchanged.
        model: Name of the model (routers).
        media: Which files and URLs of images may be read.
    """

    state: Any
    questions: Mapping[str, Question | Mapping[str, Any]]
    engine: DecisionEngine = "auto"
    rotations: int = 1
    labels: LabelStyle = "auto"
    mass: bool = False
    thinking: int = 0
    calibration: Calibration | None = None
    model: str | None = None
    media: MediaPolicy = field(default_factory=MediaPolicy)
