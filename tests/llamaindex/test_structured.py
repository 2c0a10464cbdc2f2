"""Structured output: the random model speaks nonsense, so what validates does so by the server's grammar alone."""

import asyncio
import itertools
import json
from typing import Any, Literal

import httpx
import pytest
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.llms.structured_llm import StructuredLLM
from llama_index.core.program.utils import FlexibleModel
from llama_index.core.prompts import ChatPromptTemplate, PromptTemplate
from llama_index.core.tools import FunctionTool
from llama_index.core.types import PydanticProgramMode
from pydantic import BaseModel, Field, field_validator

from llamacpp_server import BadRequestError
from llamacpp_server.local import LocalServer
from llamaindex_llamacpp_server import LlamaServer, UnusableReplyError
from tests.llamaindex.conftest import SOBER
from tests.models import Script, tool_call
from tests.wiretap import ToolsOnly

PROMPT = PromptTemplate("Describe {thing}")


class Llama(BaseModel):
    """A llama."""

    colour: Literal["white", "brown"] = Field(description="colour of the wool")
    tame: bool
    legs: Literal[4] | None = None


async def _all_four(llm: LlamaServer, output_cls: type[BaseModel], **kwargs) -> list[list[BaseModel]]:
    prompted = {"prompt": PROMPT, "thing": "it", "llm_kwargs": kwargs}
    return [
        [llm.structured_predict(output_cls, **prompted)],
        [await llm.astructured_predict(output_cls, **prompted)],
        list(llm.stream_structured_predict(output_cls, **prompted)),
        [item async for item in await llm.astream_structured_predict(output_cls, **prompted)],
    ]


async def test_all_four_ways(recorded, chat_server):
    llm, bodies = recorded(
        chat_server, **SOBER, system_prompt="Be honest.", max_tokens=200, schema_in_prompt=True, grammar='root ::= "x"'
    )
    kwargs = {"temperature": 0.5, "tool_choice": "auto", "allow_parallel_tool_calls": True}
    given = dict(kwargs)
    for items in await _all_four(llm, Llama, **kwargs):
        assert isinstance(items[-1], Llama)
        assert all(isinstance(item, Llama | FlexibleModel) for item in items)
    assert kwargs == given
    assert len(bodies) == 2  # the awaited ones have connections of their own
    for body in bodies:
        system, user = body["messages"]
        assert system["content"].startswith("Be honest.")
        assert user["content"] == "Describe it"
        assert "colour of the wool" in system["content"]
        schema = body["response_format"]["json_schema"]["schema"]
        assert schema["required"] == ["colour", "tame"]
        assert body["temperature"] == 0.5
        assert not {"grammar", "json_schema", "tools", "tool_choice"} & body.keys()
    await llm.aclose()


def test_the_schema_stays_out_of_the_prompt_by_default(recorded, chat_server):
    llm, bodies = recorded(chat_server, **SOBER, max_tokens=200)
    prompt = ChatPromptTemplate(message_templates=[ChatMessage(content="a"), ChatMessage(role="user", content="b")])
    llm.structured_predict(Llama, prompt)
    assert [message["content"] for message in bodies[0]["messages"]] == ["a", "b"]


def test_the_prompt_of_the_caller_stays_as_it_is(llm):
    messages = [ChatMessage(content="a")]
    llm.structured_predict(Llama, ChatPromptTemplate(message_templates=messages), llm_kwargs={"max_tokens": 200})
    assert messages == [ChatMessage(content="a")]


async def test_as_structured_llm(llm):
    structured = llm.as_structured_llm(Llama)
    assert isinstance(structured, StructuredLLM)
    messages = [ChatMessage(content="Hello")]
    assert isinstance(structured.chat(messages, max_tokens=200).raw, Llama)
    assert isinstance((await structured.achat(messages, max_tokens=200)).raw, Llama)
    assert Llama.model_validate_json(structured.complete("Hello", max_tokens=200).text)
    assert Llama.model_validate_json((await structured.acomplete("Hello", max_tokens=200)).text)
    await llm.aclose()


