"""What the model knows from its server: token counts and its profile."""

from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage, trim_messages
from langchain_core.messages.utils import count_tokens_approximately

from langchain_llamacpp_server import ChatLlamaServer
from llamacpp_server import LocalServer
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


def test_a_streamed_answer_tells_the_models_name_as_well(chat_server: LocalServer) -> None:
    llm = ChatLlamaServer(base_url=chat_server.base_url, max_tokens=3, streaming=True)
    found = llm.generate([[HumanMessage("hi")]])
    assert found.llm_output is not None and found.llm_output["model_name"] == llm.model_name is not None
