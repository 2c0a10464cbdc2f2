"""References and `allOf`: what stands in several places of a JSON schema, put into one.

llama-server's converter passes over everything beside a `$ref`, and takes of an `allOf` only properties and enums
(b11434), so a schema is made flat before it looks at it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import unquote

from .positions import Steps, subschemas, with_subschemas

Node = dict[str, Any]
Report = Callable[[str, str, str], None]

ANNOTATIONS: Final = frozenset(
    {"title", "description", "default", "examples", "example", "deprecated", "readOnly", "writeOnly", "$comment"}
)
_HOUSEKEEPING: Final = frozenset({"$schema", "$id", "$anchor", "$defs", "definitions", "components", "discriminator"})
_OTHER_HOME: Final = {"$defs": "#/definitions/", "definitions": "#/$defs/"}
_MOST_DEPTH: Final = 200
_GREATEST: Final = frozenset({"minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"})
_LEAST: Final = frozenset({"maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"})


class Flattener:
    """Resolves what is written in one schema.

    Args:
        root: The whole schema, which references start from.
        report: Called for each repair with its name, path and words.
    """

    def __init__(self, root: object, report: Report) -> None:
        self.root = with_absolute_references(root)
        self.report = report
        self.crowded = False
        """Whether references are kept because the schema has grown large already."""
        self._recursive: dict[str, bool] = {}

    def flatten(self, schema: Mapping[str, Any], path: str) -> Node:
        """One level without `$ref` and `allOf`; a `$ref` that `stays` is there with its annotations."""
        reference = schema.get("$ref")
        beside = schema.keys() - {"$ref", *ANNOTATIONS, *_HOUSEKEEPING, "nullable"}
        if isinstance(reference, str) and not beside and self.stays(reference):
            if schema.get("nullable") is True:
                return {"anyOf": [{"$ref": reference}, {"type": "null"}]}
            return {k: v for k, v in schema.items() if k == "$ref" or k in ANNOTATIONS}
        return self._flat(schema, path, frozenset())

    def expand_root(self, schema: Mapping[str, Any]) -> Node:
        """As `flatten`, with one level of a recursive reference written out."""
        return self._flat(schema, "", frozenset())

    def expand(self, reference: str) -> Node:
        """Resolve a reference and flatten the result."""
        return self._flat({"$ref": reference}, "", frozenset())

    def _flat(self, schema: Mapping[str, Any], path: str, seen: frozenset[str]) -> Node:
        flat = {k: v for k, v in schema.items() if k not in ("$ref", "allOf") and k not in _HOUSEKEEPING}
        if "$ref" in schema:
            flat = self._with_target(flat, schema["$ref"], path, seen)
        parts = schema.get("allOf")
        if not isinstance(parts, list):
            return flat
        self.report("all_of", path, "`allOf` merged, because the server uses only its properties and enums")
        for part in parts:
            if isinstance(part, Mapping):
                part_seen = seen | {schema["$ref"]} if isinstance(schema.get("$ref"), str) else seen
                flat = merged(flat, self._flat(part, path, part_seen), lambda what: self.report("all_of", path, what))
        return flat

    def _with_target(self, flat: Node, reference: object, path: str, seen: frozenset[str]) -> Node:
        target = self.resolve(reference)
        if target is None or reference in seen:
            self.report("unresolved_ref", path, f"{reference} can't be resolved in this schema; any value is accepted")
            return flat if flat.keys() - ANNOTATIONS else add_to_description(flat, f"See {reference}.")
        self.report("ref", path, f"{reference} inlined")
        if not isinstance(target, Mapping):
            return flat
        target_flat = self._flat(target, path, seen | {str(reference)})
        return merged(flat, target_flat, ignore) if flat else target_flat

    def resolve(self, reference: object) -> object | None:
        """The target of a reference within the schema; None where there is none."""
        return resolve(self.root, reference)

    def stays(self, reference: str) -> bool:
        """Whether a reference is kept as one."""
        return self.is_recursive(reference) or (self.crowded and self.resolve(reference) is not None)

    def is_recursive(self, reference: str) -> bool:
        """Whether what a reference means leads back to the reference."""
        if reference not in self._recursive:
            seen, waiting = set[str](), [reference]
            while waiting:
                for found in _references(self.resolve(waiting.pop())):
                    if found not in seen:
                        seen.add(found)
                        waiting.append(found)
            self._recursive[reference] = reference in seen
        return self._recursive[reference]


def resolve(root: object, reference: object) -> object | None:
    """The target of a reference within a schema; None where there is none."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        return None
    if reference[1:2] not in ("", "/"):
        return _anchored(root, reference[1:]) if isinstance(root, Mapping) else None
    target: Any = root
    for token in reference[2:].split("/") if len(reference) > 2 else []:
        key = unquote(token).replace("~1", "/").replace("~0", "~")
        if isinstance(target, Mapping) and key in target:
            target = target[key]
        elif isinstance(target, list) and key.isdecimal() and int(key) < len(target):
            target = target[int(key)]
        else:
            return None
    return target  # type: ignore[no-any-return]  # any JSON


