"""Properties, definitions and members of values with the names of keywords: no walk over a schema may mistake one."""

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamacpp_server import ChatRequest, CompletionRequest
from llamacpp_server._endpoints import completion_body
from llamacpp_server._schemas import (
    clean_schema,
    clean_tools,
    plain_tools,
    relocate_references,
    require_all,
    schema_grammar,
    validation_errors,
    with_absolute_references,
)
from llamacpp_server._tools import forced_request

KEYWORDS = (
    "$ref", "$defs", "definitions", "$id", "$anchor", "properties", "items", "prefixItems", "type", "description",
    "title", "format", "pattern", "required", "default", "enum", "const", "examples", "anyOf", "allOf", "oneOf", "not",
    "additionalProperties", "nullable", "dependencies", "schemas", "components", "contains", "minimum", "if",
)  # fmt: skip
NEUTRAL = ("zqa", "zqb", "zqc")
LEAVES: list[dict[str, Any]] = [
    {"type": "string", "format": "date"},
    {"type": "string", "maxLength": 3},
    {"type": "integer", "minimum": 0},
    {"enum": ["zqa", {"zqb": {"zqc": "x"}}]},
    {"type": "object", "default": {"zqa": {"format": "date"}, "zqb": ["#/zqc"]}},
    {"type": "object", "examples": [{"zqa": "#/$defs/zqa", "zqb": [{"zqc": "date"}]}]},
    {"$ref": "#/$defs/zqa"},
    {"$ref": "#/$defs/zqb"},
    {"$ref": "#/definitions/zqa"},
]


def larger(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    named = st.dictionaries(st.sampled_from(NEUTRAL), inner, min_size=1, max_size=3)
    return st.one_of(
        st.builds(lambda some: {"type": "object", "properties": some, "required": sorted(some)[:1]}, named),
        st.builds(lambda one: {"type": "array", "items": one}, inner),
        st.builds(lambda one, other: {"anyOf": [one, other]}, inner, inner),
        st.builds(lambda one, some: {"$defs": some, "type": "object", "properties": {"zqb": one}}, inner, named),
    )


SCHEMAS = st.builds(
    lambda some, first, second: {
        "type": "object",
        "properties": some,
        "$defs": {
            "zqa": first,
            "zqb": {"type": "object", "properties": {"zqc": second, "zqa": {"$ref": "#/$defs/zqb"}}},
        },
    },
    st.dictionaries(
        st.sampled_from(NEUTRAL), st.recursive(st.sampled_from(LEAVES), larger, max_leaves=6), min_size=1, max_size=3
    ),
    st.sampled_from(LEAVES[:6]),
    st.sampled_from(LEAVES),
)


def tool(parameters: Any) -> Any:
    return {"type": "function", "function": {"name": "f", "description": "d", "parameters": parameters}}


def forced(schema: Any) -> Any:
    request = ChatRequest(messages=[{"role": "user", "content": "x"}])
    return forced_request(request, [tool(schema), tool({"type": "object"})]).params["response_format"]


WALKS = {
    "clean": clean_schema,
    "arguments": lambda schema: clean_tools([tool(schema)]),
    "plain": lambda schema: plain_tools(clean_tools([tool(schema)])[0]),
    "grammar": schema_grammar,
    "completion": lambda schema: completion_body(CompletionRequest(prompt="x", params={"json_schema": schema})),
    "strict": require_all,
    "absolute": with_absolute_references,
    "moved": lambda schema: relocate_references(schema, "#/there"),
    "forced": forced,
}


@pytest.mark.parametrize("walk", WALKS)
@settings(max_examples=60, deadline=None)
@given(schema=SCHEMAS, names=st.lists(st.sampled_from(KEYWORDS), min_size=3, max_size=3, unique=True))
def test_a_schema_whose_names_are_keywords_is_treated_as_one_with_other_names(walk, schema, names):
    named = json.loads(renamed(json.dumps(schema), names))
    assert text(WALKS[walk](named)) == renamed(text(WALKS[walk](schema)), names)


def renamed(text: str, names: list[str]) -> str:
    for neutral, name in zip(NEUTRAL, names, strict=True):
        text = text.replace(neutral, name)
    return text


def text(made: Any) -> str:
    """JSON without what is made from the whole schema's text: the names of kept definitions."""
    return re.sub(r"_[0-9a-f]{8}", "_digest", json.dumps(made, default=str))


@settings(max_examples=100, deadline=None)
@given(
    schema=SCHEMAS,
    value=st.dictionaries(st.sampled_from(NEUTRAL), st.sampled_from(["w", 1, {}, [], {"zqa": {}, "zqc": 1}])),
    names=st.lists(st.sampled_from(KEYWORDS), min_size=3, max_size=3, unique=True),
)
def test_values_with_the_names_of_keywords_are_checked_as_others(schema, value, names):
    named = json.loads(renamed(json.dumps([schema, value]), names))
    wrong = [str(one) for one in validation_errors(schema, value)]
    assert [str(one) for one in validation_errors(*named)] == json.loads(renamed(json.dumps(wrong), names))
