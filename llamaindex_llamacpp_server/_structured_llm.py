"""LlamaIndex's `StructuredLLM` with all eight methods: the core's has no streamed completion."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import aclosing, closing
from typing import Any, TypeVar

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse, MessageRole
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.llms.structured_llm import StructuredLLM
from llama_index.core.prompts import ChatPromptTemplate
from pydantic import BaseModel

from llamacpp_server.integration import hides_arguments

from ._turns import user_message

__all__ = ["StreamingStructuredLLM"]

R = TypeVar("R")


class StreamingStructuredLLM(StructuredLLM):
    """Result of `as_structured_llm`.

    Each item of a stream has the object so far in `raw`, and its JSON as text. Items do not continue each other, so the
    JSON is the `delta` of the last item only: joined deltas are the JSON of the complete object.
    """

    @llm_chat_callback()
    @hides_arguments
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> Generator[ChatResponse, None, None]:
        """The object as it grows."""
        return _items(self._objects(messages, kwargs), _chat_item)

    @llm_chat_callback()
    @hides_arguments
    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> AsyncGenerator[ChatResponse, None]:
        """Async version of `stream_chat`; returns an async generator."""
        return _aitems(await self._aobjects(messages, kwargs), _chat_item)

    @llm_completion_callback()
    @hides_arguments
    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> Generator[CompletionResponse, None, None]:
        """`stream_chat` with a prompt as the user's message, as in `complete`."""
        return _items(self._objects(user_message(prompt), kwargs), _completion_item)

    @llm_completion_callback()
    @hides_arguments
    async def astream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> AsyncGenerator[CompletionResponse, None]:
        """Async version of `stream_complete`; returns an async generator."""
        return _aitems(await self._aobjects(user_message(prompt), kwargs), _completion_item)

    def _objects(self, messages: Sequence[ChatMessage], kwargs: dict[str, Any]) -> Generator[Any, None, None]:
        prompt = ChatPromptTemplate(message_templates=list(messages))
        return self.llm.stream_structured_predict(self.output_cls, prompt, llm_kwargs=kwargs)

    async def _aobjects(self, messages: Sequence[ChatMessage], kwargs: dict[str, Any]) -> AsyncGenerator[Any, None]:
        prompt = ChatPromptTemplate(message_templates=list(messages))
        return await self.llm.astream_structured_predict(self.output_cls, prompt, llm_kwargs=kwargs)


def _items(
    objects: Generator[BaseModel, None, None], item: Callable[[BaseModel, str, str], R]
) -> Generator[R, None, None]:
    so_far, text = None, ""
    with closing(objects):
        for so_far in objects:
            text = so_far.model_dump_json()
            yield item(so_far, text, "")
    if so_far is not None:
        yield item(so_far, text, text)


async def _aitems(
    objects: AsyncGenerator[BaseModel, None], item: Callable[[BaseModel, str, str], R]
) -> AsyncGenerator[R, None]:
    so_far, text = None, ""
    async with aclosing(objects):
        async for so_far in objects:
            text = so_far.model_dump_json()
            yield item(so_far, text, "")
    if so_far is not None:
        yield item(so_far, text, text)


def _chat_item(so_far: BaseModel, text: str, delta: str) -> ChatResponse:
    return ChatResponse(message=ChatMessage(role=MessageRole.ASSISTANT, content=text), raw=so_far, delta=delta)


def _completion_item(so_far: BaseModel, text: str, delta: str) -> CompletionResponse:
    return CompletionResponse(text=text, raw=so_far, delta=delta)
