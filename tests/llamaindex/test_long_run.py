"""One memory of many turns with faults at every kind of place: after none of them do all later turns fail."""

import asyncio
from contextlib import suppress

import pytest
from llama_index.core.agent.workflow import AgentStream, FunctionAgent
from llama_index.core.base.llms.types import ChatMessage, MessageRole, TextBlock, ToolCallBlock
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.tools import FunctionTool

from llamacpp_server import MissingToolCallError
from llamaindex_llamacpp_server import LlamaServer
from tests.long_run import SCRIPTS, TEMPLATES, faults, strict_template

pytestmark = [
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20"),
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince211"),
    pytest.mark.filterwarnings("ignore:is_running called from within a step:DeprecationWarning"),
    # A cancelled run leaves what its workflow was about to do undone.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
]


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def danger(path: str) -> str:
    """Is refused."""
    raise PermissionError(f"{path}: denied by the user")


def crash(why: str) -> str:
    """Fails in a way that nobody expects."""
    raise OSError(why)


def called(*names, id="same"):
    blocks = [ToolCallBlock(tool_call_id=id, tool_name=name, tool_kwargs={"a": 1}) for name in names]
    return ChatMessage(role=MessageRole.ASSISTANT, blocks=[TextBlock(text=""), *blocks])


def result(text, id):
    return ChatMessage(role=MessageRole.TOOL, content=text, additional_kwargs={"tool_call_id": id})


class Thread:
    """An agent with a memory that soon forgets its beginning, and the faults that can be done to it."""

    def __init__(self, server):
        self.llm = LlamaServer(base_url=server.base_url, thinking=False)
        # What does not fit is forgotten from the front, calls before their results.
        self.memory = ChatMemoryBuffer.from_defaults(token_limit=700, tokenizer_fn=self.llm.tokenizer)
        helper = FunctionAgent(llm=self.llm)

        async def ask(question: str) -> str:
            """Ask another agent."""
            return str(await helper.run(question))

        self.tools = [FunctionTool.from_defaults(async_fn=ask), *map(FunctionTool.from_defaults, (add, danger, crash))]
        self.agent = self._agent(self.llm)
        self.short = self._agent(self.llm.model_copy(update={"max_tokens": 7}))

    def _agent(self, llm):
        return FunctionAgent(llm=llm, tools=self.tools, system_prompt="Be brief.")

    async def say(self, text, agent=None):
        return str(await (agent or self.agent).run(text, memory=self.memory, max_iterations=6))

    async def write(self, *messages):
        for message in messages:
            await self.memory.aput(message)

    # -- faults

    async def a_call_cut_off(self):
        # Each try ends so, until the agent may try no more.
        with suppress(Exception):
            await self.say("cut off", self.short)

    async def a_tool_that_crashes(self):
        assert await self.say("crash") == "Done."

    async def a_denied_call(self):
        assert await self.say("danger") == "Done."

    async def a_turn_cancelled(self):
        handler = self.agent.run("at length", memory=self.memory)
        async for event in handler.stream_events():
            if isinstance(event, AgentStream) and event.delta:
                break
        await handler.cancel_run()
        with suppress(Exception, asyncio.CancelledError):
            await handler

    async def calls_and_another_agent(self):
        assert await self.say("both") == "Done."

    async def a_demanded_call_that_does_not_come(self):
        llm = self.llm.model_copy(update={"forced_call_within": 8})
        answer = await llm.achat_with_tools(self.tools[1:2], "I would rather talk.", tool_required=True)
        with pytest.raises(MissingToolCallError):
            await self.llm.achat_with_tools(self.tools, "I would rather talk.", tool_required=True, max_tokens=8)
        await self.write(ChatMessage(content="rather"), answer.message)

    async def calls_without_results_and_of_no_tool(self):
        await self.write(called("nothing", "add"))

    async def results_without_a_call(self):
        await self.write(result("3", "lost"), result("4", "lost"))

    async def ids_used_again(self):
        for number in range(2):
            await self.write(called("add", id="call_0"), result(str(number), "call_0"))

    async def arguments_that_are_no_json(self):
        block = ToolCallBlock(tool_call_id="x", tool_name="add", tool_kwargs='{"a": 1, "b')
        await self.write(ChatMessage(role="assistant", blocks=[block]), result("Error", "x"))

    async def messages_in_no_order(self):
        texts = (("assistant", ""), ("assistant", "One."), ("assistant", "Two."), ("system", "Late."), ("user", ""))
        await self.write(*(ChatMessage(role=role, content=text) for role, text in texts))

    async def a_message_that_is_long(self):
        assert await self.say("hello " + "word " * 60) == "Fine."


FAULTS = {
    name: fault for name, fault in vars(Thread).items() if not name.startswith("_") and name not in ("say", "write")
}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("template", TEMPLATES)
async def test_no_fault_makes_a_memory_unusable(scripted_server, tmp_path_factory, template):
    options = {"ctx_size": 16384}
    if template == "strict":
        options["chat_template_file"] = strict_template(tmp_path_factory.mktemp("templates"))  # type: ignore[assignment]
    thread = Thread(scripted_server(SCRIPTS, **options))
    for turn, name in enumerate(faults(list(FAULTS))):
        await FAULTS[name](thread)
        assert await thread.say("hello") == "Fine.", f"turn {turn}: after {name.replace('_', ' ')}"
    await thread.llm.aclose()
    thread.llm.close()
