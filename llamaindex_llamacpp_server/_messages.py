"""Convert LlamaIndex messages to the server's: every block of `ChatMessage`, in new and legacy places.

Converting never changes the caller's messages. Paths and URLs in blocks are passed on; the client reads or fetches them
if allowed (LlamaIndex's own `resolve_*` methods would do so unconditionally).
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import singledispatch
from pathlib import Path
from typing import Any, Final, cast

from llama_index.core.base.llms.types import (
    AudioBlock,
    CachePoint,
    ChatMessage,
    CitableBlock,
    CitationBlock,
    DocumentBlock,
    ImageBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    VideoBlock,
)

from llamacpp_server import BadRequestError
from llamacpp_server.integration import list_of
from llamacpp_server.wire import AudioSourceDict, ContentPartDict, MessageDict, ToolCallDict

__all__ = ["to_wire"]

_ROLES: Final = {role: role.value for role in MessageRole} | {
    MessageRole.DEVELOPER: "system",
    MessageRole.FUNCTION: "tool",
    MessageRole.CHATBOT: "assistant",
    MessageRole.MODEL: "assistant",
}
_BLOCKS_OF: Final[dict[str, Callable[[bytes, str], Any]]] = {
    "image": lambda data, kind: ImageBlock(image=data, image_mimetype=kind),
    "audio": lambda data, kind: AudioBlock(audio=data),
    "video": lambda data, kind: VideoBlock(video=data, video_mimetype=kind),
}


def to_wire(messages: Sequence[ChatMessage], *, replay_thinking: bool) -> list[MessageDict]:
    """Return the conversation in the server's format.

    Args:
        messages: Left as they are.
        replay_thinking: Whether to send the model's earlier reasoning back to it.

    Raises:
        BadRequestError: For a block that can't be sent or read.
    """
    wire: list[MessageDict] = []
    unanswered: list[str] = []
    for number, message in enumerate(list_of(messages, "messages", ChatMessage)):
        role = _ROLES[message.role]
        if len(blocks := message.blocks) == 1 and type(blocks[0]) is TextBlock:
            content: str | list[ContentPartDict] = blocks[0].text
        else:
            content = _content(blocks, result=role == "tool")
        converted: MessageDict = {"role": role, "content": content}
        if role == "assistant":
            calls = _tool_calls(message, number)
            unanswered = [call["id"] for call in calls]
            if calls:
                converted["tool_calls"] = calls
            thinking = _thinking(message) if replay_thinking else ""
            if thinking:
                converted["reasoning_content"] = thinking
        elif role == "tool":
            _name_call(converted, message.additional_kwargs, unanswered)
        wire.append(converted)
    return wire


def _content(blocks: Iterable[Any], *, result: bool = False) -> str | list[ContentPartDict]:
    """Return a string if everything is text, because some templates accept nothing else."""
    read = _result_parts if result else _parts
    parts = [part for block in blocks for part in read(block)]
    texts = [part["text"] for part in parts if part["type"] == "text"]
    # LlamaIndex itself joins the texts of a message so (`ChatMessage.content`).
    return "\n".join(texts) if len(texts) == len(parts) else parts


def _result_parts(block: Any) -> list[ContentPartDict]:
    """The parts of a tool's block; an unreadable one is named, and the client replaces it with a note."""
    if isinstance(block, CitableBlock):
        inner = (part for one in block.content for part in _result_parts(one))
        return [_text(f"{block.title} ({block.source}):"), *inner]
    try:
        return _parts(block)
    except BadRequestError:
        kind = next((getattr(block, name, None) for name in _MIME_TYPES if getattr(block, name, None)), None)
        described = {"type": "document", "mime_type": kind or block.block_type}
        return [cast(ContentPartDict, described)]


_MIME_TYPES: Final = ("document_mimetype", "image_mimetype", "video_mimetype")


@singledispatch
def _parts(block: Any) -> list[ContentPartDict]:
    """Convert a block to a part of the message's content."""
    raise BadRequestError(f"a {type(block).__name__} can't be sent to llama-server")


@_parts.register
def _(block: TextBlock) -> list[ContentPartDict]:
    return [_text(block.text)]


@_parts.register
def _(block: ImageBlock) -> list[ContentPartDict]:
    if block.image is None and (place := _source(block)):
        return [{"type": "image_url", "image_url": {"url": place}}]
    # The server looks at the bytes; the type has to be an image's all the same.
    known = block.image_mimetype or ""
    kind = known if known.startswith("image/") else "image/png"
    return [{"type": "image_url", "image_url": {"url": f"data:{kind};base64,{_base64(block.resolve_image, 'image')}"}}]


@_parts.register
def _(block: AudioBlock) -> list[ContentPartDict]:
    if block.audio is None and (place := _source(block)):
        return [{"type": "input_audio", "input_audio": {"url": place}}]
    source: AudioSourceDict = {"data": _base64(block.resolve_audio, "audio")}
    if block.format:
        source["format"] = block.format
    return [{"type": "input_audio", "input_audio": source}]


