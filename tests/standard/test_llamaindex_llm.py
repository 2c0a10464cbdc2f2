"""The tests that LlamaIndex's own integrations carry, by their names there, on a real server.

They are the nearest thing to a conformance suite that LlamaIndex has: read from the OpenAI, OpenAILike and Ollama
integrations and from the core's tests of callbacks and function calling.
"""

import pytest
from llama_index.core.base.llms.base import BaseLLM
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, LLMMetadata, ThinkingBlock
from llama_index.core.callbacks import CallbackManager, EventPayload, LlamaDebugHandler
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import LLM
from llama_index.core.tools import FunctionTool
from pydantic import BaseModel, Field

from llamaindex_llamacpp_server import LlamaServer
from tests.llamaindex.tools import heard_events
from tests.models import Script, tool_call


class Song(BaseModel):
    """A song with name and artist."""

    artist_name: str = Field(description="The name of the artist")
    song_name: str = Field(description="The name of the song")


def generate_song(artist_name: str, song_name: str) -> Song:
    """Generates a song with provided name and artist."""
    return Song(artist_name=artist_name, song_name=song_name)


tool = FunctionTool.from_defaults(fn=generate_song)
SONG = tool_call("generate_song", '{"artist_name": "Bad Bunny", "song_name": "Caro"}')


@pytest.fixture
def llm(scripted_server):
    says = {"song": SONG, "user": Script(thinks="Let me see.", says="I am a llama.")}
    model = LlamaServer(base_url=scripted_server(says).base_url)
    yield model
    model.close()


@pytest.fixture
def events():
    with heard_events() as heard:
        yield heard


# -- every package


def test_class():
    names_of_base_classes = [base.__name__ for base in LlamaServer.__mro__]
    assert BaseLLM.__name__ in names_of_base_classes
    assert LLM.__name__ in names_of_base_classes
    assert FunctionCallingLLM.__name__ in names_of_base_classes


def test_embedding_class():
    """The embedding's own tests have it; here it says that an LLM is none."""
    assert "BaseEmbedding" not in [base.__name__ for base in LlamaServer.__mro__]


def test_interfaces():
    llm = LlamaServer(model="models/llama")
    assert llm.class_name() == type(llm).__name__
    assert llm.model == "models/llama"


def test_serialization():
    llm = LlamaServer(model="models/llama", max_tokens=42, context_window=43, api_key="secret")
    serialized = llm.to_dict()
    assert serialized["max_tokens"] == 42
    assert serialized["context_window"] == 43
    assert "secret" not in str(serialized)
    assert LlamaServer.from_dict(serialized).to_dict() == serialized


def test_to_payload_includes_model_and_temperature():
    payload = LlamaServer(model="m", temperature=0.5).to_payload()
    assert payload["model"] == "m"
    assert payload["temperature"] == 0.5


# -- OpenAILike


def test_completion(llm):
    response = llm.complete("A long time ago in a galaxy far, far away")
    assert response.text == "I am a llama."


def test_chat(llm):
    response = llm.chat([ChatMessage(role="user", content="test message")])
    assert response.message.content == "I am a llama."


def test_extra_body_in_chat_and_completion(chat_server):
    with_extra = LlamaServer(
        base_url=chat_server.base_url, ignore_eos=True, extra_body={"n_predict": 2, "max_tokens": 2}
    )
    assert with_extra.chat([ChatMessage(content="x")]).raw["usage"]["completion_tokens"] == 2
    assert with_extra.complete("x", formatted=True).raw["usage"]["completion_tokens"] == 2
    assert with_extra.complete("x", extra_body={"n_predict": 3}).raw["usage"]["completion_tokens"] == 3
    with_extra.close()


# -- Ollama, whose names say what an LLM of a local server has to do


def test_llama_server_chat(llm):
    response = llm.chat([ChatMessage(role="user", content="Hello!")])
    assert response is not None
    assert str(response).strip() != ""


def test_llama_server_complete(llm):
    response = llm.complete("Hello!")
    assert response is not None
    assert str(response).strip() != ""


def test_llama_server_stream_chat(llm):
    for response in llm.stream_chat([ChatMessage(role="user", content="Hello!")]):
        assert response is not None
        assert response.delta is not None


def test_llama_server_stream_complete(llm):
    for response in llm.stream_complete("Hello!"):
        assert response is not None
        assert response.delta is not None


