"""Tools of LlamaIndex as the server receives them: as LlamaIndex writes them, made once for each class of arguments."""

import gc
import weakref
from enum import Enum
from typing import Any

import pytest
from llama_index.core.tools import FunctionTool
from llama_index.core.tools.types import DefaultToolFnSchema, ToolMetadata
from pydantic import BaseModel, ConfigDict, Field

from llamaindex_llamacpp_server import LlamaServer


class Units(Enum):
    """Of a temperature."""

    CELSIUS = "c"
    KELVIN = "k"


class Place(BaseModel):
    """A city and what is near it."""

    city: str = Field(description="Its name, such as Århus.")
    near: list["Place"] = []
    height: float | None = 1.0


class Query(BaseModel):
    """Arguments of all kinds."""

    place: Place
    units: Units = Units.CELSIUS
    days: int = Field(default=3, ge=1, le=14)
    ends: tuple[int, str] = (1, "a")
    limit: float = float("inf")


class Odd(BaseModel):
    """A default that JSON can't hold."""

    text: str = Field(default="a", description="\ud800")


def tool_of(cls: type[BaseModel] | None, name: str = "look.up") -> FunctionTool:
    return FunctionTool(fn=lambda **_: "", metadata=ToolMetadata("Looks up.", name, cls))


def tool_dict(tool: FunctionTool) -> Any:
    """The tool as an agent's request has it."""
    (sent,) = LlamaServer(base_url="http://server:1")._prepare_chat_with_tools([tool])["tools"]
    return sent


@pytest.mark.parametrize("cls", [Query, Place, Odd, DefaultToolFnSchema, None])
def test_a_tool_is_sent_as_llamaindex_writes_it_but_for_its_name(cls: type[BaseModel] | None) -> None:
    tool = tool_of(cls)
    expected = tool.metadata.to_openai_tool()
    expected["function"]["name"] = "look.up"
    for _ in range(3):
        sent: Any = tool_dict(tool)
        assert sent == expected
        assert list(sent["function"]["parameters"]) == list(expected["function"]["parameters"])
        sent["function"]["parameters"].clear()


def test_the_schema_of_a_class_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Once(BaseModel):
        text: str

    made: list[str | None] = []
    original = ToolMetadata.get_parameters_dict

    def noted(metadata: ToolMetadata) -> dict[str, Any]:
        made.append(metadata.name)
        return original(metadata)

    monkeypatch.setattr(ToolMetadata, "get_parameters_dict", noted)
    sent = [tool_dict(tool_of(Once, name)) for name in ("a", "b", "a")]
    assert [tool["function"]["name"] for tool in sent] == ["a", "b", "a"]
    assert made == ["a"]


def test_a_rebuilt_class_is_sent_with_its_new_schema() -> None:
    class Changing(BaseModel):
        text: str = Field(description="before")

    before: Any = tool_dict(tool_of(Changing))
    Changing.model_fields["text"].description = "after"
    Changing.model_rebuild(force=True)
    after: Any = tool_dict(tool_of(Changing))
    descriptions = [sent["function"]["parameters"]["properties"]["text"]["description"] for sent in (before, after)]
    assert descriptions == ["before", "after"]


@pytest.mark.parametrize("way", ["model_json_schema", "__get_pydantic_json_schema__", "json_schema_extra"])
def test_a_schema_that_its_class_makes_itself_is_made_for_each_request(way: str) -> None:
    calls: list[int] = []

    def numbered(schema: dict[str, Any]) -> dict[str, Any]:
        calls.append(1)
        schema["properties"]["text"]["description"] = f"number {len(calls)}"
        return schema

    class Plain(BaseModel):
        text: str

    class Method(Plain):
        @classmethod
        def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
            return numbered(super().model_json_schema(*args, **kwargs))

    class Hook(Plain):
        @classmethod
        def __get_pydantic_json_schema__(cls, core_schema: Any, handler: Any) -> dict[str, Any]:
            return numbered(handler.resolve_ref_schema(handler(core_schema)))

    class Extra(Plain):
        model_config = ConfigDict(json_schema_extra=lambda schema: numbered(schema) and None)

    own = {"model_json_schema": Method, "__get_pydantic_json_schema__": Hook, "json_schema_extra": Extra}[way]
    first: Any = tool_dict(tool_of(own))
    second: Any = tool_dict(tool_of(own))
    assert first != second


def test_metadata_of_ones_own_class_writes_its_tool_itself() -> None:
    class Own(ToolMetadata):
        def to_openai_tool(self, skip_length_check: bool = False) -> dict[str, Any]:
            return {"type": "function", "function": {"name": "", "parameters": {}, "strict": True}}

    sent: Any = tool_dict(FunctionTool(fn=lambda **_: "", metadata=Own("Looks up.", "look_up")))
    assert sent == {"type": "function", "function": {"name": "look_up", "parameters": {}, "strict": True}}


def test_classes_are_not_kept_for_ever() -> None:
    def new(number: int) -> type[BaseModel]:
        return type(f"Many{number}", (BaseModel,), {"__annotations__": {"text": str}})

    first = weakref.ref(new(0))
    for number in range(600):
        tool_dict(tool_of(new(number) if number else first()))
    gc.collect()
    assert first() is None
