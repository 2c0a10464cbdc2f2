"""Standard content blocks, as version 1 of messages and version 3 of events show them."""

from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, AIMessageChunk

from langchain_llamacpp_server import ChatLlamaServer
from tests.langchain.behind_doors import translate_content_chunk
from tests.langchain.conftest import get_weather

KINDS = ["reasoning", "text", "tool_call", "tool_call"]


@pytest.fixture
def first(llm: ChatLlamaServer) -> Any:
    """With the blocks as the content of its messages."""
    return llm.model_copy(update={"output_version": "v1"}).bind_tools([get_weather])


async def test_all_calls_survive_streaming_as_blocks(first: Any) -> None:
    one, *rest = first.stream("weather")
    head, *tail = [chunk async for chunk in first.astream("weather")]
    for message in (one + rest, head + tail, first.invoke("weather")):
        assert isinstance(message.content, list)
        assert [block["type"] for block in message.content_blocks] == KINDS
        assert message.content == message.content_blocks
        assert [b["args"] for b in message.content_blocks if b["type"] == "tool_call"] == [
            {"city": "Oslo"},
            {"city": "Rome"},
        ]
        assert len(message.tool_calls) == 2


def test_blocks_of_a_stream_are_separated(first: Any) -> None:
    indexes: dict[Any, str] = {}
    for chunk in first.stream("weather"):
        for block in chunk.content:
            assert indexes.setdefault(block["index"], block["type"]) == block["type"]
    assert list(indexes.values()) == ["reasoning", "text", "tool_call_chunk", "tool_call_chunk"]


class Heard(BaseCallbackHandler):
    def __init__(self) -> None:
        self.tokens = 0
        self.events: list[str] = []

    def on_llm_new_token(self, token: Any, **kwargs: Any) -> None:
        self.tokens += 1

    def on_stream_event(self, event: Any, **kwargs: Any) -> None:
        self.events.append(event["event"])


def test_events_report_thinking_text_and_calls(llm: ChatLlamaServer) -> None:
    heard = Heard()
    stream = llm.bind_tools([get_weather]).stream_events("weather", version="v3", config={"callbacks": [heard]})
    assert "".join(stream.reasoning) == "Two cities.\n"  # type: ignore[attr-defined]
    assert "".join(stream.text).startswith("Let me look.")  # type: ignore[attr-defined]
    output = stream.output  # type: ignore[attr-defined]
    assert [block["type"] for block in output.content_blocks] == KINDS
    assert output.usage_metadata["output_tokens"] > 5
    assert output.response_metadata["timings"]
    assert heard.tokens == 0
    assert heard.events[0] == "message-start"
    assert heard.events[-1] == "message-finish"


async def test_awaited_events(llm: ChatLlamaServer) -> None:
    stream = await llm.bind_tools([get_weather]).astream_events("weather", version="v3")
    thought = [piece async for piece in stream.reasoning]
    assert "".join(thought) == "Two cities.\n"
    assert len(thought) > 1
    output = await stream.output
    assert [call["args"]["city"] for call in output.tool_calls] == ["Oslo", "Rome"]


async def test_events_of_the_version_before(llm: ChatLlamaServer) -> None:
    heard = Heard()
    config: Any = {"callbacks": [heard]}
    events = [event async for event in llm.astream_events("Hi", version="v2", config=config)]
    chunks = [event["data"]["chunk"] for event in events if event["event"] == "on_chat_model_stream"]
    assert "".join(chunk.text for chunk in chunks) == "Hello there, friend!"
    thoughts = [block["reasoning"] for c in chunks for block in c.content_blocks if block["type"] == "reasoning"]
    assert "".join(thoughts) == "A greeting.\n"
    assert (heard.tokens, heard.events) == (len(chunks), [])
    assert events[-1]["data"]["output"].usage_metadata["output_tokens"] > 5


def test_the_environment_can_ask_for_blocks(llm: ChatLlamaServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_OUTPUT_VERSION", "v1")
    blocks = [{"type": "reasoning", "reasoning": "A greeting.\n"}, {"type": "text", "text": "Hello there, friend!"}]
    model = ChatLlamaServer(base_url=llm.base_url)
    one, *rest = model.stream("Hi")
    assert model.invoke("Hi").content == blocks
    assert [{**block, "index": i} for i, block in enumerate(blocks)] == (one + rest).content


def test_a_cut_off_call_is_an_invalid_block_in_events(llm: ChatLlamaServer) -> None:
    stream = llm.bind_tools([get_weather]).stream_events("broken", version="v3", max_tokens=5, thinking=False)
    assert stream.output.tool_calls == []  # type: ignore[attr-defined]
    assert stream.output.invalid_tool_calls[0]["name"] == "get_weather"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "message",
    [
        AIMessageChunk(content=[{"type": "text", "text": "Hi"}]),
        AIMessageChunk(content="Hi", additional_kwargs={"reasoning_content": 3}),
        AIMessageChunk(content="Hi", additional_kwargs={"reasoning_content": None}),
        AIMessage(content=[{"type": "text", "text": "Hi"}]),
        AIMessage(content=["Hi"]),
    ],
)
def test_reading_blocks_never_fails(message: AIMessage) -> None:
    message.response_metadata["model_provider"] = "llamacpp-server"
    assert message.content_blocks == [{"type": "text", "text": "Hi"}]


def test_a_chunk_without_a_place_has_a_block_without_index() -> None:
    chunk = AIMessageChunk(content="", tool_call_chunks=[{"name": "f", "args": "{", "id": "1", "index": None}])  # type: ignore[typeddict-item]
    assert "index" not in translate_content_chunk(chunk)[0]
