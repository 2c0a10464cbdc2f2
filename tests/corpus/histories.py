"""Conversations that some server or template refuses, each with one fault, and some with many."""

from typing import Any

Message = dict[str, Any]

USER: Message = {"role": "user", "content": "hi"}
ANSWER: Message = {"role": "assistant", "content": "hello"}
SYSTEM: Message = {"role": "system", "content": "be brief"}
ONE, TWO = "abcdefgh1", "abcdefgh2"


def call(call_id: str, arguments: str = '{"x": 1}') -> Message:
    return {"id": call_id, "type": "function", "function": {"name": "f", "arguments": arguments}}


def calls(*some: Message, **more: Any) -> Message:
    return {"role": "assistant", "content": "", "tool_calls": list(some), **more}


def result(call_id: str, content: Any = "1") -> Message:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


_LONG = "call_00_9xYz-long"
_NO_ID = {"type": "function", "function": {"name": "f", "arguments": "{}"}}
_THINKING = {"content": "I look", "reasoning_content": "hm"}

HISTORIES: dict[str, list[Message]] = {
    "nothing wrong": [SYSTEM, USER, calls(call(ONE)), result(ONE), ANSWER, USER],
    "arguments cut off": [USER, calls(call(ONE, '{"x": "un')), result(ONE), ANSWER, USER],
    "arguments are a list": [USER, calls(call(ONE, "[1]")), result(ONE), ANSWER, USER],
    "arguments with NaN": [USER, calls(call(ONE, '{"x": NaN}')), result(ONE), ANSWER, USER],
    "arguments with half a pair": [USER, calls(call(ONE, '{"x": "\\ud800"}')), result(ONE), ANSWER, USER],
    "arguments empty": [USER, calls(call(ONE, "")), result(ONE), ANSWER, USER],
    "result without call": [USER, ANSWER, result(ONE), USER],
    "result without call at first": [SYSTEM, result(ONE), USER],
    "call without result": [USER, calls(call(ONE)), USER],
    "ends in a call": [USER, calls(call(ONE))],
    "two users": [USER, USER],
    "two assistants": [USER, ANSWER, ANSWER, USER],
    "ends in two assistants": [USER, ANSWER, ANSWER],
    "system in the middle": [SYSTEM, USER, ANSWER, SYSTEM, USER],
    "system at last": [SYSTEM, USER, ANSWER, USER, SYSTEM],
    "two systems": [SYSTEM, SYSTEM, USER],
    "only a system": [SYSTEM],
    "developer": [{"role": "developer", "content": "be brief"}, USER],
    "some other role": [USER, ANSWER, {"role": "critic", "content": "hm"}, USER],
    "functions of old": [
        USER,
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "1"},
        ANSWER,
        USER,
    ],
    "ends in an assistant": [USER, ANSWER],
    "empty answer": [USER, {"role": "assistant", "content": ""}, USER],
    "empty question": [{"role": "user", "content": ""}],
    "nulls": [
        {"role": "user", "content": None, "name": None},
        {"role": "assistant", "content": None, "tool_calls": None, "reasoning_content": None},
        USER,
    ],
    "no ids": [USER, {"role": "assistant", "tool_calls": [_NO_ID]}, {"role": "tool", "content": "1"}, ANSWER, USER],
    "the same ids": [
        USER,
        calls(call(ONE), call(ONE)),
        result(ONE),
        result(ONE),
        ANSWER,
        USER,
        calls(call(ONE)),
        result(ONE),
        ANSWER,
        USER,
    ],
    "long ids": [USER, calls(call(_LONG)), result(_LONG), ANSWER, USER],
    "thinking, text and calls": [USER, calls(call(ONE), **_THINKING), result(ONE), ANSWER, USER],
    "thinking, text and calls at last": [USER, calls(call(ONE), **_THINKING), result(ONE)],
    "two calls": [USER, calls(call(ONE), call(TWO)), result(ONE), result(TWO), ANSWER, USER],
    "two calls, results swapped": [USER, calls(call(ONE), call(TWO)), result(TWO), result(ONE), ANSWER, USER],
    "one result of two": [USER, calls(call(ONE), call(TWO)), result(TWO), USER],
    "user after a result": [USER, calls(call(ONE)), result(ONE), USER],
    "assistant first": [ANSWER, USER],
    "no user": [SYSTEM, ANSWER],
    "marks of a template": [USER, {**ANSWER, "content": "<|channel|>x", "reasoning_content": "<|channel|>y"}, USER],
    "calls in a row": [USER, calls(call(ONE)), calls(call(TWO)), result(ONE), result(TWO), USER],
    "parts": [
        SYSTEM,
        {"role": "user", "content": [{"type": "text", "text": "hi"}]},
        USER,
        calls(call(ONE)),
        result(ONE, [{"type": "text", "text": "1"}]),
        USER,
    ],
    "much at once": [SYSTEM, USER, calls(call(ONE)), USER, USER, SYSTEM, calls(call("x", "{")), result("y"), USER],
}
