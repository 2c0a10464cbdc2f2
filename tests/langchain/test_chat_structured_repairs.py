"""Structured output where the server or the model does not do what it should: what is repaired, and what is said."""

import asyncio
from typing import Any

import httpx
import pytest
from langchain_core.exceptions import OutputParserException
from langchain_core.tracers.context import collect_runs
from pydantic import BaseModel, Field, field_validator

from langchain_llamacpp_server import ChatLlamaServer, TruncatedOutputError, UnfitAnswerError
from llamacpp_server import BadRequestError, LocalServer
from tests.models import Script, tool_call
from tests.wiretap import ToolsOnly

ADULT = '{"name": "Ann", "age": 36}'
MINOR = '{"name": "Ann", "age": 7}'


class Adult(BaseModel):
    """Somebody."""

    name: str
    age: int = Field(description="in years")

    @field_validator("age")
    @classmethod
    def _of_age(cls, age: int) -> int:
        if age < 18:
            raise ValueError("too young")
        return age


@pytest.fixture(scope="session")
def clerk(scripted_server: Any) -> LocalServer:
    """Gets it right once it is told what was wrong."""
    return scripted_server(
        {
            "Call Adult again": tool_call("Adult", ADULT),
            "does not fit": ADULT,
            "prose": f"Sure, here she is:\n{ADULT}\nAnything else?",
            "nonsense": "I would rather not.",
            "adult call": tool_call("Adult", ADULT),
            "call": tool_call("Adult", MINOR),
            "musing": Script(thinks=["Hm, "] * 60, says=ADULT),
            "user": MINOR,
        }
    )


@pytest.fixture
def asked(clerk: LocalServer) -> ChatLlamaServer:
    return ChatLlamaServer(base_url=clerk.base_url, thinking=False)


# The last word wins: with this the server holds no answer to anything, as builds do that don't know a schema.
UNHELD: Any = {"response_format": {"type": "text"}}


@pytest.mark.parametrize("method", ["json_schema", "json_mode", "auto"])
async def test_what_does_not_fit_is_asked_for_once_more(asked: ChatLlamaServer, method: Any) -> None:
    chain = asked.with_structured_output(Adult, method=method, include_raw=True)
    for got in (chain.invoke("Who?"), await chain.ainvoke("Who?")):
        assert got["parsed"] == Adult(name="Ann", age=36)
        assert got["parsing_error"] is None
        repairs = got["raw"].response_metadata["llamacpp"]["repairs"]
        assert [repair["name"] for repair in repairs] == ["repair_round"]
        assert "too young" in repairs[0]["what"]
    assert asked.with_structured_output(Adult, method=method).invoke("Who?").age == 36


def test_a_call_that_does_not_fit_is_asked_for_once_more(clerk: LocalServer, recorded: Any) -> None:
    llm, requests = recorded(clerk, thinking=False)
    chain = llm.with_structured_output(Adult, method="function_calling")
    assert chain.invoke("call") == Adult(name="Ann", age=36)
    assert [request["tool_choice"] for request in requests] == ["required", "required"]
    *_, answer, words = requests[-1]["messages"]
    assert answer["role"] == "assistant"
    assert "too young" in words["content"]


async def test_without_rounds_the_error_is_raised(asked: ChatLlamaServer) -> None:
    chain = asked.with_structured_output(Adult, repair_rounds=0)
    with pytest.raises(UnfitAnswerError, match="too young") as caught:
        chain.invoke("Who?")
    assert isinstance(caught.value, OutputParserException)
    assert caught.value.llm_output == MINOR
    assert caught.value.reason == "invalid"
    with pytest.raises(UnfitAnswerError, match="too young"):
        await chain.ainvoke("Who?")
    got = asked.with_structured_output(Adult, repair_rounds=0, include_raw=True).invoke("Who?")
    assert isinstance(got["parsing_error"], UnfitAnswerError)
    assert (got["parsed"], got["raw"].text) == (None, MINOR)


async def test_a_stream_is_not_asked_for_again(asked: ChatLlamaServer) -> None:
    chain = asked.with_structured_output(Adult)
    with pytest.raises(OutputParserException, match="too young"):
        list(chain.stream("Who?"))
    with pytest.raises(OutputParserException, match="too young"):
        [part async for part in chain.astream("Who?")]


