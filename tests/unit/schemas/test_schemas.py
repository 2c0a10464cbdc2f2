"""What a schema becomes before the server sees it."""

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamacpp_server._schemas import (
    ANY_ITEM,
    bisect_refused,
    clean_schema,
    clean_tools,
    plain_tools,
)
from tests.corpus import TOOLS

jsonschema = pytest.importorskip("jsonschema", reason="the validator that schemas are compared with is not installed")

ANY = ["object", "array", "string", "number", "boolean", "null"]
TEXT = {"type": "string"}


def cleaned(schema):
    return clean_schema(schema)[0]


def names(schema, **options):
    return [repair.name for repair in clean_schema(schema, **options)[1]]


def tool(name, parameters):
    return {"type": "function", "function": {"name": name, "description": "", "parameters": parameters}}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "description": "x", "maxLength": 100, "format": "date"},
        {"type": "object", "properties": {"a": TEXT}, "required": ["a"], "additionalProperties": False},
        {"type": "object", "additionalProperties": {"type": ["string", "null"]}},
        {"anyOf": [TEXT, {"type": "null"}], "default": None, "title": "X"},
        {"type": "array", "items": TEXT, "minItems": 1, "maxItems": 10, "uniqueItems": True},
        {"type": "array", "items": [TEXT, TEXT], "minItems": 2, "maxItems": 2},
        {"type": "integer", "minimum": -5, "exclusiveMaximum": 10, "multipleOf": 5},
        {"type": "number", "minimum": 0.5},
        {"enum": [1, "a", None]},
        {"const": {"a": 1}},
        {"type": "string", "not": {"enum": ["a"]}},
        {"type": "object"},
    ],
)
def test_what_every_build_serves_is_left_alone(schema):
    assert clean_schema(schema) == (schema, ())


@pytest.mark.parametrize(
    ("schema", "becomes", "repair"),
    [
        ({}, {"type": ANY}, "untyped"),
        (True, {"type": ANY}, "untyped"),
        (
            {"anyOf": [{"type": "array", "items": TEXT}, 5]},
            {"anyOf": [{"type": "array", "items": TEXT}, {"type": ANY}]},
            "no_schema",
        ),
        (5, {"type": ANY}, "no_schema"),
        ({"description": "x"}, {"type": ANY, "description": "x"}, "untyped"),
        ({"type": []}, {"type": ANY}, "type"),
        ({"type": "STRING"}, TEXT, "type"),
        ({"type": ["str", "nil"]}, {"type": ["string", "null"]}, "type"),
        ({"minLength": 1}, {"type": "string", "minLength": 1}, "untyped"),
        ({"type": "string", "format": None}, TEXT, "malformed"),
        ({"type": "string", "minLength": 3, "maxLength": 2}, TEXT, "contradiction"),
        ({"type": "string", "maxLength": 5.0}, {"type": "string", "maxLength": 5}, "malformed"),
        (
            {"type": "string", "maxLength": 9999},
            {"type": "string", "description": "At most 9999 characters."},
            "length",
        ),
        ({"type": "array", "items": {}}, {"type": "array", "items": ANY_ITEM}, "any_items"),
        ({"type": "array"}, {"type": "array", "items": ANY_ITEM}, "any_items"),
        ({"type": "array", "prefixItems": [TEXT], "items": False}, {"type": "array", "items": [TEXT]}, "tuple"),
        (
            {"type": "integer", "minimum": 0, "exclusiveMinimum": True},
            {"type": "integer", "exclusiveMinimum": 0},
            "exclusive_switch",
        ),
        ({"type": "integer", "minimum": 5, "maximum": 1}, {"type": "integer"}, "contradiction"),
        ({"type": "string", "nullable": True}, {"type": ["string", "null"]}, "nullable"),
        ({"enum": ["a"], "nullable": True}, {"enum": ["a", None]}, "nullable"),
        ({"allOf": [TEXT, {"minLength": 3}]}, {"type": "string", "minLength": 3}, "all_of"),
        ({"allOf": [{"enum": [1, 2]}, {"enum": [2, 3]}]}, {"enum": [2]}, "all_of"),
        ({"anyOf": []}, {"type": ANY}, "malformed"),
        ({"anyOf": [False, TEXT, True]}, {"type": ANY}, "union_of_any"),
        ({"type": "object", "properties": []}, {"type": "object", "properties": {}}, "malformed"),
        ({"type": "object", "properties": {"a": False}}, {"type": "object", "properties": {}}, None),
        (
            {"type": "object", "additionalProperties": None, "properties": {"a": TEXT}},
            {"type": "object", "properties": {"a": TEXT}},
            None,
        ),
        (
            {"type": "object", "patternProperties": {"^x": TEXT}},
            {"type": "object", "additionalProperties": TEXT, "description": "Names of further properties match: ^x"},
            "pattern_properties",
        ),
        (
            {"type": "object", "properties": {"a": TEXT}, "required": ["a", "b"]},
            {"type": "object", "properties": {"a": TEXT, "b": {"type": ANY}}, "required": ["a", "b"]},
            "required",
        ),
        (
            {"$ref": "https://example.com/x"},
            {"type": ANY, "description": "See https://example.com/x."},
            "unresolved_ref",
        ),
        (
            {"type": "string", "pattern": r"^(?=a).*$", "description": "D"},
            {"type": "string", "description": "D (Must match the regular expression ^(?=a).*$)"},
            "pattern",
        ),
        (
            {"enum": ['a"b']},
            {"type": "string", "pattern": r'^(a\\"b)$', "description": r'One of ["a\"b"]'},
            "escaped_values",
        ),
    ],
)
def test_what_some_build_refuses_or_mistakes_is_rewritten(schema, becomes, repair):
    assert cleaned(schema) == becomes
    if repair:
        assert repair in names(schema)


