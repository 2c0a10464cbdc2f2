"""Create LlamaIndex's response objects without validation, for every token of a stream.

Their constructors would validate values that were already checked, which costs more than everything else that this
package does for a chunk. Each function does the same as pydantic's `model_construct`, with known fields; defaults come
from an object created the ordinary way, so fields added by a newer core are included. A test compares these objects
with those of the constructors.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    LogProb,
    MessageRole,
    TextBlock,
    ToolCallBlock,
)
from pydantic import BaseModel

__all__ = ["quick_call", "quick_message", "quick_response", "quick_text"]

M = TypeVar("M", bound=BaseModel)

_new = object.__new__
# The slots of every pydantic object, set without the lookups of `setattr`.
_set_values, _set_given, _set_extra, _set_private = (
    BaseModel.__dict__[slot].__set__
    for slot in ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")
)

_TEXT: Final = dict(TextBlock(text="").__dict__)
_CALL: Final = dict(ToolCallBlock(tool_name="").__dict__)
_MESSAGE: Final = dict(ChatMessage(role=MessageRole.ASSISTANT).__dict__)
_RESPONSE: Final = dict(ChatResponse(message=ChatMessage()).__dict__)


def quick_text(text: str) -> TextBlock:
    """A block of text."""
    values = _TEXT.copy()
    values["text"] = text
    return _construct(TextBlock, values, {"text"})


def quick_call(call_id: str, name: str, arguments: str) -> ToolCallBlock:
    """A tool call whose arguments may still be arriving."""
    values = _CALL.copy()
    values["tool_call_id"], values["tool_name"], values["tool_kwargs"] = call_id, name, arguments
    return _construct(ToolCallBlock, values, {"tool_call_id", "tool_name", "tool_kwargs"})


def quick_message(blocks: list[Any], additional_kwargs: dict[str, Any]) -> ChatMessage:
    """An assistant's message."""
    values = _MESSAGE.copy()
    values["blocks"], values["additional_kwargs"] = blocks, additional_kwargs
    return _construct(ChatMessage, values, {"role", "blocks", "additional_kwargs"})


def quick_response(
    message: ChatMessage,
    delta: str,
    raw: dict[str, Any],
    additional_kwargs: dict[str, Any],
    logprobs: list[list[LogProb]] | None,
) -> ChatResponse:
    """An item of a stream."""
    values = _RESPONSE.copy()
    values["message"], values["raw"], values["delta"] = message, raw, delta
    values["logprobs"], values["additional_kwargs"] = logprobs, additional_kwargs
    return _construct(ChatResponse, values, {"message", "raw", "delta", "logprobs", "additional_kwargs"})


def _construct(cls: type[M], values: dict[str, Any], given: set[str]) -> M:
    made = _new(cls)
    _set_values(made, values)
    _set_given(made, given)
    _set_extra(made, None)
    _set_private(made, None)
    return made
