"""A state as text, with its images and sounds apart."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeGuard

from ..errors import BadRequestError


def json_text(value: Any) -> str:
    """Text as it is, anything else as JSON in the order of its keys."""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise BadRequestError(f"not JSON: {error}", remedy="use text, numbers, lists and dicts") from None


def split_media(value: Any) -> tuple[Any, list[Mapping[str, Any]]]:
    """The state with a note in the place of each image and sound, and these in their order."""
    found: list[Mapping[str, Any]] = []

    def noted(part: Mapping[str, Any]) -> str:
        found.append(part)
        return media_note(part, len(found))

    return _replaced(value, noted), found


def with_parts(value: Any, parts: Sequence[Mapping[str, Any]]) -> Any:
    """The state with other parts in the place of its own, in their order."""
    following = iter(parts)
    return _replaced(value, lambda _: next(following))


def media_note(part: Mapping[str, Any], number: int) -> str:
    """The text that stands in the place of an image or sound."""
    return f"[{'image' if part['type'] == 'image_url' else 'audio'} {number}]"


def in_messages(state: Any) -> int:
    """Number of images and audio parts of a state that `/v1/systemone` finds: those in messages' content (b11549)."""
    messages = state.get("messages") if isinstance(state, Mapping) else state
    contents = [entry.get("content") for entry in messages if isinstance(entry, Mapping)] if _is_list(messages) else []
    return sum(_is_media(part) for content in contents if _is_list(content) for part in content)


def data_url(part: Mapping[str, Any]) -> str:
    """The data of an image or sound as `/v1/systemone` takes it outside of messages."""
    if part["type"] == "image_url":
        return str(part["image_url"]["url"])
    return f"data:audio/{part['input_audio']['format']};base64,{part['input_audio']['data']}"


def _replaced(node: Any, replace: Callable[[Mapping[str, Any]], Any]) -> Any:
    if _is_media(node):
        return replace(node)
    if isinstance(node, Mapping):
        return {key: _replaced(entry, replace) for key, entry in node.items()}
    return [_replaced(entry, replace) for entry in node] if _is_list(node) else node


def _is_list(node: Any) -> TypeGuard[list[Any] | tuple[Any, ...]]:
    return isinstance(node, list | tuple)


def _is_media(node: Any) -> bool:
    if not isinstance(node, Mapping):
        return False
    kind = node.get("type")
    return kind in ("image_url", "input_audio") and kind in node
