"""Deltas and replies become LangChain's chunks and results."""

from typing import Any

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk

from llamacpp_server import (
    ChatChoice,
    ChatDelta,
    ChatReply,
    PromptProgress,
    ReplyStart,
    Timings,
    ToolCall,
    ToolCallFragment,
    Usage,
)
from tests.langchain.behind_doors import StreamConverter, result, text_chunk

START = ReplyStart("chatcmpl-1", "tiny", 1795174294, "b11434-abc")
PROVIDER = {"model_provider": "llamacpp-server"}


def converted(*deltas: ChatDelta, **options: Any) -> list[AIMessageChunk]:
    converter = StreamConverter(**options)
    chunks = [chunk for delta in deltas if (chunk := converter.add(delta)) is not None]
    return [chunk.message for chunk in [*chunks, converter.last()]]  # type: ignore[misc]


def added_up(*deltas: ChatDelta) -> AIMessageChunk:
    first, *rest = converted(*deltas)
    return first + rest


def same(made: ChatGenerationChunk, message: AIMessageChunk, info: dict[str, Any] | None = None) -> None:
    """Whether a chunk is what LangChain's constructors make."""
    usual = ChatGenerationChunk(message=message, generation_info=info)
    assert made == usual
    assert made.model_dump() == usual.model_dump()
    assert repr(made) == repr(usual)
    assert made.message.__dict__.keys() == usual.message.__dict__.keys()
    assert type(made.message.__pydantic_extra__) is dict


@pytest.mark.parametrize(("text", "thinking"), [("Hi", ""), ("", "Hm"), ("Hi", "Hm"), ("", "")])
def test_a_chunk_made_the_short_way_is_what_the_constructors_make(text: str, thinking: str) -> None:
    extra = {"reasoning_content": thinking} if thinking else {}
    same(text_chunk(text, thinking), AIMessageChunk(content=text, additional_kwargs=extra, response_metadata=PROVIDER))


FRAGMENTS = [
    '"key": 1,',
    "{",
    '{"a": 1}',
    "",
    "  {",
    '"',
    "}",
    "12",
    "null",
    "[",
    '[{"a": 1}]',
    "\n",
    "true}",
    '{"a": ',
]


@pytest.mark.parametrize("arguments", FRAGMENTS)
@pytest.mark.parametrize(("call_id", "name"), [("c1", "add"), ("", "")])
def test_a_fragment_of_a_call_is_what_the_constructors_make(arguments: str, call_id: str, name: str) -> None:
    made = StreamConverter().add(ChatDelta(tool_calls=(ToolCallFragment(0, call_id, name, arguments),)))
    piece = tool_call_chunk(name=name or None, args=arguments, id=call_id or None, index=0)
    assert made is not None
    same(made, AIMessageChunk(content="", response_metadata=PROVIDER, tool_call_chunks=[piece]))


@pytest.mark.parametrize("reason", ["stop", None])
@pytest.mark.parametrize("usage", [Usage(5, 2, 3), None])
@pytest.mark.parametrize("arguments", ["", '{"a": 1}', '{"a": '])
def test_the_last_chunk_is_what_the_constructors_make(reason: str | None, usage: Usage | None, arguments: str) -> None:
    converter = StreamConverter()
    converter.add(ChatDelta(tool_calls=(ToolCallFragment(0, "c1", "add", arguments),)))
    converter.add(ChatDelta(finish_reason=reason, usage=usage, timings=Timings(prompt_n=2)))
    made = converter.last()
    message = made.message
    assert isinstance(message, AIMessageChunk)
    usual = AIMessageChunk(
        content="",
        tool_call_chunks=message.tool_call_chunks,
        response_metadata=message.response_metadata,
        usage_metadata=message.usage_metadata,
        chunk_position="last",
    )
    assert bool(message.tool_call_chunks) == (arguments == '{"a": ')
    assert bool(message.usage_metadata) == (usage is not None)
    assert made.generation_info == ({"finish_reason": reason} if reason else None)
    same(made, usual, made.generation_info)
    # LangChain sets the id of each chunk, and adds them up.
    assert message + AIMessageChunk(content="!") == usual + AIMessageChunk(content="!")


def test_chunks_share_nothing_that_can_change() -> None:
    one, other = text_chunk("a").message, text_chunk("a").message
    for name, value in vars(one).items():
        assert not (isinstance(value, list | dict) and value is vars(other)[name]), name


def test_what_is_said_once_is_unchanged_after_adding_up() -> None:
    full = added_up(
        ChatDelta(start=START),
        ChatDelta("Hel"),
        ChatDelta("lo"),
        ChatDelta(finish_reason="stop"),
        ChatDelta(usage=Usage(5, 2, 3), timings=Timings(prompt_n=2, predicted_ms=1.5)),
    )
    assert full.content == "Hello"
    assert full.chunk_position == "last"
    assert full.usage_metadata == {
        "input_tokens": 5,
        "output_tokens": 2,
        "total_tokens": 7,
        "input_token_details": {"cache_read": 3},
    }
    assert full.response_metadata == {
        **PROVIDER,
        "model_name": "tiny",
        "id": "chatcmpl-1",
        "created": 1795174294,
        "system_fingerprint": "b11434-abc",
        "finish_reason": "stop",
        "timings": {"prompt_n": 2, "prompt_ms": 0.0, "predicted_n": 0, "predicted_ms": 1.5},
    }


