"""Which tool has to be called, in every form that is written, and what is sent for it."""

import pytest

from llamacpp_server import BadRequestError, ChatRequest
from llamacpp_server._endpoints import (
    chat_body,
)
from llamacpp_server._tools import (
    resolve_tool_choice,
)


def tools(*names):
    return [{"type": "function", "function": {"name": name}} for name in names]


BOTH = tools("add", "sub")
ALLOWED = {
    "type": "allowed_tools",
    "allowed_tools": {"mode": "required", "tools": [{"type": "function", "name": "sub"}]},
}


@pytest.mark.parametrize(
    ("choice", "sent", "forced"),
    [
        (None, (BOTH, None), None),
        (False, (BOTH, None), None),
        (True, (BOTH, "required"), "required"),
        ("any", (BOTH, "required"), "required"),
        ("required", (BOTH, "required"), "required"),
        ("auto", (BOTH, "auto"), None),
        ("none", (BOTH, "none"), None),
        ("add", (tools("add"), "required"), "add"),
        ({"type": "function", "function": {"name": "sub"}}, (tools("sub"), "required"), "sub"),
        ({"type": "function", "name": "sub"}, (tools("sub"), "required"), "sub"),
        ({"type": "tool", "name": "add"}, (tools("add"), "required"), "add"),
        ({"type": "tool", "name": "add", "disable_parallel_tool_use": True}, (tools("add"), "required"), "add"),
        ({"type": "any"}, (BOTH, "required"), "required"),
        ({"type": "auto"}, (BOTH, "auto"), None),
        ({"type": "none"}, (BOTH, "none"), None),
        (ALLOWED, (tools("sub"), "required"), "sub"),
        ({**ALLOWED, "allowed_tools": {**ALLOWED["allowed_tools"], "mode": "auto"}}, (tools("sub"), "auto"), None),
    ],
)
def test_every_form(choice, sent, forced):
    resolved = resolve_tool_choice(BOTH, choice)
    assert (resolved.tools, resolved.word) == sent
    assert resolved.forced == forced


def test_the_only_tool_is_the_one_that_any_means():
    assert resolve_tool_choice(tools("add"), "any").forced == "add"


def test_anthropics_word_for_one_call():
    body = chat_body(
        ChatRequest(messages=[], tools=BOTH, tool_choice={"type": "any", "disable_parallel_tool_use": True})
    )
    assert (body["tool_choice"], body["parallel_tool_calls"]) == ("required", False)


def test_a_tool_named_like_a_word_can_be_chosen():
    assert resolve_tool_choice(tools("any", "add"), "any").forced == "any"


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ("ad", "did you mean 'add'"),
        ({"type": "function", "function": {"name": "any"}}, "'any' does not match any tool .available: 'add', 'sub'"),
        ({"type": "tool", "name": "auto"}, "does not match any tool"),
        ({"type": "function"}, "must be a string"),
        (3, "must be a string"),
        ({}, "must be a string"),
        (
            {**ALLOWED, "allowed_tools": {"tools": [{"type": "function", "function": {"name": "mul"}}]}},
            "'mul' does not match any",
        ),
    ],
)
def test_what_can_not_be_meant(choice, words):
    with pytest.raises(BadRequestError, match=words):
        resolve_tool_choice(BOTH, choice)
