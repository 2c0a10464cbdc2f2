"""Content blocks of other APIs, as the server reads them. Pure.

Conversations are stored in the form of the API that they were held with: Anthropic's Messages (`tool_use`,
`tool_result`, `thinking`, `image` with a `source`), OpenAI's Responses (`input_text`, `output_text`, `input_image`),
MCP (`image` with `data` and `mimeType`). llama-server refuses a message with any of them (b11549). What they mean is
plain, so they are sent in its own form. Blocks that nobody knows stay as they are: a newer server may.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from .plain import PlainMessages

Message = dict[str, Any]
Part = Mapping[str, Any]
Note = Callable[[str, str], None]

READ_PARTS: Final = frozenset({"text", "image_url", "input_audio", "input_video", "video_url", "file"})
"""Types of parts that the server reads, or `_media` makes readable."""
_TOOL_ROLES: Final = frozenset({"tool", "function"})
_THINKING: Final = frozenset({"thinking", "reasoning", "redacted_thinking"})
_MIME_TYPES: Final = ("media_type", "mime_type", "mimeType")
_DATA: Final = ("data", "base64", "file_data", "blob")
_ADDRESS: Final = ("url", "file_url")


def known_blocks(messages: Sequence[Mapping[str, Any]], note: Note) -> list[Message]:
    """The messages with blocks of other APIs in the server's form.

    Args:
        messages: Not changed.
        note: Takes each place, and what was done there.
    """
    changed: list[Message] = []
    for at, message in enumerate(messages):
        if holds_foreign_blocks([message]):
            changed += _converted(message, at, note)
        else:
            changed.append(dict(message))
    return changed


def holds_foreign_blocks(messages: Sequence[Mapping[str, Any]]) -> bool:
    """Whether there is anything that `known_blocks` may change."""
    return type(messages) is not PlainMessages and any(
        isinstance(part, Mapping) and part.get("type") not in READ_PARTS
        for message in messages
        if isinstance(parts := message.get("content"), list | tuple)
        for part in parts
    )


def unread_block(messages: Sequence[Mapping[str, Any]]) -> str | None:
    """The place and type of the first block that the server does not read."""
    for at, message in enumerate(messages):
        parts = message.get("content")
        for number, part in enumerate(parts if isinstance(parts, list | tuple) else ()):
            if isinstance(part, Mapping) and part.get("type") not in READ_PARTS:
                return f"messages[{at}].content[{number}] is of type {str(part.get('type'))[:40]!r}"
    return None


def _converted(message: Mapping[str, Any], at: int, note: Note) -> list[Message]:
    """One message as one, or after the results of tools that it holds."""
    own, results, calls, thoughts = list[Any](), list[Message](), list[dict[str, Any]](), list[str]()
    is_answer = message.get("role") == "assistant"
    for number, part in enumerate(message["content"]):
        kind = part.get("type") if isinstance(part, Mapping) else "text"
        place = f"messages[{at}].content[{number}]"
        if kind == "tool_result" and not is_answer:
            results.append(_result(part))
        elif kind == "tool_use" and is_answer:
            function = {"name": part.get("name"), "arguments": part.get("input") or {}}
            calls.append({"type": "function", "id": part.get("id"), "function": function})
        elif kind in _THINKING and is_answer:
            thoughts.append(_thought(part))
        else:
            made = None if kind in READ_PARTS else _part(part)
            own.append(part if made is None else made)
            if made is None:
                continue
        what = (
            "added the missing type of a text block"
            if kind is None
            else f"converted a block of type {str(kind)[:40]!r}"
        )
        note(place, what)
    changed = {**message, "content": _joined(own) if message.get("role") in _TOOL_ROLES else own}
    if calls:
        changed["tool_calls"] = [*(message.get("tool_calls") or ()), *calls]
    if (thought := "\n".join(filter(None, thoughts))) and not message.get("reasoning_content"):
        changed["reasoning_content"] = thought
    return [*results, changed] if own or not results else results


def _result(part: Part) -> Message:
    content = part.get("content")
    if isinstance(content, list):
        made = [(block, _part(block) if _is_foreign(block) else None) for block in content]
        content = _joined([block if new is None else new for block, new in made])
    return {"role": "tool", "tool_call_id": part.get("tool_use_id"), "content": "" if content is None else content}


def _joined(parts: list[Any]) -> list[Any] | str:
    """Texts as one text: some templates take nothing else of a tool. A block nobody knows may hold more than a text."""
    if all(isinstance(part, Mapping) and part.get("type") == "text" for part in parts):
        texts = [part.get("text") for part in parts]
        return "\n".join(texts) if all(isinstance(text, str) for text in texts) else parts
    return parts


def _is_foreign(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type") not in READ_PARTS


def _thought(part: Part) -> str:
    said = part.get("thinking", part.get("reasoning", part.get("text")))
    summary = part.get("summary")
    texts = [said] if said else [entry.get("text") for entry in summary or () if isinstance(entry, Mapping)]
    return "\n".join(text for text in texts if isinstance(text, str))


def _part(part: Part) -> dict[str, Any] | None:
    """One part in the server's form; None for what nobody knows."""
    kind = part.get("type")
    said = part.get("refusal") if kind == "refusal" else part.get("text")
    if kind in ("input_text", "output_text", "refusal", None):
        return _text(said)
    if kind == "resource" and isinstance(part.get("resource"), Mapping):
        return _text(part["resource"].get("text"))
    if kind in ("document", "input_file"):
        return _document(part)
    if kind in ("image", "input_image"):
        url = _address(part, "image_url", "image/png")
        return None if url is None else {"type": "image_url", "image_url": {"url": url}}
    if kind == "audio":
        url = _address(part, "audio", "audio/wav")
        return None if url is None else {"type": "input_audio", "input_audio": {"url": url}}
    return None


def _text(said: object) -> dict[str, Any] | None:
    return {"type": "text", "text": said} if isinstance(said, str) else None


def _document(part: Part) -> dict[str, Any] | None:
    source, title = part.get("source"), part.get("title") or part.get("filename")
    if isinstance(source, Mapping) and source.get("type") in ("text", "content"):
        content = source.get("data", source.get("content"))
        blocks = content if isinstance(content, list) else [{"text": content}]
        texts = [block.get("text") for block in blocks if isinstance(block, Mapping)]
        found = [text for text in (title, *texts) if isinstance(text, str) and text]
        return _text("\n".join(found)) if texts and len(found) > bool(title) else None
    url = _address(part, "file", "application/octet-stream")
    return None if url is None else {"type": "file", "file": {"url": url, **({"filename": title} if title else {})}}


def _address(part: Part, inner: str, usual: str) -> str | None:
    """Address of a part's data, or the data itself as a data URL."""
    for place in (part.get("source"), part.get(inner), part):
        if isinstance(place, str) and place:
            return place
        if not isinstance(place, Mapping):
            continue
        for key in _ADDRESS:
            if isinstance(found := place.get(key), str) and found:
                return found
        for key in _DATA:
            if isinstance(found := place.get(key), str) and found:
                kinds = [place[name] for name in _MIME_TYPES if isinstance(place.get(name), str)]
                return found if found.startswith("data:") else f"data:{(*kinds, usual)[0]};base64,{found}"
    return None
