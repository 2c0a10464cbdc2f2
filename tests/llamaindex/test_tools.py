"""Tool calls: what is sent, what comes back, and what the server does not see to by itself."""

import gc
import json
from typing import Any

import pytest
from llama_index.core.agent.react import ReActOutputParser
from llama_index.core.agent.react.types import BaseReasoningStep
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, ToolCallBlock
from llama_index.core.tools import FunctionTool

from llamacpp_server import BadRequestError, MissingToolCallError, NotSupportedError
from tests.llamaindex.tools import TOOLS
from tests.models import Script


@pytest.fixture
def calling(make_llm, caller):
    return make_llm(caller)


def _named(response: ChatResponse) -> list[tuple[str, dict[str, Any]]]:
    legacy = response.message.additional_kwargs.get("tool_calls", [])
    blocks = [block for block in response.message.blocks if isinstance(block, ToolCallBlock)]
    assert [call["id"] for call in legacy] == [block.tool_call_id for block in blocks]
    assert [call["function"]["arguments"] for call in legacy] == [block.tool_kwargs for block in blocks]
    assert len({block.tool_call_id for block in blocks}) == len(blocks)
    json.dumps(response.message.model_dump())
    return [(block.tool_name, json.loads(block.tool_kwargs)) for block in blocks]


BOTH = [("add", {"a": 1, "b": 2}), ("weather", {"city": "Oslo"})]


async def test_two_calls_in_one_turn(calling):
    response = calling.chat_with_tools(TOOLS, "go", allow_parallel_tool_calls=True)
    assert _named(response) == BOTH
    assert response.additional_kwargs["finish_reason"] == "tool_calls"
    assert [block.block_type for block in response.message.blocks] == ["thinking", "text", "tool_call", "tool_call"]
    *_, last = calling.stream_chat_with_tools(TOOLS, "go", allow_parallel_tool_calls=True)
    assert _named(last) == BOTH
    response = await calling.achat_with_tools(TOOLS, "go", allow_parallel_tool_calls=True)
    assert _named(response) == BOTH
    await calling.aclose()


async def test_one_call_where_one_is_allowed_in_streams_too(calling, make_llm, caller):
    assert _named(calling.chat_with_tools(TOOLS, "go")) == BOTH[:1]
    *items, last = calling.stream_chat_with_tools(TOOLS, "go")
    assert _named(last) == BOTH[:1]
    assert max(len(calling.get_tool_calls_from_response(item, False)) for item in items) == 1
    items = [item async for item in await calling.astream_chat_with_tools(TOOLS, "go")]
    assert max(len(item.message.additional_kwargs.get("tool_calls", [])) for item in items) == 1
    assert [repair["name"] for repair in last.additional_kwargs["llamacpp"]["repairs"]] == ["one_call"]
    items = list(make_llm(caller, check_calls=False).stream_chat_with_tools(TOOLS, "go"))
    assert _named(items[-1]) == BOTH, "switched off"
    await calling.aclose()


def test_arguments_parse_on_every_chunk_and_grow(calling):
    seen = []
    for item in calling.stream_chat_with_tools(TOOLS, "go", allow_parallel_tool_calls=True):
        selections = calling.get_tool_calls_from_response(item, error_on_no_tool_call=False)
        seen.append([(selection.tool_name, selection.tool_kwargs) for selection in selections])
    assert seen[-1] == BOTH
    assert seen[0] == []
    assert [("add", {})] in seen
    assert [("add", {"a": 1})] in seen
    ids = {call["id"] for call in item.message.additional_kwargs["tool_calls"]}
    assert ids == {s.tool_id for s in calling.get_tool_calls_from_response(item)}


def test_the_callers_history_stays_as_it_is(calling):
    history = [ChatMessage(role="system", content="x")]
    calling.chat_with_tools(TOOLS, "go", chat_history=history)
    list(calling.stream_chat_with_tools(TOOLS, ChatMessage(content="go"), chat_history=history))
    assert history == [ChatMessage(role="system", content="x")]


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({}, None),
        ({"tool_choice": "auto"}, "auto"),
        ({"tool_choice": "none"}, "none"),
        ({"tool_required": True}, "required"),
        ({"tool_choice": "auto", "tool_required": True}, "required"),
        ({"tool_choice": "any"}, "required"),
    ],
)
def test_tool_choice_as_the_server_knows_it(recorded, caller, given, sent):
    llm, bodies = recorded(caller)
    llm.chat_with_tools(TOOLS, "go", allow_parallel_tool_calls=True, **given)
    assert bodies[0].get("tool_choice") == sent
    assert bodies[0]["parallel_tool_calls"] is True
    assert [tool["function"]["name"] for tool in bodies[0]["tools"]] == ["add", "weather"]


