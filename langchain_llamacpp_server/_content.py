"""Convert content blocks in every format of LangChain to parts of the server's messages. Pure.

Shapes: LangChain's standard blocks (v1), those before (v0, with `source_type`), OpenAI's and Anthropic's.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any, Final

from llamacpp_server import BadRequestError
from llamacpp_server.integration import warn_once

Block = Mapping[str, Any]
Part = dict[str, Any]

# Blocks that belong to the conversation's structure and are read elsewhere, or have no place in a request.
STRUCTURAL: Final = frozenset(
    {"reasoning", "thinking", "redacted_thinking", "tool_call", "tool_call_chunk", "invalid_tool_call", "tool_use"}
    | {"input_json_delta", "function_call"}
)
_SERVER_TOOLS: Final = frozenset(
    {"server_tool_call", "server_tool_call_chunk", "server_tool_result", "server_tool_use", "web_search_tool_result"}
)


def part(block: str | Block) -> Part | None:
    """The part for a block; None for one that has no place among the parts of a message.

    Raises:
        BadRequestError: For files that the server can't read, and blocks without their data.
    """
    if isinstance(block, str):
        return text_part(block) if block else None
    kind = block.get("type")
    if kind is None and isinstance(block.get("text"), str):
        return text_part(block["text"])
    reader = _READERS.get(str(kind))
    if reader is not None:
        return reader(block)
    if str(kind) in STRUCTURAL:
        return None
    if str(kind) in _SERVER_TOOLS:
        warn_once(f"dropping content blocks of type {kind!r}: they are specific to another provider")
        return None
    return dict(block)  # the server says itself what it can't read


def result_part(block: str | Block) -> Part | None:
    """The part for a block of a tool's result; unreadable ones are kept, and the client replaces them with a note."""
    try:
        return part(block)
    except BadRequestError:
        return dict(block) if isinstance(block, Mapping) else None


def text_part(text: str) -> Part:
    """A part of text."""
    return {"type": "text", "text": text}


def _text(block: Block) -> Part | None:
    return text_part(block["text"]) if block.get("text") else None


def _plain_text(block: Block) -> Part | None:
    """A text file (`text-plain`): the server takes it as text."""
    if block.get("text"):
        return text_part(block["text"])
    data, _ = _base64(block)
    if data is None:
        return _named_file(block)
    return text_part(_decoded(data))


def _named_file(block: Block) -> Part:
    """A file at another address, which the client reads if allowed."""
    name = block.get("filename") or block.get("title")
    file = {"file_data": _address(block, ""), **({"filename": name} if name else {})}
    return {"type": "file", "file": file}


def _decoded(data: str) -> str:
    try:
        return base64.b64decode(data, validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise BadRequestError(f"a file that should be text is not base64 of UTF-8: {error}") from error


def _image(block: Block) -> Part:
    return {"type": "image_url", "image_url": {"url": _address(block, "image/jpeg")}}


def _image_url(block: Block) -> Part:
    url = block.get("image_url")
    fields = {"url": url} if isinstance(url, str) else dict(url) if isinstance(url, Mapping) else {}
    return {"type": "image_url", "image_url": fields}


def _audio(block: Block) -> Part:
    return {"type": "input_audio", "input_audio": _media(block)}


def _video(block: Block) -> Part:
    return {"type": "input_video", "input_video": _media(block)}


def _media(block: Block) -> dict[str, str]:
    data, mime_type = _base64(block)
    if data is None:
        return {"url": _address(block, "")}
    return {"data": data, "format": _FORMATS.get(mime_type or "", (mime_type or "/wav").rpartition("/")[2])}


_FORMATS: Final = {"audio/mpeg": "mp3", "audio/x-wav": "wav", "audio/wave": "wav"}


def _file(block: Block) -> Part | None:
    """A text, image, audio or video file; others can't be sent."""
    inner = block.get("file")
    if isinstance(inner, Mapping):  # OpenAI's shape
        block = {"url": inner.get("file_data"), "filename": inner.get("filename"), "file_id": inner.get("file_id")}
    data, mime_type = _base64(block)
    kind = (mime_type or "").partition("/")[0]
    if data is not None and (kind == "text" or mime_type in ("application/json", "application/xml")):
        return text_part(_decoded(data))
    if kind in ("image", "audio", "video"):
        return {"image": _image, "audio": _audio, "video": _video}[kind](block)
    if data is None and block.get("url") and (mime_type is None or kind == "text"):
        return _named_file(block)
    what = "PDF files" if mime_type == "application/pdf" else f"files of type {mime_type or 'unknown'}"
    raise BadRequestError(
        f"llama-server does not read {what}",
        remedy="send the file's text, or its pages as images to a vision model",
    )


def _document(block: Block) -> Part | None:
    """Anthropic's `document`."""
    source = block.get("source") or {}
    if source.get("type") == "text":
        return text_part(source.get("data") or "")
    return _file(block)


def _refusal(block: Block) -> Part | None:
    return text_part(block["refusal"]) if block.get("refusal") else None


def _non_standard(block: Block) -> Part | None:
    value = block.get("value")
    return part(value) if isinstance(value, str | Mapping) else None


def _base64(block: Block) -> tuple[str | None, str | None]:
    """The base64 data of a block, without its `data:` head, and its MIME type; None for what is not there."""
    source = block.get("source")
    if isinstance(source, Mapping):  # Anthropic
        block = {"base64": source.get("data"), "mime_type": source.get("media_type"), "url": source.get("url")}
    mime_type = block.get("mime_type")
    data = block.get("base64") or block.get("data")
    url = block.get("url")
    if isinstance(data, bytes):
        data = base64.b64encode(data).decode()
    if data is None and isinstance(url, str) and url.startswith("data:") and ";base64," in url:
        data = url
    if isinstance(data, str) and data.startswith("data:"):
        head, _, data = data.partition(",")
        mime_type = head[len("data:") :].partition(";")[0] or mime_type
    return data, mime_type


def _address(block: Block, default_type: str) -> str:
    """A data URL of the block's data, or its address, which the client fetches if allowed."""
    data, mime_type = _base64(block)
    if data is not None:
        return f"data:{mime_type or default_type};base64,{data}"
    source = block.get("source")
    url = block.get("url") or (source.get("url") if isinstance(source, Mapping) else None)
    if not url:
        missing = "llama-server does not support file_id" if block.get("file_id") else "it has no data"
        raise BadRequestError(f"a content block of type {block.get('type')!r} can't be sent: {missing}")
    return str(url)


_READERS: Final[Mapping[str, Callable[[Block], Part | None]]] = {
    "text": _text,
    "input_text": _text,
    "output_text": _text,
    "text-plain": _plain_text,
    "image": _image,
    "image_url": _image_url,
    "input_image": _image_url,
    "audio": _audio,
    "video": _video,
    "file": _file,
    "document": _document,
    "refusal": _refusal,
    "non_standard": _non_standard,
}