def test_a_reference_is_written_out_with_what_stands_next_to_it():
    schema = {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/A", "description": "mine"}, "b": {"$ref": "#/$defs/A"}},
        "$defs": {"A": {"type": "integer", "description": "theirs"}},
    }
    assert cleaned(schema)["properties"] == {
        "a": {"description": "mine", "type": "integer"},
        "b": {"type": "integer", "description": "theirs"},
    }
    assert "$defs" not in cleaned(schema)


def test_recursive_definitions_of_two_tools_never_share_a_name():
    def tree(leaf):
        node = {"type": "object", "properties": {"again": {"$ref": "#/$defs/T"}, "leaf": leaf}}
        return {"type": "object", "properties": {"t": {"$ref": "#/$defs/T"}}, "$defs": {"T": node}}

    one, other = cleaned(tree(TEXT)), cleaned(tree({"type": "integer"}))
    assert set(one["$defs"]).isdisjoint(other["$defs"])
    (name,) = one["$defs"]
    assert one["properties"]["t"] == {"$ref": f"#/$defs/{name}"} == one["$defs"][name]["properties"]["again"]


def test_a_union_takes_in_what_stands_next_to_it():
    schema = {
        "type": "object",
        "properties": {"k": TEXT},
        "required": ["k"],
        "anyOf": [{"properties": {"a": TEXT}, "required": ["a"]}, {"properties": {"b": TEXT}}],
    }
    assert [set(one["properties"]) for one in cleaned(schema)["anyOf"]] == [{"k", "a"}, {"k", "b"}]
    assert [one["required"] for one in cleaned(schema)["anyOf"]] == [["a", "k"], ["k"]]


def test_a_union_of_required_properties_is_said_in_words():
    schema = {
        "type": "object",
        "properties": {"a": TEXT, "b": TEXT},
        "anyOf": [{"required": ["a"]}, {"required": ["b"]}],
    }
    assert cleaned(schema) == {
        "type": "object",
        "properties": {"a": TEXT, "b": TEXT},
        "description": "Give at least one of: a; b.",
    }


def test_arguments_are_always_one_object_with_its_properties_at_the_top():
    either = {
        "oneOf": [
            {"type": "object", "properties": {"kind": {"const": "a"}, "p": TEXT}, "required": ["kind", "p"]},
            {"type": "object", "properties": {"kind": {"const": "b"}}, "required": ["kind"]},
        ]
    }
    parameters, _ = clean_schema(either, arguments=True)
    assert parameters["properties"] == {"kind": {"anyOf": [{"const": "a"}, {"const": "b"}]}, "p": TEXT}
    assert parameters["required"] == ["kind"]
    assert parameters["description"] == "Give one of these sets of arguments: kind, p; kind."


@pytest.mark.parametrize("given", [None, {}, True, [], {"type": "object"}])
def test_a_tool_without_parameters_takes_none(given):
    assert clean_schema(given, arguments=True)[0] == {"type": "object", "properties": {}}


def test_a_tool_gets_the_description_that_builds_of_2025_demand():
    (one,), _ = clean_tools([{"type": "function", "function": {"name": "f"}}])
    assert one["function"] == {"name": "f", "parameters": {"type": "object", "properties": {}}, "description": ""}


