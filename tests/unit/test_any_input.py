"""Any value where a caller's input belongs: it is sent, or refused by a short BadRequestError.

Each argument of each public method of the client, and each field of the requests, is replaced by odd values.
"""

import dataclasses
import inspect
import json
from collections import UserString, deque
from decimal import Decimal
from enum import Enum
from types import MappingProxyType

import pytest
from pydantic import BaseModel

from llamacpp_server import (
    ChatRequest,
    Choice,
    CompletionRequest,
    EmbedRequest,
    Example,
    InfillRequest,
    LlamaServerClient,
    LlamaServerError,
    MessagesRequest,
    RankRequest,
    ResponsesRequest,
)
from tests.unit.every_call import CALLS, TOOL, USER, StandIn, public_methods


class Text(str):
    """As the enumerations of programs and `numpy.str_` are."""

    __slots__ = ()


class Kind(Enum):
    """No text, though many mean one by it."""

    ONE = "one"


class Request(BaseModel):
    """A program's own class."""

    a: int = 1


LOOP = {"a": 1}
LOOP["b"] = LOOP  # type: ignore[assignment]
DEEP = json.loads('{"a":' * 150 + "1" + "}" * 150)
LONG = "x" * 100_000
ODD = (
    None, True, 5, -1, 0.5, float("nan"), 10**400, "", "hi", LONG, b"x", object(), [], [None], ["hi"], [5], [[]], [{}],
    [object()], {}, {"a": 1}, {1: 2}, {None: 1}, {"": object()}, {LONG: 1}, LOOP, [LOOP], DEEP, [DEEP], {"a", 1},
    deque([1]), range(3), UserString("x"), MappingProxyType({"a": 1}), {"b": {("a",): 1}}, "\ud800", ["\0"], Request,
    Request(), Kind.ONE, Text("x"), Decimal(1), bytearray(b"x"),
)  # fmt: skip
CHAT = ChatRequest(messages=[USER], tools=[TOOL])
ARGUMENTS = {
    "adapters": {"a": 1.0}, "arguments": {}, "audio": b"x", "conversation_id": "c", "conversation_ids": ["c"],
    "documents": ["x"], "examples": [Example("x", {"t": "a"})], "filename": "f", "id_slot": 0, "inputs": ["x"],
    "model": "m", "name": "t", "query": "q", "questions": {"t": Choice("Which?", ["a", "b"])}, "reply_id": "c1",
    "scales": {"a": 1.0}, "state": "x", "text": "x", "tokens": [1],
}  # fmt: skip
REQUESTS = {
    "ChatRequest": CHAT, "CompletionRequest | InfillRequest": CompletionRequest(prompt="x"),
    "InfillRequest": InfillRequest(prefix="x", suffix="y"), "ResponsesRequest": ResponsesRequest(input="x"),
    "MessagesRequest": MessagesRequest(messages=[USER]), "EmbedRequest": EmbedRequest(inputs=["x"]),
    "RankRequest": RankRequest(query="q", documents=["x"]),
}  # fmt: skip
# What decides whether anything is sent at all, or is a callable.
LEFT_OUT = {"timeout"}
NESTED = {
    "messages": [
        [{"role": "user", "content": 0}],
        [{"role": 0, "content": "x"}],
        [{"role": "user", "content": [0]}],
        [{"role": "user", "content": [{"type": "text", "text": 0}]}],

                 [{"role": "user", "content": [{"type": 0}]}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": 0}]}],
        [{"role": "assistant", "tool_calls": 0}, USER],
        [{"role": "assistant", "tool_calls": [0]}, USER],
        [{"role": "assistant", "tool_calls": [{"id": 0}]}, USER],
        [{"role": "assistant", "tool_calls": [{"id": "c", "function": 0}]}, USER],
        [{"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": 0, "arguments": 0}}]}, USER],
        [USER, {"role": "tool", "content": "x", "tool_call_id": 0}],
    ],
    "tools": [
        [{"type": "function", "function": {"name": "f", "parameters": 0}}],

              [{"type": 0, "function": {"name": "f"}}],
        [{"type": "function", "function": 0}],
        [{"type": "function", "function": {"name": 0}}],
        [{"type": "function", "function": {"name": "f", "parameters": {"properties": 0}}}],
        [{"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": 0}}}}],
    ],
    "params": [
        {name: 0}
        for name in (
            "stop",
            "response_format",
            "json_schema",
            "regex",
            "choices",
            "grammar",
            "lora",
            "n",
            "max_tokens",
            "logit_bias",
            "chat_template_kwargs",
            "top_logprobs",
            "id_slot",
        )
    ],
    "extra_body": [{"lora": 0}, {"messages": 0}, {"stream": 0}, {"tools": 0}],
}  # fmt: skip


