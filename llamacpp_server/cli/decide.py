"""`llamacpp-server decide`: a question about a text, answered with probabilities; and `decisions-copy`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .._printable import one_line
from ..calibration import Calibration
from ..decisions import Answer, Choice, ChoiceAnswer, Decisions, Noul, NoulAnswer, Question, Score
from ..local import write_decisions_copy
from .shared import Progress, WrongCommandLine, add_command, connect

__all__ = ["add_to"]

_ENGINE_HELP = "native asks a decision model, logits any chat model (default: %(default)s)"
_LABELS_HELP = "what the model answers with: a letter for each option, or its name (default: %(default)s)"
_NAME = "decision"
_DEFAULT_QUESTION = "Which of the options describes this best?"


def add_to(commands: Any, where: argparse.ArgumentParser) -> None:
    """Add the commands."""
    decide = add_command(
        commands,
        "decide",
        parents=[where],
        help="answer a question about a text with a probability for every option",
        epilog="Without options or levels, the question is answered with the probability of yes.",
    )
    decide.add_argument("text", nargs="*", help="the text; `-` or nothing reads it from stdin")
    decide.add_argument("--question", help=f"the question (default with options: {_DEFAULT_QUESTION})")
    kind = decide.add_mutually_exclusive_group()
    kind.add_argument("--options", type=_names, metavar="A,B,...", help="names of the options")
    kind.add_argument(
        "--option",
        action="append",
        type=_described,
        metavar="NAME[=DESCRIPTION]",
        help="one option, which may contain commas; can be repeated",
    )
    kind.add_argument("--levels", type=_names, metavar="A,B,...", help="levels of a scale, the lowest first")
    decide.add_argument("--engine", choices=("auto", "native", "logits"), default="auto", help=_ENGINE_HELP)
    decide.add_argument("--labels", choices=("auto", "letters", "words"), default="auto", help=_LABELS_HELP)
    decide.add_argument(
        "--rotations", type=int, default=1, metavar="N", help="orders of the options to average over (default: 1)"
    )
    decide.add_argument(
        "--thinking", type=int, default=0, metavar="TOKENS", help="let the model reason first, for this many tokens"
    )
    decide.add_argument("--calibration", metavar="FILE", help="calibration saved by Calibration.save")
    decide.add_argument("--json", action="store_true", help="print JSON")
    decide.set_defaults(run=_decide)

    copy = add_command(commands, "decisions-copy", help="copy a chat model into a GGUF file with the decision metadata")
    copy.add_argument("model", metavar="MODEL.gguf", help="chat model")
    copy.add_argument("copy", nargs="?", metavar="COPY.gguf", help="default: MODEL-decisions.gguf")
    copy.add_argument("--overwrite", action="store_true", help="replace an existing copy")
    copy.set_defaults(run=_copy)


def _decide(arguments: argparse.Namespace, progress: Progress) -> int:
    question = _question(arguments)
    text = " ".join(arguments.text)
    if text in ("", "-"):
        text = "" if sys.stdin.isatty() and not text else sys.stdin.read()
    if not text.strip():
        raise WrongCommandLine("no text: pass it as an argument or on stdin")
    calibration = Calibration.load(arguments.calibration) if arguments.calibration else None
    names = ("engine", "labels", "rotations", "thinking")
    options = {name: getattr(arguments, name) for name in names}
    with connect(arguments, progress) as client:
        found = client.decide(text, {_NAME: question}, calibration=calibration, **options)
    progress.end()
    if arguments.json:
        print(json.dumps(_as_json(found), indent=2, ensure_ascii=False))
    else:
        for name, probability in _rows(found.answers[_NAME]):
            print(f"{probability:.3f}  {one_line(name)}")
    return 0


def _question(arguments: argparse.Namespace) -> Question:
    options = arguments.options or arguments.option
    if not arguments.question and not options:
        raise WrongCommandLine("pass --question, or --options to choose from")
    if arguments.levels:
        return Score(arguments.question, arguments.levels)
    if not options:
        return Noul(arguments.question)
    names = [name for name, _ in arguments.option] if arguments.option else options
    if len(set(names)) < len(names):
        raise WrongCommandLine("an option is given twice")
    criteria = dict(arguments.option) if arguments.option else options
    return Choice(arguments.question or _DEFAULT_QUESTION, criteria)


def _rows(answer: Answer) -> Iterator[tuple[str, float]]:
    """Names with their probabilities: choices by probability, levels in their order."""
    if isinstance(answer, NoulAnswer):
        yield from (("yes", answer.noul), ("no", 1.0 - answer.noul))
    elif isinstance(answer, ChoiceAnswer):
        yield from sorted(answer.probabilities.items(), key=lambda row: -row[1])
    else:
        yield from ((str(answer.legend[level]), share) for level, share in answer.probabilities.items())


def _as_json(found: Decisions) -> dict[str, Any]:
    answer = found.answers[_NAME]
    values = {name: value for name, value in asdict(answer).items() if value is not None}
    return {
        "type": answer.type,
        **values,
        "engine": found.engine,
        "model": found.model,
        "requests": found.requests,
        "usage": {"prompt_tokens": found.usage.prompt_tokens, "cached_tokens": found.usage.cached_tokens,
                  "completion_tokens": found.usage.completion_tokens},
    }  # fmt: skip


def _copy(arguments: argparse.Namespace, _progress: Progress) -> int:
    model = Path(arguments.model)
    target = Path(arguments.copy) if arguments.copy else model.with_name(f"{model.stem}-decisions.gguf")
    print(write_decisions_copy(model, target, overwrite=arguments.overwrite))
    return 0


def _names(text: str) -> Sequence[str]:
    names = [name.strip() for name in text.split(",")]
    if all(names) and len(names) > 1 and len(set(names)) == len(names):
        return names
    raise argparse.ArgumentTypeError("must be two or more distinct names with commas between them")


def _described(text: str) -> tuple[str, str | None]:
    name, found, description = text.partition("=")
    if name.strip():
        return name.strip(), description.strip() if found else None
    raise argparse.ArgumentTypeError("must begin with a name")