async def test_llama_server_async_chat(llm):
    response = await llm.achat([ChatMessage(role="user", content="Hello!")])
    assert str(response).strip() != ""
    await llm.aclose()


async def test_llama_server_async_complete(llm):
    response = await llm.acomplete("Hello!")
    assert str(response).strip() != ""
    await llm.aclose()


async def test_llama_server_async_stream_chat(llm):
    async for response in await llm.astream_chat([ChatMessage(role="user", content="Hello!")]):
        assert response.delta is not None
    await llm.aclose()


async def test_llama_server_async_stream_complete(llm):
    async for response in await llm.astream_complete("Hello!"):
        assert response.delta is not None
    await llm.aclose()


def test_chat_with_tools(llm):
    response = llm.chat_with_tools([tool], user_msg="Generate a song!")
    (tool_call,) = llm.get_tool_calls_from_response(response)
    assert tool_call.tool_name == tool.metadata.name
    result = tool(**tool_call.tool_kwargs)
    assert result.raw_output == Song(artist_name="Bad Bunny", song_name="Caro")


def test_stream_chat_with_tools(llm):
    """Makes sure that stream chat with tools returns tool call message without any errors."""
    chunks = list(llm.stream_chat_with_tools([tool], user_msg="Generate a song!"))
    for chunk in chunks:
        llm.get_tool_calls_from_response(chunk, error_on_no_tool_call=False)
    (tool_call,) = llm.get_tool_calls_from_response(chunks[-1], error_on_no_tool_call=False)
    assert tool_call.tool_name == tool.metadata.name
    assert isinstance(tool(**tool_call.tool_kwargs).raw_output, Song)


async def test_async_chat_with_tools(llm):
    response = await llm.achat_with_tools([tool], user_msg="Generate a song!")
    (tool_call,) = llm.get_tool_calls_from_response(response)
    assert isinstance(tool(**tool_call.tool_kwargs).raw_output, Song)
    await llm.aclose()


def test_chat_with_think(llm):
    response = llm.chat([ChatMessage(role="user", content="Hello!")], thinking=True)
    thinking = [block for block in response.message.blocks if isinstance(block, ThinkingBlock)]
    assert thinking[0].content.strip() == "Let me see."


def test_chat_with_tools_returns_empty_array_if_no_tools_were_called(llm):
    """Make sure get_tool_calls_from_response can gracefully handle no tools in response."""
    response = llm.chat([ChatMessage(role="user", content="Hello, how are you?")])
    assert response.message.additional_kwargs.get("tool_calls", []) == []
    assert llm.get_tool_calls_from_response(response, error_on_no_tool_call=False) == []


# -- the core's tests of callbacks


def test_llm_stream_chat_handler(llm, events):
    deltas = [response.delta for response in llm.stream_chat([ChatMessage(content="Hello")])]
    assert deltas
    names = [event.class_name() for event in events]
    assert names[0] == "LLMChatStartEvent"
    assert names[-1] == "LLMChatEndEvent"
    assert set(names[1:-1]) == {"LLMChatInProgressEvent", "LlamaServerProgressEvent"}


def test_llm_complete_prompt_arg(llm):
    assert llm.complete("test prompt").text


def test_llm_complete_prompt_kwarg(llm):
    assert llm.complete(prompt="test prompt").text


async def test_llm_acomplete_prompt_kwarg(llm):
    assert (await llm.acomplete(prompt="test prompt")).text
    await llm.aclose()


def test_llm_complete_throws_if_duplicate_prompt(llm):
    with pytest.raises(TypeError, match="multiple values for argument 'prompt'"):
        llm.complete("test prompt", prompt="test prompt")


async def test_llm_acomplete_throws_if_duplicate_prompt(llm):
    with pytest.raises(TypeError, match="multiple values for argument 'prompt'"):
        await llm.acomplete("test prompt", prompt="test prompt")


def test_llm_complete_throws_if_no_prompt(llm):
    with pytest.raises(ValueError, match="No prompt"):
        llm.complete()


def test_non_yielding_stream_is_closed_without_an_item(llm):
    stream = llm.stream_chat([ChatMessage(content="Hello")])
    stream.close()
    assert llm.complete("still here").text


