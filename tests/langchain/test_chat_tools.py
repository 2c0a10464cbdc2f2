"""Tools, and the choice among them, in all the forms that are written."""

from typing import Any

import pytest
from langchain_core.tools import tool
from pydantic import BaseModel, Field

from langchain_llamacpp_server._tools import wire_tool_choice, wire_tools
from llamacpp_server import BadRequestError


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


class Sub(BaseModel):
    """Subtract."""

    a: int = Field(description="from")


TOOLS = wire_tools([add, Sub])


def test_tools_of_all_shapes() -> None:
    openai = {"type": "function", "function": {"name": "mul", "parameters": {"type": "object", "properties": {}}}}
    anthropic = {"name": "div", "description": "Divide.", "input_schema": {"type": "object", "properties": {}}}
    made = wire_tools([add, Sub, openai, anthropic])
    assert [one["function"]["name"] for one in made] == ["add", "Sub", "mul", "div"]
    assert {one["type"] for one in made} == {"function"}


def test_strict_is_passed_on() -> None:
    assert wire_tools([add], strict=True)[0]["function"]["strict"] is True
    assert "strict" not in TOOLS[0]["function"]


def test_tools_of_other_servers_are_refused() -> None:
    with pytest.raises(BadRequestError, match="web_search"):
        wire_tools([{"type": "web_search"}])


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        (None, None),
        (False, None),
        (True, "required"),
        ("any", "required"),
        ("required", "required"),
        ("auto", "auto"),
        ("none", "none"),
        ("add", "add"),
        ({"type": "function", "function": {"name": "Sub"}}, "Sub"),
        ({"type": "tool", "name": "add"}, "add"),
        ({"type": "any"}, "required"),
        ({"type": "auto"}, "auto"),
        ({"type": "none"}, "none"),
    ],
)
def test_choices(choice: Any, sent: str | None) -> None:
    assert wire_tool_choice(choice, TOOLS) == sent


def test_a_tool_named_like_a_word_can_be_chosen() -> None:
    named_any = wire_tools([{"name": "any", "description": "", "parameters": {"type": "object", "properties": {}}}])
    assert wire_tool_choice("any", named_any) == "any"


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ("ad", "did you mean 'add'"),
        ({"type": "function", "function": {"name": "any"}}, "'any' names none of the tools 'add', 'Sub'"),
        ({"type": "tool", "name": "auto"}, "names none"),
        (3, "must be"),
        ({}, "must be"),
    ],
)
def test_choices_that_can_not_be_meant(choice: Any, words: str) -> None:
    with pytest.raises(BadRequestError, match=words):
        wire_tool_choice(choice, TOOLS)