@pytest.mark.parametrize(
    "choice", ["weather", {"type": "function", "function": {"name": "weather"}}, {"type": "tool", "name": "weather"}]
)
def test_one_tool_is_forced_by_name(recorded, caller, choice):
    """By sending no other one: the server reads a choice that is an object as `auto`."""
    llm, bodies = recorded(caller, thinking=False)
    response = llm.chat_with_tools(TOOLS, "only weather", tool_choice=choice)
    assert [call.tool_name for call in llm.get_tool_calls_from_response(response)] == ["weather"]
    assert bodies[0]["tool_choice"] == "required"
    assert [tool["function"]["name"] for tool in bodies[0]["tools"]] == ["weather"]


def test_a_choice_that_names_no_tool_is_refused(calling):
    with pytest.raises(BadRequestError, match=r"'nothing'"):
        calling.chat_with_tools(TOOLS, "go", tool_choice="nothing")
    with pytest.raises(BadRequestError, match=r"must be a string, a tool name"):
        calling.chat_with_tools(TOOLS, "go", tool_choice={"type": "function"})


async def test_a_required_call_that_did_not_come_is_an_error_with_the_text(calling):
    # The script talks first, and the limit ends the reply before the call that the grammar would demand.
    for kwargs in ({"tool_required": True}, {"tool_choice": "add"}):
        with pytest.raises(MissingToolCallError, match=r"was required.*cut off by max_tokens.*'I would") as caught:
            calling.chat_with_tools(TOOLS, "just chat", max_tokens=3, **kwargs)
        assert caught.value.partial.content.startswith("I would")
        with pytest.raises(MissingToolCallError, match=r"raise max_tokens"):
            list(calling.stream_chat_with_tools(TOOLS, "just chat", max_tokens=3, **kwargs))


def test_no_call_where_one_is_expected(calling):
    response = calling.chat_with_tools(TOOLS, "just chat")
    assert calling.get_tool_calls_from_response(response, error_on_no_tool_call=False) == []
    with pytest.raises(ValueError, match=r"at least one tool call.*'I would rather talk.'"):
        calling.get_tool_calls_from_response(response)


def test_malformed_arguments_are_surfaced_and_fail_in_the_tool(calling):
    *_, last = calling.stream_chat_with_tools(TOOLS, "broken", max_tokens=7, thinking=False)
    (invalid,) = last.additional_kwargs["invalid_tool_calls"]
    assert invalid["name"] == "add"
    (selection,) = calling.get_tool_calls_from_response(last)
    assert selection.tool_kwargs["invalid_json_arguments"] == invalid["arguments"]
    assert invalid["arguments"].startswith('{"a": 1')
    (block,) = [block for block in last.message.blocks if isinstance(block, ToolCallBlock)]
    assert block.tool_kwargs == invalid["arguments"]
    outcome = calling.predict_and_call(TOOLS, "broken", max_tokens=7, thinking=False)
    (source,) = outcome.sources
    assert source.is_error
    assert "invalid_json_arguments" in source.content


@pytest.mark.parametrize(
    ("arguments", "kwargs"),
    [('{"a": 1}', {"a": 1}), ("", {}), ("{}", {}), ({"a": 1}, {"a": 1})],
)
def test_arguments_of_complete_calls(calling, arguments, kwargs):
    message = ChatMessage(role="assistant", blocks=[ToolCallBlock(tool_name="f", tool_kwargs=arguments)])
    response = ChatResponse(message=message, additional_kwargs={"finish_reason": "tool_calls"})
    (selection,) = calling.get_tool_calls_from_response(response)
    assert (selection.tool_kwargs, selection.tool_id) == (kwargs, "call_0")


def test_arguments_that_are_not_an_object_are_not_passed_on(calling):
    message = ChatMessage(role="assistant", blocks=[ToolCallBlock(tool_name="f", tool_kwargs="[1]")])
    response = ChatResponse(message=message, additional_kwargs={"finish_reason": "tool_calls"})
    (selection,) = calling.get_tool_calls_from_response(response)
    assert selection.tool_kwargs["invalid_json_arguments"] == "[1]"
    (unfinished,) = calling.get_tool_calls_from_response(ChatResponse(message=message))
    assert unfinished.tool_kwargs == {}


def test_calls_in_the_legacy_place_are_found(calling):
    legacy = [{"id": "x", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}]
    message = ChatMessage(role="assistant", content="", additional_kwargs={"tool_calls": legacy})
    (selection,) = calling.get_tool_calls_from_response(ChatResponse(message=message))
    assert (selection.tool_id, selection.tool_name, selection.tool_kwargs) == ("x", "f", {"a": 1})


async def test_predict_and_call(calling):
    outcome = calling.predict_and_call(TOOLS, "go")
    assert outcome.response == "3"
    outcome = await calling.apredict_and_call(TOOLS, "go", allow_parallel_tool_calls=True)
    assert outcome.response == "3\n\nsunny in Oslo"
    await calling.aclose()