async def test_a_structured_llm_streams_in_all_four_ways(make_llm, scripted_server):
    """The core's own has no streamed completion."""
    says = ["{", '"colour"', ": ", '"white"', ', "tame"', ": true", "}"]
    structured = make_llm(scripted_server(Script(says=says)), thinking=False).as_structured_llm(Llama)
    messages, full = [ChatMessage(content="Hello")], Llama(colour="white", tame=True)
    streams = [
        list(structured.stream_chat(messages)),
        [item async for item in await structured.astream_chat(messages)],
        list(structured.stream_complete("Hello")),
        [item async for item in await structured.astream_complete("Hello")],
    ]
    for items in streams:
        assert ("white", None) in [(item.raw.colour, item.raw.tame) for item in items]
        assert items[-1].raw == full
        assert "".join(item.delta for item in items) == full.model_dump_json()
    assert streams[0][-1].message.content == streams[2][-1].text == full.model_dump_json()
    prompt = PromptTemplate("Hello")
    assert "".join(structured.stream(prompt)) == structured.predict(prompt) == full.model_dump_json()
    await structured.llm.aclose()


def test_thinking_does_not_get_into_the_object(make_llm, scripted_server):
    says = '{"colour": "white", "tame": true}'
    llm = make_llm(scripted_server(Script(thinks="Hm {", says=says)))
    assert llm.structured_predict(Llama, PROMPT, thing="it") == Llama(colour="white", tame=True)
    assert list(llm.stream_structured_predict(Llama, PROMPT, thing="it"))[-1].tame


def test_partial_objects_grow(make_llm, scripted_server):
    class Herd(BaseModel):
        names: list[str]
        size: int

    says = ["{", '"names"', ":", " [", '"Ka', 'rl"', ', "Ida"', "]", ', "size"', ": 2", "}"]
    llm = make_llm(scripted_server(Script(says=says)), thinking=False)
    items = [item.model_dump(exclude_unset=True) for item in llm.stream_structured_predict(Herd, PROMPT, thing="it")]
    assert {"names": ["Ka"]} in items
    assert {"names": ["Karl"]} in items
    assert items[-1] == {"names": ["Karl", "Ida"], "size": 2}
    assert all(len(str(a)) <= len(str(b)) for a, b in itertools.pairwise(items))


async def test_output_that_was_cut_off_is_named(llm):
    prompted = {"prompt": PROMPT, "thing": "it", "llm_kwargs": {"max_tokens": 5}}
    with pytest.raises(
        UnusableReplyError, match=r"schema 'Llama': it was cut off after 5 tokens.*raise max_tokens"
    ) as caught:
        llm.structured_predict(Llama, **prompted)
    assert "EOF" in str(caught.value.__cause__)
    with pytest.raises(ValueError, match=r"cut off after 5 tokens"):
        await llm.astructured_predict(Llama, **prompted)
    with pytest.raises(UnusableReplyError, match=r"cut off after 5 tokens"):
        list(llm.stream_structured_predict(Llama, **prompted))
    with pytest.raises(UnusableReplyError, match=r"cut off after 5 tokens"):
        [item async for item in await llm.astream_structured_predict(Llama, **prompted)]
    await llm.aclose()


def test_thinking_that_took_all_tokens_is_named(make_llm, scripted_server):
    llm = make_llm(scripted_server(Script(thinks=["hm "], says="{}")), max_tokens=1, thinking=True)
    with pytest.raises(UnusableReplyError, match=r"all of them reasoning") as caught:
        llm.structured_predict(Llama, PROMPT, thing="it")
    assert caught.value.reason == "thinking"


def test_a_schema_that_the_server_refuses_is_named(llm):
    with pytest.raises(BadRequestError, match=r"JSON schema of Llama"):
        llm.structured_predict(Llama, PROMPT, thing="it", llm_kwargs={"stop": [1]})


class _Seen(BaseEventHandler):
    names: list[str] = Field(default_factory=list)

    def handle(self, event, **kwargs):
        self.names.append(event.class_name())


async def test_events(llm):
    seen, root = _Seen(), get_dispatcher()
    root.add_event_handler(seen)
    try:
        await _all_four(llm, Llama, max_tokens=200)
    finally:
        root.event_handlers.remove(seen)
        await llm.aclose()
    for name in ("LLMStructuredPredictStartEvent", "LLMStructuredPredictEndEvent"):
        assert seen.names.count(name) == 4
    assert "LLMStructuredPredictInProgressEvent" in seen.names
    assert seen.names.count("LLMChatStartEvent") == seen.names.count("LLMChatEndEvent") == 4