def test_all_of_takes_the_narrower_of_two_bounds():
    both = {"allOf": [{"type": "integer", "minimum": 1, "maximum": 9}, {"minimum": 3, "maximum": 12}]}
    assert cleaned(both) == {"type": "integer", "minimum": 3, "maximum": 9}


def test_a_condition_lets_its_properties_be_given():
    schema = {
        "type": "object",
        "properties": {"k": TEXT},
        "if": {"properties": {"k": {"const": "a"}}},
        "then": {"properties": {"more": TEXT}, "required": ["more"]},
    }
    assert cleaned(schema)["properties"] == {"k": TEXT, "more": TEXT}


def test_repairs_name_the_tool_and_the_path():
    _, repairs = clean_tools(
        [tool("find", {"type": "object", "properties": {"q": {"type": "string", "pattern": "a"}}})]
    )
    assert [(repair.name, repair.where) for repair in repairs] == [("pattern", "find.properties.q")]
    assert repairs[0].as_dict() == {"name": "pattern", "where": "find.properties.q", "what": repairs[0].what}


def test_a_bomb_of_references_stays_small():
    levels = {
        f"L{n}": {"type": "object", "properties": {key: {"$ref": f"#/$defs/L{n + 1}"} for key in "abc"}}
        for n in range(20)
    }
    schema = {"$ref": "#/$defs/L0", "$defs": {**levels, "L20": TEXT}}
    assert len(json.dumps(cleaned(schema))) < 40_000


def test_the_corpus_is_not_changed_comes_out_the_same_twice_and_stays_as_cleaned():
    before = copy.deepcopy(TOOLS)
    once = json.dumps(clean_tools(TOOLS)[0])
    assert before == TOOLS
    assert json.dumps(clean_tools(copy.deepcopy(TOOLS))[0]) == once


# -- for templates that know only one type a place


def plain(schema):
    (one,), _ = plain_tools([tool("f", {"type": "object", "properties": {"x": schema}})])
    return one["function"]["parameters"]["properties"]["x"]


@pytest.mark.parametrize(
    ("schema", "becomes"),
    [
        (TEXT, TEXT),
        ({"type": ["null", "integer"]}, {"type": "integer", "description": "Or null."}),
        ({"anyOf": [{"type": "null"}, TEXT]}, {"type": "string", "description": 'Or: [{"type": "null"}]'}),
        ({"enum": [1, "a"]}, {"type": "integer", "enum": [1], "description": 'One of [1, "a"].'}),
        ({"const": True}, {"type": "boolean", "const": True}),
        ({"type": "array", "items": [{"type": "integer"}, TEXT]}, {"type": "array", "items": {"type": "integer"}}),
    ],
)
def test_a_plain_tool_has_one_type_a_place(schema, becomes):
    assert plain(schema) == becomes


def test_every_node_of_the_plain_corpus_has_one_type():
    def check(node):
        assert isinstance(node["type"], str), node
        for below in [*node.get("properties", {}).values(), node.get("items"), node.get("additionalProperties")]:
            if isinstance(below, dict):
                check(below)

    for one in plain_tools(clean_tools(TOOLS)[0])[0]:
        check(one["function"]["parameters"])


# -- which tool is to blame


@pytest.mark.parametrize("guilty", [[], [0], [7], [3, 4], [0, 5, 9], list(range(10))])
def test_the_tools_that_were_refused_are_named(guilty):
    tools = [tool(f"t{n}", {}) for n in range(10)]
    bad = {f"t{n}" for n in guilty}
    asked = []

    def refused(some):
        asked.append(len(some))
        return any(one["function"]["name"] in bad for one in some)

    if guilty:
        assert bisect_refused(tools, refused) == [f"t{n}" for n in guilty]
        assert len(asked) <= 2 * 10


def test_tools_that_are_refused_only_together_are_all_named():
    tools = [tool(name, {}) for name in "abcd"]
    assert bisect_refused(tools, lambda some: len(some) == 4) == ["a", "b", "c", "d"]


# -- nothing that the original takes is lost, but what no grammar can say

_LEAF = st.sampled_from(
    [
        TEXT,
        {"type": "string", "minLength": 1, "maxLength": 3},
        {"type": "string", "pattern": "[ab]"},
        {"type": "integer"},
        {"type": "integer", "minimum": 0, "maximum": 9},
        {"type": "number", "exclusiveMinimum": 0},
        {"type": "boolean"},
        {"type": "null"},
        {"enum": ["a", 1, None]},
        {"const": "b"},
        {},
        True,
        {"description": "x"},
        {"type": ["string", "null"]},
        {"$ref": "#/$defs/D"},
        {"allOf": [TEXT, {"maxLength": 2}]},
    ]
)


