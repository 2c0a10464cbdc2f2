"""The chat model on a real server: text, thinking, tools, counts, timings, in all the ways to call it."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from langchain_core.callbacks import BaseCallbackHandler, UsageMetadataCallbackHandler
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.rate_limiters import InMemoryRateLimiter

from langchain_llamacpp_server import ChatLlamaServer, MissingToolCallError
from llamacpp_server import LocalServer
from tests.langchain.conftest import get_weather

ANSWER = "Hello there, friend!"
Recorded = Callable[..., tuple[ChatLlamaServer, list[Any]]]


def added_up(chunks: list[AIMessageChunk]) -> AIMessageChunk:
    first, *rest = chunks
    return first + rest


async def in_all_ways(llm: Any, text: str) -> list[AIMessage]:
    return [
        llm.invoke(text),
        await llm.ainvoke(text),
        added_up(list(llm.stream(text))),
        added_up([chunk async for chunk in llm.astream(text)]),
        llm.batch([text, text])[1],
        (await llm.abatch([text, text]))[1],
    ]


async def test_an_answer_is_the_same_in_all_ways(llm: ChatLlamaServer) -> None:
    for message in await in_all_ways(llm, "Hi"):
        assert message.text == ANSWER
        assert message.additional_kwargs == {"reasoning_content": "A greeting.\n"}
        assert message.content_blocks == [
            {"type": "reasoning", "reasoning": "A greeting.\n"},
            {"type": "text", "text": ANSWER},
        ]
        counts = message.usage_metadata
        assert counts is not None
        assert counts["output_tokens"] > 5
        assert counts["input_token_details"]["cache_read"] >= 0
        metadata = message.response_metadata
        assert metadata["model_provider"] == "llamacpp-server"
        assert metadata["model_name"] == llm.model_name
        assert metadata["finish_reason"] == "stop"
        assert metadata["id"].startswith("chatcmpl-")
        assert metadata["timings"]["predicted_n"] == counts["output_tokens"]


async def test_calls_are_the_same_in_all_ways(llm: ChatLlamaServer) -> None:
    for message in await in_all_ways(llm.bind_tools([get_weather]), "weather"):
        assert [(call["name"], call["args"]) for call in message.tool_calls] == [
            ("get_weather", {"city": "Oslo"}),
            ("get_weather", {"city": "Rome"}),
        ]
        assert message.text.startswith("Let me look.")
        assert message.invalid_tool_calls == []
        assert [block["type"] for block in message.content_blocks] == ["reasoning", "text", "tool_call", "tool_call"]
        assert message.response_metadata["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("text", ["Hi", "weather"])
def test_every_chunk_is_tagged_and_only_the_last_is_last(llm: ChatLlamaServer, text: str) -> None:
    *chunks, last = llm.bind_tools([get_weather]).stream(text)
    assert {chunk.response_metadata["model_provider"] for chunk in [*chunks, last]} == {"llamacpp-server"}
    assert {chunk.chunk_position for chunk in chunks} == {None}  # type: ignore[attr-defined]
    assert last.chunk_position == "last"  # type: ignore[attr-defined]
    assert last.usage_metadata
    assert last.response_metadata["timings"]


def test_odd_characters_arrive_as_they_are(llm: ChatLlamaServer) -> None:
    assert "".join(chunk.text for chunk in llm.stream("odd")) == "a\u2028bc\u0085d 🎈"


def test_streams_on_the_wire_always(talker: LocalServer, recorded: Recorded) -> None:
    llm, requests = recorded(talker, max_tokens=4)
    llm.invoke("Hi")
    assert requests[0]["stream"] is True
    assert requests[0]["stream_options"] == {"include_usage": True}


def test_only_what_was_given_is_sent(talker: LocalServer, recorded: Recorded) -> None:
    llm, requests = recorded(talker, temperature=0, extra_body={"new_field": 1})
    llm.invoke("Hi", top_k=5, temperature=None)
    sent = {name: value for name, value in requests[0].items() if name not in ("headers", "url", "stream_options")}
    assert sent == {"messages": [{"role": "user", "content": "Hi"}], "top_k": 5, "new_field": 1, "stream": True}


def test_headers_and_queries_of_a_call_come_on_top(talker: LocalServer, recorded: Recorded) -> None:
    llm, requests = recorded(talker, default_headers={"X-A": "1"}, default_query={"a": "1"}, api_key="k")
    llm.invoke("Hi", max_tokens=1, extra_headers={"X-B": "2"}, extra_query={"b": 2})
    assert {name: requests[0]["headers"][name] for name in ("x-a", "x-b", "authorization")} == {
        "x-a": "1",
        "x-b": "2",
        "authorization": "Bearer k",
    }
    assert requests[0]["url"].query == b"a=1&b=2"


def test_thinking_is_sent_back(talker: LocalServer, recorded: Recorded) -> None:
    llm, requests = recorded(talker)
    for version in ("v0", "v1"):
        answer = llm.model_copy(update={"output_version": version}).invoke("Hi")
        llm.invoke(["Hi", answer, HumanMessage("Go on")], max_tokens=1)
        assert requests[-1]["messages"][1] == {
            "role": "assistant",
            "content": ANSWER,
            "reasoning_content": "A greeting.\n",
        }


@pytest.mark.parametrize("switch", [False, 0, "none"])
def test_thinking_is_switched_off_by_one_word(llm: ChatLlamaServer, switch: Any) -> None:
    assert "reasoning_content" not in llm.invoke("Hi", thinking=switch).additional_kwargs
    assert "reasoning_content" in llm.invoke("Hi", thinking=True).additional_kwargs


async def test_thinking_of_the_model_is_beaten_by_the_call(llm: ChatLlamaServer) -> None:
    silent = llm.model_copy(update={"thinking": False})
    assert "reasoning_content" not in (await silent.ainvoke("Hi")).additional_kwargs
    assert "reasoning_content" in (await silent.ainvoke("Hi", thinking=True)).additional_kwargs
    assert "reasoning_content" in (await silent.ainvoke("Hi", thinking=None)).additional_kwargs


def test_a_conversation_with_calls(llm: ChatLlamaServer) -> None:
    bound = llm.bind_tools([get_weather])
    answer = bound.invoke("weather")
    results = [ToolMessage(get_weather(**call["args"]), tool_call_id=call["id"]) for call in answer.tool_calls]
    assert bound.invoke([HumanMessage("weather"), answer, *results]).text == "It is sunny."


def test_a_broken_call_is_kept_apart_and_does_not_block_the_conversation(llm: ChatLlamaServer) -> None:
    bound = llm.bind_tools([get_weather])
    answer = bound.invoke("broken", max_tokens=5, thinking=False)
    assert answer.tool_calls == []
    assert answer.invalid_tool_calls[0]["args"].startswith("{")
    result = ToolMessage("not valid JSON", tool_call_id=answer.invalid_tool_calls[0]["id"])
    assert bound.invoke([HumanMessage("broken"), answer, result]).text == "It is sunny."
    assert bound.invoke([HumanMessage("broken"), answer, HumanMessage("Hi")]).text == ANSWER


@pytest.mark.parametrize("streamed", [False, True])
def test_a_forced_call_that_does_not_come_is_an_error(nonsense: ChatLlamaServer, streamed: bool) -> None:
    bound = nonsense.bind_tools([get_weather], tool_choice="any", max_tokens=1)
    with pytest.raises(MissingToolCallError, match="max_tokens") as caught:
        list(bound.stream("Hi")) if streamed else bound.invoke("Hi")
    assert caught.value.finish_reason == "length"


def test_the_named_tool_is_really_forced(talker: LocalServer, recorded: Recorded) -> None:
    def other() -> str:
        """Another tool."""
        return ""

    llm, requests = recorded(talker)
    answer = llm.bind_tools([other, get_weather], tool_choice="get_weather").invoke("weather")
    assert {call["name"] for call in answer.tool_calls} == {"get_weather"}
    assert requests[0]["tool_choice"] == "required"
    assert [tool["function"]["name"] for tool in requests[0]["tools"]] == ["get_weather"]


def test_several_answers(nonsense: ChatLlamaServer, chat_server: LocalServer, recorded: Recorded) -> None:
    result = nonsense.generate([[HumanMessage("Hi")]], n=2)
    assert len(result.generations[0]) == 2
    llm, requests = recorded(chat_server, max_tokens=4)
    list(llm.stream("Hi", n=2))
    assert requests[0]["n"] == 1, "a stream is one message"


def test_the_counts_of_several_prompts_add_up(nonsense: ChatLlamaServer) -> None:
    result = nonsense.generate([[HumanMessage("Hi")], [HumanMessage("Ho")]], max_tokens=3, ignore_eos=True)
    assert result.llm_output is not None
    assert result.llm_output["token_usage"]["completion_tokens"] == 6
    assert result.llm_output["model_name"] == "random"
    twice = nonsense.generate([[HumanMessage("Hi")], [HumanMessage("Ho")]], n=2, max_tokens=3, ignore_eos=True)
    messages = [generation.message for answers in twice.generations for generation in answers]  # type: ignore[union-attr]
    assert sum(m.usage_metadata["output_tokens"] for m in messages if m.usage_metadata) == 12  # type: ignore[attr-defined]
    assert twice.llm_output is not None
    assert twice.llm_output["token_usage"]["completion_tokens"] == 12


def test_probabilities_timings_and_progress_where_asked_for(nonsense: ChatLlamaServer) -> None:
    asked = {"logprobs": True, "top_logprobs": 2, "timings_per_token": True, "return_progress": True}
    message = added_up(list(nonsense.stream("Hello " * 50, max_tokens=4, ignore_eos=True, cache_prompt=False, **asked)))
    metadata = message.response_metadata
    assert len(metadata["logprobs"]["content"][0]["top_logprobs"]) == 2
    assert metadata["token_timings"]
    assert metadata["prompt_progress"][-1]["processed"] == message.usage_metadata["input_tokens"]  # type: ignore[index]
    assert nonsense.invoke("Hi", **asked).response_metadata["logprobs"]["content"]


def test_streamed_log_probabilities_add_up_to_openais_shape(llm: ChatLlamaServer) -> None:
    asked = {"logprobs": True, "top_logprobs": 2, "thinking": False}
    streamed, invoked = added_up(list(llm.stream("Hi", **asked))), llm.invoke("Hi", **asked)
    content = streamed.response_metadata["logprobs"]["content"]
    assert "".join(token["token"] for token in content) == "Hello there, friend!" == streamed.text
    assert all({"token", "logprob", "bytes", "top_logprobs"} <= token.keys() for token in content)
    assert [token["token"] for token in invoked.response_metadata["logprobs"]["content"]] == [
        token["token"] for token in content
    ]
    own = llm.invoke("Hi", **{**asked, "top_logprobs": 0}).response_metadata["logprobs"]["content"]
    assert [(token["token"], token["top_logprobs"]) for token in own] == [(token["token"], []) for token in content]


def test_all_answers_are_generations_and_counted(nonsense: ChatLlamaServer) -> None:
    result = nonsense.generate([[HumanMessage("Hi")]], n=2, max_tokens=3, ignore_eos=True)
    assert len(result.generations[0]) == 2
    assert result.llm_output is not None
    usage = result.llm_output["token_usage"]
    assert usage["completion_tokens"] == 6
    assert usage["prompt_tokens"] == nonsense.get_num_tokens_from_messages([HumanMessage("Hi")])


def test_the_guesses_of_a_draft_model_are_reported(serve: Any, models_dir: Path) -> None:
    server = serve("random.gguf", draft_model=models_dir / "random.gguf", parallel=1, ctx_size=2048)
    llm = ChatLlamaServer(base_url=server.base_url, max_tokens=40, temperature=0, ignore_eos=True, thinking=False)
    for message in (llm.invoke("Hi"), added_up(list(llm.stream("Hi")))):
        timings = message.response_metadata["timings"]
        assert 0 < timings["draft_n_accepted"] <= timings["draft_n"]


def test_stop_texts(llm: ChatLlamaServer) -> None:
    assert llm.invoke("Hi", stop=["friend"]).text == "Hello there, "
    stopping = llm.model_copy(update={"stop": ["there"]})
    assert stopping.invoke("Hi").text == "Hello "
    assert stopping.invoke("Hi", stop=["friend"]).text == "Hello there, "
    assert stopping.invoke("Hi", stop=[]).text == ANSWER


@pytest.mark.parametrize(
    ("asked", "begins"),
    [({"continue_final_message": True}, False), ({"continue_final_message": True, "echo": True}, True)],
)
def test_an_answer_is_continued(nonsense: ChatLlamaServer, asked: dict[str, Any], begins: bool) -> None:
    begun = [HumanMessage("Hi"), AIMessage("The answer is")]
    assert nonsense.invoke(begun, **asked).text.startswith("The answer is") is begins


class Tokens(BaseCallbackHandler):
    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.errors: list[BaseException] = []

    def on_llm_new_token(self, token: Any, *, chunk: Any = None, run_id: UUID, **kwargs: Any) -> None:
        assert isinstance(chunk, ChatGenerationChunk)
        self.tokens.append(token)

    def on_llm_error(self, error: BaseException, **kwargs: Any) -> None:
        self.errors.append(error)


def test_callbacks_receive_each_token_once(llm: ChatLlamaServer) -> None:
    heard = Tokens()
    list(llm.stream("Hi", config={"callbacks": [heard]}))
    assert "".join(heard.tokens) == ANSWER
    heard = Tokens()
    llm.model_copy().invoke("Hi", config={"callbacks": [heard]})
    assert heard.tokens == []
    ChatLlamaServer(base_url=llm.base_url, streaming=True).invoke("Hi", config={"callbacks": [heard]})
    assert "".join(heard.tokens) == ANSWER


def test_streaming_can_be_switched_off(llm: ChatLlamaServer) -> None:
    for off in ({"disable_streaming": True}, {"streaming": False}):
        assert len(list(ChatLlamaServer(base_url=llm.base_url, **off).stream("Hi"))) == 1
    by_tool = ChatLlamaServer(base_url=llm.base_url, disable_streaming="tool_calling")
    assert len(list(by_tool.bind_tools([get_weather]).stream("Hi"))) == 1
    assert len(list(by_tool.stream("Hi"))) > 2


def test_counts_reach_the_handler_that_sums_them(llm: ChatLlamaServer) -> None:
    handler = UsageMetadataCallbackHandler()
    llm.invoke("Hi", config={"callbacks": [handler]})
    list(llm.stream("Hi", config={"callbacks": [handler]}))
    assert llm.model_name is not None
    assert handler.usage_metadata[llm.model_name]["output_tokens"] > 10
    *_, last = llm.stream("Hi", stream_usage=False)
    assert last.usage_metadata is None


def test_a_rate_limiter_is_asked(llm: ChatLlamaServer) -> None:
    asked = []

    class Limiter(InMemoryRateLimiter):
        def acquire(self, *, blocking: bool = True) -> bool:
            asked.append(blocking)
            return True

    limited = llm.model_copy(update={"rate_limiter": Limiter()})
    limited.invoke("Hi")
    list(limited.stream("Hi"))
    assert asked == [True, True]


def test_one_model_in_many_event_loops(llm: ChatLlamaServer) -> None:
    assert [asyncio.run(llm.ainvoke("Hi")).text for _ in range(3)] == [ANSWER] * 3
