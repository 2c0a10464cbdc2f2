"""Which members and items of a value a JSON schema says something about: what its `unevaluated` keywords leave out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

Place = str | int
Fits = Callable[[Any, Any], bool]

_MOST_DEPTH: Final = 100


class Evaluated:
    """Finds the places of one value, the names of an object or the indices of an array, that a schema evaluates.

    Args:
        value: The object or array.
        fits: Whether a value fits a schema.
        target: Gives the target of a `$ref`.
        matches: Whether a name matches a pattern.
    """

    def __init__(
        self, value: Any, fits: Fits, target: Callable[[Any], Any], matches: Callable[[str, str], bool]
    ) -> None:
        self.value, self.fits, self.target, self.matches = value, fits, target, matches

    def by(self, schema: Any, depth: int = 0, *, own: bool = True) -> set[Place]:
        """The places that a schema evaluates; without `own`, by all but the `unevaluated` keywords of its own."""
        if not isinstance(schema, Mapping) or depth > _MOST_DEPTH:
            return set()
        found = self._of_array(schema, own) if isinstance(self.value, list) else self._of_object(schema, own)
        for part in self._parts(schema):
            found |= self.by(part, depth + 1)
        return found

    def _parts(self, schema: Mapping[str, Any]) -> Iterator[Any]:
        """The schemas that hold for the same value, as far as they do."""
        if isinstance(schema.get("$ref"), str):
            yield self.target(schema["$ref"])
        for keyword in ("allOf", "anyOf", "oneOf"):
            yield from (one for one in schema.get(keyword) or () if self.fits(one, self.value))
        if "if" in schema:
            holds = self.fits(schema["if"], self.value)
            yield from (schema["if"], schema.get("then")) if holds else (schema.get("else"),)
        dependent = schema.get("dependentSchemas")
        if isinstance(dependent, Mapping) and isinstance(self.value, Mapping):
            yield from (one for name, one in dependent.items() if name in self.value)

    def _of_object(self, schema: Mapping[str, Any], own: bool) -> set[Place]:
        if "additionalProperties" in schema or (own and "unevaluatedProperties" in schema):
            return set(self.value)
        patterns = schema.get("patternProperties") or ()
        named = {name for name in schema.get("properties") or () if name in self.value}
        return {*named, *(name for name in self.value if any(self.matches(one, name) for one in patterns))}

    def _of_array(self, schema: Mapping[str, Any], own: bool) -> set[Place]:
        count = len(self.value)
        items = schema.get("items")
        listed = items if isinstance(items, list) else schema.get("prefixItems") or ()
        further = "additionalItems" in schema if isinstance(items, list) else "items" in schema
        if further or (own and "unevaluatedItems" in schema):
            return set(range(count))
        found: set[Place] = set(range(min(count, len(listed))))
        if "contains" in schema:
            found |= {at for at, one in enumerate(self.value) if self.fits(schema["contains"], one)}
        return found


__all__ = ["Evaluated"]
