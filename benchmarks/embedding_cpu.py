"""CPU time that a client spends on each embedded document of 768 numbers, with the same replayed reply of 64 documents.

`bare decode` is a program without a library: one httpx request, JSON parsing, `base64.b64decode`, and a list of numbers
for each document. Our classes also check each vector for NaN, zeros and its length. `decode in memory` leaves out
sending the request and reading the reply, which no client can avoid. `LlamaIndex alone` is the framework's own work
around ready-made vectors.
"""

from __future__ import annotations

import base64
import random
from array import array
from collections.abc import Callable
from typing import Any

import httpx
from pydantic_core import from_json, to_json

from .clients import attribute
from .replay import replaying_reply
from .timing import least

TITLE = "CPU for each embedded document"
DOCUMENTS = 64
WIDTH = 768
TEXTS = [f"document number {number} " * 30 for number in range(DOCUMENTS)]


def reply() -> bytes:
    """The answer of `/v1/embeddings` as b11434 gives it."""
    rng = random.Random(1)

    def vector() -> str:
        numbers = [rng.gauss(0, 1) for _ in range(WIDTH)]
        length = sum(number * number for number in numbers) ** 0.5
        return base64.b64encode(array("f", [number / length for number in numbers]).tobytes()).decode()

    data = [
        {"embedding": vector(), "index": number, "object": "embedding", "encoding_format": "base64"}
        for number in range(DOCUMENTS)
    ]
    usage = {"prompt_tokens": 6400, "total_tokens": 6400}
    return to_json({"model": "tiny-encoder", "object": "list", "usage": usage, "data": data})


def run(quick: bool = False) -> list[dict[str, Any]]:
    """Rows of the table: client, microseconds for each document, ratio to the bare decode."""
    body = reply()
    with replaying_reply(body) as base_url:
        cost = least(_ways(base_url, body), 2 if quick else 60, DOCUMENTS)
    return [
        {"client": name, "µs": round(micros, 1), "times bare decode": round(micros / cost["bare decode"], 2)}
        for name, micros in cost.items()
    ]


def _ways(base_url: str, body: bytes) -> dict[str, Callable[[], Any]]:
    bare = httpx.Client()

    def over_http() -> Any:
        return _decode(bare.post(base_url + "/v1/embeddings", json={"input": TEXTS}).content)

    ways: dict[str, Callable[[], Any]] = {"decode in memory": lambda: _decode(body), "bare decode": over_http}
    return ways | _langchain(base_url) | _llamaindex(base_url, _decode(body))


def _decode(body: bytes) -> list[list[float]]:
    return [array("f", base64.b64decode(entry["embedding"])).tolist() for entry in from_json(body)["data"]]


def _langchain(base_url: str) -> dict[str, Callable[[], Any]]:
    from langchain_llamacpp_server import LlamaServerEmbeddings

    ours = LlamaServerEmbeddings(base_url=base_url)
    ways: dict[str, Callable[[], Any]] = {"LlamaServerEmbeddings (LangChain)": lambda: ours.embed_documents(TEXTS)}
    if made := attribute("langchain_openai", "OpenAIEmbeddings"):
        peer = made(model="m", base_url=base_url + "/v1", api_key="k", check_embedding_ctx_length=False)
        ways["OpenAIEmbeddings (LangChain)"] = lambda: peer.embed_documents(TEXTS)
    return ways


def _llamaindex(base_url: str, vectors: list[list[float]]) -> dict[str, Callable[[], Any]]:
    from llama_index.core.base.embeddings.base import BaseEmbedding

    from llamaindex_llamacpp_server import LlamaServerEmbedding

    class Floor(BaseEmbedding):
        def _get_query_embedding(self, query: str) -> list[float]:
            return vectors[0]

        async def _aget_query_embedding(self, query: str) -> list[float]:
            return vectors[0]

        def _get_text_embedding(self, text: str) -> list[float]:
            return vectors[0]

        def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
            return vectors

    ours, floor = LlamaServerEmbedding(base_url=base_url), Floor(embed_batch_size=DOCUMENTS)
    ways: dict[str, Callable[[], Any]] = {
        "LlamaIndex alone": lambda: floor.get_text_embedding_batch(TEXTS),
        "LlamaServerEmbedding (LlamaIndex)": lambda: ours.get_text_embedding_batch(TEXTS),
    }
    if made := attribute("llama_index.embeddings.openai_like", "OpenAILikeEmbedding"):
        peer = made(model_name="m", api_base=base_url + "/v1", api_key="k", embed_batch_size=DOCUMENTS)
        ways["OpenAILikeEmbedding (LlamaIndex)"] = lambda: peer.get_text_embedding_batch(TEXTS)
    return ways
