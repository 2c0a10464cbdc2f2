"""Where an answer does not fit its schema, by which keyword and why: the model is asked again with these words."""

import jsonschema
import pytest

from llamacpp_server._schemas import known_names, validation_errors

INTEGER, TEXT = {"type": "integer"}, {"type": "string"}

# What a value at the place `a` has wrong: its place, the keyword, and the words.
WRONG = [
    (False, 1, ["a"], "false", "no value is allowed here"),
    (INTEGER, "x", ["a"], "type", "'x' is not of type integer"),
    ({"type": ["string", "null"]}, 1, ["a"], "type", "1 is not of type string or null"),
    ({"enum": [1, "x"]}, 5, ["a"], "enum", "5 is not one of 1, 'x'"),
    ({"const": 4}, 5, ["a"], "const", "5 is not 4"),
    ({"pattern": "^y$"}, "x", ["a"], "pattern", "'x' does not match ^y$"),
    ({"minimum": 3}, 2, ["a"], "minimum", "2 violates minimum 3"),
    ({"multipleOf": 2}, 3, ["a"], "multipleOf", "3 violates multipleOf 2"),
    (INTEGER, "x" * 100, ["a"], "type", f"'{'x' * 76}... is not of type integer"),
    ({"allOf": [{"minimum": 3}]}, 2, ["a"], "minimum", "2 violates minimum 3"),
    ({"anyOf": [INTEGER, {"type": "null"}]}, "x", ["a"], "anyOf",
     "matches none of the alternatives (a: 'x' is not of type integer)"),
    ({"anyOf": [{"required": ["b", "c"]}, {"required": ["z"]}]}, {}, ["a"], "anyOf",
     "matches none of the alternatives (a: 'z' is missing)"),
    ({"oneOf": [INTEGER, {"minimum": 9}, {"minimum": 3}]}, 5, ["a"], "oneOf",
     "matches more than one alternative (numbers 1, 3)"),
    ({"not": {"const": 5}}, 5, ["a"], "not", "5 is excluded"),
    ({"if": INTEGER, "then": {"minimum": 3}}, 1, ["a"], "minimum", "1 violates minimum 3"),
    ({"if": INTEGER, "else": {"maxLength": 1}}, "xx", ["a"], "maxLength", "'xx' violates maxLength 1"),
    ({"dependentRequired": {"x": ["y"], "b": ["c"]}}, {"b": 1}, ["a"], "dependentRequired",
     "'c' is missing, which 'b' requires"),
    ({"dependentSchemas": {"b": {"required": ["c"]}}}, {"b": 1}, ["a"], "required", "'c' is missing"),
    ({"dependencies": {"b": {"required": ["c"]}, "d": ["e"]}}, {"b": 1, "c": 1, "d": 1}, ["a"], "dependencies",
     "'e' is missing, which 'd' requires"),
    ({"propertyNames": {"maxLength": 1}}, {"bb": 1}, ["a"], "propertyNames", "'bb' is not allowed as a name"),
    ({"required": ["b"]}, {}, ["a"], "required", "'b' is missing"),
    ({"additionalProperties": False}, {"b": 1}, ["a"], "additionalProperties", "'b' is not a known property"),
    ({"additionalProperties": TEXT}, {"b": 1}, ["a.b"], "type", "1 is not of type string"),
    ({"patternProperties": {"^b": TEXT}}, {"b": 1}, ["a.b"], "type", "1 is not of type string"),
    ({"uniqueItems": True}, [1, 1], ["a"], "uniqueItems", "two items are equal"),
    ({"items": TEXT}, ["x", 1, "x", 2], ["a[1]", "a[3]"], "type", " is not of type string"),
    ({"prefixItems": [{}, TEXT]}, [1, 2], ["a[1]"], "type", "2 is not of type string"),
    ({"contains": {"const": 1}}, [2], ["a"], "contains", "0 of its items match `contains`, at least 1 must"),
    ({"contains": {"const": 1}, "maxContains": 2}, [1, 1, 1], ["a"], "maxContains",
     "3 of its items match `contains`, at most 2 may"),
    ({"properties": {"x": {}}, "unevaluatedProperties": False}, {"x": 1, "b": 1}, ["a.b"], "unevaluatedProperties",
     "nothing in the schema allows 1 here"),
    ({"properties": {"x": {}}, "unevaluatedProperties": TEXT}, {"x": 1, "b": 1}, ["a.b"], "type",
     "1 is not of type string"),
    ({"prefixItems": [{}], "unevaluatedItems": False}, [1, 2], ["a[1]"], "unevaluatedItems",
     "nothing in the schema allows 2 here"),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "value", "places", "keyword", "words"), WRONG)