def test_dicts_are_checked_as_well(asked: ChatLlamaServer) -> None:
    schema = {**Adult.model_json_schema(), "properties": {"age": {"type": "integer", "multipleOf": 1, "minimum": 18}}}
    open_schema = {**schema, "required": ["age"], "title": "Adult"}
    free = asked.model_copy(update={"extra_body": UNHELD})
    assert free.with_structured_output(open_schema).invoke("Who?")["age"] == 36
    with pytest.raises(UnfitAnswerError, match="age: 7 violates minimum 18"):
        list(free.with_structured_output(open_schema).stream("Who?"))


def test_json_among_words_is_found(asked: ChatLlamaServer) -> None:
    free = asked.model_copy(update={"extra_body": UNHELD})
    got = free.with_structured_output(Adult, include_raw=True).invoke("prose")
    assert got["parsed"].age == 36
    assert [repair["name"] for repair in got["raw"].response_metadata["llamacpp"]["repairs"]] == ["found_json"]


def test_a_schema_that_was_ignored_is_named(asked: ChatLlamaServer) -> None:
    free = asked.model_copy(update={"extra_body": UNHELD})
    with pytest.raises(UnfitAnswerError, match="did not enforce the schema") as caught:
        free.with_structured_output(Adult, repair_rounds=0).invoke("nonsense")
    assert caught.value.reason == "not_held"
    assert free.with_structured_output(Adult).invoke("nonsense").age == 36  # the one round


def test_auto_goes_on_to_a_grammar_where_the_schema_is_ignored(chat_server: LocalServer, recorded: Any) -> None:
    class Word(BaseModel):
        word: str = Field(max_length=3)

    llm, requests = recorded(chat_server, thinking=False, max_tokens=100, extra_body=UNHELD, seed=1)
    assert isinstance(llm.with_structured_output(Word, method="auto", repair_rounds=0).invoke("nonsense"), Word)
    assert requests[0]["response_format"] == {"type": "text"}
    assert "grammar" not in requests[0]
    assert requests[1]["grammar"].startswith("root ::= ")
    assert len(requests) == 2


HARD: dict[str, Any] = {  # the server's converter knows no such type (b11434)
    "title": "Word",
    "type": "object",
    "properties": {"word": {"type": "string", "maxLength": 3}, "n": {"type": "word"}},
    "required": ["word"],
}


def _asked(requests: list[Any]) -> list[str]:
    """How the answers were asked for."""
    bodies = [request for request in requests if request["url"].path == "/v1/chat/completions"]
    return [name for body in bodies for name in ("response_format", "grammar", "tools") if name in body]


async def test_auto_goes_on_to_a_grammar_where_the_schema_is_refused(chat_server: LocalServer, recorded: Any) -> None:
    llm, requests = recorded(chat_server, thinking=False, clean_schemas=False, max_tokens=200, seed=1)
    chain = llm.with_structured_output(HARD, method="auto")
    assert isinstance(chain.invoke("Hi")["word"], str)
    assert _asked(requests) == ["response_format", "grammar"]
    # It is remembered: nothing is refused again, streams begin with it too.
    *_, last = chain.stream("Hi")
    assert isinstance(last["word"], str)
    assert _asked(requests) == ["response_format", "grammar", "grammar"]
    assert "word" in await chain.ainvoke("Hi")
    assert [part async for part in chain.astream("Hi")]


def test_one_forced_tool_is_the_last_way(clerk: LocalServer) -> None:
    with httpx.Client(transport=ToolsOnly()) as client:
        llm = ChatLlamaServer(base_url=clerk.base_url, thinking=False, http_client=client)
        got = llm.with_structured_output(Adult, method="auto", include_raw=True).invoke("adult call")
        assert got["parsed"] == Adult(name="Ann", age=36)
        names = [repair["name"] for repair in got["raw"].response_metadata["llamacpp"]["repairs"]]
        assert names == ["structured_way", "structured_way"]
        *_, last = llm.with_structured_output(Adult, method="auto").stream("adult call")
        assert last == Adult(name="Ann", age=36)
        with pytest.raises(BadRequestError, match="no structured output"):
            llm.with_structured_output(Adult).invoke("adult call")