async def test_the_function_mode_is_the_cores_own_with_the_system_prompt(scripted_server, recorded):
    says = tool_call("Llama", '{"colour": "brown", "tame": false}')
    llm, bodies = recorded(
        scripted_server(says),
        thinking=False,
        system_prompt="Be honest.",
        pydantic_program_mode=PydanticProgramMode.FUNCTION,
    )
    kwargs = {"tool_required": True}
    for items in await _all_four(llm, Llama, **kwargs):
        assert items[-1] == Llama(colour="brown", tame=False)
    assert kwargs == {"tool_required": True}
    assert [body["tool_choice"] for body in bodies] == ["required", "required"]
    assert all("response_format" not in body for body in bodies)
    assert all(body["messages"][0]["content"] == "Be honest." for body in bodies)
    # The core's awaited program forgets the system prompt; the count of the prompt's tokens shows that ours did not.
    counts = []
    for chat in (llm.structured_predict, llm.astructured_predict):
        handler = _Usage()
        get_dispatcher().add_event_handler(handler)
        try:
            result = chat(Llama, PROMPT, thing="it")
            if not isinstance(result, BaseModel):
                await result
        finally:
            get_dispatcher().event_handlers.remove(handler)
        counts.append(handler.prompt_tokens)
    assert counts[0] == counts[1]
    await llm.aclose()


class _Usage(BaseEventHandler):
    prompt_tokens: int = 0

    def handle(self, event, **kwargs):
        if event.class_name() == "LLMChatEndEvent":
            self.prompt_tokens = event.response.raw["usage"]["prompt_tokens"]


def test_the_text_mode_asks_in_words(scripted_server, recorded):
    llm, bodies = recorded(
        scripted_server('{"colour": "white", "tame": true}'),
        thinking=False,
        pydantic_program_mode=PydanticProgramMode.LLM,
    )
    assert llm.structured_predict(Llama, PROMPT, thing="it").tame
    assert "response_format" not in bodies[0]
    assert "tools" not in bodies[0]


def test_a_nested_schema_with_references(llm):
    class Herd(BaseModel):
        leader: Llama
        second: Llama | None

    herd = llm.structured_predict(Herd, PROMPT, thing="it", llm_kwargs={"max_tokens": 300})
    assert json.loads(herd.model_dump_json())["leader"]["colour"] in ("white", "brown")


class Adult(BaseModel):
    name: str
    age: int = Field(json_schema_extra={"minimum": 18})

    @field_validator("age")
    @classmethod
    def _of_age(cls, age: int) -> int:
        if age < 18:
            raise ValueError("too young")
        return age


ADULT = '{"name": "Ann", "age": 36}'
UNHELD = {"response_format": {"type": "text"}}


@pytest.fixture(scope="session")
def clerk(scripted_server):
    """Gets it right once it is told what was wrong."""
    return scripted_server(
        {
            "does not fit": ADULT,
            "prose": f"Sure:\n{ADULT}\nAnything else?",
            "musing": Script(thinks=["Hm, "] * 60, says=ADULT),
            "user": '{"name": "Ann", "age": 7}',
        }
    )


async def test_what_does_not_fit_is_asked_for_once_more(clerk, recorded):
    llm, bodies = recorded(clerk, thinking=False, extra_body=UNHELD)
    ann = Adult(name="Ann", age=36)
    assert llm.structured_predict(Adult, PROMPT, thing="it") == ann
    assert await llm.astructured_predict(Adult, PROMPT, thing="it") == ann
    assert [message["role"] for message in bodies[1]["messages"]] == ["user", "assistant", "user"]
    assert "too young" in bodies[1]["messages"][-1]["content"]
    assert llm.as_structured_llm(Adult).chat([ChatMessage(content="Who?")]).raw == ann
    never = llm.model_copy(update={"repair_rounds": 0})
    with pytest.raises(UnusableReplyError, match="too young") as caught:
        never.structured_predict(Adult, PROMPT, thing="it")
    assert caught.value.reason == "invalid"
    with pytest.raises(UnusableReplyError, match="too young"):
        await never.astructured_predict(Adult, PROMPT, thing="it")
    with pytest.raises(UnusableReplyError, match="too young"):
        list(llm.stream_structured_predict(Adult, PROMPT, thing="it"))
    await llm.aclose()


def test_json_among_words_is_found(make_llm, clerk):
    llm = make_llm(clerk, thinking=False, extra_body=UNHELD)
    assert llm.structured_predict(Adult, PromptTemplate("prose"), prompt_args={}).age == 36


