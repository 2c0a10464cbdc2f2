"""Long runs of LlamaIndex agents: each turn's prompt starts with that of the turn before; and what the report says."""

from typing import Any

import pytest
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]
from llama_index.core.instrumentation.dispatcher import instrument_tags  # type: ignore[attr-defined]
from llama_index.core.memory import ChatMemoryBuffer, Memory

from llamacpp_server import LocalServer
from llamaindex_llamacpp_server import CacheReport, LlamaServer
from tests.llamaindex.tools import TOOLS
from tests.prefixes import assert_grow
from tests.wiretap import Wiretap

# The workflows package looks at every member of an agent, the deprecated ones of pydantic included.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20"),
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince211"),
    # The core's agents ask a running workflow whether it runs.
    pytest.mark.filterwarnings("ignore:is_running called from within a step:DeprecationWarning"),
    # The core says so of every memory.
    pytest.mark.filterwarnings("ignore:Skipping serialization of known unserializable key"),
]
SYSTEM = "You can add and know the weather. " * 10
QUESTIONS = ["What is 1 + 2?", "just chat", "Once more?", "only weather", "just chat again"]


@pytest.fixture
def roomy(caller: LocalServer, serve: Any) -> LocalServer:
    """The scripted model of `caller` with one slot and room for long runs."""
    return serve(caller.model, parallel=1, ctx_size=16384, slot_prompt_similarity=0.0)


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_function_agent_with_a_memory(
    roomy: LocalServer, chat_server: LocalServer, wire: Wiretap, streaming: bool
) -> None:
    llm = LlamaServer(base_url=roomy.base_url, **wire.clients)
    agent = FunctionAgent(tools=TOOLS, llm=llm, system_prompt=SYSTEM, streaming=streaming)
    memory = ChatMemoryBuffer.from_defaults(token_limit=12000, tokenizer_fn=llm.tokenizer)
    with CacheReport(llm) as report:
        for question in QUESTIONS:
            await agent.run(question, memory=memory)
    bodies = wire.bodies("/v1/chat/completions")
    assert len({len(body["messages"]) for body in bodies}) == 8
    assert_grow(chat_server.client(), bodies)
    assert [turn.session for turn in report.turns] == ["#1"] * 8
    assert [turn.change for turn in report.turns] == [None] * 8, str(report)
    assert report.turns[-1].reused > report.turns[-2].tokens - 16
    assert report._handler not in get_dispatcher().event_handlers


async def test_a_workflow_of_agents(roomy: LocalServer, chat_server: LocalServer, wire: Wiretap) -> None:
    llm = LlamaServer(base_url=roomy.base_url, **wire.clients)
    workflow = AgentWorkflow(agents=[FunctionAgent(name="it", tools=TOOLS, llm=llm, system_prompt=SYSTEM)])
    memory = ChatMemoryBuffer.from_defaults(token_limit=12000, tokenizer_fn=llm.tokenizer)
    for question in QUESTIONS:
        await workflow.run(question, memory=memory)
    assert_grow(chat_server.client(), wire.bodies("/v1/chat/completions"))


async def test_the_memory_of_today(roomy: LocalServer, chat_server: LocalServer, wire: Wiretap) -> None:
    llm = LlamaServer(base_url=roomy.base_url, **wire.clients)
    agent = FunctionAgent(tools=TOOLS, llm=llm, system_prompt=SYSTEM)
    memory = Memory.from_defaults(session_id="1", token_limit=40000, tokenizer_fn=llm.tokenizer)
    for question in QUESTIONS:
        await agent.run(question, memory=memory)
    await memory.sql_store._async_engine.dispose()  # type: ignore[attr-defined]
    assert_grow(chat_server.client(), wire.bodies("/v1/chat/completions"))


async def test_tags_name_the_sessions_of_a_report(roomy: LocalServer, make_llm: Any) -> None:
    llm = make_llm(roomy)
    with CacheReport(llm) as report:
        for turn in range(2):
            for name in ("ann", "bob"):
                with instrument_tags({"session": name}):
                    await llm.achat([ChatMessage(content=SYSTEM, role="system"), ChatMessage(content=f"{name} {turn}")])
    assert [turn.session for turn in report.turns] == ["ann", "bob", "ann (2)", "bob (2)"]
    await llm.aclose()


def test_a_clock_is_found_in_streams_too(roomy: LocalServer, make_llm: Any) -> None:
    llm = make_llm(roomy)
    report = CacheReport(llm).start()
    for turn in range(2):
        system = ChatMessage(content=f"It is 12:0{turn}. {SYSTEM}", role="system")
        for _ in llm.stream_chat([system, ChatMessage(content="just chat")], tools=TOOLS):
            pass
    report.stop()
    llm.chat([ChatMessage(content="just chat")])
    _, turn = report.turns  # type: ignore[assignment]
    assert turn.change is not None  # type: ignore[attr-defined]
    assert (turn.change.kind, turn.change.where) == ("clock", "messages[0]")  # type: ignore[attr-defined]


def test_a_turn_that_cannot_be_added_is_logged(
    roomy: LocalServer, make_llm: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LlamaIndex drops the errors of its handlers without a word."""
    llm = make_llm(roomy)
    report = CacheReport(llm).start()
    monkeypatch.setattr(CacheReport, "_request", lambda *_: 1 / 0)
    llm.chat([ChatMessage(content="just chat")])
    report.stop()
    assert report.turns == []
    assert "the cache report is missing a turn: ZeroDivisionError" in caplog.text