def test_secrets_never_in_payload(llm, events):
    llm.api_key = "secret"
    llm.default_headers = {"X-Secret": "secret"}
    llm.callback_manager = CallbackManager([])
    llm.complete("Hello")
    assert "secret" not in str([event.model_dump() for event in events])


def test_llm_stream_complete_prompt_arg(llm):
    assert "".join(response.delta for response in llm.stream_complete("test prompt")) == "I am a llama."


def test_llm_stream_complete_prompt_kwarg(llm):
    assert "".join(response.delta for response in llm.stream_complete(prompt="test prompt")) == "I am a llama."


def test_llm_stream_complete_throws_if_duplicate_prompt(llm):
    with pytest.raises(TypeError, match="multiple values for argument 'prompt'"):
        llm.stream_complete("test prompt", prompt="test prompt")


def test_llm_stream_complete_throws_if_no_prompt(llm):
    with pytest.raises(ValueError, match="No prompt"):
        llm.stream_complete()


def test_llm_stream_chat_handles_nonyielding_stream(llm, events):
    """A reply without a token still ends with an item, and its events with it."""
    nothing = {"thinking": False, "stop": ["I"]}
    (only,) = llm.stream_chat([ChatMessage(content="Hello")], **nothing)
    assert (only.message.content, only.delta, only.additional_kwargs["finish_reason"]) == ("", "", "stop")
    assert events[-1].class_name() == "LLMChatEndEvent"


async def test_llm_astream_chat_handles_nonyielding_stream(llm):
    stream = await llm.astream_chat([ChatMessage(content="Hello")], thinking=False, stop=["I"])
    assert [item.message.content async for item in stream] == [""]
    await llm.aclose()


def test_to_payload_excludes_secrets():
    llm = LlamaServer(model="m", api_key="secret", default_headers={"X-Key": "secret"})
    payload = llm.to_payload()
    assert "api_key" not in payload
    assert "secret" not in str(payload)
    assert payload["class_name"] == "LlamaServer"


def test_to_payload_falls_back_to_metadata_model_name(llm):
    assert llm.model is None
    assert llm.to_payload()["model"] == llm.metadata.model_name != "unknown"


def test_callback_serialized_excludes_secrets(llm):
    debug = LlamaDebugHandler(print_trace_on_end=False)
    llm.api_key, llm.callback_manager = "sesame", CallbackManager([debug])
    llm.complete("Hello")
    ((start, _),) = debug.get_llm_inputs_outputs()
    assert start.payload[EventPayload.SERIALIZED]["class_name"] == "LlamaServer"
    assert "sesame" not in str(start.payload)


# -- the core's tests of function calling


def test_prepare_chat_with_tools_copies_the_history(llm):
    history = [ChatMessage(content="a")]
    prepared = llm._prepare_chat_with_tools([tool], user_msg="b", chat_history=history)
    assert [message.content for message in prepared["messages"]] == ["a", "b"]
    assert len(history) == 1


def test_predict_and_call(llm):
    response = llm.predict_and_call(tools=[tool], user_msg="a song")
    assert response.sources[0].raw_output == Song(artist_name="Bad Bunny", song_name="Caro")


async def test_apredict_and_call(llm):
    response = await llm.apredict_and_call(tools=[tool], user_msg="a song")
    assert response.sources[0].raw_output == Song(artist_name="Bad Bunny", song_name="Caro")
    await llm.aclose()


def _fails(artist_name: str, song_name: str) -> None:
    """Fails."""
    raise RuntimeError("no such song")


failing = FunctionTool.from_defaults(fn=_fails, name="generate_song")


def test_predict_and_call_throws_if_error_on_tool(llm):
    with pytest.raises(ValueError, match="no such song"):
        llm.predict_and_call(tools=[failing], user_msg="a song", error_on_tool_error=True)


async def test_apredict_and_call_throws_if_error_on_tool(llm):
    with pytest.raises(ValueError, match="no such song"):
        await llm.apredict_and_call(tools=[failing], user_msg="a song", error_on_tool_error=True)
    await llm.aclose()


def test_metadata(llm):
    assert isinstance(llm.metadata, LLMMetadata)
    assert llm.metadata.is_function_calling_model


def test_response_is_plain_data(llm):
    response = llm.chat([ChatMessage(content="Hello")])
    assert ChatResponse.model_validate_json(response.model_dump_json()).message == response.message
