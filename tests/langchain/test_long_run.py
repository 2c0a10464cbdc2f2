"""One thread of many turns with faults at every kind of place: after none of them do all later turns fail."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware, SummarizationMiddleware
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from langchain_llamacpp_server import ChatLlamaServer, MissingToolCallError
from llamacpp_server import LocalServer, UnreadableOutputError
from tests.long_run import SCRIPTS, TEMPLATES, faults, strict_template

THREAD: Any = {"configurable": {"thread_id": "1"}}


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool
def danger(path: str) -> str:
    """Needs leave."""
    return "gone"


@tool
def crash(why: str) -> str:
    """Fails in a way that nobody expects."""
    raise OSError(why)


class Thread:
    """An agent, and the faults that can be done to its thread."""

    def __init__(self, server: LocalServer) -> None:
        self.llm = ChatLlamaServer(base_url=server.base_url, thinking=False)
        self.saver = InMemorySaver()
        helper = create_agent(self.llm)

        @tool
        def ask(question: str) -> str:
            """Ask another agent."""
            return helper.invoke({"messages": [HumanMessage(question)]})["messages"][-1].text

        self.tools = [add, danger, crash, ask]
        self.agent = self._agent(self.llm)
        self.short = self._agent(self.llm.model_copy(update={"max_tokens": 7}))

    def _agent(self, llm: ChatLlamaServer) -> Any:
        summaries: Any = SummarizationMiddleware(
            self.llm,
            trigger=("tokens", 1200),
            keep=("messages", 5),
            token_counter=self.llm.get_num_tokens_from_messages,
        )
        middleware = [HumanInTheLoopMiddleware(interrupt_on={"danger": True}), summaries]
        return create_agent(llm, self.tools, system_prompt="Be brief.", middleware=middleware, checkpointer=self.saver)

    def say(self, text: str, agent: Any = None) -> Any:
        return (agent or self.agent).invoke({"messages": [HumanMessage(text)]}, THREAD)

    def write(self, *messages: Any) -> None:
        self.agent.update_state(THREAD, {"messages": list(messages)}, as_node="model")

    # -- faults

    def a_call_cut_off(self) -> None:
        assert self.say("cut off", self.short)["messages"][-1].invalid_tool_calls

    def a_streamed_call_cut_off(self) -> None:
        list(self.short.stream({"messages": [HumanMessage("cut off")]}, THREAD, stream_mode="messages"))
        assert self.agent.get_state(THREAD).values["messages"][-1].invalid_tool_calls

    def a_tool_that_crashes(self) -> None:
        with pytest.raises(OSError, match="so"):
            self.say("crash")

    def a_denied_call(self) -> None:
        assert self.say("danger")["__interrupt__"]
        self.agent.invoke(Command(resume={"decisions": [{"type": "reject", "message": "No."}]}), THREAD)

    def an_interrupt_that_nobody_answers(self) -> None:
        assert self.say("danger")["__interrupt__"]

    def a_turn_left_in_the_middle(self) -> None:
        stream = self.agent.stream({"messages": [HumanMessage("at length")]}, THREAD, stream_mode="messages")
        for _ in range(3):
            next(stream)
        stream.close()

    def calls_and_another_agent(self) -> None:
        assert [m.content for m in self.say("both")["messages"][-3:]] == ["3", "Indeed.", "Done."]

    def a_demanded_call_that_does_not_come(self) -> None:
        bound = self.llm.model_copy(update={"forced_call_within": 8}).bind_tools([add], tool_choice="any")
        answer = bound.invoke("I would rather talk.")
        with pytest.raises(MissingToolCallError):
            self.llm.bind_tools([add], tool_choice="any", max_tokens=8).invoke("I would rather talk.")
        self.write(HumanMessage("rather"), answer)

    def calls_without_results_and_of_no_tool(self) -> None:
        calls = [{"name": name, "args": {}, "id": "same"} for name in ("nothing", "add")]
        self.write(AIMessage("", tool_calls=calls))  # type: ignore[arg-type]

    def results_without_a_call(self) -> None:
        self.write(ToolMessage("3", tool_call_id="lost"), ToolMessage("4", tool_call_id="lost"))

    def ids_used_again(self) -> None:
        for number in range(2):
            call: Any = {"name": "add", "args": {"a": number, "b": 1}, "id": "call_0"}
            self.write(AIMessage("", tool_calls=[call]), ToolMessage(str(number + 1), tool_call_id="call_0"))

    def messages_in_no_order(self) -> None:
        self.write(AIMessage(""), AIMessage("One."), AIMessage("Two."), SystemMessage("Late."), HumanMessage(""))

    def a_message_that_is_long(self) -> None:
        self.say("hello " + "word " * 120)


FAULTS: dict[str, Callable[[Thread], None]] = {
    name: fault for name, fault in vars(Thread).items() if not name.startswith("_") and name not in ("say", "write")
}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("template", TEMPLATES)
def test_no_fault_makes_a_thread_unusable(
    scripted_server: Any, tmp_path_factory: pytest.TempPathFactory, template: str
) -> None:
    options: dict[str, Any] = {"ctx_size": 16384}
    if template == "strict":
        options["chat_template_file"] = strict_template(tmp_path_factory.mktemp("templates"))
    thread = Thread(scripted_server(SCRIPTS, **options))
    for turn, name in enumerate(faults(list(FAULTS))):
        FAULTS[name](thread)
        answer = thread.say("hello")["messages"][-1]
        assert answer.text == "Fine.", f"turn {turn}: after {name.replace('_', ' ')}"


def test_random_replies_never_block_a_conversation(chat_server: LocalServer) -> None:
    """It says what it likes, now and then what the server's own parser can't read; later turns go on all the same."""
    llm = ChatLlamaServer(base_url=chat_server.base_url, max_tokens=24, thinking=False)
    agent: Any = create_agent(llm, [add], checkpointer=InMemorySaver())
    answers = 0
    for turn in range(12):
        bound: Any = {"tool_choice": "any"} if turn % 3 == 0 else {}
        with suppress(MissingToolCallError, UnreadableOutputError):
            answer = llm.bind_tools([add], **bound).invoke(f"turn {turn}")
            agent.update_state(THREAD, {"messages": [answer]}, as_node="model")
        with suppress(UnreadableOutputError):
            state = agent.invoke({"messages": [HumanMessage(f"turn {turn}")]}, THREAD | {"recursion_limit": 50})
            answers += state["messages"][-1].type == "ai"
    assert answers > 6
