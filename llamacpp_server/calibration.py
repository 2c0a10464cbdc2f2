"""Calibration of decisions: what a temperature fitted on labelled examples changes, and the fit as a file."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Self

__all__ = ["Calibration", "CalibrationReport", "Example", "Quality", "fit_calibration", "measure"]

_BINS: Final = 10
_FLOOR: Final = 1e-9
_LOG_FLOOR: Final = math.log(_FLOOR)
_PRECISION: Final = 1e-7
_RANGE: Final = (math.log(0.05), math.log(50.0))
_STEPS: Final = 60
_ROUNDS: Final = 3
_FOLDS: Final = 5
# Of a file: some KB, unless another file is named by mistake.
_MOST_BYTES: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class Example:
    """A state with its correct answers, for calibration.

    Attributes:
        state: As in `DecisionRequest`.
        answers: By the question's name: True or False, the option, or the level.
    """

    state: Any
    answers: Mapping[str, bool | str | int]


@dataclass(frozen=True, slots=True)
class Quality:
    """Measures of how accurate probabilities are.

    Attributes:
        n: Answers that were measured.
        accuracy: Share of answers whose most probable option is the right one.
        brier: Mean squared distance of the probabilities to the truth: 0 is perfect, 2 the worst.
        ece: Expected calibration error: mean distance of the probability of the chosen option to how often it is
            right, in ten bins.
    """

    n: int
    accuracy: float
    brier: float
    ece: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """Temperatures by type of question: above 1 they flatten the probabilities, below 1 they sharpen them.

    Attributes:
        temperatures: By type (`noul`, `choice`, `score`); a missing one is 1.
        offsets: By the question's name: what is added to the logarithm of each option's probability, in their order.
            It takes away the model's preference for an option whatever the state. Empty unless `offsets=True`.
    """

    temperatures: Mapping[str, float] = field(default_factory=dict)
    offsets: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.temperatures, Mapping) or not all(map(_is_number, self.temperatures.values())):
            raise ValueError("temperatures must be numbers by the type of question")
        if not isinstance(self.offsets, Mapping) or not all(map(_are_numbers, self.offsets.values())):
            raise ValueError("offsets must be lists of numbers by the name of the question")

    def apply(self, kind: str, name: str, probabilities: Sequence[float]) -> list[float]:
        """Calibrate the probabilities of one question; they sum to 1.

        Args:
            kind: Type of the question.
            name: Its name.
            probabilities: In the order of its options.
        """
        temperature, offsets = self.temperatures.get(kind, 1.0), self.offsets.get(name)
        if offsets is not None and len(offsets) != len(probabilities):
            raise ValueError(f"the calibration of {name!r} is for {len(offsets)} options, not {len(probabilities)}")
        if not _is_finite(temperature) or temperature <= 0 or not all(map(_is_finite, offsets or ())):
            raise ValueError(f"the calibration of {name!r} needs a temperature above 0 and offsets that are numbers")
        return _scaled(probabilities, temperature, offsets or [0.0] * len(probabilities))

    def to_json(self) -> str:
        """Return the fit as JSON."""
        return json.dumps(asdict(self), indent=2, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Create a calibration from the output of `to_json`.

        Raises:
            ValueError: For anything else.
        """
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            raise ValueError("not a calibration: not JSON") from None
        if not isinstance(found, dict) or not found.keys() <= {"temperatures", "offsets"}:
            raise ValueError("not a calibration")
        return cls(found.get("temperatures", {}), found.get("offsets", {}))

    def save(self, path: Any) -> None:
        """Write the fit to a file."""
        with open(path, "w", encoding="utf-8") as file:
            file.write(self.to_json())

    @classmethod
    def load(cls, path: Any) -> Self:
        """Read a fit from a file.

        Raises:
            ValueError: If it holds anything else; the file is named.
        """
        with open(path, "rb") as file:
            data = file.read(_MOST_BYTES)
        try:
            return cls.from_json(data.decode("utf-8", "replace"))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None


@dataclass(frozen=True, slots=True)
class CalibrationReport:
    """A fit, and what it changes on the examples that it was fitted on.

    Attributes:
        calibration: The fit.
        before: Without it.
        after: With it.
        held_out: With a fit that did not see the example: each fifth of the examples is measured with a fit on the
            others. What to expect of other states.
    """

    calibration: Calibration
    before: Quality
    after: Quality
    held_out: Quality


Judged = tuple[str, str, Sequence[float], int]
"""Type and name of a question, the probabilities of its options, and the position of the right one."""


def measure(judged: Sequence[Judged], calibration: Calibration | None = None) -> Quality:
    """Measure accuracy, Brier score and expected calibration error of answers."""
    if not judged:
        return Quality(0, math.nan, math.nan, math.nan)
    made = [(p if calibration is None else calibration.apply(kind, name, p), right) for kind, name, p, right in judged]
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(_BINS)]
    brier = 0.0
    for probabilities, right in made:
        best = max(range(len(probabilities)), key=probabilities.__getitem__)
        bins[min(int(probabilities[best] * _BINS), _BINS - 1)].append((probabilities[best], best == right))
        brier += sum((p - (at == right)) ** 2 for at, p in enumerate(probabilities))
    gaps = (abs(sum(p for p, _ in found) - sum(hit for _, hit in found)) for found in bins)
    hits = sum(hit for found in bins for _, hit in found)
    return Quality(len(made), hits / len(made), brier / len(made), sum(gaps) / len(made))


