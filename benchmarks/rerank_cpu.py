"""CPU time that a client spends on each ranked document, with the same replayed reply of 64 documents.

`bare request` is one httpx request and parsing its JSON. The other packages have no reranker for llama-server.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
from pydantic_core import from_json, to_json

from .replay import replaying_reply
from .timing import least

TITLE = "CPU for each reranked document"
DOCUMENTS = 64
TEXTS = [f"document number {number} " * 30 for number in range(DOCUMENTS)]


def reply() -> bytes:
    """The answer of `/v1/rerank` as b11434 gives it."""
    results = [{"index": number, "relevance_score": 1 / (number + 1)} for number in range(DOCUMENTS)]
    usage = {"prompt_tokens": 6400, "total_tokens": 6400}
    return to_json({"model": "tiny-encoder", "object": "list", "usage": usage, "results": results})


def run(quick: bool = False) -> list[dict[str, Any]]:
    """Rows of the table: client, microseconds for each document, ratio to the bare request."""
    with replaying_reply(reply()) as base_url:
        cost = least(_ways(base_url), 2 if quick else 60, DOCUMENTS)
    return [
        {"client": name, "µs": round(micros, 1), "times bare request": round(micros / cost["bare request"], 2)}
        for name, micros in cost.items()
    ]


def _ways(base_url: str) -> dict[str, Callable[[], Any]]:
    from langchain_core.documents import Document
    from llama_index.core.schema import NodeWithScore, TextNode

    from langchain_llamacpp_server import LlamaServerReranker
    from llamaindex_llamacpp_server import LlamaServerRerank

    bare = httpx.Client()
    body = {"query": "which?", "documents": TEXTS}
    chain = LlamaServerReranker(base_url=base_url, top_n=None)
    index = LlamaServerRerank(base_url=base_url, top_n=DOCUMENTS)
    documents = [Document(page_content=text) for text in TEXTS]
    nodes = [NodeWithScore(node=TextNode(text=text), score=0.5) for text in TEXTS]
    return {
        "bare request": lambda: from_json(bare.post(base_url + "/v1/rerank", json=body).content),
        "LlamaServerReranker (LangChain)": lambda: chain.compress_documents(documents, "which?"),
        "LlamaServerRerank (LlamaIndex)": lambda: index.postprocess_nodes(nodes, query_str="which?"),
    }
