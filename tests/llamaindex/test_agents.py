"""Agents of LlamaIndex on a real server with scripted models: what they call, and how they end."""

import json

import httpx
import pytest
from llama_index.core.agent.workflow import (
    AgentOutput,
    AgentStream,
    AgentWorkflow,
    FunctionAgent,
    ReActAgent,
    ToolCallResult,
)
from llama_index.core.base.llms.types import ChatMessage, ThinkingBlock
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.workflow import Context, JsonSerializer
from pydantic import BaseModel

from llamaindex_llamacpp_server import LlamaServer
from tests.llamaindex.tools import TOOLS, add, weather
from tests.models import Script, tool_call

# The workflows package looks at every member of an agent, the deprecated ones of pydantic included.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20"),
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince211"),
    # The core's agents ask a running workflow whether it runs.
    pytest.mark.filterwarnings("ignore:is_running called from within a step:DeprecationWarning"),
]


@pytest.mark.parametrize("streaming", [True, False])
async def test_function_agent_with_two_tools_in_one_turn_and_a_follow_up(make_llm, caller, streaming):
    llm = make_llm(caller)
    agent = FunctionAgent(tools=TOOLS, llm=llm, system_prompt="Use the tools.", streaming=streaming)
    memory = ChatMemoryBuffer.from_defaults(token_limit=4000, tokenizer_fn=llm.tokenizer)
    handler = agent.run("What is 1 + 2, and the weather in Oslo?", memory=memory)
    events = [event async for event in handler.stream_events()]
    output = await handler
    assert str(output) == "It is 3 and sunny."
    results = [event.tool_output.content for event in events if isinstance(event, ToolCallResult)]
    assert sorted(results) == ["3", "sunny in Oslo"]
    assert [call.tool_name for call in output.tool_calls] == ["add", "weather"]  # type: ignore[attr-defined]
    streamed = [event for event in events if isinstance(event, AgentStream)]
    if streaming:
        assert "".join(event.delta for event in streamed) == "It is 3 and sunny."
        thinking = "".join(event.thinking_delta or "" for event in streamed)
        assert thinking.split() == ["Two", "things", "to", "do.", "Now", "I", "know."]
    outputs = [event for event in events if isinstance(event, AgentOutput)]
    assert outputs[-1].raw["usage"]["completion_tokens"] > 0
    # The history keeps what the model thought and called, and the next question goes on from there.
    kept = await memory.aget_all()
    assert [message.role.value for message in kept] == ["user", "assistant", "tool", "tool", "assistant"]
    assert isinstance(kept[1].blocks[0], ThinkingBlock)
    follow_up = await agent.run("just chat", memory=memory)
    assert str(follow_up) == "I would rather talk."
    await llm.aclose()


async def test_the_complete_run_is_sent_back_with_thinking_and_ids(caller):
    bodies = []

    async def note(request: httpx.Request) -> None:
        if request.method == "POST":
            bodies.append(json.loads(request.content))

    async with httpx.AsyncClient(event_hooks={"request": [note]}, trust_env=False) as client:
        llm = LlamaServer(base_url=caller.base_url, http_async_client=client)
        await FunctionAgent(tools=TOOLS, llm=llm).run("go")
        llm.close()
    user, assistant, *results = bodies[1]["messages"]
    assert user["content"] == "go"
    assert assistant["reasoning_content"].strip() == "Two things to do."
    assert [call["id"] for call in assistant["tool_calls"]] == [result["tool_call_id"] for result in results]
    assert sorted(result["content"] for result in results) == ["3", "sunny in Oslo"]
    assert bodies[0]["parallel_tool_calls"] is True


# The core says so of every memory.
@pytest.mark.filterwarnings("ignore:Skipping serialization of known unserializable key")
async def test_a_context_can_be_saved_and_restored(make_llm, caller):
    llm = make_llm(caller)
    agent = FunctionAgent(tools=TOOLS, llm=llm)
    context = Context(agent)
    await agent.run("go", ctx=context)
    saved = context.to_dict(serializer=JsonSerializer())
    restored = Context.from_dict(agent, saved, serializer=JsonSerializer())
    assert str(await agent.run("just chat", ctx=restored)) == "I would rather talk."
    await llm.aclose()


async def test_the_first_tool_can_be_chosen(make_llm, caller):
    llm = make_llm(caller)
    agent = FunctionAgent(tools=TOOLS, llm=llm, initial_tool_choice="add", allow_parallel_tool_calls=False)
    output = await agent.run("go")
    assert [call.tool_name for call in output.tool_calls] == ["add"]  # type: ignore[attr-defined]
    assert str(output) == "It is 3 and sunny."
    await llm.aclose()


