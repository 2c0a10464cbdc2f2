"""Where schemas stand within a JSON schema: the one place that knows it.

A property may have the name of any keyword (`default`, `enum`, `$ref`), and a value (of `default`, `enum`, `examples`)
may look like a schema. So what walks over a schema asks here, and never goes by the names alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

# Schemas by name. `schemas` stands in OpenAPI's `components`.
_NAMED: Final = frozenset(
    {"properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies", "schemas"}
)
# Keywords that hold values, not schemas.
_VALUES: Final = frozenset({"enum", "const", "default", "examples", "example"})

Steps = tuple[str, ...]


def subschemas(schema: Mapping[str, Any]) -> Iterator[tuple[Steps, Mapping[str, Any]]]:
    """The schemas directly below one, each with the steps that lead to it; those that are `true` or `false` are not.

    What stands under an unknown keyword is passed on as a schema, since references may lead there.
    """
    for keyword, value in schema.items():
        if keyword in _VALUES:
            continue
        if isinstance(value, list):
            yield from (((keyword, str(at)), one) for at, one in enumerate(value) if isinstance(one, Mapping))
        elif isinstance(value, Mapping):
            if keyword not in _NAMED:
                yield (keyword,), value
            else:
                yield from (((keyword, name), one) for name, one in value.items() if isinstance(one, Mapping))


def with_subschemas(
    schema: Mapping[str, Any], change: Callable[[Mapping[str, Any], Steps], Mapping[str, Any]]
) -> Mapping[str, Any]:
    """The schema, with what `change` makes of each schema directly below; the same object where it changes none."""
    changed = {steps: (one, change(one, steps)) for steps, one in subschemas(schema)}
    if all(made is one for one, made in changed.values()):
        return schema
    copy = dict(schema)
    for (keyword, *further), (_, made) in changed.items():
        if not further:
            copy[keyword] = made
            continue
        if copy[keyword] is schema[keyword]:
            copy[keyword] = list(schema[keyword]) if isinstance(schema[keyword], list) else dict(schema[keyword])
        copy[keyword][int(further[0]) if isinstance(copy[keyword], list) else further[0]] = made
    return copy
