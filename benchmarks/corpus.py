"""End to end on the real server: 128 texts embedded by the small encoder of this repository, in four slots.

Wall time, as the median of the rounds, with each client's own defaults except as its name says.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from llamacpp_server import LocalServer

from .clients import attribute

TITLE = "Embedding a corpus on the real server"
MODEL = Path(__file__).parent.parent / "models" / "tiny-encoder.gguf"
SLOTS = 4
PLAIN = "ours, one text after the other"


def run(quick: bool = False) -> list[dict[str, Any]]:
    """Rows of the table: client, seconds, texts a second, and how much faster than one text after the other."""
    count, rounds = (8, 1) if quick else (128, 3)
    texts = [f"The code of the house number {number} is {number * 7}. " * (1 + number % 3) for number in range(count)]
    with LocalServer(MODEL, embeddings=True, parallel=SLOTS, ctx_size=2048, threads=1) as server:
        ways = _ways(server.base_url)
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, embed in ways.items():
                started = time.perf_counter()
                vectors = embed(texts)
                taken[name].append(time.perf_counter() - started)
                assert len(vectors) == count
    seconds = {name: median(values) for name, values in taken.items()}
    return [
        {
            "client": name,
            "s": round(value, 2),
            "texts a second": round(count / value),
            "times as fast": round(seconds[PLAIN] / value, 1),
        }
        for name, value in seconds.items()
    ]


def _ways(base_url: str) -> dict[str, Callable[[list[str]], Any]]:
    from langchain_llamacpp_server import LlamaServerEmbeddings
    from llamaindex_llamacpp_server import LlamaServerEmbedding

    chain = LlamaServerEmbeddings(base_url=base_url)
    single = LlamaServerEmbeddings(base_url=base_url, batch_size=1, max_concurrency=1)
    in_turn = LlamaServerEmbeddings(base_url=base_url, max_concurrency=1)
    index = LlamaServerEmbedding(base_url=base_url)
    ways: dict[str, Callable[[list[str]], Any]] = {
        PLAIN: single.embed_documents,
        "ours, batches one after the other": in_turn.embed_documents,
        "LlamaServerEmbeddings (LangChain)": chain.embed_documents,
        "LlamaServerEmbedding (LlamaIndex)": index.get_text_embedding_batch,
    }
    if made := attribute("langchain_openai", "OpenAIEmbeddings"):
        openai = made(model="m", base_url=base_url + "/v1", api_key="k", check_embedding_ctx_length=False)
        ways["OpenAIEmbeddings (LangChain)"] = openai.embed_documents
    if made := attribute("llama_index.embeddings.openai_like", "OpenAILikeEmbedding"):
        openai_like = made(model_name="m", api_base=base_url + "/v1", api_key="k")
        ways["OpenAILikeEmbedding (LlamaIndex)"] = openai_like.get_text_embedding_batch
    return ways
