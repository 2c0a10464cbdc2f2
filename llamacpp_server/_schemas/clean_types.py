"""Clean the keywords of each type of JSON schema for llama-server. See `_schemas` for why."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, Protocol

from .flatten import ANNOTATIONS, Node, add_to_description
from .regex import MOST_REPEATS, server_pattern
from .tuples import Places, places_of, with_places

TYPES: Final = ("object", "array", "string", "number", "boolean", "null")
"""All types; an integer is a number."""

_SCALARS: Final = [{"type": kind} for kind in ("string", "number", "boolean", "null")]
ANY_ITEM: Final[Node] = {
    "anyOf": [*_SCALARS, {"type": "object"}, {"type": "array", "items": {"anyOf": [*_SCALARS, {"type": "object"}]}}]
}
"""Any item of an array. The templates of gpt-oss and Apertus fail where there is no `items` (to Jinja it is a method
then), and Gemma 4's where its type is a list (b11549)."""

# What needs more digits is no bound that a grammar can count with (16 digits, b11434).
_BIGGEST: Final = 10**15
_OF_OBJECTS: Final = ("properties", "required", "additionalProperties", "patternProperties")
_BOUNDS: Final = (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum"))
# Characters that end or change a class of the grammar, which is made of the names of properties.
_CLASS_MARKS: Final = frozenset(']^\\-"')


class Walk(Protocol):
    """Context of the walk over a schema, passed to the cleaning of each node."""

    keeps_tuples: bool
    """Whether tuples stay as they are, because who reads them knows them all."""

    def node(self, schema: object, path: str, depth: int) -> Node:
        """Clean a schema below this one."""

    def repair(self, name: str, path: str, what: str) -> None:
        """Note a repair."""


def clean_object(walk: Walk, flat: Node, path: str, depth: int) -> Node:
    """An object: its properties, required ones, and what other properties there may be."""
    flat = _with_properties(walk, flat, path)
    properties: Node = flat.get("properties", {})
    if any("\\" in json.dumps(name, ensure_ascii=False) for name in properties):
        walk.repair("escaped_names", path, "names with quotes, backslashes or control characters; accepts any object")
        words = f"Properties: {json.dumps(properties, ensure_ascii=False, default=str)}"
        return add_to_description({k: v for k, v in flat.items() if k not in _OF_OBJECTS}, words)
    allowed = {name: value for name, value in properties.items() if value is not False}
    required = _required(walk, flat, allowed, path)
    cleaned = {name: walk.node(value, f"{path}.properties.{name}", depth + 1) for name, value in allowed.items()}
    for name in required:
        if name not in cleaned and flat.get("additionalProperties") is not False:
            walk.repair("required", path, f"{name!r} is required but not defined; any value is accepted")
            cleaned[name] = {"type": list(TYPES)}
    if cleaned or "properties" in flat:
        flat = {**flat, "properties": cleaned}
    if "required" in flat or required:
        flat = {**flat, "required": required}
    return _with_additional(walk, flat, path, depth)


def _with_properties(walk: Walk, flat: Node, path: str) -> Node:
    """Properties as a mapping, with those that a condition brings."""
    given = flat.get("properties")
    if "properties" in flat and not isinstance(given, Mapping):
        walk.repair("malformed", path, "`properties` is not an object; dropped")
        flat = {**flat, "properties": {}}
    conditions = [flat.get(key) for key in ("then", "else")]
    conditions += (
        (flat.get("dependentSchemas") or {}).values() if isinstance(flat.get("dependentSchemas"), dict) else []
    )
    brought: Node = {}
    for one in conditions:
        if isinstance(one, Mapping) and isinstance(one.get("properties"), Mapping):
            brought |= {k: v for k, v in one["properties"].items() if k not in flat.get("properties", {})}
    if brought:
        walk.repair("condition", path, f"properties of a condition are always allowed: {', '.join(brought)}")
        flat = {**flat, "properties": {**flat.get("properties", {}), **brought}}
    return flat


def _required(walk: Walk, flat: Node, properties: Node, path: str) -> list[str]:
    given = flat.get("required", [])
    names = [name for name in given if isinstance(name, str)] if isinstance(given, list) else []
    if not isinstance(given, list) and not isinstance(given, bool):
        walk.repair("malformed", path, "`required` is not a list of names; dropped")
    for name, value in properties.items():
        if isinstance(value, Mapping) and value.get("required") is True and name not in names:
            names.append(name)  # as in draft 3
    return list(dict.fromkeys(names))


def _with_additional(walk: Walk, flat: Node, path: str, depth: int) -> Node:
    if "patternProperties" in flat:
        flat = _without_patterns(walk, flat, path)
    other = flat.get("additionalProperties")
    if isinstance(other, Mapping):
        # An empty schema means any value to newer builds, and an object to older ones.
        cleaned = walk.node(other, f"{path}.additionalProperties", depth + 1) if other else True
        flat = {**flat, "additionalProperties": cleaned}
    elif other is not None and not isinstance(other, bool):
        walk.repair("malformed", path, "`additionalProperties` is not a schema; dropped")
        flat = _without(flat, "additionalProperties")
    elif other is None and "additionalProperties" in flat:
        flat = _without(flat, "additionalProperties")
    elif other is None and path and flat.get("properties") == {}:
        walk.repair("empty_object", path, "an object without defined properties accepts any, not none")
        flat = _without(flat, "properties")
    if flat.get("additionalProperties") and any(_CLASS_MARKS & set(name) for name in flat.get("properties", ())):
        walk.repair(
            "additional",
            path,
            "additional properties moved into the description",
        )
        flat = add_to_description({**flat, "additionalProperties": False}, "Takes no other properties here.")
    return flat


def _without_patterns(walk: Walk, flat: Node, path: str) -> Node:
    patterns = flat["patternProperties"]
    flat = _without(flat, "patternProperties")
    if not isinstance(patterns, Mapping) or not patterns:
        return flat
    walk.repair("pattern_properties", path, "the server ignores `patternProperties`; written as additional properties")
    values = [value for value in patterns.values() if value is not False]
    if flat.get("additionalProperties") not in (None, False):
        values.append(flat["additionalProperties"])
    unlike = [value for n, value in enumerate(values) if value not in values[:n]]
    flat["additionalProperties"] = {"anyOf": unlike} if len(unlike) > 1 else unlike[0] if unlike else False
    return add_to_description(flat, f"Names of further properties match: {' or '.join(map(str, patterns))}")


def clean_array(walk: Walk, flat: Node, path: str, depth: int) -> Node:
    """An array: its items, and how many there may be."""
    flat = clean_counts(walk, flat, ("minItems", "maxItems"), path, "items")
    if "prefixItems" in flat and not isinstance(flat["prefixItems"], list):
        walk.repair("malformed", path, "`prefixItems` is not a list; dropped")
        flat = _without(flat, "prefixItems")
    if walk.keeps_tuples and (places := places_of(flat)).first:
        return _unexpanded_tuple(walk, flat, places, path, depth)
    flat = with_places(flat, path, walk.repair)
    if "anyOf" in flat:  # a tuple of several lengths
        tuples = [walk.node(one, f"{path}.anyOf[{n}]", depth + 1) for n, one in enumerate(flat["anyOf"])]
        return {**flat, "anyOf": tuples}
    if isinstance(flat.get("items"), list):
        positions = [walk.node(one, f"{path}.items[{n}]", depth + 1) for n, one in enumerate(flat["items"])]
        return {**flat, "items": positions}
    if not isinstance(flat.get("items"), Mapping) or not flat["items"]:
        if flat.get("type") == "array":
            if flat.get("maxItems") != 0:
                walk.repair("any_items", path, "`items` is missing or empty; written as any value")
            return {**flat, "items": ANY_ITEM}
        return _without(flat, "items")
    return {**flat, "items": _single_typed(walk.node(flat["items"], f"{path}.items", depth + 1))}


def _unexpanded_tuple(walk: Walk, flat: Node, places: Places, path: str, depth: int) -> Node:
    first = [walk.node(one, f"{path}.prefixItems[{n}]", depth + 1) for n, one in enumerate(places.first)]
    rest = walk.node(places.rest, f"{path}.items", depth + 1) if places.rest else places.rest
    return {**flat, "prefixItems": first, "items": rest}


def _single_typed(items: Node) -> Node:
    kinds = items.get("type")
    if not isinstance(kinds, list):
        return items
    if kinds == list(TYPES):
        return {**_without(items, "type"), **ANY_ITEM}
    words = {key: value for key, value in items.items() if key in ANNOTATIONS}
    rest = {key: value for key, value in items.items() if key not in ANNOTATIONS}
    return {**words, "anyOf": [{**rest, "type": kind} for kind in kinds]}


def clean_string(walk: Walk, flat: Node, path: str) -> Node:
    """A string: its format, length and pattern."""
    if "format" in flat and not isinstance(flat["format"], str):
        walk.repair("malformed", path, "`format` is not a string; dropped")
        flat = _without(flat, "format")
    flat = clean_counts(walk, flat, ("minLength", "maxLength"), path, "characters")
    return _with_pattern(walk, flat, path) if "pattern" in flat else flat


def _with_pattern(walk: Walk, flat: Node, path: str) -> Node:
    given = flat["pattern"]
    written = server_pattern(given) if isinstance(given, str) else None
    if written == given:
        return flat
    if written is None:
        walk.repair("pattern", path, f"pattern {given!r} can't become a grammar; moved into the description")
        flat = _without(flat, "pattern")
    else:
        walk.repair("pattern", path, f"pattern {given!r} rewritten for the grammar")
        flat = {**flat, "pattern": written}
    return add_to_description(flat, f"Must match the regular expression {given}") if isinstance(given, str) else flat


def clean_number(walk: Walk, flat: Node, path: str) -> Node:
    """Bounds of a number. Only those of integers are enforced, and by a grammar over at most 16 digits."""
    for limit, exclusive in _BOUNDS:
        if isinstance(flat.get(exclusive), bool):
            flat = _without_switch(walk, flat, limit, exclusive, path)
        for key in (limit, exclusive):
            value = flat.get(key)
            if key in flat and (isinstance(value, bool) or not isinstance(value, int | float)):
                walk.repair("malformed", path, f"`{key}` is not a number; dropped")
                flat = _without(flat, key)
            elif key in flat and not abs(value) <= _BIGGEST:  # type: ignore[arg-type]  # a number by now
                walk.repair(
                    "number_bound",
                    path,
                    f"`{key}` has too many digits for a grammar; moved into the description",
                )
                flat = add_to_description(_without(flat, key), f"{key} {value}")
    low, high = (flat.get(key, flat.get(exclusive)) for key, exclusive in _BOUNDS)
    if low is not None and high is not None and low > high:
        walk.repair("contradiction", path, "the bounds exclude every number; dropped")
        flat = {
            k: v for k, v in flat.items() if k not in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
        }
    return flat


def _without_switch(walk: Walk, flat: Node, limit: str, exclusive: str, path: str) -> Node:
    """A switch beside a bound, as in draft 4 and OpenAPI 3.0, becomes a bound."""
    walk.repair("exclusive_switch", path, f"`{exclusive}` as a boolean is refused; converted to a bound")
    on = flat[exclusive]
    flat = _without(flat, exclusive)
    return {exclusive if on and k == limit else k: v for k, v in flat.items()}


def clean_counts(walk: Walk, flat: Node, keys: tuple[str, str], path: str, things: str) -> Node:
    """Least and most characters or items: whole numbers, not too many, and in order."""
    least, most = keys
    for key in keys:
        if key not in flat:
            continue
        count = _as_integer(flat[key])
        if count is None or count < 0:
            walk.repair("malformed", path, f"`{key}` is not a count; dropped")
            flat = _without(flat, key)
        elif count > MOST_REPEATS:
            walk.repair("length", path, f"`{key}` {count} is more than a grammar can count; moved into the description")
            flat = add_to_description(
                _without(flat, key), f"At {'least' if key == least else 'most'} {count} {things}."
            )
        elif not isinstance(flat[key], int):
            walk.repair("malformed", path, f"`{key}` is {flat[key]!r}; converted to an integer")
            flat = {**flat, key: count}
    if flat.get(least, 0) > flat.get(most, MOST_REPEATS):
        walk.repair("contradiction", path, f"`{least}` is greater than `{most}`; dropped")
        flat = _without(_without(flat, least), most)
    return flat


def _as_integer(value: Any) -> int | None:
    try:
        count = int(value) if not isinstance(value, bool) else None
        return count if isinstance(value, str) or count == value else None
    except (TypeError, ValueError, OverflowError):
        return None


def _without(flat: Mapping[str, Any], key: str) -> Node:
    return {k: v for k, v in flat.items() if k != key}
