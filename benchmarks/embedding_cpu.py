"""CPU time that a client spends on each embedded document of 768 numbers, on the same replayed reply.

`bare decode` is `base64.b64decode` and `array.tolist` on the parsed reply, without any HTTP; `bare HTTP and decode` is
the same behind one httpx request. Ours check each vector for NaN, zeros and its length as well. `LlamaIndex floor` is
what the framework does around a model that has its vectors ready: nearly all of it is validating them in an event.
"""

from __future__ import annotations

import base64
import multiprocessing
import random
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
from pydantic_core import from_json, to_json

DOCUMENTS = 64
WIDTH = 768
ROUNDS = 40
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


def run() -> list[dict[str, Any]]:
    """Rows of the table: client, microseconds for each document, ratios to both bare decodes."""
    with _replaying() as base_url:
        cost = _measure(_ways(base_url))
    decode, http = cost["bare decode"], cost["bare HTTP and decode"]
    return [
        {
            "client": name,
            "µs": round(micros, 1),
            "times bare decode": round(micros / decode, 2),
            "times bare HTTP and decode": round(micros / http, 2),
        }
        for name, micros in cost.items()
    ]


def _measure(ways: dict[str, Callable[[], Any]]) -> dict[str, float]:
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(ROUNDS):
        for name, way in ways.items():
            started = time.process_time()
            way()
            best[name] = min(best[name], (time.process_time() - started) / DOCUMENTS * 1e6)
    return best


def _ways(base_url: str) -> dict[str, Callable[[], Any]]:
    body, bare = reply(), httpx.Client()
    vectors = _decode(body)

    def over_http() -> Any:
        return _decode(bare.post(base_url + "/v1/embeddings", json={"input": TEXTS}).content)

    ways: dict[str, Callable[[], Any]] = {"bare decode": lambda: _decode(body), "bare HTTP and decode": over_http}
    return ways | _langchain(base_url) | _llamaindex(base_url, vectors)


def _decode(body: bytes) -> list[list[float]]:
    return [array("f", base64.b64decode(entry["embedding"])).tolist() for entry in from_json(body)["data"]]


def _langchain(base_url: str) -> dict[str, Callable[[], Any]]:
    from langchain_llamacpp_server import LlamaServerEmbeddings

    ours = LlamaServerEmbeddings(base_url=base_url)
    ways: dict[str, Callable[[], Any]] = {"LlamaServerEmbeddings (LangChain)": lambda: ours.embed_documents(TEXTS)}
    try:
        from langchain_openai import OpenAIEmbeddings
    except ImportError:
        return ways
    peer = OpenAIEmbeddings(model="m", base_url=base_url + "/v1", api_key="k", check_embedding_ctx_length=False)
    return ways | {"OpenAIEmbeddings (LangChain)": lambda: peer.embed_documents(TEXTS)}


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
    return {
        "LlamaServerEmbedding (LlamaIndex)": lambda: ours.get_text_embedding_batch(TEXTS),
        "LlamaIndex floor": lambda: floor.get_text_embedding_batch(TEXTS),
    }


@contextmanager
def _replaying() -> Iterator[str]:
    """The address of a server in a process of its own that gives the reply to every request."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(there, reply()), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{here.recv()}"
    finally:
        process.terminate()
        process.join()


def _serve(pipe: Any, body: bytes) -> None:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    pipe.send(server.server_port)
    server.serve_forever()