@_parts.register
def _(block: VideoBlock) -> list[ContentPartDict]:
    if block.video is None and (place := _source(block)):
        return [{"type": "input_video", "input_video": {"url": place}}]
    return [{"type": "input_video", "input_video": {"data": _base64(block.resolve_video, "video")}}]


@_parts.register
def _(block: DocumentBlock) -> list[ContentPartDict]:
    """A document's text with its title; images, audio and videos as media parts."""
    if block.data is None and (place := _source(block)):
        return [{"type": "file", "file": {"file_data": place, "filename": block.title or ""}}]
    kind = block.document_mimetype or ""
    data = _bytes(block.resolve_document, "document")
    family = kind.partition("/")[0]
    if family in _BLOCKS_OF:
        return _parts(_BLOCKS_OF[family](data, kind))
    text = _readable(data)
    if text is None:
        raise BadRequestError(
            f"the document {block.title!r} ({kind or 'of unknown type'}) is not text; only text is supported",
            remedy="extract its text first, with one of LlamaIndex's readers",
        )
    return [_text(f"{block.title}:\n{text}")]


@_parts.register
def _(block: CitableBlock) -> list[ContentPartDict]:
    return [_text(f"{block.title} ({block.source}):"), *(part for inner in block.content for part in _parts(inner))]


@_parts.register
def _(block: CitationBlock) -> list[ContentPartDict]:
    return [_text(f"{block.title} ({block.source}):"), *_parts(block.cited_content)]


@_parts.register(ThinkingBlock)
@_parts.register(ToolCallBlock)
@_parts.register(CachePoint)
def _(block: Any) -> list[ContentPartDict]:
    # Sent in their own fields. A cache point needs none: the server reuses every common prefix by itself.
    return []


def _text(text: str) -> ContentPartDict:
    return {"type": "text", "text": text}


def _source(block: Any) -> str:
    """Address of a block's data; "" if there is none."""
    if block.path is not None:
        return Path(block.path).absolute().as_uri()
    return str(block.url or "")


def _base64(resolve: Any, kind: str) -> str:
    return b64encode(_bytes(resolve, kind)).decode()


def _bytes(resolve: Any, kind: str) -> bytes:
    """The bytes of a block. They are not asked for as base64, because blocks with an open file ignore that."""
    try:
        data = resolve().read()
    except (ValueError, OSError) as error:
        raise BadRequestError(f"can't read the {kind} of a message: {error}") from error
    return data if isinstance(data, bytes) else str(data).encode()


def _readable(data: bytes) -> str | None:
    """The text of a document; None if it is not text. A PDF may start like text."""
    try:
        return None if data.startswith(b"%PDF-") else data.decode()
    except UnicodeDecodeError:
        return None


def _thinking(message: ChatMessage) -> str:
    return "\n".join(block.content for block in message.blocks if isinstance(block, ThinkingBlock) and block.content)


def _tool_calls(message: ChatMessage, number: int) -> list[ToolCallDict]:
    blocks = [block for block in message.blocks if isinstance(block, ToolCallBlock)]
    if blocks:
        return [
            _call(block.tool_call_id, block.tool_name, block.tool_kwargs, f"call_{number}_{position}")
            for position, block in enumerate(blocks)
        ]
    legacy = message.additional_kwargs.get("tool_calls") or ()
    if not isinstance(legacy, Sequence) or isinstance(legacy, str):
        raise BadRequestError(f"additional_kwargs['tool_calls'] of a message must be a list, not {legacy!r:.80}")
    return [_legacy_call(call, f"call_{number}_{position}") for position, call in enumerate(legacy)]


def _legacy_call(call: Any, fallback_id: str) -> ToolCallDict:
    """A call in the format of other integrations: the OpenAI dict, or an object with the same attributes."""
    if hasattr(call, "model_dump"):
        call = call.model_dump()
    elif not isinstance(call, Mapping):
        call = getattr(call, "__dict__", None)
    function = call.get("function") if isinstance(call, Mapping) else None
    if function is None or not isinstance(function, Mapping):
        raise BadRequestError(f"a tool call in additional_kwargs has no function: {call!r:.80}")
    return _call(call.get("id"), function.get("name") or "", function.get("arguments") or {}, fallback_id)


def _call(call_id: str | None, name: str, arguments: str | Mapping[str, Any], fallback_id: str) -> ToolCallDict:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False, default=str)
    return {
        "id": call_id or fallback_id,
        "type": "function",
        "function": {"name": name, "arguments": text or "{}"},
    }


def _name_call(converted: MessageDict, details: Mapping[str, Any], unanswered: list[str]) -> None:
    """Name the call that a tool's message answers: the given one, else the first unanswered one."""
    call_id = details.get("tool_call_id")
    if call_id in unanswered:
        unanswered.remove(call_id)
    elif not call_id and unanswered:
        call_id = unanswered.pop(0)
    if call_id:
        converted["tool_call_id"] = str(call_id)
    if isinstance(details.get("name"), str):
        converted["name"] = details["name"]
