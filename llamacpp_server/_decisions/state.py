"""A state as text, with its images apart."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

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
    """The state with a note in the place of each image, and the images in their order."""
    found: list[Mapping[str, Any]] = []

    def visit(node: Any) -> Any:
        if isinstance(node, Mapping):
            if node.get("type") == "image_url" and "image_url" in node:
                found.append(node)
                return f"[image {len(found)}]"
            return {key: visit(entry) for key, entry in node.items()}
        if isinstance(node, list | tuple):
            return [visit(entry) for entry in node]
        return node

    return visit(value), found
