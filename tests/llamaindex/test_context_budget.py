"""`context_budget`: agents and chats whose prompts keep to a budget, on a real server with a small context."""

from typing import Any

import pytest
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, MessageRole, TextBlock
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.tools import FunctionTool

from llamacpp_server import ContextOverflowError, LocalServer
from llamaindex_llamacpp_server import ContextBudget, LlamaServer
from tests.llamaindex.test_long_run import called, result
from tests.media import picture
from tests.readers import page_reader
from tests.wiretap import Wiretap

pytestmark = [
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20"),
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince211"),
    pytest.mark.filterwarnings("ignore:is_running called from within a step:DeprecationWarning"),
]


def look(page: int) -> str:
    """Look at a page."""
    return f"page {page}: " + "the llama of the village eats grass. " * 6


@pytest.fixture(scope="module")
def small(scripted_server: Any) -> LocalServer:
    return page_reader(scripted_server)


@pytest.fixture
def llm(small: Any) -> LlamaServer:
    return LlamaServer(base_url=small.base_url, thinking=False, context_budget=ContextBudget())


def user(text: str) -> ChatMessage:
    return ChatMessage(role=MessageRole.USER, content=text)


def counts(response: Any) -> tuple[int, int]:
    """Tokens of the prompt, and those that the server had in its cache."""
    timings = response.raw["timings"] if isinstance(response.raw, dict) else response.raw.timings
    return timings["prompt_n"] + timings["cache_n"], timings["cache_n"]


@pytest.mark.parametrize("turns", [12, pytest.param(30, marks=pytest.mark.long)])
async def test_an_agent_of_many_turns_never_overflows(llm: LlamaServer, turns: int) -> None:
    agent = FunctionAgent(llm=llm, tools=[FunctionTool.from_defaults(look)], system_prompt="You read pages.")
    memory = ChatMemoryBuffer.from_defaults(token_limit=1_000_000, tokenizer_fn=llm.tokenizer)
    for turn in range(turns):
        answer = await agent.run(f"Look at page {turn}", memory=memory)
        assert str(answer) == "It was a page about llamas."
    history = await memory.aget()
    assert len(history) == 4 * turns, "the memory keeps everything"
    with pytest.raises(ContextOverflowError):
        await llm.model_copy(update={"context_budget": None}).achat(history)


def conversation(*texts: str) -> list[ChatMessage]:
    return [ChatMessage(role=MessageRole.SYSTEM, content="Be brief."), *map(user, texts)]


def test_the_same_summary_begins_every_later_prompt(llm: LlamaServer) -> None:
    messages = conversation(*["x" * 500] * 8)
    first = llm.chat(messages)
    prompt, _ = counts(first)
    assert prompt < 3000
    messages += [first.message, user("Thanks")]
    later, cached = counts(llm.chat(messages))
    assert cached >= 0.95 * prompt
    assert later < prompt + 200


def test_a_summary_names_the_media_that_it_leaves_out(vision_server: Any, wire: Wiretap) -> None:
    llm = LlamaServer(
        base_url=vision_server.base_url, thinking=False, max_tokens=5, context_budget=ContextBudget(), **wire.clients
    )
    seen = ChatMessage(role=MessageRole.USER, blocks=[TextBlock(text="y" * 300), ImageBlock(image=picture())])
    llm.chat([*[seen, ChatMessage(role=MessageRole.ASSISTANT, content="I see.")] * 8, user("And?")])
    summary, *_ = wire.bodies("/v1/chat/completions")
    assert "yyy [image]" in summary["messages"][0]["content"]


@pytest.mark.parametrize("awaited", [False, True])
async def test_streams_keep_the_budget_too(llm: LlamaServer, awaited: bool) -> None:
    messages = conversation(*["x" * 500] * 8)
    parts = [part async for part in await llm.astream_chat(messages)] if awaited else list(llm.stream_chat(messages))
    assert parts[-1].message.content == "Pages about llamas were read."
    assert parts[-1].additional_kwargs["context"]["summarized_messages"] > 0


def test_old_tool_results_are_removed_first(llm: LlamaServer, caplog: pytest.LogCaptureFixture) -> None:
    messages = [user("Read some pages.")]
    for number in range(6):
        messages += [called("look", id=f"c{number}"), result(f"{number} " + "x" * 600, f"c{number}")]
    messages += [ChatMessage(role=MessageRole.ASSISTANT, content="I read them."), user("Thanks")]
    budget = ContextBudget(target=0.7)
    with caplog.at_level("INFO", "llamacpp_server"):
        llm.model_copy(update={"context_budget": budget}).chat(messages)
    assert "summarized 0 messages, removed 4 tool results" in caplog.text


def test_a_message_that_is_too_long_alone_is_an_error(llm: LlamaServer) -> None:
    with pytest.raises(ContextOverflowError, match="does not help"):
        llm.chat(conversation("Thanks", "x" * 5000))


def test_a_conversation_of_many_short_messages_is_summarized_in_parts(small: Any, wire: Wiretap) -> None:
    llm = LlamaServer(base_url=small.base_url, thinking=False, context_budget=ContextBudget(), **wire.clients)
    messages = conversation(*[f"Line {number}. " + "x" * 80 for number in range(150)])
    response = llm.chat(messages)
    report = response.additional_kwargs["context"]
    assert report["summarized_messages"] > 100
    assert counts(response)[0] == report["prompt_tokens"][1]
    *summaries, sent = [body["messages"] for body in wire.bodies("/v1/chat/completions")]
    assert len(summaries) > 1
    text = "".join(str(prompt) for prompt in [*summaries, sent])
    assert all(f"Line {number}." in text for number in range(150))
    assert "Pages about llamas were read." in str(summaries[-1]), "each summary has the last one"


def test_without_a_budget_every_prompt_is_sent_as_it_is(small: Any) -> None:
    llm = LlamaServer(base_url=small.base_url, thinking=False)
    with pytest.raises(ContextOverflowError, match="context"):
        llm.chat(conversation(*["x" * 500] * 9))
