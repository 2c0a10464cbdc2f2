"""JSON schema -> what llama-server's grammar converter takes and serves as it is meant.

The server turns the parameters of tools, and output schemas, into a grammar; one schema that its converter refuses
fails the whole request, whatever was asked. Others are taken and then not enforced, or enforced wrongly. Here a schema
is rewritten where that happens on some build (read and tried on b6900, b11434 and b11549), and left alone elsewhere:

- What was lost is said in `description`. The caller keeps the original and validates results with it.
- Keywords that a converter merely passes over (`not`, `multipleOf`, `uniqueItems` ...) stay: the model reads them.
- References are written out. The server names a rule after its reference, so two tools with a definition of the
  same name would share one rule. Only recursive ones stay, under names that are unique to their schema.
- The same schema always gives the same text, byte for byte, as the prompt's cache depends on it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, Final

from .._values import KeyedList, content_key, of_key
from ..replies import Repair
from ..wire import ToolDict
from .clean_types import TYPES, clean_array, clean_number, clean_object, clean_string
from .flatten import ANNOTATIONS, Flattener, Node, add_to_description, ignore, listed, merged
from .regex import server_pattern

_ANY: Final[Node] = {"type": list(TYPES)}
_ALIASES: Final = {
    **{word: "string" for word in ("str", "text", "date", "datetime", "file", "bytes", "uuid", "email", "uri", "char")},
    **{word: "integer" for word in ("int", "long", "int32", "int64", "short", "bigint", "timestamp")},
    **{word: "number" for word in ("float", "double", "decimal", "numeric", "real")},
    **{word: "boolean" for word in ("bool",)},
    **{word: "array" for word in ("list", "tuple", "set", "sequence")},
    **{word: "object" for word in ("dict", "map", "struct", "record", "json", "hash", "mapping")},
    **{word: "null" for word in ("none", "nil", "undefined", "void")},
}
# Keywords that tell the type of a node which has none; the first that fits decides.
_TYPE_KEYWORDS: Final[tuple[tuple[str, frozenset[str]], ...]] = (
    ("object", frozenset({"properties", "additionalProperties", "required", "patternProperties", "propertyNames"})),
    ("array", frozenset({"items", "prefixItems", "minItems", "maxItems", "uniqueItems", "contains"})),
    ("string", frozenset({"pattern", "minLength", "maxLength", "format"})),
    ("number", frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"})),
)  # fmt: skip
# A union whose alternatives say no more than this only limits the object around it.
_LIMITS_ONLY: Final = frozenset({"required", "not", "title", "description", "dependentRequired", "$comment"})
_CONDITIONS: Final = ("if", "then", "else", "not", "dependentSchemas", "dependencies", "contains", "propertyNames",
                      "unevaluatedProperties", "unevaluatedItems", "contentSchema")  # fmt: skip
_MOST_DEPTH: Final = 40
# From here on references are kept, and from there on any value is taken.
_MANY_NODES: Final = 300
_MOST_NODES: Final = 5000
# Bytes of a schema beyond which it is cleaned anew for each request, rather than kept.
_LONGEST_KEPT: Final = 20_000
# The same of all tools of a request.
_LONGEST_TOOLS: Final = 100_000


def clean_schema(
    schema: object, *, name: str = "", arguments: bool = False, keeps_tuples: bool = False
) -> tuple[Node, tuple[Repair, ...]]:
    """A schema that every known build takes, and what was done to make it so.

    Args:
        schema: JSON schema of any draft, or OpenAPI's dialect; not changed.
        name: What it belongs to, for the paths of the repairs.
        arguments: Whether it describes the arguments of a tool, which are always one object with properties.
        keeps_tuples: Whether `prefixItems` stays as it is, for a reader of our own.
    """
    # An agent sends the same tools with each of its calls, as new objects or changed ones for all we know.
    key = content_key(schema)
    if key is None or len(key) > _LONGEST_KEPT:
        return _cleaned(schema, name, arguments, keeps_tuples)
    return _cached(key, name, arguments, keeps_tuples)


@lru_cache(maxsize=128)
def _cached(key: bytes, name: str, arguments: bool, keeps_tuples: bool) -> tuple[Node, tuple[Repair, ...]]:
    schema = of_key(key)
    with suppress(TypeError, ValueError, RecursionError):  # no JSON; what sends it says so
        schema = json.loads(json.dumps(schema))
    return _cleaned(schema, name, arguments, keeps_tuples)


def _cleaned(schema: object, name: str, arguments: bool, keeps_tuples: bool) -> tuple[Node, tuple[Repair, ...]]:
    cleaner = _Cleaner(schema, name, keeps_tuples)
    schema = cleaner.flattener.root
    root = schema if isinstance(schema, Mapping) else {} if schema in (None, True) or arguments else schema
    cleaned = cleaner.arguments(root) if arguments else cleaner.node(root, "", 0)
    if cleaner.definitions:
        cleaned = {**cleaned, "$defs": cleaner.definitions}
    return cleaned, tuple(cleaner.repairs)


def clean_tools(tools: Sequence[ToolDict]) -> tuple[list[ToolDict], tuple[Repair, ...]]:
    """Tools that every known build takes, in their order, and what was done to make them so. Nobody changes them."""
    # An agent sends the same tools with each of its calls.
    key = tools.key if type(tools) is KeyedList else None
    return _cleaned_tools(tools) if key is None or len(key) > _LONGEST_TOOLS else _kept_tools(key)


@lru_cache(maxsize=32)
def _kept_tools(key: bytes) -> tuple[list[ToolDict], tuple[Repair, ...]]:
    cleaned, repairs = _cleaned_tools(of_key(key))
    return KeyedList(cleaned, content_key(cleaned)), repairs


def _cleaned_tools(tools: Sequence[ToolDict]) -> tuple[list[ToolDict], tuple[Repair, ...]]:
    cleaned, repairs = list[ToolDict](), list[Repair]()
    for tool in tools:
        function: Node = dict(tool["function"])
        name = str(function.get("name", ""))
        parameters, done = clean_schema(function.get("parameters"), name=name, arguments=True)
        repairs.extend(done)
        function["parameters"] = parameters
        # Builds of 2025 answer a tool without a description with 500 (b6900).
        if not isinstance(function.get("description"), str):
            function["description"] = str(function.get("description") or "")
        cleaned.append({**tool, "function": function})  # type: ignore[typeddict-item]  # the same keys as before
    return cleaned, tuple(repairs)


class _Cleaner:
    """Walks over one schema."""

    def __init__(self, root: object, name: str, keeps_tuples: bool) -> None:
        self.name, self.keeps_tuples = name, keeps_tuples
        self.repairs: list[Repair] = []
        self.definitions: Node = {}
        self.flattener = Flattener(root, self.repair)
        self.nodes = 0
        self.digest = hashlib.sha256(json.dumps(root, default=str).encode()).hexdigest()[:8]

    def repair(self, name: str, path: str, what: str) -> None:
        if name != "ref" or not any(repair.name == "ref" for repair in self.repairs):
            self.repairs.append(Repair(name, (self.name + path).lstrip(".") or "schema", what))

    def arguments(self, schema: object) -> Node:
        """The arguments of a tool: an object whose properties stand at the top.

        Templates that write a call as tags (Qwen3-Coder's, GLM's) and the server's parsers for them read the
        properties there and nowhere else, so a union of objects becomes one object with the properties of all.
        """
        if not isinstance(schema, Mapping):
            if schema is not None:
                self.repair("malformed", "", "the parameters are not a schema; using no arguments")
            return {"type": "object", "properties": {}}
        flat = self.flattener.expand_root(schema)
        flat.pop("nullable", None)
        key = "oneOf" if flat.get("oneOf") else "anyOf"
        if flat.get(key) and isinstance(flat[key], list) and not all(_only_limits(one) for one in flat[key]):
            flat = self.hoisted(flat, key)
        if flat.get("type") != "object":
            if flat.get("type"):
                self.repair("arguments", "", "tool arguments must be an object; changed the type")
            flat["type"] = "object"
        if not {"properties", "additionalProperties", "required", "patternProperties"} & flat.keys():
            flat["properties"] = {}
        return self.node(flat, "", 0)

    def hoisted(self, flat: Node, key: str) -> Node:
        self.repair("root_union", "", f"`{key}` of argument sets merged into one; moved into the description")
        alternatives = [self.flattener.expand_root(one) for one in flat[key] if isinstance(one, Mapping)]
        rest = {k: v for k, v in flat.items() if k != key}
        needed = [listed(one.get("required", [])) for one in alternatives]
        given = rest.get("properties")
        properties = dict(given) if isinstance(given, Mapping) else {}
        for one in alternatives:
            own = one.get("properties")
            for name, value in (own if isinstance(own, Mapping) else {}).items():
                known = properties.get(name)
                if known is None or known == value:
                    properties[name] = value
                elif isinstance(known, Mapping) and "$hoisted" in known:
                    known["anyOf"].append(value)
                else:
                    properties[name] = {"$hoisted": True, "anyOf": [known, value]}
        rest["properties"] = {name: _unmarked(value) for name, value in properties.items()}
        common = [name for name in (needed[0] if needed else []) if all(name in names for names in needed)]
        rest["required"] = list(dict.fromkeys([*listed(rest.get("required", [])), *common]))
        sets = [", ".join(names) or "nothing" for names in needed]
        return add_to_description(rest, f"Give one of these sets of arguments: {'; '.join(sets)}.")

    # -- a node of any kind

    def node(self, schema: object, path: str, depth: int) -> Node:
        self.nodes += 1
        self.flattener.crowded = self.nodes > _MANY_NODES
        if depth > _MOST_DEPTH or self.nodes > _MOST_NODES:
            self.repair("size", path, "too deep or too large for a grammar; any value is accepted")
            return dict(_ANY)
        if not isinstance(schema, Mapping):
            return self.no_schema(schema, path)
        flat = self.flattener.flatten(schema, path)
        if "$ref" in flat:
            return self.kept(flat, path, depth)
        flat = self.tidied(flat, path)
        if flat.get("oneOf") or flat.get("anyOf"):
            return self.union(flat, path, depth)
        return self.typed(flat, path, depth)

    def no_schema(self, schema: object, path: str) -> Node:
        if schema is not True:
            self.repair("no_schema", path, f"{json.dumps(schema, default=str)} is not a schema; any value is accepted")
        else:
            self.repair("boolean_schema", path, "the server refuses `true` as a schema; written as all types")
        return dict(_ANY)

    def kept(self, flat: Node, path: str, depth: int) -> Node:
        pointer = flat["$ref"]
        name = f"{pointer.rsplit('/', 1)[-1] or 'root'}_{self.digest}".replace("#", "root").replace("~1", "_")
        if name not in self.definitions:
            self.repair("kept_ref", path, f"{pointer} renamed, because tools share names in the grammar")
            self.definitions[name] = {}
            # One level is written out; what refers back in it finds the name taken.
            target = self.flattener.expand(pointer)
            self.definitions[name] = self.node(target, f".$defs.{name}", depth + 1)
        return {**{key: value for key, value in flat.items() if key in ANNOTATIONS}, "$ref": f"#/$defs/{name}"}

    def tidied(self, flat: Node, path: str) -> Node:
        """Without what is malformed, and with a type that exists."""
        flat = self.tidied_words(dict(flat), path)
        self.tidy_type(flat, path)
        for key in ("oneOf", "anyOf"):
            if key in flat and not (isinstance(flat[key], list) and flat[key]):
                self.repair("malformed", path, f"`{key}` is not a list of schemas; dropped")
                del flat[key]
        if "enum" in flat and not (isinstance(flat["enum"], list) and flat["enum"]):
            self.repair("malformed", path, "`enum` is not a list of values; dropped")
            del flat["enum"]
        for key in _CONDITIONS:
            if _holds_reference(flat.get(key)):
                self.repair("condition", path, f"`{key}` with references is not enforced; moved into the description")
                flat = add_to_description(flat, f"{key}: {json.dumps(flat.pop(key), default=str)}")
        return self.nullable(flat, path) if "nullable" in flat else flat

    def tidied_words(self, flat: Node, path: str) -> Node:
        for key in ("description", "title"):
            if key in flat and not isinstance(flat[key], str):
                self.repair("malformed", path, f"`{key}` is not a string")
                given = flat.pop(key)
                if given is not None:
                    flat[key] = " ".join(map(str, given)) if isinstance(given, list) else str(given)
        return flat

    def tidy_type(self, flat: Node, path: str) -> None:
        if "type" not in flat:
            return
        given = flat["type"]
        words = given if isinstance(given, list) else [given]
        known = list(dict.fromkeys(kind for word in words if (kind := _type_of(word))))
        if known and known == words:
            return
        self.repair("type", path, f"type {json.dumps(given, default=str)} is not supported by the server")
        if known:
            flat["type"] = known if len(known) > 1 else known[0]
        else:
            del flat["type"]

    def nullable(self, flat: Node, path: str) -> Node:
        """OpenAPI's word for "or null", which the server passes over."""
        if flat.pop("nullable") is not True or flat.get("type") == "null":
            return flat
        self.repair("nullable", path, "the server ignores `nullable`; written as a type")
        for key in ("oneOf", "anyOf"):
            if key in flat:
                return {**flat, key: [*flat[key], {"type": "null"}]}
        if "enum" in flat and None not in flat["enum"]:
            flat["enum"] = [*flat["enum"], None]
        if "const" in flat:
            flat["enum"] = [flat.pop("const"), None]
        if "type" in flat:
            flat["type"] = list(dict.fromkeys([*listed(flat["type"]), "null"]))
        return flat

    # -- unions

    def union(self, flat: Node, path: str, depth: int) -> Node:
        key = "oneOf" if "oneOf" in flat else "anyOf"
        if "oneOf" in flat and "anyOf" in flat:
            self.repair("two_unions", path, "the server ignores `anyOf` next to `oneOf`; moved into the description")
            flat = add_to_description(flat, f"Also any of: {json.dumps(flat.pop('anyOf'), default=str)}")
        outside = {k: v for k, v in flat.items() if k not in ANNOTATIONS and k != key}
        alternatives = [one for one in flat[key] if one is not False]
        if set(outside) & {"properties", "type"} and all(_only_limits(one) for one in alternatives):
            return self.without_limits(flat, key, path, depth)
        if not alternatives or any(one is True or one == {} for one in alternatives):
            self.repair("union_of_any", path, f"`{key}` that accepts anything, or nothing; dropped")
            return self.typed({k: v for k, v in flat.items() if k != key}, path, depth)
        if set(outside) - {"type"} or (outside and not all(_has_own_type(one) for one in alternatives)):
            self.repair("union_siblings", path, f"keywords next to `{key}` were moved into its alternatives")
            schemas = [one if isinstance(one, Mapping) else {} for one in alternatives]
            alternatives = [merged(self.flattener.flatten(one, path), outside, ignore) for one in schemas]
            flat = {k: v for k, v in flat.items() if k in ANNOTATIONS or k == key}
        cleaned = [self.node(one, f"{path}.{key}[{n}]", depth + 1) for n, one in enumerate(alternatives)]
        return {**flat, key: cleaned}

    def without_limits(self, flat: Node, key: str, path: str, depth: int) -> Node:
        self.repair(
            "required_union",
            path,
            f"`{key}` of required properties moved into the description",
        )
        word = "exactly one" if key == "oneOf" else "at least one"
        needs = [" and ".join(one.get("required", ())) for one in flat[key] if isinstance(one, Mapping)]
        rest = {k: v for k, v in flat.items() if k != key}
        if any(needs):
            rest = add_to_description(rest, f"Give {word} of: {'; '.join(need for need in needs if need)}.")
        return self.typed(rest, path, depth)

    # -- by type

    def typed(self, flat: Node, path: str, depth: int) -> Node:
        if "const" in flat or "enum" in flat:
            return self.values(flat, path)
        if "type" not in flat:
            flat = self.with_type(flat, path)
        kinds = listed(flat["type"])
        # Each step changes only keywords of its own type, so a list of types goes through all that it names.
        if "object" in kinds:
            flat = clean_object(self, flat, path, depth)
        if "array" in kinds:
            flat = clean_array(self, flat, path, depth)
        if "string" in kinds:
            flat = clean_string(self, flat, path)
        if "integer" in kinds or "number" in kinds:
            flat = clean_number(self, flat, path)
        return flat

    def values(self, flat: Node, path: str) -> Node:
        """Builds of 2025 don't escape what JSON escapes in a value (b6900); a pattern can say it to them."""
        values = [flat["const"]] if "const" in flat else flat["enum"]
        if not any("\\" in json.dumps(value, ensure_ascii=False, default=str) for value in values):
            return flat
        self.repair("escaped_values", path, "values with quotes, backslashes or control characters; rewritten")
        rest = {k: v for k, v in flat.items() if k not in ("const", "enum", "type")}
        words = f"One of {json.dumps(values, ensure_ascii=False, default=str)}"
        pattern = server_pattern(f"^(?:{'|'.join(re.escape(str(value)) for value in values)})$")
        if pattern is None or not all(isinstance(value, str) for value in values):
            return add_to_description({**_ANY, **rest}, words)
        return add_to_description({"type": "string", **rest, "pattern": pattern}, words)

    def with_type(self, flat: Node, path: str) -> Node:
        kind = next((kind for kind, words in _TYPE_KEYWORDS if words & flat.keys()), None)
        if kind is None:
            self.repair("untyped", path, "the type is missing, which older builds refuse; written as all types")
            return {"type": list(TYPES), **flat}
        if kind in ("string", "number") or (kind == "object" and "properties" not in flat):
            self.repair("untyped", path, f"the type is missing; inferred {kind} from the other keywords")
        return {"type": kind, **flat}