# The workflows package looks at every member of an agent, the deprecated ones of pydantic included.
@pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20")
@pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince211")
# A blocking call in a running loop gets a loop that LlamaIndex (0.14.25, `asyncio_run`) closes without ending its
# generators, which would close the connections that are kept in it.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_model_without_functions_calls_by_react(make_llm, scripted_server):
    """The core alone fails here: it gives its agent None where nobody gave a formatter."""
    acts = 'Thought: I need a tool.\nAction: add\nAction Input: {"a": 1, "b": 2}\n'
    llm = make_llm(scripted_server(acts), thinking=False, is_function_calling_model=False)
    outcome = llm.predict_and_call(TOOLS, "What is 1 + 2?")
    assert (outcome.response, outcome.sources[0].tool_name) == ("3", "add")
    assert (await llm.apredict_and_call(TOOLS, user_msg="What is 1 + 2?")).response == "3"

    class Louder(ReActOutputParser):
        def parse(self, output: str, is_streaming: bool = False) -> BaseReasoningStep:
            return super().parse(output.replace('"b": 2', '"b": 20'), is_streaming)

    assert llm.predict_and_call(TOOLS, "What is 1 + 2?", output_parser=Louder()).response == "21"
    await llm.aclose()
    gc.collect()


def test_a_tool_keeps_its_name(recorded, caller):
    """LlamaIndex finds the tool of a call by this name, so it must not be changed on the way."""
    llm, bodies = recorded(caller, thinking=False)
    tool = FunctionTool.from_defaults(lambda x: x, name="Pair[int]", description="d" * 1100)
    assert llm.chat_with_tools([tool], "just chat").message.content == "I would rather talk."
    assert bodies[-1]["tools"][0]["function"]["name"] == "Pair[int]"
    assert bodies[-1]["tools"][0]["function"]["description"] == "d" * 1100


def test_a_required_call_where_the_template_drops_tools(make_llm, serve):
    """It is had by a JSON schema, or refused where that is not wanted; an undemanded one is told to be impossible."""
    server = serve("plain.gguf", parallel=1, ctx_size=1024)
    llm = make_llm(server, forced_round=False, max_tokens=2)
    assert not llm.metadata.is_function_calling_model
    with pytest.raises(NotSupportedError, match=r"does not support tools"):
        llm.chat_with_tools(TOOLS, "go", tool_required=True)
    response = llm.chat_with_tools(TOOLS, "go")
    assert [repair["name"] for repair in response.additional_kwargs["llamacpp"]["repairs"]] == ["no_tools"]
    response = make_llm(server).chat_with_tools(TOOLS, "go", tool_choice="add")
    (call,) = llm.get_tool_calls_from_response(response)
    assert (call.tool_name, sorted(call.tool_kwargs)) == ("add", ["a", "b"])
    assert [repair["name"] for repair in response.additional_kwargs["llamacpp"]["repairs"]] == ["forced_round"]


# Goes when the client rewrites arguments that are no JSON in a history: the server refuses all of it for one of them.
def test_a_broken_call_in_the_history_does_not_block_the_conversation(calling):
    broken = calling.chat_with_tools(TOOLS, "broken", max_tokens=7, thinking=False).message
    (selection,) = [block for block in broken.blocks if isinstance(block, ToolCallBlock)]
    history = [
        ChatMessage(content="broken"),
        broken,
        ChatMessage(role="tool", content="Error", additional_kwargs={"tool_call_id": selection.tool_call_id}),
    ]
    assert calling.chat(history).message.content == "It is 3 and sunny."


async def test_a_required_call_that_does_not_begin_is_obtained_with_its_schema(make_llm, scripted_server):
    says = {
        "Call the tool": '{"city": "Oslo"}',
        "Call one of": '{"name": "add", "arguments": {"a": 1, "b": 2}}',
        "user": Script(says=["Well, ", "so "], endless=True),
    }
    llm = make_llm(scripted_server(says), forced_call_within=5, thinking=False)
    for choice, expected in (("weather", BOTH[1]), ("any", BOTH[0])):
        *items, last = llm.stream_chat_with_tools(TOOLS, "go", tool_choice=choice)
        answered = await llm.achat_with_tools(TOOLS, "go", tool_choice=choice)
        for response in (last, answered):
            assert _named(response) == [expected]
            assert not response.message.content, "what ran on is not the answer"
            assert response.additional_kwargs["finish_reason"] == "tool_calls"
            assert [r["name"] for r in response.additional_kwargs["llamacpp"]["repairs"]] == ["forced_round"]
        assert "".join(item.delta for item in items) == last.message.content
    outcome = llm.predict_and_call(TOOLS, "go", tool_choice="weather")
    assert outcome.response == "sunny in Oslo"
    await llm.aclose()
