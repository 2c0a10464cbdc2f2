"""Convert the schema of a completion to the one field that every server enforces. Pure.

`/v1/completions` ignores `response_format`. It accepts any `json_schema`, but the wheel's llguidance drops one with an
unknown keyword and returns status 200 (2026.10.11549). A schema is therefore sent only with the keywords that every
server enforces. Common formats become patterns; keywords that no server enforces are removed and reported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, TypeVar

from .._notices import log_repairs
from .._schemas import clean_schema, with_subschemas
from ..errors import BadRequestError
from ..replies import Repair
from ..requests import CompletionRequest, InfillRequest

R = TypeVar("R", CompletionRequest, InfillRequest)

_HELD: Final = frozenset(
    {"type", "properties", "required", "additionalProperties", "items", "prefixItems", "minItems", "maxItems", "enum"}
    | {"const", "anyOf", "$ref", "$defs", "minLength", "maxLength", "minimum", "maximum", "pattern"}
    | {"exclusiveMinimum", "exclusiveMaximum", "title", "description", "default", "examples"}
)
"""Keywords that llama-server's converter and llguidance both hold an answer to, or need not."""
_NOTES: Final = frozenset(
    {"$comment", "$schema", "$id", "$anchor", "readOnly", "writeOnly", "deprecated", "contentEncoding"}
    | {"contentMediaType", "example", "nullable"}
)
"""Keywords that allow and forbid nothing."""
_DATE: Final = "[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[1-2][0-9]|3[0-1])"
_TIME: Final = r"([0-1][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?(Z|[+-]([0-1][0-9]|2[0-3]):[0-5][0-9])"
_BYTE: Final = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_FORMATS: Final = {
    "date": f"^{_DATE}$",
    "time": f"^{_TIME}$",
    "date-time": f"^{_DATE}T{_TIME}$",
    "uuid": "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$",
    "ipv4": rf"^{_BYTE}\.{_BYTE}\.{_BYTE}\.{_BYTE}$",
    "email": r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,31}@[A-Za-z0-9][A-Za-z0-9-]{0,31}(\.[A-Za-z]{2,12}){1,2}$",
}


def with_held_form(params: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[Repair, ...]]:
    """Return the parameters of a completion with an enforceable schema, and the repairs.

    Raises:
        BadRequestError: For a `response_format` of an unknown type.
    """
    body = dict(params)
    if isinstance(form := body.get("response_format"), Mapping):
        del body["response_format"]
        schema = _schema_of(form)
        if schema is not None:
            body["json_schema"] = schema
    if not (isinstance(body.get("json_schema"), Mapping) and body["json_schema"]):
        return body, ()
    cleaned, repairs = clean_schema(_with_patterns(body["json_schema"]), name="json_schema")
    dropped = set[str]()
    body["json_schema"] = _enforceable(cleaned, dropped)
    if dropped:
        what = f"dropped keywords that llama-server does not enforce in a completion: {_listed(dropped)}"
        repairs += (Repair("unheld_schema", "json_schema", what),)
    return body, repairs


def with_held_request(request: R) -> tuple[R, tuple[Repair, ...]]:
    """The request with such parameters."""
    params, repairs = with_held_form(request.params)
    if params == request.params:
        return request, ()
    log_repairs(repairs)
    return replace(request, params=params), repairs


def _schema_of(form: Mapping[str, Any]) -> Mapping[str, Any] | None:
    kind = form.get("type")
    if kind == "text":
        return None
    if kind not in ("json_object", "json_schema"):
        raise BadRequestError(f"unknown response_format type {kind!r}", remedy="use json_schema or json_object")
    inner = form.get("json_schema") if isinstance(form.get("json_schema"), Mapping) else form
    schema = inner.get("schema") if isinstance(inner, Mapping) else None
    return schema if isinstance(schema, Mapping) and schema else {"type": "object"}


def _with_patterns(schema: Mapping[str, Any], _: object = ()) -> Mapping[str, Any]:
    """A schema with patterns in place of formats that have one."""
    made = with_subschemas(schema, _with_patterns)
    known = schema.get("format")
    if not (isinstance(known, str) and known in _FORMATS) or "pattern" in schema:
        return made
    return {keyword: value for keyword, value in made.items() if keyword != "format"} | {"pattern": _FORMATS[known]}


def _enforceable(schema: Mapping[str, Any], dropped: set[str]) -> dict[str, Any]:
    """A schema without keywords that are not held; those that mean something are added to `dropped`."""
    kept = dict[str, Any]()
    for keyword, value in schema.items():
        if keyword in _HELD:
            kept[keyword] = value
        elif keyword == "oneOf":  # to llama-server's converter the same; llguidance refuses it
            kept["anyOf"] = value
        elif keyword not in _NOTES and not keyword.startswith("x-"):
            dropped.add(f"format {value}" if keyword == "format" else keyword)
    held = dict(with_subschemas(kept, lambda one, _: _enforceable(one, dropped)))
    if isinstance(held.get("items"), list):
        # A tuple to llama-server's converter, whatever the counts; the first items of any number to llguidance.
        held["minItems"] = held["maxItems"] = len(held["items"])
    return held


def _listed(keywords: set[str]) -> str:
    return ", ".join(sorted(keyword[:40] for keyword in keywords))


__all__ = ["with_held_form", "with_held_request"]
