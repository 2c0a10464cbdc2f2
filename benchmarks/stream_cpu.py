"""CPU time that a client spends on each chunk of a stream, on the same replayed bytes, beside its floors.

The floor of an adapter is what can't be avoided: reading and parsing the bytes (`raw`), and the framework's own
machinery around a model that makes a ready chunk of each piece of text (`LangChain floor`, `LlamaIndex floor`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
from pydantic_core import from_json

from .replay import replaying, text_events, tool_events

CHUNKS = 3000
ROUNDS = 7
Stream = Callable[[], Iterator[Any]]


def measure(streams: dict[str, Stream]) -> dict[str, float]:
    """Microseconds of CPU for each chunk; the best of several interleaved rounds."""
    best = dict.fromkeys(streams, float("inf"))
    for _ in range(ROUNDS):
        for name, stream in streams.items():
            started = time.process_time()
            for _ in stream():
                pass
            best[name] = min(best[name], (time.process_time() - started) / CHUNKS * 1e6)
    return best


def run() -> list[dict[str, Any]]:
    """Rows of the table: kind of chunk, client, microseconds, ratio to its floor."""
    rows = []
    for kind, events in (("text", text_events(CHUNKS)), ("tool call", tool_events(CHUNKS))):
        with replaying(events, pause=0) as base_url:
            streams = {"raw": _raw(base_url), "llamacpp_server": _client(base_url)}
            streams |= _langchain(base_url, kind) | _llamaindex(base_url, kind)
            rows += _rows(kind, measure(streams))
    return rows


def _rows(kind: str, cost: dict[str, float]) -> list[dict[str, Any]]:
    rows = []
    for name, micros in cost.items():
        framework = "LangChain" if "LangChain" in name else "LlamaIndex" if "LlamaIndex" in name else None
        floor = cost["raw"] + (cost.get(f"{framework} floor", 0.0) if framework else 0.0)
        ratio = None if name.endswith("floor") else micros / floor
        rows.append(
            {"chunk": kind, "client": name, "µs": round(micros, 1), "times its floor": ratio and round(ratio, 2)}
        )
    return rows


def _raw(base_url: str) -> Stream:
    client = httpx.Client()

    def stream() -> Iterator[Any]:
        rest = b""
        with client.stream("POST", base_url + "/v1/chat/completions", json={"messages": [], "stream": True}) as reply:
            for data in reply.iter_bytes():
                *events, rest = (rest + data).split(b"\n\n")
                for event in events:
                    if event != b"data: [DONE]":
                        yield from_json(event[6:])

    return stream


def _client(base_url: str) -> Stream:
    from llamacpp_server import ChatRequest, LlamaServerClient

    client = LlamaServerClient(base_url)
    request = ChatRequest(messages=[{"role": "user", "content": "Hello"}])
    return lambda: client.stream_chat(request)


def _langchain(base_url: str, kind: str) -> dict[str, Stream]:
    try:
        from langchain_core.language_models import BaseChatModel
        from langchain_core.messages import AIMessageChunk
        from langchain_core.messages.tool import tool_call_chunk
        from langchain_core.outputs import ChatGenerationChunk
    except ImportError:
        return {}

    from langchain_llamacpp_server import ChatLlamaServer

    class Floor(BaseChatModel):
        @property
        def _llm_type(self) -> str:
            return "floor"

        def _generate(self, *args: Any, **kwargs: Any) -> Any:
            raise AssertionError("only streams")

        def _stream(self, *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
            for number in range(CHUNKS):
                if kind == "text":
                    message = AIMessageChunk(content=" word")
                else:
                    # Valid when whole, as a model's are: LangChain's parser of broken JSON is another story.
                    args = "{" if number == 0 else '"end":1}' if number == CHUNKS - 1 else f'"key{number}":{number},'
                    name, call_id = ("get_weather", "QLvEabc") if number == 0 else (None, None)
                    piece = tool_call_chunk(name=name, args=args, id=call_id, index=0)
                    message = AIMessageChunk(content="", tool_call_chunks=[piece])
                if number == CHUNKS - 1:
                    message.chunk_position = "last"
                yield ChatGenerationChunk(message=message)

    floor, ours = Floor(), ChatLlamaServer(base_url=base_url)
    streams: dict[str, Stream] = {
        "LangChain floor": lambda: floor.stream("Hello"),
        "ChatLlamaServer (LangChain)": lambda: ours.stream("Hello"),
    }
    try:
        from langchain_openai import ChatOpenAI
    except ImportError:
        return streams
    peer = ChatOpenAI(base_url=base_url + "/v1", api_key="none", model="m", stream_usage=True)
    return streams | {"ChatOpenAI (LangChain)": lambda: peer.stream("Hello")}


def _llamaindex(base_url: str, kind: str) -> dict[str, Stream]:
    try:
        from llama_index.core.base.llms.types import ChatMessage, ChatResponse, ChatResponseGen, LLMMetadata
        from llama_index.core.llms.callbacks import llm_chat_callback
        from llama_index.core.llms.custom import CustomLLM
    except ImportError:
        return {}

    from llamaindex_llamacpp_server import LlamaServer

    class Floor(CustomLLM):
        @property
        def metadata(self) -> LLMMetadata:
            return LLMMetadata()

        def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
            raise AssertionError("only streams")

        def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
            raise AssertionError("only chats")

        @llm_chat_callback()
        def stream_chat(self, messages: Any, **kwargs: Any) -> ChatResponseGen:
            def responses() -> ChatResponseGen:
                text = ""
                for _ in range(CHUNKS):
                    text += " word"
                    message = ChatMessage(role="assistant", content=text)
                    yield ChatResponse(message=message, delta=" word", raw={})

            return responses()

    floor, ours = Floor(), LlamaServer(base_url=base_url)
    messages = [ChatMessage(role="user", content="Hello")]
    streams: dict[str, Stream] = {
        "LlamaIndex floor": lambda: floor.stream_chat(messages),
        "LlamaServer (LlamaIndex)": lambda: ours.stream_chat(messages),
    }
    try:
        from llama_index.llms.openai_like import OpenAILike
    except ImportError:
        return streams
    peer = OpenAILike(api_base=base_url + "/v1", api_key="none", model="m", is_chat_model=True)
    return streams | {"OpenAILike (LlamaIndex)": lambda: peer.stream_chat(messages)}
