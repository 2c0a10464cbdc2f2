"""Convert messages of this provider to LangChain's standard content blocks.

This runs for each chunk of a v1 or v3 stream, so it is cheap. Blocks of tool calls get strings as indexes: integers
would be read as those of text and reasoning, and calls would be merged into them.
"""

from __future__ import annotations

from typing import Any, cast

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages import content as types
from langchain_core.messages.block_translators import register_translator

from ._chunks import PROVIDER


def translate_content(message: AIMessage) -> list[types.ContentBlock]:
    """The blocks of a whole message."""
    blocks = _blocks_of(message)
    for call in message.tool_calls:
        blocks.append({"type": "tool_call", "id": call["id"], "name": call["name"], "args": call["args"]})
    return cast(list[types.ContentBlock], blocks)


def translate_content_chunk(message: AIMessageChunk) -> list[types.ContentBlock]:
    """The blocks of a chunk, or of chunks added up."""
    if message.chunk_position == "last":
        return translate_content(message)
    blocks = _blocks_of(message)
    for chunk in message.tool_call_chunks:
        block: dict[str, Any] = {
            "type": "tool_call_chunk",
            "id": chunk["id"],
            "name": chunk["name"],
            "args": chunk["args"],
        }
        if chunk["index"] is not None:
            block["index"] = f"lc_tc_{chunk['index']}"
        blocks.append(block)
    return cast(list[types.ContentBlock], blocks)


def _blocks_of(message: AIMessage) -> list[dict[str, Any]]:
    if not isinstance(message.content, str):
        raise NotImplementedError  # how LangChain is asked to read it itself: this content is not the server's
    blocks: list[dict[str, Any]] = []
    thinking = message.additional_kwargs.get("reasoning_content")
    if thinking and isinstance(thinking, str):
        blocks.append({"type": "reasoning", "reasoning": thinking})
    if message.content:
        blocks.append({"type": "text", "text": message.content})
    return blocks


register_translator(PROVIDER, translate_content, translate_content_chunk)
