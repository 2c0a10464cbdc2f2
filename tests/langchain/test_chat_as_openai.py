"""What programs for ChatOpenAI do with a model besides `invoke`, on a real server."""

import asyncio
import copy
import inspect
import json
import pickle
import typing
from typing import Any

import httpx2
import pytest
from langchain_core.load import dumps, load
from langchain_core.messages import AIMessageChunk
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import ConfigurableField
from pydantic import BaseModel

from langchain_llamacpp_server import ChatLlamaServer, TruncatedOutputError
from llamacpp_server import LocalServer
from tests.langchain.conftest import get_weather


class Person(BaseModel):
    name: str
    age: int


class City(typing.TypedDict):
    city: str


FUNCTION: dict[str, Any] = {
    "name": "get_weather",
    "description": "The weather of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
ANN = Person(name="Ann", age=7)


def test_functions_become_tools(talker: LocalServer, recorded: Any) -> None:
    llm, requests = recorded(talker)
    answer = llm.invoke("weather?", functions=[FUNCTION], function_call="auto")
    assert [call["args"] for call in answer.tool_calls] == [{"city": "Oslo"}, {"city": "Rome"}]
    assert requests[-1]["tools"] == [{"type": "function", "function": FUNCTION}]
    assert "functions" not in requests[-1]
    assert "function_call" not in requests[-1]


def test_a_named_function_is_forced(talker: LocalServer, recorded: Any) -> None:
    llm, requests = recorded(talker)
    llm.invoke("weather?", functions=[FUNCTION, {**FUNCTION, "name": "other"}], function_call={"name": "get_weather"})
    assert [tool["function"]["name"] for tool in requests[-1]["tools"]] == ["get_weather"]
    assert requests[-1]["tool_choice"] == "required"


@pytest.mark.parametrize("names", [("functions", "function_call"), ("tools", "tool_choice")])
def test_functions_of_model_kwargs_become_tools(talker: LocalServer, recorded: Any, names: tuple[str, str]) -> None:
    tools, choice = names
    llm, requests = recorded(talker, model_kwargs={tools: [FUNCTION], choice: {"name": "get_weather"}, "extra": 1})
    assert llm.invoke("weather?").tool_calls[0]["args"] == {"city": "Oslo"}
    assert requests[-1]["tools"] == [{"type": "function", "function": FUNCTION}]
    assert (requests[-1]["tool_choice"], requests[-1]["extra"]) == ("required", 1)
    assert not {"functions", "function_call"} & requests[-1].keys()


@pytest.mark.parametrize("names", [("functions", "function_call"), ("tools", "tool_choice")])
def test_tools_of_the_constructor_go_with_each_call(talker: LocalServer, recorded: Any, names: tuple[str, str]) -> None:
    tools, choice = names
    llm, requests = recorded(talker, **{tools: [FUNCTION], choice: {"name": "get_weather"}}, user="me", stream=True)
    answer = llm.invoke("weather?")
    assert answer.tool_calls[0]["name"] == "get_weather"
    assert [tool["function"]["name"] for tool in requests[-1]["tools"]] == ["get_weather"]
    assert requests[-1]["tool_choice"] == "required"
    assert {"user", "functions", "function_call"}.isdisjoint(requests[-1])


def test_headers_and_query_of_the_constructor_go_with_each_call(talker: LocalServer, recorded: Any) -> None:
    llm, requests = recorded(talker, extra_headers={"x-tenant": "a"}, extra_query={"n": 1}, max_tokens=1)
    llm.invoke("hi")
    assert (requests[-1]["headers"]["x-tenant"], requests[-1]["url"].query) == ("a", b"n=1")


async def test_clients_of_httpx2_carry_calls_and_streams(talker: LocalServer) -> None:
    with httpx2.Client(trust_env=False) as own:
        async with httpx2.AsyncClient(trust_env=False) as awaited:
            llm = ChatLlamaServer(base_url=talker.base_url, http_client=own, http_async_client=awaited)
            answers = [llm.invoke("hi").text, "".join(chunk.text for chunk in llm.stream("hi"))]
            answers += [(await llm.ainvoke("hi")).text, "".join([chunk.text async for chunk in llm.astream("hi")])]
    assert len(set(answers)) == 1 and answers[0]


def test_tools_beside_a_schema_that_is_a_call_are_ignored(
    talker: LocalServer, caplog: pytest.LogCaptureFixture
) -> None:
    llm = ChatLlamaServer(base_url=talker.base_url)
    chain = llm.with_structured_output(FUNCTION, method="function_calling", tools=[get_weather], tool_choice="auto")
    assert chain.invoke("weather?") == {"city": "Oslo"}
    assert "ignoring tools" in caplog.text


def test_tools_of_a_call_replace_functions_of_model_kwargs(talker: LocalServer, recorded: Any) -> None:
    llm, requests = recorded(talker, model_kwargs={"functions": [FUNCTION]})
    other = {**FUNCTION, "name": "other"}
    llm.invoke("weather?", functions=[other])
    llm.bind_tools([other]).invoke("weather?")
    assert [request["tools"][0]["function"]["name"] for request in requests] == ["other", "other"]


def test_fields_are_configured_by_the_names_of_chat_openai(talker: LocalServer, recorded: Any) -> None:
    llm, requests = recorded(talker, temperature=0.5)
    fields = {name: ConfigurableField(id=name) for name in ("model_name", "temperature", "max_completion_tokens")}
    chosen = llm.configurable_fields(**fields)
    chosen.with_config(configurable={"model_name": "other", "max_completion_tokens": 3}).invoke("Hi")
    sent = requests[-1]
    assert (sent["model"], sent["temperature"], sent["max_tokens"]) == ("other", 0.5, 3)
    chosen.with_config(configurable={"temperature": 0.25}).invoke("Hi")
    assert (requests[-1].get("model"), requests[-1]["temperature"]) == (None, 0.25)
    with pytest.raises(ValueError, match="temprature"):
        llm.configurable_fields(temprature=ConfigurableField(id="t"))


def test_a_class_as_response_format_gives_the_object_with_the_message(llm: ChatLlamaServer) -> None:
    assert llm.invoke("person", response_format=Person).additional_kwargs["parsed"] == ANN
    assert asyncio.run(llm.ainvoke("person", response_format=Person)).additional_kwargs["parsed"] == ANN
    assert llm.bind(response_format=Person).invoke("person").additional_kwargs["parsed"] == ANN


def test_a_stream_ends_with_the_object(llm: ChatLlamaServer) -> None:
    async def streamed() -> list[AIMessageChunk]:
        return [chunk async for chunk in llm.astream("person", response_format=Person)]

    for chunks in (list(llm.stream("person", response_format=Person)), asyncio.run(streamed())):
        assert [chunk.additional_kwargs.get("parsed") for chunk in chunks if "parsed" in chunk.additional_kwargs] == [
            ANN
        ]
        full = chunks[0]
        for chunk in chunks[1:]:
            full += chunk
        assert full.additional_kwargs["parsed"] == ANN
    assert (
        llm.model_copy(update={"streaming": True}).invoke("person", response_format=Person).additional_kwargs["parsed"]
        == ANN
    )


def test_a_dict_as_response_format_gives_no_object(llm: ChatLlamaServer) -> None:
    answer = llm.invoke("person", response_format={"type": "json_object"})
    assert "parsed" not in answer.additional_kwargs


def test_an_answer_that_calls_tools_has_no_object(llm: ChatLlamaServer) -> None:
    answer = llm.bind_tools([get_weather]).invoke("weather?", response_format=Person, thinking=False)
    assert answer.tool_calls or "parsed" in answer.additional_kwargs


def test_an_answer_that_was_cut_off_is_an_error(llm: ChatLlamaServer) -> None:
    with pytest.raises(TruncatedOutputError):
        llm.invoke("person", response_format=Person, max_tokens=3)
    with pytest.raises(TruncatedOutputError):
        list(llm.stream("person", response_format=Person, max_tokens=3))


def test_versions_in_traces_are_those_of_langchain_and_ours() -> None:
    versions = ChatLlamaServer(base_url="http://host").metadata["lc_versions"]  # type: ignore[index]
    assert {"langchain-core", "langchain", "llamacpp-server"} <= set(versions)


def test_the_output_schema_of_a_structured_chain_is_its_schema(llm: ChatLlamaServer) -> None:
    assert llm.with_structured_output(Person).get_output_schema() is Person
    assert llm.with_structured_output(Person).get_output_jsonschema() == Person.model_json_schema()
    schema = Person.model_json_schema()
    assert llm.with_structured_output(schema).get_output_jsonschema() == schema
    assert "properties" not in llm.with_structured_output(Person, include_raw=True).get_output_jsonschema()
    assert llm.with_structured_output(Person).get_input_schema() is not None


def test_a_structured_chain_composes(llm: ChatLlamaServer) -> None:
    prompt = ChatPromptTemplate.from_messages([("user", "person {name}")])
    chain = prompt | llm.with_structured_output(Person) | (lambda found: found.age)
    assert chain.invoke({"name": "Ann"}) == 7
    assert chain.batch([{"name": "Ann"}, {"name": "Bob"}]) == [7, 7]
    assert (prompt | llm.with_structured_output(Person)).get_output_schema() is Person
    assert (prompt | llm.with_structured_output(Person)).get_graph().draw_mermaid()
    assert llm.with_structured_output(Person).with_retry().with_config(tags=["a"]).invoke("person") == ANN


@pytest.mark.filterwarnings("ignore:The function `load` is in beta")
def test_a_structured_chain_dumps_and_loads(llm: ChatLlamaServer) -> None:
    prompt = ChatPromptTemplate.from_messages([("user", "person {name}")])
    for schema in (Person.model_json_schema(), Person):
        chain = prompt | llm.with_structured_output(schema, method="json_mode", repair_rounds=0)
        again = load(json.loads(dumps(chain)), allowed_objects="all", valid_namespaces=["langchain_llamacpp_server"])
        assert again.invoke({"name": "Ann"}) == ANN.model_dump()
        assert again.last.method == "json_mode"
        assert again.last.options == {"repair_rounds": 0}


def test_a_dumped_chain_holds_no_secret() -> None:
    llm = ChatLlamaServer(base_url="http://user:very-secret@host:1", api_key="very-secret")
    chain = llm.with_structured_output(Person)
    assert "very-secret" not in dumps(chain) + repr(chain) + str(chain)


def test_a_structured_chain_can_be_copied(llm: ChatLlamaServer) -> None:
    assert copy.deepcopy(llm.with_structured_output(Person)).invoke("person") == ANN
    assert pickle.loads(pickle.dumps(llm.with_structured_output(Person))).invoke("person") == ANN


def test_a_model_with_fallbacks_binds_tools_and_makes_objects(llm: ChatLlamaServer) -> None:
    gone: Any = ChatLlamaServer(base_url="http://127.0.0.1:9", max_retries=0)
    assert gone.with_fallbacks([llm]).with_structured_output(Person).invoke("person") == ANN
    assert gone.with_fallbacks([llm]).bind_tools([get_weather]).invoke("weather?").tool_calls


def test_the_hints_of_every_public_method_resolve() -> None:
    for name, method in vars(ChatLlamaServer).items():
        if inspect.isfunction(method) and not name.startswith(("_", "model_")):
            assert typing.get_type_hints(method)


def test_a_chain_for_a_typed_dict_of_typing_has_an_output_schema(llm: ChatLlamaServer) -> None:
    chain = llm.with_structured_output(City)
    assert chain.get_output_jsonschema()["properties"] == {"city": {"type": "string"}}
    assert chain.get_output_schema() and (ChatPromptTemplate.from_template("x") | chain).get_graph()
