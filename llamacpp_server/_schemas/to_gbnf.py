"""JSON schema -> GBNF, written here: for a server that refuses a schema, or takes it and does not keep to it.

The server's own converter enforces more (patterns, bounds of numbers), so it is asked first. Here types, names,
required properties, enumerations, lengths and references are held; the rest is checked on our side.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from .clean import clean_schema
from .grammars import quoted
from .regex import MOST_REPEATS
from .tuples import Places, places_of

_SHARED: Final = r"""
ws ::= (" " | "\n" [ ]{0,20})?
char ::= [ !#-\[\]-~\x80-\uD7FF\uE000-\U0010FFFF] | "\\" ["\\bfnrt]
string ::= "\"" char* "\""
integer ::= "-"? ("0" | [1-9] [0-9]{0,15})
number ::= integer ("." [0-9]{1,16})? ([eE] [-+]? [0-9]{1,2})?
boolean ::= "true" | "false"
null ::= "null"
object ::= "{" ws (string ":" ws value ("," ws string ":" ws value)*)? ws "}"
array ::= "[" ws (value ("," ws value)*)? ws "]"
value ::= object | array | string | number | boolean | null
""".strip()
_TYPES: Final = ("string", "integer", "number", "boolean", "null", "object", "array")


def schema_grammar(schema: Mapping[str, Any]) -> str:
    """Return a grammar for objects of the schema, except for keywords that only the client validates."""
    cleaned, _ = clean_schema(schema, keeps_tuples=True)
    writer = _Writer(cleaned)
    root = writer.node(cleaned)
    rules = [f"root ::= ws {root} ws", *(f"{name} ::= {text}" for name, text in writer.rules.items()), _SHARED]
    return "\n".join(rules)


class _Writer:
    """Writes the right side of a rule for each node, and a rule of its own for each object and definition."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self.definitions: Mapping[str, Any] = root.get("$defs") or {}
        self.rules: dict[str, str] = {}
        self.names: dict[str, str] = {}

    def node(self, schema: Any) -> str:
        if not isinstance(schema, Mapping):
            return "value"
        if "$ref" in schema:
            return self.definition(str(schema["$ref"]).rsplit("/", 1)[-1])
        values = [schema["const"]] if "const" in schema else schema.get("enum")
        if values:
            return f"({' | '.join(map(_value, values))})"
        alternatives = schema.get("anyOf") or schema.get("oneOf")
        if alternatives:
            return f"({' | '.join(map(self.node, alternatives))})"
        kinds = schema.get("type")
        return f"({' | '.join(self.typed(schema, k) for k in (kinds if isinstance(kinds, list) else [kinds]))})"

    def definition(self, name: str) -> str:
        if name not in self.names:
            rule = self.names[name] = f"def{len(self.names)}"
            self.rules[rule] = ""  # keeps its place, and ends a recursion
            self.rules[rule] = self.node(self.definitions.get(name))
        return self.names[name]

    def typed(self, schema: Mapping[str, Any], kind: Any) -> str:
        if kind == "object" and (schema.get("properties") or isinstance(schema.get("additionalProperties"), Mapping)):
            return self.object(schema)
        if kind == "object" and schema.get("additionalProperties") is False:
            return '"{" ws "}"'
        if kind == "array":
            return self.array(schema)
        if kind == "string" and {"minLength", "maxLength"} & schema.keys():
            return f'"\\"" char{_times(schema.get("minLength"), schema.get("maxLength"))} "\\""'
        return kind if kind in _TYPES else "value"

    def object(self, schema: Mapping[str, Any]) -> str:
        properties = schema.get("properties") or {}
        if not properties:
            member = f'string ":" ws {self.node(schema["additionalProperties"])}'
            return f'"{{" ws ({member} ("," ws {member})*)? ws "}}"'
        required = set(schema.get("required") or ())
        members = {name: self.member(name, value) for name, value in properties.items()}
        needed = [text for name, text in members.items() if name in required]
        optional = [text for name, text in members.items() if name not in required]
        if needed:
            inside = ' "," ws '.join(needed) + "".join(f' ("," ws {text})?' for text in optional)
        else:
            starts = [_first_of(optional[at:]) for at in range(len(optional))]
            inside = f"({' | '.join(starts)})?"
        rule = f"obj{len(self.rules)}"
        self.rules[rule] = f'"{{" ws {inside} ws "}}"'
        return rule

    def member(self, name: str, schema: Any) -> str:
        return f'{_value(name)} ":" ws {self.node(schema)}'

    def array(self, schema: Mapping[str, Any]) -> str:
        if (places := places_of(schema)).first:
            return self.tuple(schema, places)
        item = self.node(schema.get("items"))
        least, most = schema.get("minItems") or 0, schema.get("maxItems")
        if most == 0:
            return '"[" ws "]"'
        further = _times(max(least - 1, 0), None if most is None else most - 1)
        entries = f'{item} ("," ws {item}){further}'
        return f'"[" ws {entries if least else f"({entries})?"} ws "]"'

    def tuple(self, schema: Mapping[str, Any], places: Places) -> str:
        least, most = places.lengths(schema)
        least = min(least, max(len(places.first), MOST_REPEATS))
        entries = list(map(self.node, places.at(least)))
        further = ""
        if places.rest and most != least:
            further = f' ("," ws {self.node(places.rest)}){_times(0, None if most is None else most - least)}'
        inside = ' "," ws '.join(entries)
        return f'"[" ws {inside}{further} ws "]"'


def _first_of(members: Sequence[str]) -> str:
    """The first of some optional members, and any of those behind it."""
    return members[0] + "".join(f' ("," ws {text})?' for text in members[1:])


def _value(value: Any) -> str:
    return quoted(json.dumps(value, ensure_ascii=False))


def _times(least: int | None, most: int | None) -> str:
    """A quantifier; what a grammar can't count is left to the check on our side."""
    low = min(least or 0, MOST_REPEATS)
    return f"{{{low},{most}}}" if most is not None and low <= most <= MOST_REPEATS else f"{{{low},}}"


__all__ = ["schema_grammar"]