def test_thinking_that_takes_all_is_turned_off(clerk: LocalServer) -> None:
    llm = ChatLlamaServer(base_url=clerk.base_url, max_tokens=40)
    got = llm.with_structured_output(Adult, include_raw=True).invoke("musing")
    assert got["parsed"] == Adult(name="Ann", age=36)
    assert [repair["name"] for repair in got["raw"].response_metadata["llamacpp"]["repairs"]] == ["repair_round"]
    with pytest.raises(TruncatedOutputError, match="all of them reasoning"):
        llm.with_structured_output(Adult, repair_rounds=0).invoke("musing")
    with pytest.raises(TruncatedOutputError, match="all of them reasoning"):
        llm.model_copy(update={"thinking": True}).with_structured_output(Adult).invoke("musing")


async def test_an_object_in_the_thinking_is_found(scripted_server: Any) -> None:
    server = scripted_server(Script(thinks=f"She is {ADULT}.", says=[" "]))
    llm = ChatLlamaServer(base_url=server.base_url, extra_body=UNHELD)
    chain = llm.with_structured_output(Adult)
    assert chain.invoke("Who?") == Adult(name="Ann", age=36)
    assert list(chain.stream("Who?"))[-1] == Adult(name="Ann", age=36)
    assert [part async for part in chain.astream("Who?")][-1] == Adult(name="Ann", age=36)


def test_a_chain_is_traced_and_composed_as_before(asked: ChatLlamaServer) -> None:
    from langchain_core.prompts import ChatPromptTemplate

    chain = ChatPromptTemplate.from_messages([("user", "{question}")]) | asked.with_structured_output(Adult)
    assert chain.invoke({"question": "Who?"}).age == 36
    assert [one.age for one in chain.batch([{"question": "Who?"}] * 2)] == [36, 36]


async def test_a_stream_is_a_run_with_the_object_at_its_end(asked: ChatLlamaServer) -> None:
    chain = asked.with_structured_output(Adult)
    events = [event async for event in chain.astream_events("call me: does not fit", version="v2")]
    names = [(event["event"], event["name"]) for event in events if event["name"] != "llamacpp_progress"]
    assert names[:2] == [("on_chain_start", "StructuredChain"), ("on_chat_model_start", "ChatLlamaServer")]
    assert names[-1] == ("on_chain_end", "StructuredChain")
    assert events[-1]["data"]["output"] == Adult(name="Ann", age=36)
    assert ("on_chain_stream", "StructuredChain") in names
    with collect_runs() as runs:
        first, *rest = asked.with_structured_output(Adult, include_raw=True).stream("does not fit")
    full = first
    for part in rest:
        full += part
    assert full["parsed"] == Adult(name="Ann", age=36)
    assert full["raw"].text == ADULT
    (run,) = runs.traced_runs
    assert [child.name for child in run.child_runs] == ["ChatLlamaServer"]
    assert run.outputs is not None
    assert run.outputs["parsed"] == full["parsed"]


def test_no_tool_is_tried_where_the_template_is_known_to_have_none(serve: Any) -> None:
    server = serve("plain.gguf", parallel=1, ctx_size=512)
    with httpx.Client(transport=ToolsOnly()) as client:
        llm = ChatLlamaServer(base_url=server.base_url, http_client=client)
        chain = llm.with_structured_output(Adult, method="auto")
        assert llm.server_info().tools is False
        with pytest.raises(BadRequestError, match="no structured output"):
            chain.invoke("Who?")


def test_a_constraint_of_the_model_gives_way_to_the_schema(clerk: LocalServer) -> None:
    llm = ChatLlamaServer(base_url=clerk.base_url, thinking=False, choices=["yes"])
    assert llm.with_structured_output(Adult, method="function_calling").invoke("adult call").age == 36
    assert llm.with_structured_output(Adult).invoke("does not fit").age == 36


async def test_leaving_a_stream_frees_the_slot(scripted_server: Any, idle: Any) -> None:
    server = scripted_server(Script(says=['{"name": "', "a "], endless=True))
    chain = ChatLlamaServer(base_url=server.base_url, thinking=False).with_structured_output(Adult.model_json_schema())
    parts = chain.stream("Who?")
    assert [next(parts) for _ in range(3)][-1]["name"]
    parts.close()  # type: ignore[attr-defined]  # it is a generator
    idle(server)
    awaited = chain.astream("Who?")
    assert [await anext(awaited) for _ in range(3)][-1]["name"]
    await awaited.aclose()  # type: ignore[attr-defined]  # as above
    await asyncio.to_thread(idle, server)  # what LangChain leaves open is closed by the loop
