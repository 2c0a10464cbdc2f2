"""The clients to compare: raw reads, this package, and the installed peers."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, NamedTuple

import httpx
from pydantic_core import from_json

from llamacpp_server import AsyncLlamaServerClient, ChatRequest, LlamaServerClient

RAW = "raw read (httpx, JSON)"
PATH = "/v1/chat/completions"
QUESTION = "Hello"
TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": f"search_{number}",
            "description": "Searches a catalogue for books, their authors and the shelves they stand on.",
            "parameters": {
                "type": "object",
                "properties": {"text": {"type": "string", "description": "Words."}, "most": {"type": "integer"}},
                "required": ["text"],
            },
        },
    }
    for number in range(10)
]


class Client(NamedTuple):
    """One way to stream a chat. `framework` is that of its floor, "" for none."""

    name: str
    framework: str
    stream: Callable[[], Iterator[Any]]
    astream: Callable[[], AsyncIterator[Any]]


def chat_clients(base_url: str) -> list[Client]:
    """All that are installed, with connections of their own."""
    return [_raw(base_url), _own(base_url), *_langchain(base_url), *_llamaindex(base_url)]


def attribute(module: str, name: str) -> Any:
    """A class of a peer; None when the peer is not installed."""
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError:
        return None


def _raw(base_url: str) -> Client:
    # With httpx's own limits, no more than 100 streams would run at once.
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    client, aclient = httpx.Client(timeout=60, limits=limits), httpx.AsyncClient(timeout=60, limits=limits)
    request = {"json": {"messages": [{"role": "user", "content": QUESTION}], "stream": True}}

    def stream() -> Iterator[Any]:
        rest = b""
        with client.stream("POST", base_url + PATH, **request) as reply:
            for data in reply.iter_bytes():
                *events, rest = (rest + data).split(b"\n\n")
                for event in events:
                    if event != b"data: [DONE]":
                        yield from_json(event[6:])

    async def astream() -> AsyncIterator[Any]:
        rest = b""
        async with aclient.stream("POST", base_url + PATH, **request) as reply:
            async for data in reply.aiter_bytes():
                *events, rest = (rest + data).split(b"\n\n")
                for event in events:
                    if event != b"data: [DONE]":
                        yield from_json(event[6:])

    return Client(RAW, "", stream, astream)


def _own(base_url: str) -> Client:
    client, aclient = LlamaServerClient(base_url), AsyncLlamaServerClient(base_url)
    request = ChatRequest(messages=[{"role": "user", "content": QUESTION}])
    return Client("llamacpp_server", "", lambda: client.stream_chat(request), lambda: aclient.stream_chat(request))


def langchain_models(base_url: str, **options: Any) -> dict[str, Any]:
    """LangChain's chat models by name, ours first, with options that all of them know."""
    from langchain_llamacpp_server import ChatLlamaServer

    models: dict[str, Any] = {"ChatLlamaServer": ChatLlamaServer(base_url=base_url, **options)}
    if peer := attribute("langchain_openai", "ChatOpenAI"):
        named = {"base_url": base_url + "/v1", "api_key": "none", "model": "m"}
        models["ChatOpenAI"] = peer(**named, stream_usage=True, **options)
    if peer := attribute("langchain_llama_cpp", "ChatLlama"):
        models["ChatLlama (langchain-llama-cpp)"] = peer(base_url=base_url, model="m", **options)
    return models


def _langchain(base_url: str) -> list[Client]:
    models = langchain_models(base_url)

    def client(name: str, model: Any) -> Client:
        return Client(name, "LangChain", lambda: model.stream(QUESTION), lambda: model.astream(QUESTION))

    return [client(name, model) for name, model in models.items()]


def llamaindex_models(base_url: str, **options: Any) -> dict[str, Any]:
    """LlamaIndex's LLMs by name, ours first, with options that all of them know."""
    from llamaindex_llamacpp_server import LlamaServer

    models: dict[str, Any] = {"LlamaServer": LlamaServer(base_url=base_url, context_window=4096, **options)}
    if peer := attribute("llama_index.llms.openai_like", "OpenAILike"):
        named = {"api_base": base_url + "/v1", "api_key": "none", "model": "m"}
        models["OpenAILike"] = peer(**named, is_chat_model=True, is_function_calling_model=True, **options)
    return models


def llamaindex_tools() -> list[Any]:
    """Ten tools as LlamaIndex has them, like `TOOLS`."""
    from llama_index.core.tools import FunctionTool

    def search(text: str, most: int | None = None) -> str:
        return "shelf 3"

    functions = [tool["function"] for tool in TOOLS]
    return [FunctionTool.from_defaults(search, name=f["name"], description=f["description"]) for f in functions]


def _llamaindex(base_url: str) -> list[Client]:
    from llama_index.core.llms import ChatMessage

    models = llamaindex_models(base_url)
    messages = [ChatMessage(role="user", content=QUESTION)]

    def client(name: str, model: Any) -> Client:
        async def astream() -> AsyncIterator[Any]:
            async for response in await model.astream_chat(messages):
                yield response

        return Client(name, "LlamaIndex", lambda: model.stream_chat(messages), astream)

    return [client(name, model) for name, model in models.items()]