def test_a_mismatch_names_its_place_keyword_and_reason(schema, value, places, keyword, words):
    found = validation_errors({"properties": {"a": schema}}, {"a": value})
    assert [(one.path, one.keyword) for one in found] == [(place, keyword) for place in places]
    assert [one.words for one in found if not one.words.endswith(words)] == []
    assert len(found[0].words) < 120
    shared = {"$defs": {"s": schema}, "properties": {"a": {"allOf": [{"$ref": "#/$defs/s"}]}}}
    assert validation_errors(shared, {"a": value}) == found


def test_a_place_at_the_top_has_a_name_of_its_own_and_no_dot():
    assert [str(one) for one in validation_errors(INTEGER, "x")] == ["the whole value: 'x' is not of type integer"]
    for schema in ({"additionalProperties": TEXT}, {"unevaluatedProperties": TEXT}):
        assert [one.path for one in validation_errors(schema, {"b": 1})] == ["b"]
    assert [one.path for one in validation_errors({"unevaluatedItems": False}, [1])] == ["[0]"]


@pytest.mark.parametrize(
    ("schema", "fitting", "others"),
    [
        ({"items": [INTEGER], "additionalItems": TEXT}, [[1], [1, "x"], []], [["x"], [1, 2]]),
        ({"items": [INTEGER]}, [[1, 2], [1, "x"]], [["x"]]),
        ({"dependencies": {"a": ["b"], "c": {"required": ["d"]}}},
         [{}, {"a": 1, "b": 1}, {"c": 1, "d": 1}, {"b": 1}], [{"a": 1}, {"c": 1}, {"a": 1, "b": 1, "c": 1}]),
    ],
)  # fmt: skip
def test_keywords_of_older_drafts_mean_what_they_meant(schema, fitting, others):
    complete = jsonschema.Draft7Validator(schema)
    for value in (*fitting, *others):
        assert (validation_errors(schema, value) == []) is complete.is_valid(value) is (value in fitting)


@pytest.mark.parametrize(
    "schema",
    [{"nullable": True, "anyOf": [INTEGER]}, {"nullable": True, "oneOf": [INTEGER]}, {"nullable": True, **INTEGER},
     {"nullable": True, "enum": [1]}, {"nullable": True, "const": 1}],
)  # fmt: skip
def test_a_nullable_value_of_openapi_may_be_null(schema):
    assert validation_errors(schema, None) == validation_errors(schema, 1) == []
    assert validation_errors(schema, "x") != []
    for not_nullable in ({**schema, "nullable": False}, {name: schema[name] for name in schema if name != "nullable"}):
        assert validation_errors(not_nullable, None) != []


@pytest.mark.parametrize("bound", [0, float("inf"), float("nan")])
def test_a_multiple_of_nothing_forbids_nothing(bound):
    assert validation_errors({"multipleOf": bound}, 5) == []
    assert validation_errors({"multipleOf": 2}, float("inf")) == []


def test_types_that_no_draft_has_forbid_nothing():
    assert validation_errors({"type": "decimal"}, 1) == validation_errors({"type": [5]}, 1) == []


@pytest.mark.parametrize(
    "schema",
    [{"allOf": [{"$ref": "#"}]}, {"anyOf": [{"$ref": "#"}]}, {"if": {}, "then": {"$ref": "#"}},
     {"dependentSchemas": {"a": {"$ref": "#"}}}],
)  # fmt: skip
def test_a_reference_to_itself_through_any_keyword_ends(schema):
    assert validation_errors(schema, {"a": 1}) == []


