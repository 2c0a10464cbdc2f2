"""Streams of `with_structured_output(include_raw=True)`: their parts add up to what `invoke` gives."""

from functools import reduce
from operator import add
from typing import Any, TypedDict

import pytest
from langchain_core.messages import AIMessageChunk
from langchain_core.runnables import RunnableLambda
from pydantic import BaseModel

from langchain_llamacpp_server import ChatLlamaServer


class Person(BaseModel):
    """Somebody."""

    name: str
    age: int


class PersonDict(TypedDict):
    """Somebody."""

    name: str
    age: int


SAYS = '{"name": "Ann", "age": 7}'
SCHEMAS = [Person, PersonDict, Person.model_json_schema()]
IDS = ["pydantic", "typeddict", "dict"]


@pytest.fixture
def llm(scripted_server: Any) -> ChatLlamaServer:
    server = scripted_server({"prose": "No.", "user": SAYS})
    return ChatLlamaServer(base_url=server.base_url, max_tokens=60)


def seen(given: dict[str, Any]) -> Any:
    """What a step behind the chain has."""
    return (
        sorted(given),
        given["parsed"],
        given["parsing_error"],
        given["raw"].text,
        given["raw"].usage_metadata is None,
    )


@pytest.mark.parametrize("schema", SCHEMAS, ids=IDS)
class TestParts:
    def test_add_up_to_the_complete_object(self, llm: ChatLlamaServer, schema: Any) -> None:
        chain = llm.with_structured_output(schema, include_raw=True)
        parts = list(chain.stream("Ann is 7."))
        assert len(parts) > 3
        full = reduce(add, parts)
        assert isinstance(full["raw"], AIMessageChunk)
        assert seen(full) == seen(chain.invoke("Ann is 7."))
        assert full["raw"].response_metadata["finish_reason"] == "stop"

    async def test_a_chain_behind_it_sees_what_invoke_gives(self, llm: ChatLlamaServer, schema: Any) -> None:
        chain = llm.with_structured_output(schema, include_raw=True) | RunnableLambda(seen)
        expected = chain.invoke("Ann is 7.")
        assert list(chain.stream("Ann is 7.")) == [expected]
        assert [part async for part in chain.astream("Ann is 7.")] == [expected]

    async def test_events_report_the_complete_object(self, llm: ChatLlamaServer, schema: Any) -> None:
        chain = llm.with_structured_output(schema, include_raw=True)
        events = [event async for event in chain.astream_events("Ann is 7.", version="v2")]
        ends = [event for event in events if event["event"] == "on_chain_end" and event["name"] == "StructuredChain"]
        assert seen(ends[0]["data"]["output"]) == seen(chain.invoke("Ann is 7."))
