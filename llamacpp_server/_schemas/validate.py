"""Whether a value fits a JSON schema: what our side makes sure of, whatever the server did.

Not all of JSON Schema: what is missing is `format`, `contentSchema` and `$dynamicRef`. Those are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from math import isfinite
from typing import Any, Final, NamedTuple

from .flatten import resolve, with_absolute_references
from .unevaluated import Evaluated

_MOST_DEPTH: Final = 100
_UNEVALUATED: Final = (("unevaluatedProperties", dict), ("unevaluatedItems", list))
_KINDS: Final[Mapping[str, tuple[type, ...]]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


class SchemaError(NamedTuple):
    """A mismatch between a value and its schema.

    Attributes:
        path: Of the value, such as `items[0].price`; "" is the whole.
        keyword: Of the schema.
        words: What is wrong.
    """

    path: str
    keyword: str
    words: str

    def __str__(self) -> str:
        return f"{self.path or 'the whole value'}: {self.words}"


def validation_errors(schema: Any, value: Any) -> list[SchemaError]:
    """Return the mismatches between `value` and `schema`; empty if it matches."""
    check = _Check(schema)
    return list(check.node(check.root, value, "", 0))


def known_names(schema: Any, *, closed: bool = True) -> frozenset[str]:
    """The properties that an object of a schema is made of; with `closed`, none where it may have others."""
    return _names(schema, schema, closed, 0) or frozenset()


def _names(root: Any, schema: Any, closed: bool, depth: int) -> frozenset[str] | None:
    """As `known_names`; None where any object fits."""
    if not isinstance(schema, Mapping) or depth > _MOST_DEPTH:
        return None
    if isinstance(schema.get("$ref"), str):
        return _names(root, resolve(root, schema["$ref"]), closed, depth + 1)
    others = schema.get("patternProperties") or schema.get("additionalProperties") not in (None, False)
    if closed and others:
        return None
    names = frozenset(_mapping(schema.get("properties")))
    for part in schema.get("allOf") or ():
        names |= _names(root, part, closed, depth + 1) or frozenset()
    for part in (*(schema.get("anyOf") or ()), *(schema.get("oneOf") or ())):
        if not _may_be_object(part):
            continue
        if (found := _names(root, part, closed, depth + 1)) is None:
            return names or None
        names |= found
    return names or None


def _may_be_object(schema: Any) -> bool:
    kinds = schema.get("type") if isinstance(schema, Mapping) else None
    return kinds is None or "object" in ([kinds] if isinstance(kinds, str) else kinds)


class _Check:
    def __init__(self, root: Any) -> None:
        self.root = with_absolute_references(root)
        # What was found for a part of the schema at a place. Alternatives that share definitions would be checked once
        # for each way to them otherwise, which doubles with each level. A place that is being checked has no errors.
        self._found: dict[tuple[int, int, str], list[SchemaError]] = {}

    def node(self, schema: Any, value: Any, path: str, depth: int) -> Iterator[SchemaError]:
        if schema is False:
            yield SchemaError(path, "false", "no value is allowed here")
        if not isinstance(schema, Mapping) or depth > _MOST_DEPTH:
            return
        if isinstance(schema.get("$ref"), str):
            yield from self.node(resolve(self.root, schema["$ref"]), value, path, depth + 1)
        yield from self.unions(schema, value, path, depth)
        yield from self.conditions(schema, value, path, depth)
        yield from _plain(schema, value, path)
        if isinstance(value, dict):
            yield from self.members(schema, value, path, depth)
        elif isinstance(value, list):
            yield from self.entries(schema, value, path, depth)
        for keyword, kind in _UNEVALUATED:
            if keyword in schema and isinstance(value, kind):
                yield from self.unevaluated(schema, keyword, value, path, depth)

    def fits(self, schema: Any, value: Any, path: str, depth: int) -> bool:
        return not self.found(schema, value, path, depth)

    def found(self, schema: Any, value: Any, path: str, depth: int) -> list[SchemaError]:
        key = (id(schema), id(value), path)
        if key not in self._found:
            self._found[key] = []
            self._found[key] = list(dict.fromkeys(self.node(schema, value, path, depth + 1)))
        return self._found[key]

    def unions(self, schema: Mapping[str, Any], value: Any, path: str, depth: int) -> Iterator[SchemaError]:
        for part in schema.get("allOf") or ():
            yield from self.found(part, value, path, depth)
        for keyword in ("anyOf", "oneOf"):
            alternatives = schema.get(keyword)
            if not alternatives or (value is None and schema.get("nullable")):
                continue
            found = [self.found(one, value, path, depth) for one in alternatives]
            if all(found):
                yield SchemaError(path, keyword, f"matches none of the alternatives ({min(found, key=len)[0]})")
            elif keyword == "oneOf" and len(fitting := [at for at, wrong in enumerate(found) if not wrong]) > 1:
                yield SchemaError(path, keyword, f"matches more than one alternative (numbers {_listed(fitting)})")

    def conditions(self, schema: Mapping[str, Any], value: Any, path: str, depth: int) -> Iterator[SchemaError]:
        """Check the conditional keywords."""
        if "not" in schema and self.fits(schema["not"], value, path, depth):
            yield SchemaError(path, "not", f"{_short(value)} is excluded")
        if "if" in schema:
            branch = "then" if self.fits(schema["if"], value, path, depth) else "else"
            yield from self.node(schema.get(branch), value, path, depth + 1)
        if not isinstance(value, dict):
            return
        for keyword in ("dependentRequired", "dependentSchemas", "dependencies"):
            for name, then in _mapping(schema.get(keyword)).items():
                if name not in value:
                    continue
                if not isinstance(then, list):
                    yield from self.node(then, value, path, depth + 1)
                    continue
                for other in then:
                    if other not in value:
                        yield SchemaError(path, keyword, f"{other!r} is missing, which {name!r} requires")

    def members(self, schema: Mapping[str, Any], value: dict[str, Any], path: str, depth: int) -> Iterator[SchemaError]:
        known, patterns = _mapping(schema.get("properties")), _mapping(schema.get("patternProperties"))
        others = schema.get("additionalProperties", True)
        for name in schema.get("required") or ():
            if name not in value:
                yield SchemaError(path, "required", f"{name!r} is missing")
        for name, member in value.items():
            where = f"{path}.{name}" if path else name
            if "propertyNames" in schema and not self.fits(schema["propertyNames"], name, where, depth):
                yield SchemaError(path, "propertyNames", f"{name!r} is not allowed as a name")
            own = [known[name]] if name in known else []
            own += [one for pattern, one in patterns.items() if _matches(pattern, name)]
            if not own and others is False:
                yield SchemaError(path, "additionalProperties", f"{name!r} is not a known property")
            for one in own or [others]:
                if one is not False or own:
                    yield from self.node(one, member, where, depth + 1)

    def entries(self, schema: Mapping[str, Any], value: list[Any], path: str, depth: int) -> Iterator[SchemaError]:
        first = schema.get("prefixItems") or ()
        items = schema.get("items")
        if isinstance(items, list):
            first, items = items, schema.get("additionalItems")
        if schema.get("uniqueItems") is True and len(set(map(_key, value))) < len(value):
            yield SchemaError(path, "uniqueItems", "two items are equal")
        yield from self.contained(schema, value, path, depth)
        for index, entry in enumerate(value):
            own = first[index] if index < len(first) else items
            yield from self.node(own, entry, f"{path}[{index}]", depth + 1)

    def unevaluated(
        self, schema: Mapping[str, Any], keyword: str, value: Any, path: str, depth: int
    ) -> Iterator[SchemaError]:
        """Members and items that nothing else in the schema says anything about."""

        def fits(one: Any, part: Any) -> bool:
            return self.fits(one, part, path, depth)

        known = Evaluated(value, fits, lambda reference: resolve(self.root, reference), _matches)
        seen = known.by(schema, own=False)
        for place, part in value.items() if isinstance(value, dict) else enumerate(value):
            where = f"{path}[{place}]" if isinstance(place, int) else f"{path}.{place}" if path else place
            if place in seen:
                continue
            if schema[keyword] is False:
                yield SchemaError(where, keyword, f"nothing in the schema allows {_short(part)} here")
            else:
                yield from self.node(schema[keyword], part, where, depth + 1)

    def contained(self, schema: Mapping[str, Any], value: list[Any], path: str, depth: int) -> Iterator[SchemaError]:
        if "contains" not in schema:
            return
        least, most = schema.get("minContains", 1), schema.get("maxContains")
        found = sum(self.fits(schema["contains"], entry, path, depth) for entry in value)
        if least is not None and _number(least) is not None and found < least:
            yield SchemaError(path, "contains", f"{found} of its items match `contains`, at least {least} must")
        if most is not None and _number(most) is not None and found > most:
            yield SchemaError(path, "maxContains", f"{found} of its items match `contains`, at most {most} may")


def _plain(schema: Mapping[str, Any], value: Any, path: str) -> Iterator[SchemaError]:
    """Check the keywords that do not depend on items or properties."""
    kinds = schema.get("type")
    kinds = [kinds] if isinstance(kinds, str) else kinds or []
    nullable = schema.get("nullable") and value is None
    if kinds and not nullable and not any(_is(value, kind) for kind in kinds):
        yield SchemaError(path, "type", f"{_short(value)} is not of type {' or '.join(map(str, kinds))}")
        return
    if "enum" in schema and not nullable and not any(_equal(value, one) for one in schema["enum"]):
        yield SchemaError(path, "enum", f"{_short(value)} is not one of {', '.join(map(_short, schema['enum']))}")
    if "const" in schema and not nullable and not _equal(value, schema["const"]):
        yield SchemaError(path, "const", f"{_short(value)} is not {_short(schema['const'])}")
    if isinstance(value, str):
        yield from _pattern(schema, value, path)
    for keyword, count, wrong in _BOUNDS:
        bound, size = schema.get(keyword), count(value)
        if size is not None and isinstance(bound, int | float) and not isinstance(bound, bool) and wrong(size, bound):
            yield SchemaError(path, keyword, f"{_short(value)} violates {keyword} {bound}")


def _pattern(schema: Mapping[str, Any], value: str, path: str) -> Iterator[SchemaError]:
    pattern = schema.get("pattern")
    if isinstance(pattern, str) and not _matches(pattern, value):
        yield SchemaError(path, "pattern", f"{_short(value)} does not match {pattern}")


def _matches(pattern: str, value: str) -> bool:
    try:
        return re.search(pattern, value) is not None
    except re.error:
        return True  # another dialect than Python's


def _listed(numbers: list[int]) -> str:
    return ", ".join(str(number + 1) for number in numbers[:5])


def _mapping(given: Any) -> Mapping[str, Any]:
    return given if isinstance(given, Mapping) else {}


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _letters(value: Any) -> float | None:
    return len(value) if isinstance(value, str) else None


def _entries(value: Any) -> float | None:
    return len(value) if isinstance(value, list) else None


def _members(value: Any) -> float | None:
    return len(value) if isinstance(value, dict) else None


def _is_no_multiple(value: float, of: float) -> bool:
    """Exact, as 0.3 is to be a multiple of 0.1: the decimal texts are divided, not the binary numbers."""
    if not (isfinite(value) and isfinite(of)) or not of:
        return False
    return (Fraction(str(value)) / Fraction(str(of))).denominator != 1


_BOUNDS: Final[tuple[tuple[str, Callable[[Any], float | None], Callable[[Any, Any], bool]], ...]] = (
    ("minimum", _number, lambda size, bound: size < bound),
    ("maximum", _number, lambda size, bound: size > bound),
    ("exclusiveMinimum", _number, lambda size, bound: size <= bound),
    ("exclusiveMaximum", _number, lambda size, bound: size >= bound),
    ("minLength", _letters, lambda size, bound: size < bound),
    ("maxLength", _letters, lambda size, bound: size > bound),
    ("minItems", _entries, lambda size, bound: size < bound),
    ("maxItems", _entries, lambda size, bound: size > bound),
    ("minProperties", _members, lambda size, bound: size < bound),
    ("maxProperties", _members, lambda size, bound: size > bound),
    ("multipleOf", _number, _is_no_multiple),
)


def _is(value: Any, kind: Any) -> bool:
    if isinstance(value, bool):
        return str(kind) == "boolean"
    if kind == "integer":
        return isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return not isinstance(kind, str) or kind not in _KINDS or isinstance(value, _KINDS[kind])


def _equal(value: Any, other: Any) -> bool:
    return bool(_key(value) == _key(other))


def _key(value: Any) -> Any:
    """Equal and hashable for what JSON holds to be equal: 1 is 1.0, and `true` is not 1, at any depth."""
    if isinstance(value, list | tuple):
        return ("list", *map(_key, value))
    if isinstance(value, Mapping):
        return ("object", frozenset((name, _key(member)) for name, member in value.items()))
    return ("boolean", value) if isinstance(value, bool) else value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


__all__ = ["SchemaError", "known_names", "validation_errors"]
