"""Structured output on a real server: every schema, every method, and what can go wrong."""

import json
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, Optional

import langchain_core.exceptions as core
import pytest
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel, Field
from pydantic.v1 import BaseModel as BaseModelV1
from typing_extensions import TypedDict

from langchain_llamacpp_server import ChatLlamaServer, TruncatedOutputError
from llamacpp_server import LocalServer, NotSupportedError
from tests.langchain.behind_doors import json_schema, wire_format


class Person(BaseModel):
    """Somebody."""

    name: str = Field(description="given name")
    age: int


class PersonV1(BaseModelV1):
    """Somebody."""

    name: str
    age: int


class PersonDict(TypedDict):
    """Somebody."""

    name: str
    age: int


SCHEMA: dict[str, Any] = {"title": "Person", "description": "Somebody.", **Person.model_json_schema()}
METHODS = ("json_schema", "function_calling", "json_mode")


@pytest.fixture(scope="session")
def clerk(scripted_server: Any) -> LocalServer:
    """Says a person as JSON, or calls the tool with one, as the grammar of the request allows."""
    answer = '{"name": "Ann", "age": 7}'
    call = f'<tool_call>\n{{"name": "Person", "arguments": {answer}}}\n</tool_call>'
    return scripted_server({"call": call, "wrong": '{"name": "Ann"}', "user": answer})


@pytest.fixture
def asked(clerk: LocalServer) -> ChatLlamaServer:
    return ChatLlamaServer(base_url=clerk.base_url, thinking=False)


@pytest.mark.parametrize("method", METHODS)
async def test_objects_in_all_ways(asked: ChatLlamaServer, method: Any) -> None:
    text = "call" if method == "function_calling" else "Who?"
    chain = asked.with_structured_output(Person, method=method)
    ann = Person(name="Ann", age=7)
    assert chain.invoke(text) == ann
    assert await chain.ainvoke(text) == ann
    assert list(chain.stream(text))[-1] == ann
    assert [part async for part in chain.astream(text)][-1] == ann
    raw = asked.with_structured_output(Person, method=method, include_raw=True).invoke(text)
    assert raw["parsed"] == ann
    assert raw["parsing_error"] is None
    assert raw["raw"].usage_metadata


@pytest.mark.parametrize(
    "schema", [PersonDict, SCHEMA, convert_to_openai_tool(Person), convert_to_openai_tool(Person)["function"]]
)
@pytest.mark.parametrize("method", METHODS)
def test_schemas_of_all_kinds_give_dicts(asked: ChatLlamaServer, schema: Any, method: Any) -> None:
    text = "call" if method == "function_calling" else "Who?"
    assert asked.with_structured_output(schema, method=method).invoke(text) == {"name": "Ann", "age": 7}


def test_the_first_pydantic(asked: ChatLlamaServer) -> None:
    person = asked.with_structured_output(PersonV1).invoke("Who?")
    assert isinstance(person, PersonV1)
    assert person.name == "Ann"


def test_any_json(asked: ChatLlamaServer) -> None:
    assert asked.with_structured_output(method="json_mode").invoke("Who?") == {"name": "Ann", "age": 7}


def test_objects_grow_while_streamed(asked: ChatLlamaServer) -> None:
    parts = list(asked.with_structured_output(SCHEMA).stream("Who?"))
    assert len(parts) > 2
    assert parts[-1] == {"name": "Ann", "age": 7}
    assert all(part.keys() <= parts[-1].keys() for part in parts)


@pytest.mark.parametrize(
    "given",
    [
        {"type": "json_schema", "json_schema": {"schema": SCHEMA}},
        {"name": "Person", "schema": SCHEMA, "strict": True},
        SCHEMA,
        Person,
    ],
)
def test_forms_of_a_response_format(given: Any) -> None:
    made = wire_format(given)
    assert made["type"] == "json_schema"
    assert made["json_schema"]["schema"]["properties"].keys() == {"name", "age"}


def test_other_formats_stay_as_they_are() -> None:
    assert wire_format({"type": "json_object"}) == {"type": "json_object"}
    assert wire_format({"type": "text"}) == {"type": "text"}
    assert json_schema(Person, strict=True)["json_schema"]["strict"] is True


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("method", ["json_schema", "json_mode"])
def test_an_answer_that_was_cut_off_is_named(asked: ChatLlamaServer, method: Any, streamed: bool) -> None:
    chain = asked.model_copy(update={"max_tokens": 3}).with_structured_output(Person, method=method)
    with pytest.raises(TruncatedOutputError, match=r"after 3 tokens.*max_tokens") as caught:
        list(chain.stream("Who?")) if streamed else chain.invoke("Who?")
    assert isinstance(caught.value, core.ModelError)


@pytest.mark.parametrize(("tokens", "error"), [(1, TruncatedOutputError), (4, TruncatedOutputError)])
def test_a_call_that_was_cut_off_is_named(asked: ChatLlamaServer, tokens: int, error: type[Exception]) -> None:
    chain = asked.model_copy(update={"max_tokens": tokens}).with_structured_output(Person, method="function_calling")
    with pytest.raises(error, match="cut off"):
        chain.invoke("call")