UNEVALUATED = [
    ({"$defs": {"b": {"properties": {"b": {}}}}, "$ref": "#/$defs/b", "unevaluatedProperties": False},
     [{"b": 1}, {"c": 1}, {"b": 1, "c": 1}]),
    ({"patternProperties": {"^b": {}}, "unevaluatedProperties": False}, [{"bb": 1}, {"c": 1}]),
    ({"anyOf": [{"properties": {"a": INTEGER}, "required": ["a"]}, {"properties": {"b": TEXT}, "required": ["b"]}],
      "unevaluatedProperties": False}, [{"a": 1}, {"b": "x"}, {"a": 1, "b": "x"}, {"a": 1, "b": 2}, {"a": 1, "c": 2}]),
    ({"if": {"properties": {"a": {"const": 1}}}, "then": {"properties": {"b": {}}}, "unevaluatedProperties": False},
     [{"a": 1, "b": 1}, {"a": 2, "b": 1}, {"a": 1, "c": 1}]),
    ({"properties": {"a": {}}, "additionalProperties": INTEGER, "unevaluatedProperties": False}, [{"a": "x", "c": 1}]),
    ({"contains": INTEGER, "unevaluatedItems": TEXT}, [[1, "x"], [1, 2], [1, None]]),
    ({"allOf": [{"prefixItems": [{}]}], "unevaluatedItems": INTEGER}, [["x"], ["x", 1], ["x", "y"]]),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "values"), UNEVALUATED)
def test_what_counts_as_evaluated_is_what_a_complete_check_counts(schema, values):
    complete = jsonschema.Draft202012Validator(schema)
    wrong = [value for value in values if (validation_errors(schema, value) == []) is not complete.is_valid(value)]
    assert wrong == []


# -- the names that an object may have

AB, OPEN = {"properties": {"a": {}, "b": {}}}, {"properties": {"a": {}}, "additionalProperties": TEXT}


@pytest.mark.parametrize(
    ("schema", "names"),
    [
        (AB, "ab"),
        ({**AB, "additionalProperties": False}, "ab"),
        ({**AB, "additionalProperties": None}, "ab"),
        ({**AB, "additionalProperties": True}, ""),
        ({**AB, "patternProperties": {"^x": {}}}, ""),
        ({"$defs": {"x": AB}, "$ref": "#/$defs/x"}, "ab"),
        ({**AB, "allOf": [{"properties": {"c": {}}}, {"required": ["a"]}]}, "abc"),
        ({"anyOf": [AB, {"properties": {"c": {}}}]}, "abc"),
        ({"oneOf": [{"type": "string"}, {"type": ["array", "null"]}, AB]}, "ab"),
        ({"anyOf": [{"$ref": "#/$defs/x"}], "$defs": {"x": AB}}, "ab"),
        ({"$ref": "#/$defs/y", "$defs": {"x": AB, "y": {"$ref": "#/$defs/x"}}}, "ab"),
        ({"allOf": [{"$ref": "#/$defs/x"}, OPEN], "$defs": {"x": AB}}, "ab"),
        ({"allOf": [OPEN]}, ""),
        ({"$ref": "#/$defs/x", "$defs": {"x": OPEN}}, ""),
        ({"allOf": [{"$ref": "#"}]}, ""),
        ({"anyOf": [{"$ref": "#"}]}, ""),
        ({"oneOf": [AB, {"type": ["object", "null"], "properties": {"c": {}}}]}, "abc"),
        ({"properties": {"c": {}}, "anyOf": [AB, {}]}, "abc"),
        ({"properties": {"c": {}}, "anyOf": [OPEN, AB]}, "c"),
        ({"anyOf": [OPEN, AB]}, ""),
        ({"anyOf": [True, AB]}, ""),
        ({"$ref": "#"}, ""),
        (True, ""),
        ({"properties": [1]}, ""),
    ],
)
def test_the_known_names_of_an_object(schema, names):
    assert known_names(schema) == frozenset(names)


def test_the_known_names_of_an_object_that_may_have_others():
    assert known_names(OPEN, closed=False) == {"a"}
    assert known_names({"$ref": "#/$defs/x", "$defs": {"x": OPEN}}, closed=False) == {"a"}
    assert known_names({"allOf": [OPEN], "anyOf": [{**AB, "patternProperties": {"x": {}}}]}, closed=False) == {"a", "b"}