def test_the_last_chunk_is_the_one_with_the_end_and_the_counts() -> None:
    *before, last = converted(
        ChatDelta("Hi", start=START), ChatDelta(finish_reason="stop"), ChatDelta(usage=Usage(1, 1))
    )
    assert [chunk.content for chunk in before] == ["Hi"]
    assert [chunk.chunk_position for chunk in before] == [None]
    assert (last.content, last.chunk_position) == ("", "last")
    assert last.response_metadata["finish_reason"] == "stop"
    assert last.usage_metadata is not None


def test_text_next_to_the_end_is_not_lost() -> None:
    assert added_up(ChatDelta("Hi"), ChatDelta("!", finish_reason="stop")).content == "Hi!"


def test_counts_can_be_left_out() -> None:
    assert converted(ChatDelta("Hi"), ChatDelta(usage=Usage(1, 1)), usage=False)[-1].usage_metadata is None


def test_what_comes_many_times_adds_up_to_a_list() -> None:
    full = added_up(
        ChatDelta(start=START, progress=PromptProgress(100, 0, 50, 3)),
        ChatDelta(progress=PromptProgress(100, 0, 100, 7)),
        ChatDelta("a", timings=Timings(predicted_n=1), logprobs={"content": [{"token": "a", "logprob": -1.0}]}),
        ChatDelta("b", timings=Timings(predicted_n=2), logprobs={"content": [{"token": "b", "logprob": -2.0}]}),
        ChatDelta(finish_reason="stop", timings=Timings(predicted_n=3)),
    )
    metadata = full.response_metadata
    assert [progress["processed"] for progress in metadata["prompt_progress"]] == [50, 100]
    assert [timings["predicted_n"] for timings in metadata["token_timings"]] == [1, 2]
    assert metadata["timings"]["predicted_n"] == 3
    assert [token["token"] for token in metadata["logprobs"]["content"]] == ["a", "b"]


def test_calls_are_put_together_by_their_place() -> None:
    full = added_up(
        ChatDelta("Let me see.", start=START),
        ChatDelta(tool_calls=(ToolCallFragment(0, "c1", "add", "{"),)),
        ChatDelta(tool_calls=(ToolCallFragment(0, arguments='"a": 1}'),)),
        ChatDelta(tool_calls=(ToolCallFragment(1, "c2", "sub", "{}"),)),
        ChatDelta(finish_reason="tool_calls"),
    )
    assert [(c["id"], c["name"], c["args"]) for c in full.tool_calls] == [("c1", "add", {"a": 1}), ("c2", "sub", {})]
    assert full.invalid_tool_calls == []
    assert full.response_metadata["finish_reason"] == "tool_calls"


def test_an_unstreamed_reply() -> None:
    choice = ChatChoice("Hi", "Hm", (ToolCall("c1", "add", '{"a": 1}'), ToolCall("c2", "add", '{"a":')), "length")
    reply = result(ChatReply((choice,), START, Usage(5, 2, 3), Timings(prompt_n=2)))
    message = reply.generations[0].message
    assert isinstance(message, AIMessage)
    assert message.additional_kwargs == {"reasoning_content": "Hm"}
    assert [call["args"] for call in message.tool_calls] == [{"a": 1}]
    assert [(call["id"], call["args"]) for call in message.invalid_tool_calls] == [("c2", '{"a":')]
    assert message.response_metadata["finish_reason"] == "length"
    assert message.response_metadata["timings"]["prompt_n"] == 2
    assert reply.llm_output is not None
    assert reply.llm_output["token_usage"]["prompt_tokens_details"] == {"cached_tokens": 3}


@pytest.mark.parametrize("arguments", ["[1]", '"text"', "3", "null", "{", "{]"])
def test_arguments_that_are_not_an_object_are_kept_apart(arguments: str) -> None:
    choice = ChatChoice(tool_calls=(ToolCall("c1", "add", arguments),))
    message = result(ChatReply((choice,))).generations[0].message
    assert isinstance(message, AIMessage)
    assert message.tool_calls == []
    assert message.invalid_tool_calls[0]["args"] == arguments
    assert message.invalid_tool_calls[0]["error"]


def test_the_usage_of_several_answers_is_reported_once() -> None:
    reply = result(ChatReply((ChatChoice("a"), ChatChoice("b")), START, Usage(5, 4)))
    counts = [generation.message.usage_metadata for generation in reply.generations]  # type: ignore[attr-defined]
    assert counts[0]["output_tokens"] == 4
    assert counts[1] is None
