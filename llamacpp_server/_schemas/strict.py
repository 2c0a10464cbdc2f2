"""Schemas in which no property is optional: what `strict=True` means to OpenAI."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

# Where other schemas stand: by name, in a list, or alone.
_NAMED: Final = ("properties", "$defs", "definitions", "patternProperties")
_LISTED: Final = ("anyOf", "oneOf", "allOf", "prefixItems")
_SINGLE: Final = ("items", "additionalProperties")


def require_all(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a schema, with every property of every object required; nullable properties stay nullable."""
    strict = {key: _inner(key, value) for key, value in schema.items()}
    properties = schema.get("properties")
    return {**strict, "required": list(properties)} if isinstance(properties, Mapping) and properties else strict


def strict_tool(tool: Mapping[str, Any], strict: bool) -> dict[str, Any]:
    """Set `strict` on a tool; if true, every property of its arguments is required."""
    function = dict(tool["function"]) | {"strict": strict}
    if strict and isinstance(function.get("parameters"), Mapping):
        function["parameters"] = require_all(function["parameters"])
    return {**tool, "function": function}


def _inner(key: str, value: Any) -> Any:
    if key in _NAMED and isinstance(value, Mapping):
        return {name: _schema(inner) for name, inner in value.items()}
    if key in _LISTED and isinstance(value, list):
        return [_schema(inner) for inner in value]
    return _schema(value) if key in _SINGLE else value


def _schema(value: Any) -> Any:
    return require_all(value) if isinstance(value, Mapping) else value
