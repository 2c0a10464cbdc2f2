"""Grammars that are made here from schemas, on the real server: whatever a random model says fits."""

import json

import jsonschema
import pytest

from llamacpp_server import ChatRequest
from llamacpp_server.integration import (
    schema_grammar,
)
from tests.models import SECOND_SPELLINGS

BIAS = [[byte, False] for byte in SECOND_SPELLINGS]
TEXT = {"type": "string", "maxLength": 4}
SCHEMAS = {
    "recursive": {
        "$defs": {
            "Node": {
                "type": "object",
                "properties": {
                    "name": TEXT,
                    "kids": {"type": "array", "items": {"$ref": "#/$defs/Node"}, "maxItems": 1},
                },
                "required": ["name"],
            }
        },
        "$ref": "#/$defs/Node",
    },
    "optional only": {"type": "object", "properties": {name: {"type": "boolean"} for name in "abcd"}},
    "enums": {
        "type": "object",
        "properties": {"a": {"enum": ["é", 1, None, "\u2028"]}, "b": {"const": "x"}},
        "required": ["a", "b"],
    },
    "unions": {
        "type": "object",
        "properties": {
            "a": {"anyOf": [{"type": "integer"}, TEXT, {"type": "null"}]},
            "b": {"type": ["boolean", "null"]},
        },
        "required": ["a", "b"],
    },
    "arrays": {
        "type": "object",
        "properties": {
            "two": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2},
            "few": {"type": "array", "items": TEXT, "minItems": 1, "maxItems": 3},
            "pair": {"type": "array", "prefixItems": [{"type": "boolean"}, {"type": "number"}], "minItems": 2},
        },
        "required": ["two", "few", "pair"],
    },
    "tuples": {
        "type": "object",
        "properties": {
            "open": {"type": "array", "prefixItems": [{"type": "null"}, TEXT], "items": {"type": "boolean"}},
            "long": {"type": "array", "prefixItems": [{"type": "null"}], "items": {"type": "boolean"}, "minItems": 3},
            "cut": {"type": "array", "prefixItems": [{"type": "null"}, TEXT], "maxItems": 1},
            "shut": {"type": "array", "prefixItems": [{"type": "null"}, TEXT], "items": False},
            "none": {"type": "array", "items": False},
        },
        "required": ["open", "long", "cut", "shut", "none"],
        "additionalProperties": False,
    },
    "empty": {"type": "object", "properties": {}, "additionalProperties": False},
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_what_is_said_fits_the_schema(client, name):
    grammar, full = schema_grammar(SCHEMAS[name]), 0
    for seed in range(6):
        params = {"grammar": grammar, "max_tokens": 400, "seed": seed, "temperature": 1.5, "logit_bias": BIAS}
        reply = client.chat(ChatRequest(messages=[{"role": "user", "content": "Hi"}], params=params))
        if reply.finish_reason == "stop":
            full += 1
            jsonschema.validate(json.loads(reply.content, strict=False), SCHEMAS[name])
    assert full > 2


def test_optional_properties_may_come_in_any_selection():
    a, b, c = (rf'"\x22{name}\x22" ":" ws (boolean)' for name in "abc")
    optional = {"type": "object", "properties": {name: {"type": "boolean"} for name in "abc"}}
    selection = f'({a} ("," ws {b})? ("," ws {c})? | {b} ("," ws {c})? | {c})?'
    assert f'::= "{{" ws {selection} ws "}}"' in schema_grammar(optional)
    behind = f'{a} ("," ws {b})? ("," ws {c})?'
    assert f'::= "{{" ws {behind} ws "}}"' in schema_grammar({**optional, "required": ["a"]})