def with_absolute_references(root: Any) -> Any:
    """The schema, with references to the definitions of an enclosing schema written as paths from the root.

    Builders put a whole schema, with its `$defs`, inside another one and leave its references as they were. A reference
    that leads nowhere from the root is looked up from each enclosing schema, the nearest first, under `$defs` and
    under `definitions`, whichever it names.

    Args:
        root: The whole schema; not changed. The same object is returned where nothing has to be rewritten.
    """
    return _absolute(root, root, (("#", root),), 0) if isinstance(root, Mapping) else root


def relocate_references(schema: Mapping[str, Any], root: str) -> Mapping[str, Any]:
    """A schema that is put to `root`, such as `#/$defs/a`, with its references into itself beginning there."""
    moved = with_subschemas(schema, lambda one, _: relocate_references(one, root))
    target = schema.get("$ref")
    return {**moved, "$ref": root + target[1:]} if isinstance(target, str) and target.startswith("#") else moved


def _absolute(
    node: Mapping[str, Any], root: object, enclosing: tuple[tuple[str, Any], ...], depth: int
) -> Mapping[str, Any]:
    if depth > _MOST_DEPTH:
        return node
    made = with_subschemas(node, lambda one, steps: _absolute(one, root, _within(enclosing, steps, one), depth + 1))
    reference = node.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/") and resolve(root, reference) is None:
        found = _from_enclosing(reference, enclosing)
        return made if found == reference else {**made, "$ref": found}
    return made


def _within(enclosing: tuple[tuple[str, Any], ...], steps: Steps, node: object) -> tuple[tuple[str, Any], ...]:
    """The path to a node, with each schema on it."""
    escaped = [step.replace("~", "~0").replace("/", "~1").replace("%", "%25") for step in steps]
    return (*enclosing, ("/".join([enclosing[-1][0], *escaped]), node))


def _from_enclosing(reference: str, enclosing: tuple[tuple[str, Any], ...]) -> str:
    home, _, name = reference[2:].partition("/")
    other = f"{_OTHER_HOME[home]}{name}" if home in _OTHER_HOME else reference
    for path, schema in enclosing[::-1]:
        for wanted in (reference, other):
            if resolve(schema, wanted) is not None:
                return path + wanted[1:]
    return reference


def merged(one: Mapping[str, Any], other: Mapping[str, Any], lost: Callable[[str], None]) -> Node:
    """A schema for what fits both. Where no schema says that, the first one's word stays and `lost` is told."""
    both = dict(one)
    for key, value in other.items():
        both[key] = value if key not in both else _both(key, both[key], value, lost)
    if both.get("type") is None:
        both.pop("type", None)
    return both


def _both(key: str, one: Any, other: Any, lost: Callable[[str], None]) -> Any:  # noqa: PLR0911 (one line a keyword)
    if one == other or key in ANNOTATIONS:
        return one
    if key in _GREATEST | _LEAST and _is_number(one) and _is_number(other):
        return max(one, other) if key in _GREATEST else min(one, other)
    if key in ("properties", "patternProperties", "$defs") and isinstance(one, Mapping) and isinstance(other, Mapping):
        return {**one, **{k: _both("items", one[k], v, lost) if k in one else v for k, v in other.items()}}
    if key in ("items", "additionalProperties") and isinstance(one, Mapping) and isinstance(other, Mapping):
        return {"allOf": [one, other]}
    if key == "additionalProperties" and False in (one, other):
        return False
    if key == "required":
        return list(dict.fromkeys([*listed(one), *listed(other)]))
    if key == "type":
        return _types_of_both(listed(one), listed(other)) or one
    if key == "enum" and isinstance(one, list) and isinstance(other, list):
        return [value for value in one if value in other] or one
    lost(f"two different `{key}`; only the first is enforced")
    return one


def _types_of_both(one: list[Any], other: list[Any]) -> Any:
    kinds = [kind for kind in one if kind in other or (kind == "integer" and "number" in other)]
    kinds += [kind for kind in other if kind == "integer" and "number" in one and kind not in kinds]
    return kinds[0] if len(kinds) == 1 else kinds


def add_to_description(schema: Mapping[str, Any], words: str) -> Node:
    """The schema with a sentence behind its description."""
    given = schema.get("description")
    return {**schema, "description": f"{given.rstrip()} ({words})" if isinstance(given, str) and given else words}


def listed(value: Any) -> list[Any]:
    """A list, whether one value or several are given."""
    return list(value) if isinstance(value, list | tuple) else [value]


def ignore(words: str) -> None:
    """Nothing is lost that was not said already."""


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _references(node: object) -> list[str]:
    """All references below a node, but those of definitions."""
    if not isinstance(node, Mapping):
        return []
    own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
    below = [one for steps, one in subschemas(node) if steps[0] not in _OTHER_HOME]
    return own + [found for one in below for found in _references(one)]


def _anchored(node: Mapping[str, Any], anchor: str) -> object | None:
    if node.get("$anchor") == anchor or node.get("$id") == f"#{anchor}":
        return node
    below = (_anchored(one, anchor) for _, one in subschemas(node))
    return next((found for found in below if found is not None), None)
