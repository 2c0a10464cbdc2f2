"""Tools, and the choice among them, in all the forms that are written."""

import json
from typing import Any

import pytest
from langchain_core.tools import StructuredTool, tool
from pydantic import BaseModel, Field, PydanticUserError
from pydantic.v1 import BaseModel as BaseModelV1
from typing_extensions import TypedDict

from llamacpp_server import BadRequestError
from llamacpp_server.local import LocalServer
from tests.langchain.behind_doors import wire_tools


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
    schema = cls.model_json_schema()
    assert {**wire["function"]["parameters"], "title": 1, "description": 1} == {**schema, "title": 1, "description": 1}
    assert wire["function"]["description"] == cls.__doc__


def plant(tree: Branch, depth: int = 1) -> str:
    """Plant a tree.

    Args:
        tree: What to plant.
        depth: How deep.
    """
    return f"{tree} {depth}"


async def aplant(tree: Branch | None = None) -> str:
    """Plant a tree."""
    return str(tree)


class Gardener:
    """A gardener."""

    def plant(self, tree: list[Branch]) -> str:
        """Plant trees."""
        return str(tree)


class Twig(TypedDict):
    """A twig."""

    kids: "list[Twig]"


class Pot(TypedDict):
    """A pot."""

    tree: Branch


class OldBranch(BaseModelV1):
    """A branch of pydantic v1."""

    kids: "list[OldBranch]" = []


OldBranch.update_forward_refs()
RECURSIVE: dict[str, Any] = {
    "function": plant,
    "async function": aplant,
    "method": Gardener().plant,
    "tool": tool(plant),
    "TypedDict": Twig,
    "TypedDict of a class": Pot,
    "pydantic v1": OldBranch,
    "MCP": StructuredTool(name="mcp", description="x", args_schema=Tree.model_json_schema(), func=print),
    "schema": {"title": "Branch", "description": "x", **Branch.model_json_schema()},
}


def holds_itself(schema: dict[str, Any]) -> bool:
    definitions = schema.get("$defs") or schema.get("definitions") or {}
    return any(f"/{name}" in json.dumps(one) for name, one in definitions.items())


@pytest.mark.filterwarnings("ignore:Mixing V1 and V2")  # of LangChain, which makes v1 classes of TypedDicts
@pytest.mark.parametrize("given", RECURSIVE.values(), ids=RECURSIVE)
def test_whatever_a_tool_is_made_of_keeps_its_recursion(given: Any) -> None:
    (wire,) = wire_tools([given])
    parameters = wire["function"]["parameters"]
    assert holds_itself(parameters)
    assert json.dumps(parameters).count("{}") == 0


def test_a_function_keeps_the_descriptions_of_its_parameters() -> None:
    (wire,) = wire_tools([plant])
    about = {name: one["description"] for name, one in wire["function"]["parameters"]["properties"].items()}
    assert (wire["function"]["name"], wire["function"]["description"]) == ("plant", "Plant a tree.")
    assert about == {"tree": "What to plant.", "depth": "How deep."}


def test_a_typed_dict_that_pydantic_cannot_describe_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(self: object) -> None:
        raise PydanticUserError("use another TypedDict", code=None)

    monkeypatch.setattr("pydantic.TypeAdapter.json_schema", unknown)
    with pytest.raises(BadRequestError, match="Twig: use another TypedDict"):
        wire_tools([Twig])


def test_strict_requires_every_property_of_a_recursive_tool_and_keeps_maps() -> None:
    def count(tree: Branch, words: dict[str, int], depth: int = 1) -> str:
        """Count words."""
        return f"{tree} {words} {depth}"

    (wire,) = wire_tools([count], strict=True)
    parameters = wire["function"]["parameters"]
    assert parameters["required"] == ["tree", "words", "depth"]
    assert parameters["$defs"]["Branch"]["required"] == ["name", "kids"]
    assert parameters["properties"]["words"]["additionalProperties"] == {"type": "integer"}


def test_the_server_gets_a_function_with_its_recursion(chat_server: LocalServer, recorded: Any) -> None:
    llm, requests = recorded(chat_server, max_tokens=4)
    llm.bind_tools([plant]).invoke("Plant")
    assert '"items": {"$ref"' in json.dumps(requests[-1]["tools"])
