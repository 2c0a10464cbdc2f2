"""The report of the prompt cache, on agents of LangGraph and real servers: what was reused, and what changed first."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, ModelRequest, dynamic_prompt, wrap_model_call
from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver

from langchain_llamacpp_server import CacheReport, ChatLlamaServer
from llamacpp_server import LocalServer
from tests.langchain.conftest import OSLO, get_weather
from tests.models import Script

SYSTEM = "You know all about the weather. " * 12
OLD_THINKING = "{%- if message.reasoning_content -%}"
DROPS_IT = "{%- if message.reasoning_content and loop.index > messages | length - 3 -%}"


def get_time(city: str) -> str:
    """The time in a city."""
    return f"noon in {city}"


@pytest.fixture(scope="session")
def forecaster(scripted_server: Any) -> Callable[..., LocalServer]:
    """Thinks, calls a tool, thinks, and answers at some length."""
    script = {
        "Title": "Weather",
        "tool": Script(
            thinks="Now I know far more than I did before.", says="It is sunny there, and so warm that nobody works."
        ),
        "user": Script(thinks="I had better look that up with one of the tools.", says=OSLO),
    }
    return lambda **options: scripted_server(script, **options)


def run(
    llm: ChatLlamaServer, threads: list[str], turns: int, *middleware: AgentMiddleware, tools: Any = None
) -> CacheReport:
    report = CacheReport(llm)
    agent = create_agent(
        llm,
        [get_weather, get_time] if tools is None else tools,
        system_prompt=SYSTEM,
        checkpointer=InMemorySaver(),
        middleware=list(middleware),
    )
    for turn in range(turns):
        for thread in threads:
            question = HumanMessage(f"Question {turn} of {thread}: how is the weather? " + f"{thread}{turn} " * 10)
            agent.invoke({"messages": [question]}, {"configurable": {"thread_id": thread}, "callbacks": [report]})
    return report


def causes(report: CacheReport) -> set[str]:
    return {turn.change.kind for turn in report.turns if turn.change is not None}


def test_an_agent_that_keeps_its_prefix_reads_nothing_twice(forecaster: Any) -> None:
    """With server flags for it: by default a session takes the slot of another that begins the same."""
    server = forecaster(parallel=1, slot_prompt_similarity=0.0)
    report = run(ChatLlamaServer(base_url=server.base_url), ["a", "b"], 4)
    turns = report.turns
    assert [turn.session for turn in turns[:4]] == ["a", "a", "b", "b"]
    assert [turn.number for turn in turns] == list(range(1, 17))
    assert causes(report) == set()
    for turn in turns[1:]:
        assert turn.again <= 16
        assert turn.read + turn.reused == turn.tokens
    table = str(report).splitlines()
    assert table[0].split()[:6] == ["turn", "session", "prompt", "reused", "read", "again"]
    assert len(table) == 18, "no hints"
    assert table[-1].startswith(f"{sum(turn.read for turn in turns)} tokens were read")


def test_a_clock_in_the_system_prompt(forecaster: Any) -> None:
    minutes = iter(range(100))

    @dynamic_prompt
    def clock(request: ModelRequest) -> str:
        return f"It is Tuesday, 12:{next(minutes):02} o'clock. {SYSTEM}"

    report = run(ChatLlamaServer(base_url=forecaster().base_url), ["a"], 2, clock)
    changes = [turn.change for turn in report.turns if turn.change is not None]
    assert len(changes) == 3
    assert {change.kind for change in changes} == {"clock"}
    assert "messages[0]: system's content, character" in str(changes[0])
    assert "a clock or a counter in the system prompt" in changes[0].hint
    assert all(turn.again > 100 for turn in report.turns[1:])


def test_tools_in_another_order(forecaster: Any) -> None:
    @wrap_model_call
    def shuffled(request: ModelRequest, handler: Any) -> Any:
        turned = list(reversed(request.tools)) if len(request.messages) % 4 == 3 else request.tools
        return handler(request.override(tools=turned))

    report = run(ChatLlamaServer(base_url=forecaster().base_url), ["a"], 2, shuffled)
    assert causes(report) == {"tools_order"}
    (first, *_) = [turn.change for turn in report.turns if turn.change is not None]
    assert str(first).startswith("tools: in another order, from 'get_time' on -- bind the tools")


def test_a_trimmed_history(forecaster: Any) -> None:
    @wrap_model_call
    def last_ones(request: ModelRequest, handler: Any) -> Any:
        return handler(request.override(messages=request.messages[-5:]))

    report = run(ChatLlamaServer(base_url=forecaster().base_url), ["a"], 3, last_ones)
    (first, *_) = [turn.change for turn in report.turns if turn.change is not None]
    assert first.kind == "trimmed"
    assert first.where == "messages[1]"


def test_old_tool_results_that_are_cleared(forecaster: Any) -> None:
    @wrap_model_call
    def cleared(request: ModelRequest, handler: Any) -> Any:
        old = [
            m.model_copy(update={"content": "(gone)"}) if isinstance(m, ToolMessage) else m
            for m in request.messages[:-1]
        ]
        return handler(request.override(messages=[*old, *request.messages[-1:]]))

    report = run(ChatLlamaServer(base_url=forecaster().base_url), ["a"], 2, cleared)
    (first, *_) = [turn.change for turn in report.turns if turn.change is not None]
    assert (first.kind, first.where) == ("message", "messages[3]")
    assert "tool's content" in first.what


def test_a_template_that_drops_old_thinking(scripted_server: Any, forecaster: Any) -> None:
    """The requests agree; only their prompts tell."""
    template = forecaster().client().props().chat_template
    assert OLD_THINKING in template
    forgetful = forecaster(chat_template=template.replace(OLD_THINKING, DROPS_IT))
    report = run(ChatLlamaServer(base_url=forgetful.base_url), ["a"], 2)
    (first, *_) = [turn.change for turn in report.turns if turn.change is not None]
    assert first.kind == "template", first
    assert first.where == "messages[2]"
    assert "drops old reasoning" in first.hint


def test_a_session_that_takes_the_slot_of_another(forecaster: Any) -> None:
    server = forecaster(parallel=1, ctx_size=8192, cache_ram=0)
    report = run(ChatLlamaServer(base_url=server.base_url), ["a", "b"], 2)
    assert causes(report) == {"cache"}
    (first, *_) = [turn.change for turn in report.turns if turn.change is not None]
    assert "2 turns of other sessions in between" in first.what
    assert "--slot-prompt-similarity 0.9" in first.hint


def test_a_side_call_of_the_same_thread_is_a_session_of_its_own(forecaster: Any) -> None:
    llm = ChatLlamaServer(base_url=forecaster().base_url)
    report = CacheReport(llm)
    config: Any = {"callbacks": [report], "metadata": {"session": "s"}}
    history: list[Any] = [SystemMessage(SYSTEM), HumanMessage("How is it? " * 10)]
    for _ in range(2):
        history.append(llm.invoke(history, config))
        llm.invoke("Title for all this, please.", config)
        history.append(HumanMessage("And now? " * 10))
    assert [turn.session for turn in report.turns] == ["s", "s (2)", "s", "s (2)"]
    assert causes(report) == set()


def test_without_a_name_sessions_are_distinguished_by_what_they_say(forecaster: Any) -> None:
    llm = ChatLlamaServer(base_url=forecaster().base_url)
    report = CacheReport()
    for question in ("One? ", "Two? "):
        history: list[Any] = [HumanMessage(question * 20)]
        history.append(llm.invoke(history, {"callbacks": [report]}))
        llm.invoke([*history, HumanMessage("More?")], {"callbacks": [report]})
    assert [turn.session for turn in report.turns] == ["#1", "#1", "#2", "#2"]


async def test_a_stream_that_is_awaited_is_reported_and_stays_on_its_thread(forecaster: Any) -> None:
    """Handlers that are not inline are run in a pool of threads, once for each token."""
    llm = ChatLlamaServer(base_url=forecaster().base_url)
    seen = set()

    class Watching(CacheReport):
        def on_llm_new_token(self, token: str, **kwargs: Any) -> None:
            seen.add(threading.get_ident())

    report = Watching(llm)
    async for _ in llm.astream("How is it?", {"callbacks": [report]}):
        pass
    assert seen == {threading.get_ident()}
    (turn,) = report.turns
    assert turn.tokens > 10
    await llm.aclose()


def test_a_failed_call_is_not_a_turn(forecaster: Any) -> None:
    llm = ChatLlamaServer(base_url=forecaster().base_url)
    report = CacheReport(llm)
    with pytest.raises(ValueError, match="unknown parameter"):
        llm.invoke("hi", {"callbacks": [report]}, nonsense=1)
    assert report.turns == []
    assert report._running == {}