def filled(form, odd):
    """A form with an odd value in the place of each 0."""
    if form == 0 and type(form) is int:
        return odd
    if isinstance(form, dict):
        return {name: filled(value, odd) for name, value in form.items()}
    return [filled(value, odd) for value in form] if isinstance(form, list) else form


def calls_of(name):  # noqa: C901
    """The place of each odd value, and the arguments with it."""
    signature = inspect.signature(getattr(LlamaServerClient, name))
    given = {}
    for parameter in [*signature.parameters.values()][1:]:
        if parameter.name == "request":
            given["request"] = REQUESTS[str(parameter.annotation)]
        elif parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD:
            given[parameter.name] = ARGUMENTS[parameter.name]  # type: ignore[assignment]
    plain = [one.name for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD][1:]
    for place in plain:
        if place not in LEFT_OUT:
            yield from ((place, odd, {**given, place: odd}) for odd in ODD)
    if "request" not in given:
        return
    for field in dataclasses.fields(given["request"]):
        if field.name in ("media", "scale", "thinking_control"):
            continue
        forms = NESTED.get(field.name, []) if name in ("chat", "apply_template", "complete", "create_message") else []
        for number, form in enumerate([0, *forms]):
            for odd in ODD[:: 1 if name in ("chat", "complete", "embed_texts", "rank") else 4]:
                made = dataclasses.replace(given["request"], **{field.name: filled(form, odd)})  # type: ignore[type-var]
                yield f"{field.name} {number}", odd, {**given, "request": made}


pytestmark = pytest.mark.usefixtures("no_waiting")


@pytest.mark.parametrize("name", sorted(public_methods() - {"batch_file", "close", "with_settings"}))
def test_any_value_of_a_caller_is_sent_or_refused_by_a_typed_error(name):
    server, faults = StandIn(), {}
    replies = CALLS[name][1]
    for place, odd, given in calls_of(name):

        def call(client, given=given):
            result = getattr(client, name)(**given)
            return list(result) if inspect.isgenerator(result) or hasattr(result, "__next__") else result

        try:
            result = server.run(call, replies)
            if isinstance(result, LlamaServerError) and len(str(result)) > 5000:
                faults.setdefault((place, "long"), f"{str(result)[:150]}")
        except Exception as error:  # every fault is shown, not the first alone
            faults.setdefault((place, type(error).__name__), f"{odd!r:.60}: {error!s:.120}")
    assert not faults


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda c: c.erase_slot("0/../../props"), "id_slot must be a number, not str"),
        (lambda c: c.save_slot(0, ["f"]), "filename must be a string, not list"),
        (lambda c: c.slots(model=["m"]), "model must be a string, not list"),
        (lambda c: c.call_server_tool("t", {}, cwd="/tmp\r\nX-Admin: 1"), "cwd must be of printable ASCII"),
        (lambda c: c.chat(ChatRequest(messages=deque([1]))), r"messages\[0\] must be an object, not int"),
        (lambda c: c.create_message(MessagesRequest(messages=deque([1]))), r"messages\[0\] must be an object, not int"),
    ],
)
def test_a_value_that_would_change_the_request_is_refused_by_its_place(call, words):
    with pytest.raises(LlamaServerError, match=words):
        raise StandIn().run(call, {})
