"""Our own check of values against schemas, beside a complete one."""

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamacpp_server._schemas import (
    validation_errors,
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
    assert (validation_errors(schema, value) == []) is valid


def test_what_is_wrong_is_named_with_its_place():
    wrong = validation_errors(TREE, {"name": "a", "kids": [{"name": "b"}, {"kids": [{"name": 5}]}]})
    assert [str(one) for one in wrong] == [
        "kids[1]: 'name' is missing",
        "kids[1].kids[0].name: 5 is not of type string",
    ]
    assert [one.keyword for one in wrong] == ["required", "type"]


def test_what_is_not_known_is_passed_over():
    assert (
        validation_errors(
            {"format": "uuid", "$ref": "https://example.org/x", "pattern": "(?<bad", "nullable": True}, "a"
        )
        == []
    )
    assert validation_errors({"type": "string", "nullable": True}, None) == []


def test_a_reference_to_itself_ends():
    assert validation_errors({"$ref": "#"}, 1) == []


KEYWORDS = [
    ({"multipleOf": 0.25}, [0.5, 0.35, 7, True, "x", -0.25]),
    ({"multipleOf": 3}, [9, 10, 9.0, 0]),
    ({"uniqueItems": True}, [[], [1, 2], [1, 1], [1, True], [[1], [True]], [{"a": 1}, {"a": 1}], [1, 1.0], "aa"]),
    ({"minProperties": 1, "maxProperties": 2}, [{}, {"a": 1}, {"a": 1, "b": 2, "c": 3}, []]),
    ({"propertyNames": {"pattern": "^[a-z]+$"}}, [{"a": 1}, {"A": 1}, {}]),
    ({"propertyNames": {"enum": ["x"]}}, [{"x": 1}, {"y": 1}]),
    (
        {"patternProperties": {"^n_": {"type": "integer"}, "^s_": {"type": "string"}}, "additionalProperties": False},
        [{"n_a": 1}, {"n_a": "x"}, {"s_a": "x", "n_b": 2}, {"other": 1}, {}],
    ),
    (
        {"properties": {"n_a": {"minimum": 3}}, "patternProperties": {"^n_": {"type": "integer"}},
         "additionalProperties": {"type": "null"}},
        [{"n_a": 3}, {"n_a": 2}, {"n_a": 3.5}, {"z": None}, {"z": 1}],
    ),
    ({"patternProperties": {"^no": False}}, [{"no": 1}, {"yes": 1}]),
    ({"additionalProperties": False}, [{}, {"a": 1}]),
    ({"enum": [[1], {"a": True}]}, [[1], [True], {"a": True}, {"a": 1}]),
    ({"const": [True]}, [[1], [True]]),
    ({"$defs": {"a b": {"type": "integer"}}, "$ref": "#/$defs/a%20b"}, [1, "x"]),
    ({"uniqueItems": False}, [[1, 1]]),
    ({"oneOf": [{"type": "integer"}, {"minimum": 3}]}, [1, 3, 3.5, 2.5, "x"]),
    ({"oneOf": [{"required": ["a"]}, {"required": ["b"]}]}, [{"a": 1}, {"b": 1}, {"a": 1, "b": 2}, {}]),
    ({"not": {"type": "string"}}, ["x", 1]),
    ({"not": {}}, [1]),
    (
        {"if": {"properties": {"kind": {"const": "a"}}, "required": ["kind"]}, "then": {"required": ["x"]},
         "else": {"required": ["y"]}},
        [{"kind": "a"}, {"kind": "a", "x": 1}, {"kind": "b"}, {"y": 1}, 3],
    ),
    ({"then": False, "else": False}, [1]),
    ({"dependentRequired": {"card": ["address"]}}, [{"card": 1}, {"card": 1, "address": 2}, {"address": 2}, {}, []]),
    ({"dependentSchemas": {"a": {"required": ["b"]}}}, [{"a": 1}, {"a": 1, "b": 2}, {}]),
    ({"contains": {"type": "integer"}}, [[], ["x"], ["x", 1], {}]),
    ({"contains": {"const": 1}, "minContains": 2, "maxContains": 3}, [[1], [1, 1], [1, 1, 1], [1, 1, 1, 1], [2, 1, 1]]),
    ({"contains": {"const": 1}, "minContains": 0}, [[], [2]]),
    ({"prefixItems": [{"type": "integer"}]}, [[1, "x"], ["x"], []]),
    ({"prefixItems": [{"type": "integer"}], "items": False}, [[1], [1, 2]]),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "values"), KEYWORDS, ids=[",".join(schema) for schema, _ in KEYWORDS])
