"""Results of tools that the server can't read. A tool's author decides what they hold, not the program that sends them.

One such result would be sent again with every later turn, so it is made readable instead of refused: JSON becomes text,
and media that can't be read become a note. What a user says is left alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Final

Message = dict[str, Any]
Note = Callable[[str, str], None]

TOOL_ROLES: Final = frozenset({"tool", "function"})
_MEDIA: Final[Mapping[str, str]] = {
    "image_url": "image",
    "image": "image",
    "input_image": "image",
    "input_audio": "audio",
    "audio": "audio",
    "input_video": "video",
    "video_url": "video",
    "video": "video",
    "file": "file",
    "document": "file",
}
_READ: Final = frozenset({"text", "image_url", "input_audio", "input_video", "video_url", "file"})
_TEXTS: Final = ("text", "title", "name", "source", "url", "uri")
_JSON: Final = ("json", "value", "data")


def readable_results(messages: list[Message], note: Note) -> list[Message]:
    """JSON and other providers' blocks in tool results as text."""
    return [
        _readable(at, message, note) if isinstance(message.get("content"), list) else message
        for at, message in enumerate(messages)
    ]


def _readable(at: int, message: Message, note: Note) -> Message:
    parts = message.get("content")
    if not isinstance(parts, list) or message.get("role") not in TOOL_ROLES:
        return message
    ready = []
    for number, part in enumerate(parts):
        if not isinstance(part, Mapping) or part.get("type") in _READ:
            ready.append(part)
            continue
        note(f"messages[{at}].content[{number}]", f"replaced a {str(part.get('type'))[:40]!r} block of a tool by text")
        ready.append({"type": "text", "text": _as_text(part)})
    if ready != parts and all(isinstance(part, Mapping) and part.get("type") == "text" for part in ready):
        return {**message, "content": "\n".join(str(part.get("text", "")) for part in ready)}
    return {**message, "content": ready}


def without_media(messages: list[Message], kinds: Collection[str], note: Note) -> list[Message]:
    """Notes in place of the media of tool results that the model can't read.

    Args:
        messages: Not changed.
        kinds: What the model can't read: `image`, `audio`, `video`.
        note: Takes each place, and what was done there.
    """
    changed = []
    for at, message in enumerate(messages):
        parts = message.get("content")
        if message.get("role") not in TOOL_ROLES or not isinstance(parts, list):
            changed.append(message)
            continue
        ready = []
        for number, part in enumerate(parts):
            kind = _MEDIA.get(str(part.get("type"))) if isinstance(part, Mapping) else None
            if kind in kinds:
                note(
                    f"messages[{at}].content[{number}]", f"replaced {kind} content that the model can't read by a note"
                )
                part = unreadable(part, f"this model can't read {_PLURAL[str(kind)]}")
            ready.append(part)
        if ready != parts and all(isinstance(part, Mapping) and part.get("type") == "text" for part in ready):
            message = {**message, "content": "\n".join(part["text"] for part in ready)}
        else:
            message = {**message, "content": ready}
        changed.append(message)
    return changed


_PLURAL: Final = {"image": "images", "audio": "audio", "video": "videos"}


def unreadable(part: Mapping[str, Any], why: str) -> dict[str, Any]:
    """A text in place of a part: what it was, and why the model does not see it."""
    return {"type": "text", "text": f"[{_mime_type(part)}: {why}]"}


def _mime_type(part: Mapping[str, Any]) -> str:
    """The type of a part's data, as far as it says so."""
    kind = str(part.get("type"))
    for place in (part, part.get("source"), part.get(kind)):
        if isinstance(place, str):
            place = {"url": place}
        if not isinstance(place, Mapping):
            continue
        for key in ("mime_type", "media_type", "mimeType"):
            if isinstance(found := place.get(key), str) and found:
                return found[:80]
        for key in ("url", "file_data", "data"):
            if isinstance(found := place.get(key), str) and found.startswith("data:"):
                return found[5:85].partition(";")[0].partition(",")[0] or _MEDIA.get(kind, kind)
    return _MEDIA.get(kind, kind)[:40]


def _as_text(part: Mapping[str, Any]) -> str:
    kind = str(part.get("type"))
    if kind in _MEDIA:
        return str(unreadable(part, "llama-server can't read it")["text"])
    if kind == "json":
        return _json(next((part[key] for key in _JSON if key in part), part))
    if texts := list(_texts(part)):
        return "\n".join(texts)
    if any(key in part for key in ("base64", "blob", "data", "file_id")):
        return str(unreadable(part, "llama-server can't read it")["text"])
    return _json(part)


def _texts(part: Mapping[str, Any]) -> Iterator[str]:
    """The texts of a block that holds some, such as a search result or an embedded resource."""
    inner = part.get("content", part.get("resource"))
    items = inner if isinstance(inner, list) else [inner]
    texts = [item if isinstance(item, str) else item.get("text") for item in items if isinstance(item, str | Mapping)]
    if not any(isinstance(text, str) and text for text in (*texts, part.get("text"))):
        return
    yield from (str(part[key]) for key in _TEXTS if isinstance(part.get(key), str) and part[key])
    yield from (text for text in texts if isinstance(text, str) and text)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