def test_thinking_that_takes_all_is_turned_off(make_llm, clerk):
    llm = make_llm(clerk, max_tokens=40)
    assert llm.structured_predict(Adult, PromptTemplate("musing")).age == 36


async def test_the_next_way_is_taken_where_the_schema_is_refused(recorded, chat_server):
    class Word(BaseModel):
        word: str = Field(max_length=3)
        more: Any = Field(None, json_schema_extra={"type": "word"})  # the server's converter knows no such type

    llm, bodies = recorded(chat_server, **SOBER, clean_schemas=False, max_tokens=200, seed=1)
    for items in await _all_four(llm, Word):
        assert isinstance(items[-1], Word)
    asked = [name for body in bodies for name in ("grammar", "response_format") if body.get("stream") and name in body]
    assert asked == ["response_format", "grammar", "grammar"]
    await llm.aclose()


def test_one_forced_tool_is_the_last_way(scripted_server):
    server = scripted_server(tool_call("Llama", '{"colour": "brown", "tame": false}'))
    brown = Llama(colour="brown", tame=False)
    with httpx.Client(transport=ToolsOnly()) as client:
        llm = LlamaServer(base_url=server.base_url, http_client=client, thinking=False)
        assert llm.structured_predict(Llama, PROMPT, thing="it") == brown
        items = list(llm.stream_structured_predict(Llama, PROMPT, thing="it"))
    assert items[-1] == brown
    assert len(items) > 1


async def test_an_object_in_the_thinking_is_found(make_llm, scripted_server):
    llm = make_llm(scripted_server(Script(thinks=f"She is {ADULT}.", says=[" "])), extra_body=UNHELD)
    for items in await _all_four(llm, Adult):
        assert items[-1] == Adult(name="Ann", age=36)
    await llm.aclose()


async def test_leaving_a_stream_frees_the_slot(make_llm, scripted_server, idle):
    server = scripted_server(Script(says=['{"name": "', "a "], endless=True))
    llm = make_llm(server, thinking=False)
    items = llm.stream_structured_predict(Adult, PROMPT, thing="it")
    assert [next(items) for _ in range(3)][-1].name
    items.close()
    idle(server)
    awaited = await llm.astream_structured_predict(Adult, PROMPT, thing="it")
    assert [await anext(awaited) for _ in range(3)][-1].name
    await awaited.aclose()
    await asyncio.to_thread(idle, server)
    structured = llm.as_structured_llm(Adult)
    completions = structured.stream_complete("Hello")
    assert [next(completions) for _ in range(3)][-1].raw.name
    completions.close()
    idle(server)
    chats = await structured.astream_chat([ChatMessage(content="Hello")])
    assert [await anext(chats) for _ in range(3)][-1].raw.name
    await chats.aclose()
    await asyncio.to_thread(idle, server)
    await llm.aclose()


class Place(BaseModel):
    """A place."""

    north: bool | None = None


class Guess(BaseModel):
    """A guess."""

    sure: bool | None = None
    place: Place | None = None


@pytest.mark.parametrize("given", [{"strict": True}, {}], ids=["field", "call"])
async def test_strict_requires_every_property_of_every_object(
    make_llm: Any, chat_server: LocalServer, given: dict[str, Any]
) -> None:
    own = make_llm(chat_server, max_tokens=300, seed=3, thinking=False, logit_bias={"<think>": False}, **given)
    kwargs = {} if given else {"strict": True}
    for found in await _all_four(own, Guess, **kwargs):
        assert found[-1].model_fields_set == {"sure", "place"}
        place = found[-1].place  # type: ignore[attr-defined]
        assert place is None or place.model_fields_set == {"north"}


@pytest.mark.parametrize("given", [{"strict": True}, {}], ids=["field", "call"])
def test_strict_requires_every_argument_of_a_tool(given: dict[str, Any]) -> None:
    def plant(name: str, deep: int = 1, place: Place | None = None) -> str:
        """Plant a tree."""
        return name

    llm = LlamaServer(base_url="http://localhost:9", is_function_calling_model=True, **given)
    kwargs = llm._prepare_chat_with_tools([FunctionTool.from_defaults(plant)], **({} if given else {"strict": True}))
    tool = llm._defaults().chat_request(kwargs.pop("messages"), kwargs, None).tools[0]["function"]
    assert tool["strict"] is True
    assert tool["parameters"]["required"] == ["name", "deep", "place"]
    assert tool["parameters"]["$defs"]["Place"]["required"] == ["north"]
