"""Arrays whose first items have schemas of their own, under any draft's name. See `clean.py` for why.

llama-server's converter holds a list under `items` to exactly its length, whatever `minItems` and `maxItems` say,
looks at `items` only where `prefixItems` stands beside it, and refuses `items: false` (b11549).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from .flatten import ANNOTATIONS, Node, Report, add_to_description

# Items of a tuple that are written out for its `minItems`, and lengths that are for its `maxItems`.
_MOST_PLACES: Final = 64
_MOST_LENGTHS: Final = 4
_OF_TUPLES: Final = ("prefixItems", "items", "additionalItems", "unevaluatedItems")


class Places(NamedTuple):
    """What an array says of its items by their positions.

    Attributes:
        first: Schemas of the first items.
        rest: Schema of those behind them; False where there may be none.
    """

    first: list[Any]
    rest: Any

    def lengths(self, flat: Mapping[str, Any]) -> tuple[int, int | None]:
        """The least and the most items to be written: all of the first ones, as far as the counts allow it."""
        most = flat.get("maxItems")
        if self.rest is False:
            most = len(self.first) if most is None else min(most, len(self.first))
        least = max(len(self.first), flat.get("minItems", 0))
        return (least, most) if most is None else (min(least, most), most)

    def at(self, length: int) -> list[Any]:
        """The schema of each item of an array so long."""
        return self.first[:length] + [self.rest] * (length - len(self.first))


def places_of(flat: Mapping[str, Any]) -> Places:
    """The positions of an array: `prefixItems`, or the lists under `items` of drafts before 2020."""
    for key, further in (("prefixItems", "items"), ("items", "additionalItems")):
        if isinstance(flat.get(key), list):
            rest = _rest(flat, further)
            return Places(flat[key], {} if rest is None or rest is True else rest)
    rest = _rest(flat, "items")
    return Places([], {} if rest is None or rest is True else rest)


def _rest(flat: Mapping[str, Any], keyword: str) -> Any:
    """The schema of further items. What `contains` finds counts as evaluated."""
    for key in (keyword, "unevaluatedItems" if "contains" not in flat else keyword):
        if isinstance(flat.get(key), bool | Mapping):
            return flat[key]
    return None


def with_places(flat: Node, path: str, report: Report) -> Node:
    """The array with a list under `items` for each length it may have, or with a schema for all of its items.

    Args:
        flat: The array, with counts that are counts.
        path: Of the array, for the report.
        report: Called for each repair with its name, path and words.
    """
    places = places_of(flat)
    if places.rest is False and flat.get("minItems", 0) > len(places.first):
        report("contradiction", path, "`minItems` is more than the defined positions; dropped")
        flat = {key: value for key, value in flat.items() if key != "minItems"}
    least, most = places.lengths(flat)
    bare = {key: value for key, value in flat.items() if key not in _OF_TUPLES}
    if not places.first and places.rest is not False:
        return {**bare, "items": places.rest} if "items" in flat or places.rest != {} else bare
    if most == 0:
        return {**bare, "maxItems": 0}
    if places.rest == {} or (most is not None and most == least):
        if least > _MOST_PLACES:
            return _opened(bare, places, path, report)
        if least != len(places.first) or ("items" in flat and "prefixItems" in flat):
            report("tuple", path, f"written as exactly {least} items, because the server holds a tuple to its length")
        return {**bare, "items": places.at(least)}
    if bare.get("type") == "array" and most is not None and most - least < _MOST_LENGTHS and most <= _MOST_PLACES:
        report("tuple", path, f"written as tuples of {least} to {most} items, because the server knows no open ones")
        words = {key: value for key, value in bare.items() if key in ANNOTATIONS}
        counted = {key: value for key, value in bare.items() if key not in (*ANNOTATIONS, "minItems", "maxItems")}
        return {**words, "anyOf": [{**counted, "items": places.at(n)} for n in range(least, most + 1)]}
    return _opened(bare, places, path, report)


def _opened(bare: Node, places: Places, path: str, report: Report) -> Node:
    report("open_tuple", path, "`items` after `prefixItems`; every position accepts any of them")
    schemas = [*places.first, places.rest]
    unlike = [one for n, one in enumerate(schemas) if one not in schemas[:n]]
    return add_to_description({**bare, "items": {"anyOf": unlike}}, f"The first {len(places.first)} differ.")


__all__ = ["Places", "places_of", "with_places"]