def fit_calibration(judged: Sequence[Judged], *, offsets: bool = False) -> CalibrationReport:
    """Fit a temperature for each type of question, and optionally offsets for each question.

    Args:
        judged: Uncalibrated answers.
        offsets: Whether to fit them; at least ten examples for each option are a good idea.
    """
    found = _fit(judged, offsets=offsets)
    return CalibrationReport(found, measure(judged), measure(judged, found), _held_out(judged, offsets=offsets))


def _fit(judged: Sequence[Judged], *, offsets: bool) -> Calibration:
    """Temperatures and offsets, each fitted with the other as it is, in a few rounds."""
    # Each pass reads every answer a hundred times: logarithms are computed once, equal answers counted.
    answers = Counter((kind, name, tuple(_logs(p)), right) for kind, name, p, right in judged)
    temperatures: dict[str, float] = {}
    shifts: dict[str, list[float]] = {}
    for _ in range(_ROUNDS if offsets else 1):
        for kind, name in dict.fromkeys((kind, name) for kind, name, _, _ in answers) if offsets else ():
            own = [(logs, right, n) for (_, other, logs, right), n in answers.items() if other == name]
            shifts[name] = _fit_offsets(own, temperatures.get(kind, 1.0))
        for kind in dict.fromkeys(kind for kind, _, _, _ in answers):
            rows = [
                (_shifted(logs, shifts.get(name)), right, n)
                for (other, name, logs, right), n in answers.items()
                if other == kind
            ]
            temperatures[kind] = _fit_temperature(rows)
    return Calibration(temperatures, shifts)


def _held_out(judged: Sequence[Judged], *, offsets: bool) -> Quality:
    """The quality of answers, each calibrated by a fit on the other folds."""
    made: list[Judged] = []
    for fold in range(_FOLDS):
        fit = _fit([one for at, one in enumerate(judged) if at % _FOLDS != fold], offsets=offsets)
        made += [(kind, name, fit.apply(kind, name, p), right) for kind, name, p, right in judged[fold::_FOLDS]]
    return measure(made)


def _fit_temperature(answers: Sequence[tuple[Sequence[float], int, int]]) -> float:
    """The temperature that makes the right options most likely, by golden section: it has one minimum.

    A temperature near 1 is the more likely one (its logarithm has a variance of 1), so that few examples, or
    examples that say nothing, do not make all options equal.

    Args:
        answers: Logarithms of the probabilities, position of the right one, and how often the answer occurs.
    """

    def loss(log_temperature: float) -> float:
        likelihoods = _log_likelihoods(answers, math.exp(log_temperature))
        return log_temperature**2 / 2 - sum(max(one, _LOG_FLOOR) * n for one, n in likelihoods)

    low, high = _RANGE
    ratio = (math.sqrt(5) - 1) / 2
    one, two = high - ratio * (high - low), low + ratio * (high - low)
    at_one, at_two = loss(one), loss(two)
    while high - low > _PRECISION:
        if at_one <= at_two:
            high, two, at_two = two, one, at_one
            one = high - ratio * (high - low)
            at_one = loss(one)
        else:
            low, one, at_one = one, two, at_two
            two = low + ratio * (high - low)
            at_two = loss(two)
    return math.exp((low + high) / 2)


def _log_likelihoods(
    answers: Sequence[tuple[Sequence[float], int, int]], temperature: float
) -> Iterator[tuple[float, int]]:
    """The logarithm of the right option's probability, and how often the answer occurs."""
    for logs, right, n in answers:
        top = max(logs)
        total = sum(math.exp((one - top) / temperature) for one in logs)
        yield (logs[right] - top) / temperature - math.log(total), n


def _fit_offsets(answers: Sequence[tuple[Sequence[float], int, int]], temperature: float) -> list[float]:
    """Offsets with which the mean probability of each option is how often it is right, by iterated scaling."""
    options = range(len(answers[0][0]))
    count = sum(n for _, _, n in answers)
    # One imaginary example, divided between the options: an option without examples is not ruled out.
    rights = [sum(n for _, right, n in answers if right == at) for at in options]
    wanted = [(hits + 1 / len(options)) / (count + 1) for hits in rights]
    shift = [0.0] * len(options)
    for _ in range(_STEPS):
        scaled = [(_softmax(_shifted(logs, shift), temperature), n) for logs, _, n in answers]
        means = [sum(p[at] * n for p, n in scaled) / count for at in options]
        steps = [temperature * (math.log(wanted[at]) - math.log(max(means[at], _FLOOR))) for at in options]
        shift = _shifted(shift, steps)
        if max(map(abs, steps)) < _PRECISION:
            break
    middle = sum(shift) / len(options)
    return [one - middle for one in shift]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def _is_finite(value: float) -> bool:
    return -math.inf < value < math.inf  # `math.isfinite` fails for an int that no float can hold


def _are_numbers(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes) and all(map(_is_number, value))


def _scaled(probabilities: Sequence[float], temperature: float, shift: Sequence[float]) -> list[float]:
    return _softmax(_shifted(_logs(probabilities), shift), temperature)


def _logs(probabilities: Sequence[float]) -> list[float]:
    return [math.log(max(p, _FLOOR)) for p in probabilities]


def _shifted(logs: Sequence[float], shift: Sequence[float] | None) -> list[float]:
    return list(logs) if shift is None else [one + more for one, more in zip(logs, shift, strict=True)]


def _softmax(logs: Sequence[float], temperature: float) -> list[float]:
    top = max(logs)
    raised = [math.exp((one - top) / temperature) for one in logs]
    total = sum(raised)
    return [one / total for one in raised]