def bisect_refused(tools: Sequence[ToolDict], refused: Callable[[Sequence[ToolDict]], bool]) -> list[str]:
    """The names of the tools that make the server refuse a request.

    Args:
        tools: Tools that were refused together.
        refused: Asks the server: whether it refuses these tools. Called about `2 * log2(len(tools))` times for
            each guilty one.
    """
    search = bisect_refused_tools(tools)
    try:
        asked = next(search)
        while True:
            asked = search.send(refused(asked))
    except StopIteration as stop:
        return list(stop.value)


def bisect_refused_tools(tools: Sequence[ToolDict]) -> Generator[Sequence[ToolDict], bool, list[str]]:
    """`bisect_refused` as a generator: yields sets of tools, is sent whether each is refused, and returns the names.

    Tools that are refused only together are all named.
    """
    if len(tools) <= 1:
        return [tool["function"]["name"] for tool in tools]
    names = list[str]()
    middle = len(tools) // 2
    for half in (tools[:middle], tools[middle:]):
        if (yield half):
            names.extend((yield from bisect_refused_tools(half)))
    return names or [tool["function"]["name"] for tool in tools]


def _type_of(word: object) -> str | None:
    if not isinstance(word, str):
        return None
    word = word.lower()
    return word if word in TYPES or word == "integer" else _ALIASES.get(word)


def _only_limits(alternative: object) -> bool:
    return isinstance(alternative, Mapping) and bool(alternative) and alternative.keys() <= _LIMITS_ONLY


def _has_own_type(alternative: object) -> bool:
    return isinstance(alternative, Mapping) and bool(alternative.keys() & {"type", "const", "enum", "$ref"})


def _holds_reference(value: object) -> bool:
    """Builds of 2025 look for references everywhere and refuse those that they can't follow."""
    if isinstance(value, Mapping):
        return "$ref" in value or any(_holds_reference(one) for one in value.values())
    return isinstance(value, list) and any(_holds_reference(one) for one in value)


def _unmarked(value: Any) -> Any:
    if isinstance(value, Mapping) and "$hoisted" in value:
        return {k: v for k, v in value.items() if k != "$hoisted"}
    return value
