"""The frameworks' own cost: models without a network that return ready-made chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseGen,
    LLMMetadata,
    TextBlock,
    ToolCallBlock,
)
from llama_index.core.llms.callbacks import llm_chat_callback
from llama_index.core.llms.custom import CustomLLM


def piece(number: int, count: int) -> str:
    """One of `count` pieces of a call's arguments. Valid when whole, as a model's are."""
    return "{" if number == 0 else '"end":1}' if number == count - 1 else f'"key{number}":{number},'


class LangChainFloor(BaseChatModel):
    """A chunk for each piece, made by LangChain's constructors."""

    kind: str
    count: int

    @property
    def _llm_type(self) -> str:
        return "floor"

    def _generate(self, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError("only streams")

    def _stream(self, *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        for number in range(self.count):
            if self.kind == "text":
                message = AIMessageChunk(content=" word")
            else:
                name, call_id = ("get_weather", "QLvEabc") if number == 0 else (None, None)
                call = tool_call_chunk(name=name, args=piece(number, self.count), id=call_id, index=0)
                message = AIMessageChunk(content="", tool_call_chunks=[call])
            if number == self.count - 1:
                message.chunk_position = "last"
            yield ChatGenerationChunk(message=message)


class LlamaIndexFloor(CustomLLM):
    """A response with all so far for each piece, made by LlamaIndex's constructors."""

    kind: str
    count: int

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata()

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
        raise AssertionError("only chats")

    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
        raise AssertionError("only chats")

    @llm_chat_callback()
    def stream_chat(self, messages: Any, **kwargs: Any) -> ChatResponseGen:
        return self._texts() if self.kind == "text" else self._calls()

    def _texts(self) -> ChatResponseGen:
        text = ""
        for _ in range(self.count):
            text += " word"
            yield ChatResponse(message=ChatMessage(role="assistant", content=text), delta=" word", raw={})

    def _calls(self) -> ChatResponseGen:
        arguments = ""
        for number in range(self.count):
            arguments += piece(number, self.count)
            call = ToolCallBlock(tool_call_id="QLvEabc", tool_name="get_weather", tool_kwargs=arguments)
            function = {"name": "get_weather", "arguments": arguments}
            # The core looks for calls in both places.
            kwargs = {"tool_calls": [{"id": "QLvEabc", "type": "function", "function": function}]}
            message = ChatMessage(role="assistant", blocks=[TextBlock(text=""), call], additional_kwargs=kwargs)
            yield ChatResponse(message=message, delta="", raw={})


def floors(kind: str, count: int) -> dict[str, Callable[[], Iterator[Any]]]:
    """A stream for each framework."""
    langchain, llamaindex = LangChainFloor(kind=kind, count=count), LlamaIndexFloor(kind=kind, count=count)
    messages = [ChatMessage(role="user", content="Hello")]
    return {"LangChain": lambda: langchain.stream("Hello"), "LlamaIndex": lambda: llamaindex.stream_chat(messages)}
