"""What the model knows from its server: token counts and its profile."""

from collections.abc import Callable
from typing import Any, cast

import pytest
from langchain.agents.middleware import SummarizationMiddleware
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage, trim_messages
from langchain_core.messages.utils import count_tokens_approximately

from langchain_llamacpp_server import ChatLlamaServer
from llamacpp_server import ChatRequest, LocalServer
from tests.langchain.conftest import get_weather

CONVERSATION: list[BaseMessage] = [
    SystemMessage("Be brief."),
    HumanMessage("What's the weather in Oslo?"),
    AIMessage("", tool_calls=[{"id": "c1", "name": "get_weather", "args": {"city": "Oslo"}}]),
    ToolMessage("sunny", tool_call_id="c1"),
    AIMessage("It is sunny."),
    HumanMessage("Thanks!"),
]


def test_counts_are_those_of_the_answer(llm: ChatLlamaServer) -> None:
    for tools in ([], [get_weather]):
        bound = llm.bind_tools(tools) if tools else llm
        counts = bound.invoke(CONVERSATION).usage_metadata
        assert counts is not None
        assert llm.get_num_tokens_from_messages(CONVERSATION, tools=tools) == counts["input_tokens"]


def test_tokens_are_the_models_own(nonsense: ChatLlamaServer, chat_server: LocalServer) -> None:
    with chat_server.client() as client:
        assert nonsense.get_token_ids("Hello, wörld") == client.tokenize("Hello, wörld")
    assert nonsense.get_num_tokens("") == 0


def test_estimates_are_scaled_by_what_the_server_counted(llm: ChatLlamaServer) -> None:
    first = llm.invoke("Hi")
    one, *rest = llm.stream([HumanMessage("Hi"), first, HumanMessage("And now?")])
    messages = [HumanMessage("Hi"), first, HumanMessage("And now?"), one + rest]
    scaled = count_tokens_approximately(messages, use_usage_metadata_scaling=True)
    assert scaled > count_tokens_approximately(messages)
    messages[1] = first.model_copy(update={"response_metadata": {"model_provider": "other"}})
    assert count_tokens_approximately(messages, use_usage_metadata_scaling=True) == count_tokens_approximately(messages)


def test_a_counter_of_your_own_wins() -> None:
    llm = ChatLlamaServer(base_url="http://127.0.0.1:9", custom_get_token_ids=lambda text: [1] * len(text.split()))
    assert llm.get_num_tokens("a b c") == 3
    assert llm.get_num_tokens_from_messages([HumanMessage("a b c")]) > 2


@pytest.mark.parametrize("end", range(1, len(CONVERSATION) + 1))
def test_every_beginning_of_a_conversation_can_be_counted(nonsense: ChatLlamaServer, end: int) -> None:
    """LangChain's trimmer counts all of them; some end where no request could."""
    assert nonsense.get_num_tokens_from_messages(CONVERSATION[:end]) > 5


@pytest.mark.parametrize("strategy", ["last", "first"])
def test_trim_messages(nonsense: ChatLlamaServer, strategy: Any) -> None:
    long = [SystemMessage("Be brief."), *(HumanMessage(f"number {n}") for n in range(20))]
    limit = nonsense.get_num_tokens_from_messages(long) // 2
    kept = trim_messages(
        long, max_tokens=limit, token_counter=nonsense, strategy=strategy, include_system=strategy == "last"
    )
    assert 2 < len(kept) < 20
    assert nonsense.get_num_tokens_from_messages(kept) <= limit


def test_the_profile_is_the_servers(nonsense: ChatLlamaServer, vision_server: LocalServer) -> None:
    profile = nonsense.profile
    assert profile is not None
    assert profile["max_input_tokens"] == 2048
    assert profile["structured_output"]
    assert profile["tool_calling"]
    assert profile["reasoning_output"]
    assert not profile["image_inputs"]
    seeing = ChatLlamaServer(base_url=vision_server.base_url).profile
    assert seeing is not None
    assert seeing["image_inputs"]
    assert seeing["audio_inputs"]
    assert not seeing["image_url_inputs"]
    assert ChatLlamaServer(base_url=vision_server.base_url, fetch_urls=True).profile["image_url_inputs"]  # type: ignore[index]


LEVELS = (
    "{%- if not reasoning_effort %}{%- set reasoning_effort = 'medium' %}{%- endif %}"
    "Reasoning: {{ reasoning_effort }}\n"
    "{%- for message in messages %}<|{{ message.role }}|>{{ message.content }}\n{%- endfor %}"
)


