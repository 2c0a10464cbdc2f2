"""Measure `tiny-encoder.gguf` on a real server: how often the right passage of six comes first."""

import argparse
import sys
from pathlib import Path

import httpx
from chat_data import words_of
from encoder_data import Example, example

sys.path.insert(0, str(Path(__file__).parents[1]))

from llamacpp_server import LocalServer


def similarities(client: httpx.Client, one: Example) -> list[float]:
    """The cosine of the question with each passage, the right one first."""
    body = {"input": [one.question, one.answer, *one.others]}
    vectors = [item["embedding"] for item in client.post("/v1/embeddings", json=body).json()["data"]]
    return [sum(a * b for a, b in zip(vectors[0], vector, strict=True)) for vector in vectors[1:]]


def scores(client: httpx.Client, one: Example) -> list[float]:
    """The score of each passage, the right one first."""
    body = {"query": one.question, "documents": [one.answer, *one.others]}
    results = client.post("/v1/rerank", json=body).json()["results"]
    return [item["relevance_score"] for item in sorted(results, key=lambda item: item["index"])]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path(__file__).parent / "tiny-encoder.gguf")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1_000_003)
    arguments = parser.parse_args()
    for task, options, measure in (
        ("embedding", {"embeddings": True, "pooling": "mean"}, similarities),
        ("rerank", {"reranking": True}, scores),
    ):
        words = words_of(arguments.seed, held_out=True)
        examples = [example(words, 5) for _ in range(arguments.count)]
        with LocalServer(arguments.model, parallel=1, ctx_size=256, threads=1, warmup=False, **options) as server:
            limits = httpx.Limits(max_keepalive_connections=0)
            http = httpx.Client(base_url=server.base_url, limits=limits)
            measured = [measure(http, one) for one in examples]
        first = sum(values[0] > max(values[1:]) for values in measured) / len(measured)
        right = sum(values[0] for values in measured) / len(measured)
        wrong = sum(sum(values[1:]) / 5 for values in measured) / len(measured)
        print(f"{task}: first of six {100 * first:.1f} %, mean of the right {right:.2f}, of the wrong {wrong:.2f}")