# Goes when the client rewrites arguments that are no JSON in a history: the server refuses all of it for one of them.
async def test_a_call_with_broken_arguments_is_shown_to_the_model(make_llm, caller):
    """The run goes on: the tool fails, and the model is told so."""
    llm = make_llm(caller, thinking=False, max_tokens=7)
    events = []
    handler = FunctionAgent(tools=TOOLS, llm=llm).run("broken")
    async for event in handler.stream_events():
        if isinstance(event, ToolCallResult):
            events.append(event)
    assert events[0].tool_output.is_error
    assert "invalid_json_arguments" in events[0].tool_output.content
    assert str(await handler) == "It is 3 and sunny."
    await llm.aclose()


async def test_agent_workflow_with_a_handoff(make_llm, scripted_server):
    hand_off = tool_call("handoff", '{"to_agent": "reporter", "reason": "knows the weather"}')
    first = make_llm(scripted_server({"user": hand_off, "tool": "Never said."}), thinking=False)
    report = tool_call("weather", '{"city": "Oslo"}')
    second = make_llm(scripted_server({"sunny in": "Sunny it is.", "user": report, "tool": report}), thinking=False)
    workflow = AgentWorkflow(
        agents=[
            FunctionAgent(name="host", description="Greets", llm=first, can_handoff_to=["reporter"]),
            FunctionAgent(name="reporter", description="Knows the weather", tools=[weather], llm=second),
        ],
        root_agent="host",
    )
    handler = workflow.run("How is the weather in Oslo?")
    agents = [event.current_agent_name async for event in handler.stream_events() if isinstance(event, AgentOutput)]
    output = await handler
    assert str(output) == "Sunny it is."
    assert agents[0] == "host"
    assert agents[-1] == "reporter"
    assert [call.tool_name for call in output.tool_calls] == ["handoff", "weather"]  # type: ignore[attr-defined]
    for llm in (first, second):
        await llm.aclose()


def test_from_tools_or_functions_makes_a_function_agent(make_llm, caller):
    workflow = AgentWorkflow.from_tools_or_functions([add], llm=make_llm(caller))
    assert isinstance(next(iter(workflow.agents.values())), FunctionAgent)


@pytest.mark.parametrize("streaming", [True, False])
async def test_react_agent_with_its_stop_words(make_llm, scripted_server, streaming):
    """Without the stop the model would go on and make up what the tool said."""
    acts = 'Thought: I need a tool.\nAction: add\nAction Input: {"a": 1, "b": 2}\nObservation: 5\nAnswer: 5'
    says = {"Observation: 3": "Thought: I can answer.\nAnswer: It is 3.", "user": acts}
    llm = make_llm(scripted_server(says), thinking=False, stop=["Observation:"])
    handler = ReActAgent(tools=[add], llm=llm, streaming=streaming).run("What is 1 + 2?")
    results = [event async for event in handler.stream_events() if isinstance(event, ToolCallResult)]
    assert [(event.tool_name, event.tool_output.content) for event in results] == [("add", "3")]
    assert str(await handler) == "It is 3."
    await llm.aclose()


@pytest.mark.parametrize("streaming", [True, False])
async def test_reasoning_without_an_answer_does_not_loop_forever(make_llm, scripted_server, streaming):
    """For ReAct it is an empty reply: the model is told so once, sees its thought again, and answers."""
    says = {
        "previous response was empty": Script(thinks=["Right."], says=["Thought: I can answer.\nAnswer: It is 3."]),
        "user": Script(thinks="Hm.", says="Never said.", ponders=True),
    }
    llm = make_llm(scripted_server(says), thinking=True, max_tokens=8)
    handler = ReActAgent(tools=[add], llm=llm, streaming=streaming).run("What is 1 + 2?")
    outputs = [event async for event in handler.stream_events() if isinstance(event, AgentOutput)]
    assert str(await handler) == "It is 3."
    assert outputs[0].response.content == ""
    assert [block.block_type for block in outputs[0].response.blocks] == ["thinking", "text"]
    assert len(outputs) == 2
    await llm.aclose()


async def test_an_agent_with_structured_output(make_llm, scripted_server):
    class Report(BaseModel):
        city: str

    says = {"JSON schema": Script(says='{"city": "Oslo"}'), "user": "Sunny in Oslo."}
    llm = make_llm(scripted_server(says), thinking=False)
    output = await FunctionAgent(tools=[weather], llm=llm, output_cls=Report).run("Where?")
    assert output.get_pydantic_model(Report) == Report(city="Oslo")  # type: ignore[attr-defined]
    await llm.aclose()


async def test_early_stopping_of_an_agent_that_only_calls(make_llm, scripted_server):
    says = {"maximum number of iterations": "I give up.", "user": tool_call("add", '{"a": 1, "b": 2}')}
    llm = make_llm(scripted_server(says), thinking=False)
    agent = FunctionAgent(tools=[add], llm=llm, early_stopping_method="generate")
    output = await agent.run(chat_history=[ChatMessage(content="go")], max_iterations=2)
    assert str(output)
    await llm.aclose()