def _larger(inner):
    return st.one_of(
        st.builds(lambda a: {"type": "array", "items": a}, inner),
        st.builds(lambda a, b: {"anyOf": [a, b]}, inner, inner),
        st.builds(lambda a: {"type": "object", "additionalProperties": a}, inner),
        st.builds(
            lambda a, b: {
                "type": "object",
                "properties": {"a": a, "b": b},
                "required": ["a"],
                "additionalProperties": False,
            },
            inner,
            inner,
        ),
        st.builds(lambda a: {"allOf": [{"type": "array", "items": a}, {"minItems": 1}]}, inner),
        st.builds(lambda a: {"$ref": "#/$defs/D", "description": "beside"} if a is True else a, inner),
    )


_SCHEMAS = st.recursive(_LEAF, _larger, max_leaves=6)
_SCALARS = st.sampled_from(["", "a", "ab", "abcd", 'q"', "b", 0, 1, 5, 100, -3, 0.5, True, None])
# Any item of an array is an array of scalars and objects at the most; see ANY_ITEM.
_VALUES = st.recursive(
    st.one_of(_SCALARS, st.lists(_SCALARS, max_size=2)),
    lambda v: st.dictionaries(st.sampled_from("abc"), v, max_size=2),
    max_leaves=5,
)


@settings(max_examples=300, deadline=None)
@given(_SCHEMAS, _VALUES)
def test_a_cleaned_schema_takes_what_the_original_takes(schema, value):
    full = {"allOf": [schema], "$defs": {"D": {"type": "object", "properties": {"d": TEXT}}}}
    if jsonschema.Draft202012Validator(full).is_valid(value):
        # A pattern in the cleaned schema is one over JSON text: compared in the tests of patterns.
        jsonschema.Draft202012Validator(without_patterns(cleaned(full))).validate(value)


def without_patterns(schema):
    if isinstance(schema, dict):
        return {key: without_patterns(value) for key, value in schema.items() if key != "pattern"}
    return [without_patterns(value) for value in schema] if isinstance(schema, list) else schema


@pytest.mark.parametrize(
    "parameters",
    [
        {"properties": {"a": {"anyOf": [{"x": None}, None, 5], "b": None}}},
        {"properties": {"not": {"const": {}, "properties": {"a": {}, "role": None, "additionalProperties": None}}}},
    ],
)
def test_an_invalid_subschema_allows_any_value(parameters):
    """A fuzzer found these."""
    done, _ = clean_tools([tool("f", parameters)])
    (name,) = parameters["properties"]
    assert name in done[0]["function"]["parameters"]["properties"]
    assert name in plain_tools(done)[0][0]["function"]["parameters"]["properties"]


def test_properties_that_are_not_an_object_are_none_in_a_union_too():
    parameters = {"properties": ["a"], "anyOf": [{"properties": ["b"]}, {"properties": {"c": TEXT}}]}
    done, _ = clean_tools([tool("f", parameters)])
    assert list(done[0]["function"]["parameters"]["properties"]) == ["c"]


def test_a_reference_into_an_enclosing_schema_is_found():
    inner = {"$defs": {"P": {"type": "object", "properties": {"n": {"type": "integer"}}}}, "$ref": "#/$defs/P"}
    cleaned, repairs = clean_schema({"type": "object", "properties": {"a": inner, "b/c": {"items": inner}}})
    assert cleaned["properties"]["a"] == {"type": "object", "properties": {"n": {"type": "integer"}}}
    assert cleaned["properties"]["b/c"]["items"] == cleaned["properties"]["a"]
    assert "unresolved_ref" not in [repair.name for repair in repairs]


def test_a_recursive_definition_of_an_enclosing_schema_stays_recursive():
    node = {"type": "object", "properties": {"kids": {"type": "array", "items": {"$ref": "#/definitions/Node"}}}}
    schema = {"type": "object", "properties": {"tree": {"definitions": {"Node": node}, "$ref": "#/definitions/Node"}}}
    cleaned, repairs = clean_schema(schema)
    (name,) = cleaned["$defs"]
    assert f'"$ref": "#/$defs/{name}"' in json.dumps(cleaned["properties"])
    assert "unresolved_ref" not in [repair.name for repair in repairs]
