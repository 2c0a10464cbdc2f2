"""Our own check of values against schemas, beside a complete one."""

import jsonschema
import pytest

from llamacpp_server._schemas import (
    misfits,
)

TREE = {
    "$defs": {
        "Node": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 5},
                "kids": {"type": "array", "items": {"$ref": "#/$defs/Node"}, "maxItems": 2},
            },
            "required": ["name"],
            "additionalProperties": False,
        }
    },
    "$ref": "#/$defs/Node",
}
ANY_OF = {"anyOf": [{"type": "integer", "minimum": 3}, {"type": "null"}, {"const": "x"}]}
MAP = {"type": "object", "additionalProperties": {"type": "number", "exclusiveMaximum": 1}}
TUPLE = {"type": "array", "prefixItems": [{"type": "string"}, {"enum": [1, "é", None]}], "items": {"type": "boolean"}}
ALL_OF = {"allOf": [{"required": ["a"]}, {"properties": {"a": {"type": ["string", "null"], "minLength": 1}}}]}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        *((TREE, value) for value in (
            {"name": "a"}, {"name": "a", "kids": [{"name": "b", "kids": []}]}, {"kids": []}, {"name": "A"}, [],
            {"name": "a", "kids": [{"name": 1}]}, {"name": "abcdef"}, {"name": "a", "x": 1}, "a",
            {"name": "a", "kids": [{"name": "b"}] * 3},
        )),
        *((ANY_OF, value) for value in (3, 2, None, "x", "y", True, 3.0, 3.5)),
        *((MAP, value) for value in ({}, {"a": 0.5}, {"a": 1}, {"a": "0"}, {"a": True})),
        *((TUPLE, value) for value in ([], ["a"], ["a", 1, True], ["a", 2], ["a", None, 0], ["a", True])),
        *((ALL_OF, value) for value in ({"a": "x"}, {"a": ""}, {"a": None}, {}, {"a": 1})),
        *(({"type": "integer"}, value) for value in (1, 1.0, 1.5, True, "1")),
        (True, 1), (False, 1), ({}, None), ({}, [1]),
    ],
)  # fmt: skip
def test_the_same_values_fit_as_for_a_complete_check(schema, value):
    valid = jsonschema.Draft202012Validator(schema).is_valid(value)
    assert (misfits(schema, value) == []) is valid


def test_what_is_wrong_is_named_with_its_place():
    wrong = misfits(TREE, {"name": "a", "kids": [{"name": "b"}, {"kids": [{"name": 5}]}]})
    assert [str(one) for one in wrong] == ["kids[1]: 'name' is missing", "kids[1].kids[0].name: 5 is no string"]
    assert [one.keyword for one in wrong] == ["required", "type"]


def test_what_is_not_known_is_passed_over():
    assert (
        misfits({"format": "uuid", "$ref": "https://example.org/x", "pattern": "(?<bad", "nullable": True}, "a") == []
    )
    assert misfits({"type": "string", "nullable": True}, None) == []


def test_a_reference_to_itself_ends():
    assert misfits({"$ref": "#"}, 1) == []
