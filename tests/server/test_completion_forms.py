"""The form of a completion's answer, on the real servers: held, or refused by name."""

import json
import re

import pytest

from llamacpp_server import BadRequestError, ChatRequest, CompletionRequest
from llamacpp_server._endpoints import chat_body

TAGS = {"type": "array", "items": {"type": "integer"}, "maxItems": 2}
UNIQUE = {"type": "object", "properties": {"tags": {**TAGS, "uniqueItems": True}}, "required": ["tags"]}
PLAIN = {"type": "object", "properties": {"tags": TAGS}, "required": ["tags"]}
FORMS = [
    {"json_schema": UNIQUE},
    {"json_schema": PLAIN},
    {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": UNIQUE}}},
    {"response_format": {"type": "json_schema", "schema": PLAIN}},
]
# So the nonsense of the random model ends soon.
BIAS = {"}": 9.0, "]": 9.0, "\r": False, "\n": False, "\t": False, " ": False}
SOBER = {"temperature": 0, "max_tokens": 100, "logit_bias": BIAS}


def completed(server, **params):
    with server.client() as client:
        return client.complete(CompletionRequest(prompt="Tags:", params={**SOBER, **params}))


@pytest.mark.parametrize("form", FORMS)
def test_a_schema_is_held_with_keywords_that_the_wheel_does_not_know_too(chat_server, form):
    assert list(json.loads(completed(chat_server, **form).text)) == ["tags"]


# `format` as a pattern, and bounds beside a keyword that nothing enforces.
SHAPED = {
    "date": ({"type": "string", "format": "date"}, r'\s*"\d{4}-[01]\d-[0-3]\d"\s*'),
    "time": ({"type": "string", "format": "date-time"}, r'\s*"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d.*"\s*'),
    "uuid": ({"type": "string", "format": "uuid"}, r'\s*"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"\s*'),
    "ipv4": ({"type": "string", "format": "ipv4"}, r'\s*"\d+[.]\d+[.]\d+[.]\d+"\s*'),
    "bounds": ({"type": "integer", "minimum": 10, "maximum": 19, "multipleOf": 7}, r"\s*1\d\s*"),
}


@pytest.mark.parametrize("name", SHAPED)
def test_formats_and_what_stands_beside_an_unknown_keyword_are_held(chat_server, name):
    schema, pattern = SHAPED[name]
    for seed in range(3):
        said = {"temperature": 1, "seed": seed, "max_tokens": 200, "json_schema": schema}
        assert re.fullmatch(pattern, completed(chat_server, **said).text)


INTEGER, NULL = {"type": "integer", "maximum": 9}, {"type": "null"}
PAIR = {"type": "array", "prefixItems": [INTEGER, NULL]}
CASES: list[dict[str, object]] = [{"kind": {"const": "a"}}, {"kind": {"const": "b"}, "n": INTEGER}]
CLOSED = [{"type": "object", "properties": one, "required": list(one), "additionalProperties": False} for one in CASES]
POSITIONS = {
    "two": (PAIR, r"\[\s*-?\d,\s*null\s*\]"),
    "closed": ({**PAIR, "items": False}, r"\[\s*-?\d,\s*null\s*\]"),
    "cut": ({**PAIR, "maxItems": 1}, r"\[\s*-?\d\s*\]"),
    "more": ({**PAIR, "items": NULL, "minItems": 3, "maxItems": 3}, r"\[\s*-?\d(,\s*null){2}\s*\]"),
    "draft 7": ({"type": "array", "items": [INTEGER, NULL], "additionalItems": False}, r"\[\s*-?\d,\s*null\s*\]"),
    "none": ({"type": "array", "items": False}, r"\[\s*\]"),
    "cases": ({"oneOf": CLOSED}, r'\{\s*"kind":\s*("a"|"b",\s*"n":\s*-?\d)\s*\}'),
}
NAMED_LIKE_KEYWORDS = ("default", "enum", "const", "examples", "format", "$ref", "properties", "items", "required")


@pytest.mark.parametrize("name", POSITIONS)
def test_positions_of_arrays_and_cases_are_held(chat_server, name):
    schema, pattern = POSITIONS[name]
    for seed in range(3):
        said = {"temperature": 1, "seed": seed, "max_tokens": 200, "json_schema": schema}
        assert re.fullmatch(pattern, completed(chat_server, **said).text.strip())


@pytest.mark.parametrize("name", NAMED_LIKE_KEYWORDS)
def test_a_format_is_held_under_the_name_of_any_keyword(chat_server, name):
    form = {"type": "object", "properties": {name: {"type": "string", "format": "date"}}, "required": [name]}
    reply = completed(chat_server, json_schema={**form, "additionalProperties": False})
    assert re.fullmatch(r"\d{4}-[01]\d-[0-3]\d", json.loads(reply.text)[name])
    assert not reply.start.repairs


def test_what_no_server_enforces_is_reported(chat_server):
    schema = {"type": "integer", "multipleOf": 7, "$comment": "seven"}
    for more in ({}, {"return_tokens": True}):
        (repair,) = completed(chat_server, json_schema=schema, **more).start.repairs
        assert repair.name == "unheld_schema"
        assert repair.what.endswith(": multipleOf")
    (repair,) = completed(chat_server, json_schema={"type": "string", "format": "hostname"}).start.repairs
    assert repair.what.endswith("format hostname")
    assert not completed(chat_server, json_schema=PLAIN).start.repairs


def test_any_json_object_and_text(chat_server):
    assert completed(chat_server, response_format={"type": "json_object"}).text.lstrip().startswith("{")
    assert completed(chat_server, response_format={"type": "text"}).text
    with pytest.raises(BadRequestError, match="unknown response_format type 'xml'"):
        completed(chat_server, response_format={"type": "xml"})


@pytest.mark.parametrize("most", [1, 3])
def test_as_many_alternatives_as_asked_for(chat_server, most):
    reply = completed(chat_server, top_logprobs=most, max_tokens=2)
    assert [len(token["top_logprobs"]) for token in reply.choices[0].logprobs["content"]] == [most, most]


def test_what_can_not_be_meant_is_refused(chat_server):
    with pytest.raises(BadRequestError, match="response_fields"):
        completed(chat_server, response_fields=["content"])
    with chat_server.client() as client:
        with pytest.raises(BadRequestError, match="not dict"):
            client.complete(CompletionRequest(prompt={"a": 1}))
        with pytest.raises(BadRequestError, match="must be a list, not dict"):
            client.rerank("q", {"a": 1})
    with pytest.raises(BadRequestError, match="`text` instead of `content`"):
        chat_body(ChatRequest(messages=[{"role": "user", "text": "Hi"}]))
