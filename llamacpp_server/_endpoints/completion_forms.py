"""The form of a completion's answer, in the one field in which every server holds an answer to it. Pure.

`/v1/completions` has no `response_format` and passes over it. It takes a `json_schema` as it is; the wheel's llguidance
drops one that has a keyword it does not know, with status 200 (2026.10.11549). So a schema is cleaned, and one with
keywords that not every server enforces is sent as a grammar that is written here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from .._notices import log_repairs
from .._schemas import (
    clean_schema,
    schema_grammar,
)
from ..errors import BadRequestError
from ..replies import Repair

_HELD: Final = frozenset(
    {"type", "properties", "required", "additionalProperties", "items", "prefixItems", "minItems", "maxItems", "enum"}
    | {"const", "anyOf", "$ref", "$defs", "minLength", "maxLength", "minimum", "maximum", "pattern"}
    | {"exclusiveMinimum", "exclusiveMaximum", "title", "description", "default", "examples"}
)
"""Keywords that llama-server's converter and llguidance both hold an answer to, or need not."""


def with_held_form(params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of a completion whose schema is held.

    Raises:
        BadRequestError: For a `response_format` of an unknown type.
    """
    body = dict(params)
    if (form := body.pop("response_format", None)) is not None:
        schema = _schema_of(form)
        if schema is not None:
            body["json_schema"] = schema
    if not body.get("json_schema"):
        return body
    cleaned, repairs = clean_schema(body["json_schema"], name="json_schema")
    unknown = sorted(_keywords(cleaned) - _HELD)
    if unknown:
        body["grammar"] = schema_grammar(body.pop("json_schema"))
        what = f"sent as a grammar, because some servers do not enforce a completion schema with {', '.join(unknown)}"
        repairs += (Repair("schema_as_grammar", "json_schema", what),)
    else:
        body["json_schema"] = cleaned
    log_repairs(repairs)
    return body


def _schema_of(form: Mapping[str, Any]) -> Mapping[str, Any] | None:
    kind = form.get("type")
    if kind == "text":
        return None
    if kind not in ("json_object", "json_schema"):
        raise BadRequestError(f"unknown response_format type {kind!r}", remedy="use json_schema or json_object")
    inner = form.get("json_schema") if isinstance(form.get("json_schema"), Mapping) else form
    schema = inner.get("schema") if isinstance(inner, Mapping) else None
    return schema if isinstance(schema, Mapping) and schema else {"type": "object"}


def _keywords(schema: Any) -> set[str]:
    """The keywords of a schema, at any depth; not the names of its properties."""
    if isinstance(schema, list):
        return set().union(*map(_keywords, schema))
    if not isinstance(schema, Mapping):
        return set()
    found = set(schema)
    for keyword, value in schema.items():
        if keyword in ("properties", "$defs", "patternProperties"):
            found |= set().union(*map(_keywords, value.values())) if isinstance(value, Mapping) else set()
        elif keyword not in ("enum", "const", "default", "examples"):
            found |= _keywords(value)
    return found


__all__ = ["with_held_form"]
