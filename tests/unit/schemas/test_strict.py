"""Schemas in which no property is optional."""

import copy

from pydantic import BaseModel

from llamacpp_server.integration import require_all


class Street(BaseModel):
    name: str | None = None


class Person(BaseModel):
    name: str | None = None
    streets: list[Street] = []
    best: Street | None = None
    friends: list["Person"] = []
    other: dict[str, Street] = {}


def test_every_property_of_every_object_is_required():
    schema = Person.model_json_schema()
    given = copy.deepcopy(schema)
    strict = require_all(schema)
    assert strict["$defs"]["Person"]["required"] == ["name", "streets", "best", "friends", "other"]
    assert strict["$defs"]["Street"]["required"] == ["name"]
    assert schema == given


def test_objects_within_other_schemas_are_found():
    inner = {"properties": {"a": {}}}
    for outer in (
        {"items": inner},
        {"additionalProperties": inner},
        {"anyOf": [{}, inner]},
        {"properties": {"b": inner}},
    ):
        assert '"required": ["a"]' in str(require_all(outer)).replace("'", '"')


def test_names_and_values_that_look_like_schemas_stay():
    schema = {"enum": [{"properties": {"a": 1}}], "properties": {"properties": {"const": {"properties": {"a": 1}}}}}
    assert require_all(schema) == {**schema, "required": ["properties"]}


def test_a_schema_without_properties_stays():
    assert require_all({"type": "object", "properties": {}}) == {"type": "object", "properties": {}}
