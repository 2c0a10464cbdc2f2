"""The form of a completion's answer, on the real servers: held, or refused by name."""

import json

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
