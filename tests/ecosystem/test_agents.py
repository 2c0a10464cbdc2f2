"""LangChain's agents and everything that is put into them."""

import sys
from pathlib import Path
from typing import Any

import pytest
from deepagents import create_deep_agent
from langchain.agents import create_agent
from langchain.agents import middleware as ready_made
from langchain.agents.middleware import ClearToolUsesEdit, ContextEditingMiddleware
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_mcp_adapters.client import MultiServerMCPClient
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.types import Command
from langgraph_supervisor import create_supervisor
from langgraph_swarm import create_handoff_tool, create_swarm
from pydantic import BaseModel
from trustcall import create_extractor

from langchain_llamacpp_server import LlamaServerDecisions
from tests.models import tool_call

WEATHER = tool_call("get_weather", '{"city": "Oslo"}')
ASKS: Any = {"messages": [HumanMessage("How is the weather?")]}
RULES = {"user": WEATHER, "tool": "It is sunny."}
THREAD: Any = {"configurable": {"thread_id": "1"}}


@tool
def get_weather(city: str) -> str:
    """Get the weather of a city."""
    return f"sunny in {city}"


@tool
def broken(city: str) -> str:
    """Fail."""
    raise RuntimeError("no weather today")


class Weather(BaseModel):
    """The weather of a city."""

    city: str
    sunny: bool


def texts(state: Any) -> list[str]:
    return [message.text for message in state["messages"]]


MIDDLEWARE = {
    "ClearToolUses": lambda llm: ContextEditingMiddleware(
        edits=[ClearToolUsesEdit(trigger=1, keep=1)], token_counter=llm.get_num_tokens_from_messages
    ),
    "ContextEditing": lambda llm: ContextEditingMiddleware(token_count_method="model"),
    "Summarization": lambda llm: ready_made.SummarizationMiddleware(llm, trigger=("fraction", 0.9)),
    "TodoList": lambda llm: ready_made.TodoListMiddleware(),
    "PII": lambda llm: ready_made.PIIMiddleware("email", apply_to_output=True),
    "ModelRetry": lambda llm: ready_made.ModelRetryMiddleware(initial_delay=0.01),
    "ModelRefusal": lambda llm: ready_made.ModelRefusalMiddleware(),
    "ModelCallLimit": lambda llm: ready_made.ModelCallLimitMiddleware(run_limit=5),
    "ToolCallLimit": lambda llm: ready_made.ToolCallLimitMiddleware(run_limit=5),
    "ToolRetry": lambda llm: ready_made.ToolRetryMiddleware(initial_delay=0.01),
    "ToolError": lambda llm: ready_made.ToolErrorMiddleware(lambda request, error: str(error)),
}


@pytest.mark.parametrize("name", MIDDLEWARE)
@pytest.mark.uses("langchain", "`create_agent` with every built-in middleware")
def test_an_agent_with_each_middleware(chat: Any, name: str) -> None:
    llm = chat(RULES)
    state = create_agent(llm, [get_weather], middleware=[MIDDLEWARE[name](llm)]).invoke(ASKS)
    assert texts(state)[-2:] == ["sunny in Oslo", "It is sunny."]