def test_each_keyword_means_what_it_means_to_a_complete_check(schema, values):
    complete = jsonschema.Draft202012Validator(schema)
    wrong = [value for value in values if (validation_errors(schema, value) == []) is not complete.is_valid(value)]
    assert wrong == []


VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-2, 3), st.sampled_from([0.5, 1.0, 2.5]), st.text("ab", max_size=2)
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("abc"), inner, max_size=3)),
    max_leaves=5,
)
LEAVES = st.booleans() | st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["object", "array", "string", "integer", "number", "null", ["string", "null"]]),
        "const": VALUES,
        "enum": st.lists(VALUES, min_size=1, max_size=3),
        "minimum": st.integers(-1, 2),
        "minItems": st.integers(0, 2),
    },
)


def compound(inner):
    listed, named = st.lists(inner, min_size=1, max_size=3), st.dictionaries(st.sampled_from("abc"), inner, max_size=2)
    names = st.lists(st.sampled_from("abc"), unique=True, max_size=2)
    single = ("not", "if", "then", "else", "contains", "items", "additionalProperties", "propertyNames",
              "unevaluatedItems", "unevaluatedProperties")  # fmt: skip
    optional = dict.fromkeys(single, inner) | dict.fromkeys(["anyOf", "oneOf", "allOf", "prefixItems"], listed)
    optional |= dict.fromkeys(["properties", "dependentSchemas"], named) | {"required": names}
    optional |= {"dependentRequired": st.dictionaries(st.sampled_from("abc"), names, max_size=2)}
    return st.fixed_dictionaries(
        {}, optional=optional | dict.fromkeys(["minContains", "maxContains"], st.integers(0, 2))
    )


@given(st.recursive(LEAVES, compound, max_leaves=6), VALUES)
def test_any_schema_means_what_it_means_to_a_complete_check(schema, value):
    assert (validation_errors(schema, value) == []) is jsonschema.Draft202012Validator(schema).is_valid(value)


@pytest.mark.parametrize("keyword", ["oneOf", "anyOf", "allOf"])
def test_alternatives_that_share_definitions_are_checked_once(keyword):
    steps = {f"d{at}": {keyword: [{"$ref": f"#/$defs/d{at + 1}"}] * 2} for at in range(40)}
    errors = validation_errors({"$defs": {**steps, "d40": {"type": "string"}}, "$ref": "#/$defs/d0"}, 1)
    assert 1 <= len(errors) <= 2


def test_a_decimal_multiple_is_exact():
    assert validation_errors({"multipleOf": 0.1}, 0.3) == []  # 0.3 / 0.1 in binary is a little less than 3
    assert [one.keyword for one in validation_errors({"multipleOf": 0.01}, 19.999)] == ["multipleOf"]


NESTED = {
    "type": "object",
    "properties": {
        "trip": {
            "$defs": {"Place": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}},
            "type": "object",
            "properties": {"to": {"$ref": "#/$defs/Place"}, "via": {"items": {"$ref": "#/definitions/Place"}}},
            "required": ["to"],
        }
    },
}


def test_a_reference_is_looked_up_in_enclosing_definitions():
    assert validation_errors(NESTED, {"trip": {"to": {"name": "Rome"}}}) == []
    assert [str(one) for one in validation_errors(NESTED, {"trip": {"to": {}, "via": [{}]}})] == [
        "trip.to: 'name' is missing",
        "trip.via[0]: 'name' is missing",
    ]


def test_a_definition_at_the_root_wins_over_an_enclosing_one():
    schema = {
        "$defs": {"A": {"type": "string"}},
        "properties": {"x": {"$defs": {"A": {"type": "integer"}}, "$ref": "#/$defs/A"}},
    }
    assert validation_errors(schema, {"x": "text"}) == []