@pytest.fixture
def leveled(serve: Callable[..., LocalServer]) -> LocalServer:
    """A server whose template has levels of reasoning, as gpt-oss's has."""
    return serve("random.gguf", chat_template=LEVELS)


def test_the_profile_has_the_templates_levels_of_reasoning(nonsense: ChatLlamaServer, leveled: LocalServer) -> None:
    profile: Any = ChatLlamaServer(base_url=leveled.base_url).profile
    assert profile["reasoning_effort_levels"] == ["low", "medium", "high"]
    assert profile["reasoning_effort_default"] == "medium"
    without: Any = nonsense.profile
    assert without["reasoning_effort_levels"] == []
    assert "reasoning_effort_default" not in without
    assert without["mid_conversation_tools"] is False


def test_a_level_reaches_a_template_that_has_levels_and_is_dropped_for_others(
    nonsense: ChatLlamaServer, leveled: LocalServer, caplog: pytest.LogCaptureFixture, fresh_notices: set[str]
) -> None:
    llm = ChatLlamaServer(base_url=leveled.base_url, max_tokens=2)
    counts = {
        effort: llm.get_num_tokens_from_messages([HumanMessage("Hi")], reasoning_effort=effort)
        for effort in ("low", "medium")
    }
    default = llm.get_num_tokens_from_messages([HumanMessage("Hi")])
    assert counts["low"] < counts["medium"] == default  # the random model's tokens are bytes
    llm.invoke("Hi", reasoning_effort="low")
    assert "reasoning_effort" not in caplog.text
    nonsense.invoke("Hi", reasoning_effort="low", max_tokens=2)
    assert "reasoning_effort: dropped" in caplog.text


def test_a_late_system_message_is_rendered_where_the_profile_says_so(
    llm: ChatLlamaServer, leveled: LocalServer
) -> None:
    late = [
        {"role": "user", "content": "one"},
        {"role": "system", "content": "two"},
        {"role": "user", "content": "three"},
    ]
    for model in (llm, ChatLlamaServer(base_url=leveled.base_url)):
        profile: Any = model.profile
        assert profile["mid_conversation_system_messages"] is True
        prompt = model.client.apply_template(ChatRequest(messages=late))
        assert (
            prompt.index("one")
            < prompt.index("system", prompt.index("one"))
            < prompt.index("two")
            < prompt.index("three")
        )


def test_the_summarizer_counts_with_the_servers_tokenizer(llm: ChatLlamaServer) -> None:
    """Its own estimate is a quarter of the characters."""
    counted = llm.get_num_tokens_from_messages(CONVERSATION)
    assert counted != count_tokens_approximately(CONVERSATION)
    for limit, summarizes in ((counted + 1, False), (counted, True)):
        middleware: Any = SummarizationMiddleware(
            llm, trigger=("tokens", limit), keep=("messages", 1), token_counter=llm.get_num_tokens_from_messages
        )
        update = middleware.before_model({"messages": list(CONVERSATION)}, cast(Any, None))
        assert (update is not None) is summarizes


def test_a_profile_of_your_own_wins() -> None:
    assert ChatLlamaServer(profile={"max_input_tokens": 7}).profile == {"max_input_tokens": 7}


def test_making_a_model_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr("socket.create_connection", refuse)
    monkeypatch.setattr("httpx.Client.send", refuse)
    llm = ChatLlamaServer()
    (
        repr(llm),
        llm.model_dump(),
        llm.bind_tools([get_weather]),
        llm.with_structured_output({"title": "x", "type": "object"}),
    )


def test_names_of_models(llm: ChatLlamaServer, talker: LocalServer) -> None:
    assert llm.model_name is None
    with pytest.raises(ValueError, match="temperature"):
        llm.invoke("Hi", temperature="hot")
    assert llm.model_name is None
    llm.invoke("Hi", max_tokens=1)
    with talker.client() as client:
        assert llm.model_name == client.model_name()
    llm.base_url = "http://elsewhere"
    assert llm.model_name is None
    assert ChatLlamaServer(model="given").model_name == "given"


@pytest.fixture(autouse=True)
def _idle_after(chat_server: LocalServer, idle: Callable[[LocalServer], None]) -> Any:
    yield
    idle(chat_server)


def test_a_streamed_answer_has_the_models_name_as_well(chat_server: LocalServer) -> None:
    llm = ChatLlamaServer(base_url=chat_server.base_url, max_tokens=3, streaming=True)
    found = llm.generate([[HumanMessage("hi")]])
    assert found.llm_output is not None and found.llm_output["model_name"] == llm.model_name is not None
