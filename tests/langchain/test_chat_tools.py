"""Tools, and the choice among them, in all the forms that are written."""

import pytest
from langchain_core.tools import tool
from pydantic import BaseModel, Field

from langchain_llamacpp_server._tools import wire_tools
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


class Branch(BaseModel):
    """A branch."""

    name: str
    kids: "list[Branch]" = []


class Tree(BaseModel):
    """A tree."""

    root: Branch


@pytest.mark.parametrize("cls", [Branch, Tree])
def test_recursive_classes_keep_their_recursion(cls: type[BaseModel]) -> None:
    (wire,) = wire_tools([cls])
    assert wire["function"]["parameters"] == cls.model_json_schema()
    assert wire["function"]["description"] == cls.__doc__
