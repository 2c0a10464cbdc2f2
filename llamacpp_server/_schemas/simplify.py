"""Tools for templates that write schemas as code and know only its plainest words.

Those of Hermes, Seed-OSS, GigaChat and functionary fail on a list of types, or on a node without a type, and a failing
template is an error for every request (b11549). To be used when the template has refused the tools as cleaned.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from ..replies import Repair
from ..wire import ToolDict
from .flatten import Node, add_to_description, listed

_PLAIN_ITEM: Final[Node] = {"type": "string"}
_KIND_OF: Final = {"properties": "object", "required": "object", "additionalProperties": "object", "items": "array"}
# How deep a recursive definition is written out.
_DEEPEST: Final = 3


def plain_tools(tools: Sequence[ToolDict]) -> tuple[list[ToolDict], tuple[Repair, ...]]:
    """Cleaned tools in which every node has one type; what else it may be is said in words."""
    plain, repairs = list[ToolDict](), list[Repair]()
    for tool in tools:
        function: Node = dict(tool["function"])
        function["parameters"] = _plain(function["parameters"], function["parameters"].get("$defs", {}), 0)
        if function["parameters"] != tool["function"]["parameters"]:
            words = "simplified to one type per node, because the template supports no more"
            repairs.append(Repair("plain_tools", str(function.get("name", "")), words))
        plain.append(cast(ToolDict, {**tool, "function": function}))
    return plain, tuple(repairs)


def _plain(schema: Mapping[str, Any], definitions: Mapping[str, Any], depth: int) -> Node:
    flat = _one_type(_one_kind_of_values(_no_union({key: value for key, value in schema.items() if key != "$defs"})))
    if "$ref" in flat:
        if depth < _DEEPEST:
            return _plain(_target(flat, definitions), definitions, depth + 1)
        return add_to_description({"type": "object"}, "Of the same form again.")
    flat = {key: value for key, value in flat.items() if _KIND_OF.get(key, flat["type"]) == flat["type"]}
    if isinstance(flat.get("properties"), Mapping):
        given = {k: v if isinstance(v, Mapping) else _PLAIN_ITEM for k, v in flat["properties"].items()}
        flat = {**flat, "properties": {name: _plain(value, definitions, depth + 1) for name, value in given.items()}}
    if isinstance(flat.get("additionalProperties"), Mapping):
        flat = {**flat, "additionalProperties": _plain(flat["additionalProperties"], definitions, depth + 1)}
    if flat["type"] == "array":
        items = flat.get("items")
        items = items[0] if isinstance(items, list) and items else items
        flat = {**flat, "items": _plain(items if isinstance(items, Mapping) else _PLAIN_ITEM, definitions, depth + 1)}
    return flat


def _target(flat: Node, definitions: Mapping[str, Any]) -> Node:
    beside = {key: value for key, value in flat.items() if key != "$ref"}
    return {**definitions.get(flat["$ref"].rsplit("/", 1)[-1], _PLAIN_ITEM), **beside}


def _no_union(flat: Node) -> Node:
    """The first alternative that is not null; the others are said in words."""
    for key in ("oneOf", "anyOf"):
        alternatives = flat.get(key)
        if isinstance(alternatives, list) and alternatives:
            rest = {k: v for k, v in flat.items() if k not in ("oneOf", "anyOf", "type")}
            first = next((one for one in alternatives if one.get("type") != "null"), alternatives[0])
            others = [one for one in alternatives if one is not first]
            words = f"Or: {json.dumps(others, ensure_ascii=False)}"
            return _no_union(add_to_description({**first, **rest}, words))
    return flat


def _one_kind_of_values(flat: Node) -> Node:
    values = flat.get("enum")
    if not isinstance(values, list) or len({type(value) for value in values}) < 2:
        return flat
    same_type = [value for value in values if type(value) is type(values[0])]
    return add_to_description({**flat, "enum": same_type}, f"One of {json.dumps(values, ensure_ascii=False)}.")


def _one_type(flat: Node) -> Node:
    if "$ref" in flat:
        return flat
    if "type" not in flat:
        values = [flat["const"]] if "const" in flat else flat.get("enum", [""])
        return {"type": _type_of(values[0]), **flat}
    kinds = listed(flat["type"])
    first = next((kind for kind in ("string", *kinds) if kind in kinds and kind != "null"), "null")
    if flat["type"] == first:
        return flat
    others = " or ".join(kind for kind in kinds if kind != first)
    return add_to_description({**flat, "type": first}, f"Or {others}.") if others else {**flat, "type": first}


def _type_of(value: Any) -> str:
    kinds: dict[type, str] = {bool: "boolean", int: "integer", float: "number", dict: "object", list: "array"}
    return kinds.get(type(value), "string")
