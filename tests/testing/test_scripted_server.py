"""`llamacpp_server.testing`, as somebody's test suite uses it."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from langchain.agents import create_agent
from langchain_core.tools import tool
from llama_index.core.llms import ChatMessage
from pydantic import BaseModel

from langchain_llamacpp_server import ChatLlamaServer
from llamacpp_server import ContextOverflowError, RequestTimeoutError, ServerLoadingError, StreamCutOffError
from llamacpp_server.testing import Script, ScriptedServer, tool_call
from llamaindex_llamacpp_server import LlamaServer

RULES = {
    "weather": Script(thinks="I should look it up.", says=tool_call("get_weather", {"city": "Zürich"})),
    "tool": "It is sunny in Zürich.",
    "person": '{"name": "Ada", "age": 36}',
    "user": "Hello, Ada!",
}


class Person(BaseModel):
    """A person."""

    name: str
    age: int


@tool
def get_weather(city: str) -> str:
    """Get the weather in a city."""
    return f"sunny in {city}"


@pytest.fixture(scope="module")
def started() -> Iterator[ScriptedServer]:
    with ScriptedServer(RULES) as server:
        yield server


@pytest.fixture
def server(started: ScriptedServer) -> ScriptedServer:
    started.reset()
    return started


@pytest.fixture
def llm(server: ScriptedServer) -> ChatLlamaServer:
    return ChatLlamaServer(base_url=server.base_url, max_retries=0)


def test_an_agent_follows_the_script(server: ScriptedServer, llm: ChatLlamaServer) -> None:
    state = create_agent(llm, [get_weather]).invoke({"messages": [("user", "How is the weather?")]})  # type: ignore[call-overload]
    assert [message.type for message in state["messages"]] == ["human", "ai", "tool", "ai"]
    assert state["messages"][1].tool_calls[0]["args"] == {"city": "Zürich"}
    assert state["messages"][-1].text == "It is sunny in Zürich."
    assert server.calls == 2
    assert server.used == {"weather": 1, "tool": 1}
    assert server.requests[0]["tools"][0]["function"]["name"] == "get_weather"


def test_a_rule_that_was_never_spoken_is_named(server: ScriptedServer, llm: ChatLlamaServer) -> None:
    assert llm.invoke("Hi").text == "Hello, Ada!"
    with pytest.raises(AssertionError, match=r"scripts never used: \['weather', 'tool', 'person'\]"):
        server.assert_used_up()


def test_structured_output_passes_the_servers_own_grammar(llm: ChatLlamaServer) -> None:
    assert llm.with_structured_output(Person).invoke("Who is this person?") == Person(name="Ada", age=36)


def test_llamaindex_reads_the_same_script(server: ScriptedServer) -> None:
    llm = LlamaServer(base_url=server.base_url)
    assert llm.chat([ChatMessage(role="user", content="Hi")]).message.content == "Hello, Ada!"
    llm.close()
    assert server.calls == 1


def test_turns_are_said_in_order_and_a_call_too_many_is_refused() -> None:
    with ScriptedServer(turns=["One.", Script(thinks="Hm.", says="Two.")]) as server:
        llm = ChatLlamaServer(base_url=server.base_url)
        assert llm.invoke("a").text == "One."
        with pytest.raises(AssertionError, match=r"scripts never used: \[1\]"):
            server.assert_used_up()
        second = llm.invoke("a")
        assert (second.text, second.additional_kwargs["reasoning_content"].strip()) == ("Two.", "Hm.")
        server.assert_used_up()
        with pytest.raises(Exception, match="the script has 2 turns, and this is call 3"):
            llm.invoke("a")


@pytest.mark.parametrize(
    ("how", "error"),
    [("overflow", ContextOverflowError), ("cut", StreamCutOffError), ("loading", ServerLoadingError)],
)
def test_requests_fail_on_demand_with_the_error_of_a_real_server(
    server: ScriptedServer, how: str, error: type[Exception]
) -> None:
    llm = ChatLlamaServer(base_url=server.base_url, max_retries=0, load_timeout=0)
    server.fail(how)
    with pytest.raises(error):
        llm.invoke("Hi")
    assert llm.invoke("Hi").text == "Hello, Ada!"
    assert server.calls == 2


def test_fail_with_lasts_until_it_is_taken_back(server: ScriptedServer, llm: ChatLlamaServer) -> None:
    server.fail_with = "overflow"
    for _ in range(2):
        with pytest.raises(ContextOverflowError):
            llm.invoke("Hi")
    server.fail_with = None
    assert llm.invoke("Hi").text == "Hello, Ada!"


def test_a_slow_server_meets_the_read_timeout(server: ScriptedServer) -> None:
    server.fail("slow")
    with pytest.raises(RequestTimeoutError):
        ChatLlamaServer(base_url=server.base_url, read_timeout=0.2).invoke("Hi")


def test_a_stream_that_is_left_frees_the_slot_behind_the_proxy(idle: Callable[..., None]) -> None:
    with ScriptedServer(Script(says=["word "], endless=True), ctx_size=131072) as server:

        async def leave() -> None:
            stream = ChatLlamaServer(base_url=server.base_url).astream("Hi")
            await anext(stream)
            await stream.aclose()  # type: ignore[attr-defined]

        asyncio.run(leave())
        idle(server.server)


def test_rules_or_turns_must_be_given() -> None:
    with pytest.raises(ValueError, match="either rules or turns"):
        ScriptedServer()
    with pytest.raises(RuntimeError, match="not running"):
        _ = ScriptedServer("Hello").base_url


def test_the_plugin_has_the_fixture_and_a_strict_script_fails_the_test(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(
        "from llamacpp_server import ChatRequest, LlamaServerClient\n"
        "def test_used(scripted_llama_server):\n"
        "    with LlamaServerClient(scripted_llama_server('Hello!', strict=True).base_url) as client:\n"
        "        assert client.chat(ChatRequest(messages=[{'role': 'user', 'content': 'Hi'}])).content == 'Hello!'\n"
        "def test_unused(scripted_llama_server):\n"
        "    scripted_llama_server({'a': 'A', 'user': 'B'}, strict=True)\n"
    )
    others = (
        "cacheprovider",
        "langsmith_plugin",
        "hypothesispytest",
        "xdist",
        "xdist.looponfail",
        "pytest_cov",
        "asyncio",
    )
    command = [sys.executable, "-m", "pytest", "-q", *(word for name in others for word in ("-p", f"no:{name}"))]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    run = subprocess.run(
        [*command, str(tmp_path)], capture_output=True, text=True, cwd=tmp_path, env=environment, check=False
    )
    assert "2 passed, 1 error" in run.stdout, run.stdout
    assert "scripts never used: ['a', 'user']" in run.stdout