def test_thinking_that_ate_all_tokens_is_named(llm: ChatLlamaServer) -> None:
    with pytest.raises(TruncatedOutputError, match="all of them reasoning"):
        llm.model_copy(update={"max_tokens": 2, "thinking": True}).with_structured_output(Person).invoke("Hi")


def test_with_the_raw_message_no_error_is_raised(asked: ChatLlamaServer) -> None:
    short = asked.model_copy(update={"max_tokens": 3})
    for method in METHODS:
        got = short.with_structured_output(Person, method=method, include_raw=True).invoke("call")  # type: ignore[arg-type]
        assert isinstance(got["parsing_error"], TruncatedOutputError), method
        assert got["parsed"] is None
        assert got["raw"].response_metadata["finish_reason"] == "length"


def test_a_call_of_a_template_that_knows_no_tools(plain_server: LocalServer) -> None:
    """It makes the server drop them without a word, so the call is had by its schema, or not at all."""
    llm = ChatLlamaServer(base_url=plain_server.base_url, logit_bias={chr(34): 8.0, "}": 4.0})
    assert isinstance(llm.with_structured_output(Person, method="function_calling").invoke("call"), Person)
    with pytest.raises(NotSupportedError, match="does not support tools"):
        llm.model_copy(update={"forced_round": False}).with_structured_output(Person, method="function_calling").invoke(
            "call"
        )


@pytest.fixture(scope="session")
def plain_server(serve: Any) -> LocalServer:
    return serve("plain.gguf", parallel=1, ctx_size=512)


@pytest.mark.parametrize(("schema", "method"), [(None, "json_schema"), (Person, "by_magic")])
def test_what_can_not_be_meant(asked: ChatLlamaServer, schema: Any, method: Any) -> None:
    with pytest.raises(ValueError, match="method"):
        asked.with_structured_output(schema, method=method)


@pytest.mark.parametrize("begun", [[], ["Be brief."]])
def test_the_schema_can_be_shown_to_the_model(clerk: LocalServer, recorded: Any, begun: list[str]) -> None:
    llm, requests = recorded(clerk, thinking=False)
    messages = [*(("system", text) for text in begun), ("user", "Who?")]
    assert llm.with_structured_output(Person, schema_in_prompt=True).invoke(messages) == Person(name="Ann", age=7)
    system, user = requests[-1]["messages"]
    assert user == {"role": "user", "content": "Who?"}
    assert system["content"].startswith("".join(begun))
    assert "given name" in system["content"]
    llm.with_structured_output(Person).invoke(messages)
    assert "given name" not in str(requests[-1]["messages"])


def test_choices_and_expressions(nonsense: ChatLlamaServer) -> None:
    assert nonsense.invoke("Hi", choices=["é\n", '"']).text in ("é\n", '"')
    held = nonsense.model_copy(update={"regex": "[ab]{3}"})
    assert set(held.invoke("Hi").text) <= set("ab")
    assert held.invoke("Hi", choices=["yes"]).text == "yes"
    assert "".join(chunk.text for chunk in nonsense.stream("Hi", choices=["yes"])) == "yes"
    assert nonsense.model_copy(update={"thinking": None}).invoke("Hi", choices=["yes"]).text == "yes"


@dataclass
class Reading:
    """A reading."""

    value: int
    sure: bool = False


class Colour(Enum):
    RED = "röt"
    BLUE = "蓝\u2028"
    ODD = 'q"x'


class Tree(BaseModel):
    """Has trees."""

    colour: Colour
    left: Optional["Tree"] = None
    kind: Literal["ä"] = "ä"


ANTHROPIC = {
    "name": "reading",
    "description": "A reading.",
    "input_schema": {"type": "object", "properties": {"value": {"type": "integer"}}, "required": ["value"]},
}


def test_strict_requires_every_property_of_every_object(nonsense: ChatLlamaServer) -> None:
    class Place(BaseModel):
        north: bool | None = None

    class Guess(BaseModel):
        sure: bool | None = None
        place: Place | None = None

    llm = nonsense.model_copy(update={"max_tokens": 300, "seed": 3, "logit_bias": {"<think>": False}})
    for given in (Guess, Guess.model_json_schema()):
        answer = llm.with_structured_output(given, strict=True, include_raw=True).invoke("Hi")
        guess = json.loads(answer["raw"].text)
        assert guess.keys() == {"sure", "place"}
        assert guess["place"] is None or guess["place"].keys() == {"north"}
    assert "required" not in json_schema(Guess)["json_schema"]["schema"]


@pytest.mark.parametrize("strict", [None, False, True])
@pytest.mark.parametrize("method", ["json_schema", "auto"])
def test_what_a_random_model_says_is_of_the_schema(nonsense: ChatLlamaServer, method: Any, strict: bool | None) -> None:
    sober = {"max_tokens": 300, "seed": 3, "temperature": 0.7, "logit_bias": {"<think>": False}}
    llm = nonsense.model_copy(update=sober)
    tree = llm.with_structured_output(Tree, method=method, strict=strict).invoke("Hi")
    assert isinstance(tree, Tree)
    for schema in (Reading, ANTHROPIC):
        reading = llm.with_structured_output(schema, method=method, strict=strict).invoke("Hi")
        assert isinstance(reading["value"], int)
        assert reading.keys() <= {"value", "sure"}
