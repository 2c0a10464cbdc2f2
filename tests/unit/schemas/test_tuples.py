"""Arrays with schemas by position: what the servers make of the cleaned form fits the caller's own schema."""

import itertools
import json
from functools import cache
from typing import Any

import jsonschema
import pytest

from llamacpp_server import CompletionRequest
from llamacpp_server._endpoints import completion_body
from llamacpp_server._schemas import clean_schema

WORDS = [("prefixItems", "items"), ("items", "additionalItems"), ("prefixItems", "unevaluatedItems")]
FIRST: list[dict[str, Any]] = [{"type": "integer"}, {"type": "null"}]
RESTS = [None, False, {"type": "string"}]
COUNTS = [None, 0, 1, 3]
VALUES = [list(one) for length in range(5) for one in itertools.product([1, None, "x"], repeat=length)]
# Not held by any grammar that the server makes, and reported so.
UNHELD = {"open_tuple", "contradiction"}


def tuples() -> list[dict[str, Any]]:
    """Each combination of what an array can say of its items and their number."""
    made: list[dict[str, Any]] = []
    for size, rest, least, most in itertools.product(range(3), RESTS, COUNTS, COUNTS):
        for first, further in (
            ("prefixItems", "items"),
            ("items", "additionalItems"),
            ("prefixItems", "unevaluatedItems"),
        ):
            said = {first: FIRST[:size], further: rest, "minItems": least, "maxItems": most}
            made.append({"type": "array"} | {key: value for key, value in said.items() if value is not None})
    return made


def held_by(cleaned: dict[str, Any], *, exact: bool) -> dict[str, Any]:
    """A cleaned schema in today's words, as a server understands it: `exact` is a list that gives the length."""
    if "anyOf" in cleaned and "items" not in cleaned:
        return {"anyOf": [held_by(one, exact=exact) for one in cleaned["anyOf"]]}
    items = cleaned.get("items")
    if not isinstance(items, list):
        return cleaned
    rest = {key: value for key, value in cleaned.items() if key != "items"}
    counts = {"minItems": len(items), "maxItems": len(items)} if exact else {}
    return {**rest, "prefixItems": items, **counts}


def meant(schema: dict[str, Any]) -> jsonschema.protocols.Validator:
    listed = isinstance(schema.get("items"), list)
    return (jsonschema.Draft201909Validator if listed else jsonschema.Draft202012Validator)(schema)


@cache
def values_of(schema: str) -> list[Any]:
    """The values that fit a schema in today's words; many tuples become the same one."""
    validator = jsonschema.Draft202012Validator(json.loads(schema))
    return [value for value in VALUES if validator.is_valid(value)]


@pytest.mark.parametrize("server", ["converter", "llguidance"])
def test_every_tuple_is_held_to_what_it_means(server):
    wrong = []
    for schema in tuples():
        cleaned, repairs = clean_schema(schema)
        if server == "llguidance":
            cleaned = completion_body(CompletionRequest(prompt="", params={"json_schema": schema}))["json_schema"]
        said, allowed = meant(schema), values_of(json.dumps(held_by(cleaned, exact=server == "converter")))
        misfits = [value for value in allowed if not said.is_valid(value)]
        empty = not allowed and any(map(said.is_valid, VALUES))
        if (misfits or empty) and not any(one.name in UNHELD for one in repairs):
            wrong.append((schema, cleaned, misfits[:2]))
    assert wrong == []
    assert len(tuples()) == 432


@pytest.mark.parametrize(
    ("schema", "becomes"),
    [
        ({"prefixItems": FIRST, "items": False}, {"items": FIRST}),
        ({"prefixItems": FIRST, "maxItems": 1}, {"items": FIRST[:1], "maxItems": 1}),
        ({"prefixItems": FIRST[:1], "items": FIRST[1], "minItems": 3, "maxItems": 3},
         {"items": [*FIRST, FIRST[1]], "minItems": 3, "maxItems": 3}),
        ({"prefixItems": [], "items": FIRST[0]}, {"items": FIRST[0]}),
        ({"items": FIRST, "additionalItems": False}, {"items": FIRST}),
    ],
)  # fmt: skip
def test_a_tuple_is_written_as_the_list_that_the_server_knows(schema, becomes):
    assert clean_schema({"type": "array", **schema})[0] == {"type": "array", **becomes}


def test_a_tuple_of_several_lengths_is_a_union():
    schema = {"type": "array", "description": "d", "prefixItems": FIRST[:1], "items": FIRST[1], "maxItems": 2}
    cleaned, repairs = clean_schema(schema)
    assert cleaned == {
        "description": "d",
        "anyOf": [{"type": "array", "items": FIRST[:1]}, {"type": "array", "items": FIRST}],
    }
    assert [repair.name for repair in repairs] == ["tuple"]
