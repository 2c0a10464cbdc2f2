"""A reader finds each page by one search: run on the built site, after `make docs`."""

import importlib
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.rules import reference
from tests.rules.packages import ROOT

SITE = ROOT / "build" / "site"

pytestmark = pytest.mark.site

# What people type, and the page that answers it, which must be among the first three.
QUESTIONS = {
    "fastapi": "web-servers/",
    "langgraph memory": "howto/langgraph-memory/",
    "turn off thinking": "thinking/",
    "disable reasoning": "thinking/",
    "nomic": "langchain/",
    "why is it slow": "howto/why-is-it-slow/",
    "performance": "howto/why-is-it-slow/",
    "rerank": "langchain/",
    "migrate from ollama": "moving/",
    "migration": "moving/",
    "force json": "structured-output/",
    "json schema": "structured-output/",
    "run without a server": "local-server/",
    "nginx": "howto/nginx/",
    "https certificate": "howto/nginx/",
    "langfuse": "howto/tracing/",
    "langsmith": "howto/tracing/",
    "docker": "howto/start-a-server/",
    "compose": "howto/start-a-server/",
    "huggingface": "howto/start-a-server/",
    "download a model": "howto/start-a-server/",
    "cuda": "howto/start-a-server/",
    "windows": "howto/platforms/",
    "macos": "howto/platforms/",
    "supported versions": "stability/",
    "deprecation": "stability/",
    "silence warnings": "howto/logging/",
    "logging": "howto/logging/",
    "async": "howto/async-and-batch/",
    "batch": "howto/async-and-batch/",
    "images": "multimodal/",
    "audio": "multimodal/",
    "mcp": "howto/mcp/",
    "chroma": "howto/vector-stores/",
    "faiss": "howto/vector-stores/",
    "chunk size": "howto/split-texts/",
    "context overflow": "errors/",
    "prompt cache": "prompt-cache/",
    "count tokens": "tokens/",
    "lora": "multi-model/",
    "test my app": "howto/test-your-app/",
    "api key": "security/",
    "timeout": "waiting-and-faults/",
    "architecture": "architecture/",
    "probabilities": "decisions/",
    "route an agent": "decisions/",
    "stop the model thinking": "thinking/",
    "use a different port": "howto/start-a-server/",
    "two gpus": "howto/start-a-server/",
    "embed a long document": "howto/split-texts/",
    "output always valid json": "structured-output/",
    "agent forgets": "howto/langgraph-memory/",
    "connection refused": "errors/",
    "rate limit": "waiting-and-faults/",
    "docker network": "howto/start-a-server/",
    "cancel a request": "waiting-and-faults/",
    "out of memory": "howto/start-a-server/",
    "self signed certificate": "howto/nginx/",
    "stream to browser": "web-servers/",
    "unit test": "howto/test-your-app/",
    "chat history": "howto/langgraph-memory/",
    "speed up": "howto/why-is-it-slow/",
    "parallel requests": "howto/async-and-batch/",
    "offline": "local-server/",
    "retry": "waiting-and-faults/",
    "which model": "howto/start-a-server/",
    "tool not called": "errors/",
    "llama-swap": "multi-model/",
    "switch model": "multi-model/",
    "temperature": "request-fields/",
    "seed": "request-fields/",
    "top k": "request-fields/",
    "max tokens": "request-fields/",
    "system prompt": "prompt-cache/",
    "cache hits": "prompt-cache/",
    "prompt injection": "security/",
    "chat template": "flags/",
    "context window size": "flags/",
    "structured output pydantic": "structured-output/",
    "cut off answer": "structured-output/",
    "reasoning_content missing": "thinking/",
    "query prefix": "howto/vector-stores/",
    "wrong embedding vectors": "langchain/",
    "chat with documents": "langchain/",
    "user closes the page": "web-servers/",
    "speech to text": "client/",
    "hangs": "waiting-and-faults/",
    "yes or no question": "decisions/",
    "tool_choice ignored": "repairs/",
    "tool server": "howto/mcp/",
    "kubernetes": "howto/start-a-server/",
}


@pytest.fixture(scope="module")
def index() -> Any:
    """The index of the site, searched as the browser does: titles count more, and a word may be a prefix."""
    lunr = pytest.importorskip("lunr", reason="lunr is installed by `make docs`")
    built = json.loads((SITE / "search" / "search_index.json").read_text(encoding="utf-8"))
    separator = re.compile(built["config"]["separator"])
    documents: list[Any] = [
        (
            {
                "location": entry["location"],
                "title": " ".join(separator.split(entry["title"])),
                "text": " ".join(separator.split(re.sub("<[^>]+>", " ", entry["text"]))),
                "tags": " ".join(entry.get("tags", [])),
            },
            {"boost": entry.get("boost", 1)},
        )
        for entry in built["docs"]
    ]
    fields = [{"field_name": "title", "boost": 1000}, "text", {"field_name": "tags", "boost": 1000000}]
    return lunr.lunr(ref="location", fields=fields, documents=documents)


def pages(index: Any, query: str) -> Iterator[str]:
    """Pages in the order of their best section."""
    seen = set()
    words = " ".join(f"+{word} " for word in query.split())
    for found in index.search(words) or index.search(query):
        page = found["ref"].partition("#")[0]
        if page not in seen:
            seen.add(page)
            yield page


@pytest.mark.parametrize(("query", "page"), QUESTIONS.items())
def test_one_search_finds_the_page(index: Any, query: str, page: str) -> None:
    assert page in list(pages(index, query))[:3]


@pytest.mark.parametrize("package", reference.PACKAGES)
def test_every_public_name_is_in_the_built_reference(package: str) -> None:
    pages = "".join(path.read_text(encoding="utf-8") for path in SITE.glob("reference/*/index.html"))
    headings = set(re.findall(r'<h[2-4] id="[^"]*?(\w+)"', pages)) | set(re.findall(r"<code>(\w+)</code>", pages))
    module = importlib.import_module(package)
    assert [name for name in module.__all__ if not {name, name.lower()} & headings] == []