@pytest.mark.uses("langchain", "`create_agent` with every built-in middleware")
def test_a_shell_and_a_search_of_files(chat: Any, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("blue\n")
    shell = ready_made.ShellToolMiddleware(tmp_path)
    runs = chat({"user": tool_call("shell", '{"command": "cat note.txt"}'), "tool": "Blue."})
    assert texts(create_agent(runs, [], middleware=[shell]).invoke(ASKS))[-2:] == ["blue\n", "Blue."]
    search = ready_made.FilesystemFileSearchMiddleware(root_path=str(tmp_path), use_ripgrep=False)
    seeks = chat({"user": tool_call("glob_search", '{"pattern": "*.txt"}'), "tool": "One."})
    assert texts(create_agent(seeks, [], middleware=[search]).invoke(ASKS))[-2:] == ["/note.txt", "One."]


@pytest.mark.uses("langchain", "`create_agent` with every built-in middleware")
def test_a_human_approves_a_call(chat: Any) -> None:
    approval = ready_made.HumanInTheLoopMiddleware({"get_weather": True})
    agent = create_agent(chat(RULES), [get_weather], middleware=[approval], checkpointer=InMemorySaver())
    assert agent.invoke(ASKS, THREAD)["__interrupt__"]
    state = agent.invoke(Command(resume={"decisions": [{"type": "approve"}]}), THREAD)
    assert texts(state)[-1] == "It is sunny."


@pytest.mark.uses("langchain", "`create_agent` with every built-in middleware")
def test_another_model_answers_when_the_first_is_gone(chat: Any) -> None:
    gone = chat(RULES, max_retries=0)
    gone.base_url = "http://127.0.0.1:9"
    fallback = ready_made.ModelFallbackMiddleware(chat(RULES))
    assert texts(create_agent(gone, [get_weather], middleware=[fallback]).invoke(ASKS))[-1] == "It is sunny."


@pytest.mark.uses("langchain", "`create_agent` with every built-in middleware")
def test_a_model_selects_and_emulates_tools(chat: Any) -> None:
    selects = ready_made.LLMToolSelectorMiddleware(model=chat('{"tools": ["get_weather"]}'), max_tools=1)
    emulates = ready_made.LLMToolEmulator(model=chat("rainy"), tools=["get_weather"])
    agent = create_agent(chat(RULES), [get_weather, broken], middleware=[selects, emulates])
    assert texts(agent.invoke(ASKS))[-2:] == ["rainy", "It is sunny."]


@pytest.mark.uses("langchain", "`create_agent` with every built-in middleware")
def test_decisions_route_models_and_approve_calls(chat: Any, chat_server: Any) -> None:
    decides = LlamaServerDecisions(base_url=chat_server.base_url)
    choices = {
        "first": ready_made.ModelChoice(chat(RULES), "everything"),
        "second": ready_made.ModelChoice(chat(RULES), "nothing"),
    }
    routes = ready_made.ModelRouterMiddleware(choices=choices, instructions="Which model?", classifier=decides)
    assert texts(create_agent(chat(RULES), [get_weather], middleware=[routes]).invoke(ASKS))[-1] == "It is sunny."


@pytest.mark.uses("langchain", "`create_agent` with every built-in middleware")
@pytest.mark.parametrize("risky", [True, False])
async def test_decisions_block_a_risky_call(chat: Any, judge: Any, risky: bool) -> None:
    guard = ready_made.AutoModeMiddleware(tools=["get_weather"], classifier=judge(risky))
    agent = create_agent(chat(RULES), [get_weather], middleware=[guard])
    for state in (agent.invoke(ASKS), await agent.ainvoke(ASKS)):
        assert ("was blocked" if risky else "sunny in Oslo") in texts(state)[-2]


@pytest.mark.uses("langchain", "`create_agent` with every built-in middleware")
def test_a_search_of_tools_by_the_provider(chat: Any) -> None:
    """Llama-server has none: without deferred tools all is as usual, and with one LangChain says which have it."""
    llm = chat(RULES)
    search = ready_made.ProviderToolSearchMiddleware()
    assert texts(create_agent(llm, [get_weather], middleware=[search]).invoke(ASKS))[-1] == "It is sunny."
    deferring = ready_made.ProviderToolSearchMiddleware(searchable_tools=["get_weather"])
    with pytest.raises(ValueError, match=r"got 'llamacpp.*supported providers"):
        create_agent(llm, [get_weather], middleware=[deferring]).invoke(ASKS)


def test_no_ready_made_middleware_is_left_out() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    found = {name for name in ready_made.__all__ if name.endswith("Middleware") or name == "LLMToolEmulator"}
    tested = {f"{name}Middleware" for name in MIDDLEWARE}
    missing = {name for name in found - tested if f"ready_made.{name}(" not in source}
    assert missing == {"AgentMiddleware"}, "that one is the base class"


@pytest.mark.uses("langchain", "`create_agent` with `response_format`")
def test_an_agent_answers_with_an_object(chat: Any) -> None:
    agent: Any = create_agent(chat('{"city": "Oslo", "sunny": true}'), [], response_format=Weather)
    assert agent.invoke(ASKS)["structured_response"] == Weather(city="Oslo", sunny=True)


@pytest.mark.uses("deepagents", "an agent that writes a file and calls a subagent")
async def test_a_deep_agent(chat: Any) -> None:
    write = tool_call("write_file", '{"file_path": "/a.txt", "content": "sunny"}')
    task = tool_call("task", '{"description": "Delegated: look it up", "subagent_type": "general-purpose"}')
    rules = {"How is": write, "Delegated": "It is sunny.", "a.txt": task, "user": "Done."}
    state: Any = await create_deep_agent(model=chat(rules), tools=[get_weather]).ainvoke(ASKS)
    assert texts(state)[-1] == "Done."
    assert "/a.txt" in state["files"]


@pytest.mark.uses("langchain-mcp-adapters", "tools of two MCP servers (time and SQLite)")
async def test_tools_of_two_mcp_servers(chat: Any, tmp_path: Path) -> None:
    database = str(tmp_path / "a.db")
    sqlite = "import sys, asyncio; from mcp_server_sqlite import server; asyncio.run(server.main(sys.argv[1]))"
    servers: Any = {
        "time": {"command": sys.executable, "args": ["-m", "mcp_server_time"], "transport": "stdio"},
        "sqlite": {"command": sys.executable, "args": ["-c", sqlite, database], "transport": "stdio"},
    }
    tools = await MultiServerMCPClient(servers).get_tools()
    assert {"get_current_time", "create_table", "list_tables"} <= {found.name for found in tools}
    create = tool_call("create_table", '{"query": "CREATE TABLE cities (name TEXT)"}')
    clock = tool_call("get_current_time", '{"timezone": "Europe/Oslo"}')
    rules = {"Oslo": create, "tool": "Done.", "user": clock}
    state = await create_agent(chat(rules), tools).ainvoke({"messages": [("user", "What time?")]})  # type: ignore[call-overload]
    assert "timezone" in texts(state)[2] and "created successfully" in texts(state)[4]
    assert texts(state)[-1] == "Done."


@pytest.mark.uses("langgraph-supervisor", "a supervisor that hands over to an agent and back")
def test_a_supervisor(chat: Any) -> None:
    expert = create_agent(chat(RULES), [get_weather], name="expert")
    rules = {"weather?": tool_call("transfer_to_expert", "{}"), "tool": "Thanks.", "user": "Thanks."}
    state = create_supervisor([expert], model=chat(rules)).compile().invoke(ASKS)
    assert "It is sunny." in texts(state) and texts(state)[-1] == "Thanks."


@pytest.mark.uses("langgraph-swarm", "an agent that hands over to another")
def test_a_swarm(chat: Any) -> None:
    over = create_handoff_tool(agent_name="expert")
    first = create_agent(chat({"user": tool_call("transfer_to_expert", "{}"), "tool": "?"}), [over], name="first")
    expert = create_agent(chat("It is sunny."), [get_weather], name="expert")
    app = create_swarm([first, expert], default_active_agent="first").compile(checkpointer=InMemorySaver())
    state = app.invoke(ASKS, THREAD)
    assert (state["active_agent"], texts(state)[-1]) == ("expert", "It is sunny.")


@pytest.mark.uses("langgraph-checkpoint-sqlite", "continues a conversation from a file")
def test_a_thread_in_a_database(chat: Any, tmp_path: Path) -> None:
    llm = chat({"weather": WEATHER, "tool": "It is sunny.", "user": "You are welcome."})
    for asked, answer in (("How is the weather?", "It is sunny."), ("Thanks!", "You are welcome.")):
        with SqliteSaver.from_conn_string(str(tmp_path / "threads.db")) as saver:
            state = create_agent(llm, [get_weather], checkpointer=saver).invoke({"messages": [("user", asked)]}, THREAD)  # type: ignore[call-overload]
        assert texts(state)[-1] == answer
    assert len(state["messages"]) == 6


@pytest.mark.uses("trustcall", "extracts an object")
def test_an_extractor(chat: Any) -> None:
    llm = chat(tool_call("Weather", '{"city": "Oslo", "sunny": true}'))
    found = create_extractor(llm, tools=[Weather], tool_choice="Weather").invoke("It is sunny in Oslo.")
    assert found["responses"] == [Weather(city="Oslo", sunny=True)]
