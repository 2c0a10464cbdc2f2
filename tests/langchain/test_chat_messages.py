"""LangChain's messages, in every shape, become the server's."""

import base64
import json
from typing import Any

import pytest
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)

from langchain_llamacpp_server import ChatLlamaServer
from llamacpp_server import BadRequestError, LocalServer, NotSupportedError
from tests.langchain.behind_doors import to_wire

B64 = base64.b64encode("tëxt".encode()).decode()
IMAGE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{B64}"}}
WEB = {"type": "image_url", "image_url": {"url": "http://host/a.png"}}
FILE = {"type": "file", "file": {"file_data": "http://host/a.txt"}}
CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": "ü"}'}}


def wire(*messages: BaseMessage) -> list[dict[str, Any]]:
    return to_wire(messages)  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (HumanMessage("Hi"), {"role": "user", "content": "Hi"}),
        (HumanMessage("Hi", name="Ann"), {"role": "user", "content": "Hi", "name": "Ann"}),
        (SystemMessage("Be brief."), {"role": "system", "content": "Be brief."}),
        (
            SystemMessage("Be brief.", additional_kwargs={"__openai_role__": "developer"}),
            {"role": "developer", "content": "Be brief."},
        ),
        (ChatMessage("Hi", role="critic"), {"role": "critic", "content": "Hi"}),
        (FunctionMessage("3", name="add"), {"role": "function", "content": "3", "name": "add"}),
        (AIMessage("Hi"), {"role": "assistant", "content": "Hi"}),
        (ToolMessage("3", tool_call_id="c1"), {"role": "tool", "content": "3", "tool_call_id": "c1"}),
        (ToolMessage("no", tool_call_id="c1", status="error"), {"role": "tool", "content": "no", "tool_call_id": "c1"}),
    ],
)
def test_roles(message: BaseMessage, expected: dict[str, Any]) -> None:
    assert wire(message) == [expected]


@pytest.mark.parametrize(
    ("block", "part"),
    [
        ({"type": "image", "base64": B64, "mime_type": "image/png"}, IMAGE),
        ({"type": "image", "url": "http://host/a.png"}, WEB),
        ({"type": "image", "source_type": "base64", "data": B64, "mime_type": "image/png"}, IMAGE),
        ({"type": "image", "source_type": "url", "url": "http://host/a.png"}, WEB),
        ({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": B64}}, IMAGE),
        ({"type": "image", "source": {"type": "url", "url": "http://host/a.png"}}, WEB),
        ({"type": "image_url", "image_url": {"url": "http://host/a.png"}}, WEB),
        ({"type": "image_url", "image_url": "http://host/a.png"}, WEB),
        ({"type": "input_image", "image_url": "http://host/a.png"}, WEB),
        ({"type": "file", "base64": B64, "mime_type": "image/png"}, IMAGE),
        ({"type": "non_standard", "value": {"type": "image", "url": "http://host/a.png"}}, WEB),
        (
            {"type": "audio", "base64": B64, "mime_type": "audio/mpeg"},
            {"type": "input_audio", "input_audio": {"data": B64, "format": "mp3"}},
        ),
        (
            {"type": "audio", "url": "http://host/a.wav"},
            {"type": "input_audio", "input_audio": {"url": "http://host/a.wav"}},
        ),
        (
            {"type": "input_audio", "input_audio": {"data": B64, "format": "wav"}},
            {"type": "input_audio", "input_audio": {"data": B64, "format": "wav"}},
        ),
        (
            {"type": "video", "base64": B64, "mime_type": "video/mp4"},
            {"type": "input_video", "input_video": {"data": B64, "format": "mp4"}},
        ),
        (
            {"type": "video", "url": "http://host/a.mp4"},
            {"type": "input_video", "input_video": {"url": "http://host/a.mp4"}},
        ),
        ({"type": "text-plain", "text": "tëxt"}, {"type": "text", "text": "tëxt"}),
        ({"type": "text-plain", "base64": B64, "mime_type": "text/plain"}, {"type": "text", "text": "tëxt"}),
        ({"type": "file", "base64": B64, "mime_type": "text/csv"}, {"type": "text", "text": "tëxt"}),
        ({"type": "file", "file": {"file_data": f"data:text/csv;base64,{B64}"}}, {"type": "text", "text": "tëxt"}),
        ({"type": "document", "source": {"type": "text", "data": "tëxt"}}, {"type": "text", "text": "tëxt"}),
        ({"type": "text-plain", "url": "http://host/a.txt"}, FILE),
        ({"type": "file", "url": "http://host/a.txt", "mime_type": "text/plain"}, FILE),
        ({"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "Hi"}),
        ({"type": "refusal", "refusal": "No."}, {"type": "text", "text": "No."}),
        ({"type": "of the future", "x": 1}, {"type": "of the future", "x": 1}),
    ],
)
def test_blocks(block: dict[str, Any], part: dict[str, Any]) -> None:
    assert wire(HumanMessage(["See:", block]))[0]["content"] == [{"type": "text", "text": "See:"}, part]
    assert wire(ToolMessage(["See:", block], tool_call_id="c1"))[0]["content"][1] == part


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ({"type": "file", "base64": B64, "mime_type": "application/pdf"}, "PDF"),
        ({"type": "file", "file": {"file_data": f"data:application/pdf;base64,{B64}"}}, "PDF"),
        ({"type": "file", "file_id": "file-1"}, "unknown"),
        ({"type": "file", "base64": B64, "mime_type": "application/zip"}, "application/zip"),
        ({"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": B64}}, "PDF"),
        ({"type": "image", "file_id": "file-1"}, "file_id"),
        ({"type": "image"}, "no data"),
        ({"type": "text-plain", "base64": "/w==", "mime_type": "text/plain"}, "UTF-8"),
    ],
)
def test_what_the_server_can_not_read_is_refused(block: dict[str, Any], words: str) -> None:
    with pytest.raises(BadRequestError, match=words):
        wire(HumanMessage([block]))


def test_a_single_text_block_is_a_string() -> None:
    assert wire(HumanMessage([{"type": "text", "text": "Hi"}]))[0]["content"] == "Hi"
    assert wire(HumanMessage([""]))[0]["content"] == ""


def test_the_pieces_of_an_answer_are_joined() -> None:
    answer = AIMessage([{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}])
    assert wire(answer)[0]["content"] == "Hello"


@pytest.mark.parametrize(
    "message",
    [
        AIMessage("Hi", additional_kwargs={"reasoning_content": "Hm"}),
        AIMessage([{"type": "reasoning", "reasoning": "Hm"}, {"type": "text", "text": "Hi"}]),
        AIMessage([{"type": "reasoning", "summary": [{"text": "H"}, {"text": "m"}]}, {"type": "text", "text": "Hi"}]),
        AIMessage([{"type": "thinking", "thinking": "Hm", "signature": "x"}, {"type": "text", "text": "Hi"}]),
        AIMessage(
            [{"type": "reasoning", "reasoning": "Hm"}, {"type": "text", "text": "Hi"}],
            additional_kwargs={"reasoning_content": "Hm"},
        ),
    ],
)
def test_thinking_is_sent_back_once_from_either_place(message: AIMessage) -> None:
    assert wire(message) == [{"role": "assistant", "content": "Hi", "reasoning_content": "Hm"}]


@pytest.mark.parametrize(
    "message",
    [
        AIMessage("", tool_calls=[{"id": "c1", "name": "add", "args": {"a": "ü"}}]),
        AIMessage(
            [{"type": "tool_call", "id": "c1", "name": "add", "args": {"a": "ü"}}],
            tool_calls=[{"id": "c1", "name": "add", "args": {"a": "ü"}}],
        ),
        AIMessage([{"type": "tool_use", "id": "c1", "name": "add", "input": {"a": "ü"}}]),
        AIMessage(content_blocks=[{"type": "tool_call", "id": "c1", "name": "add", "args": {"a": "ü"}}]),
    ],
)
def test_calls_are_sent_once_and_unescaped(message: AIMessage) -> None:
    assert wire(message) == [{"role": "assistant", "content": "", "tool_calls": [CALL]}]


def test_arguments_that_were_changed_since_the_last_turn_are_sent_as_they_are_now() -> None:
    message = AIMessage("", tool_calls=[{"id": "c1", "name": "add", "args": {"a": "ü", "more": [1]}}])
    seen = []
    for change in ({}, {"a": 1}, {"a": True}, {"a": 1.0}, {"a": "1"}, {"more": [1]}, {"more": [2]}):
        message.tool_calls[0]["args"].update(change)
        seen.append(wire(message)[0]["tool_calls"][0]["function"]["arguments"])
        assert seen[-1] == json.dumps(message.tool_calls[0]["args"], ensure_ascii=False)
    message.tool_calls[0]["args"]["more"].append(3)
    assert wire(message)[0]["tool_calls"][0]["function"]["arguments"] == '{"a": "1", "more": [2, 3]}'
    assert len(set(seen)) == 6, "only the list that was equal is the same"


@pytest.mark.parametrize("kind", [set, object, "itself"])
def test_arguments_that_json_does_not_have_are_refused(kind: Any) -> None:
    given: dict[str, Any] = {}
    given["a"] = given if kind == "itself" else kind()
    message = AIMessage("", tool_calls=[{"id": "c1", "name": "add", "args": {}}])
    message.tool_calls[0]["args"] = given
    for _ in range(2):
        with pytest.raises(BadRequestError, match="the arguments of a call of add can't be written as JSON"):
            wire(message)


def test_a_broken_call_is_passed_on_as_the_model_wrote_it() -> None:
    """The client repairs it, for both frameworks and with a word in the reply's metadata."""
    call = {"id": "c1", "name": "add", "args": '{"a":', "error": None, "type": "invalid_tool_call"}
    assert wire(AIMessage("", invalid_tool_calls=[call]))[0]["tool_calls"] == [
        {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a":'}}
    ]


def test_anthropics_results_become_messages_of_their_own() -> None:
    result = {"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "3"}]}
    assert wire(HumanMessage([result, {"type": "text", "text": "And?"}])) == [
        {"role": "tool", "content": "3", "tool_call_id": "c1"},
        {"role": "user", "content": "And?"},
    ]
    assert wire(HumanMessage([{"type": "tool_result", "tool_use_id": "c1"}])) == [
        {"role": "tool", "content": "", "tool_call_id": "c1"}
    ]


def test_another_providers_own_blocks_are_dropped_with_a_word(
    caplog: pytest.LogCaptureFixture, fresh_notices: set[str]
) -> None:
    message = AIMessage([{"type": "server_tool_call", "id": "x", "name": "search", "args": {}}, "Found."])
    assert wire(message) == [{"role": "assistant", "content": "Found."}]
    assert "server_tool_call" in caplog.text


def test_a_message_for_a_graph_is_refused() -> None:
    with pytest.raises(BadRequestError, match="RemoveMessage"):
        wire(RemoveMessage(id="1"))


def test_a_medium_that_the_server_lacks_is_refused_before_sending(chat_server: LocalServer) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    llm = ChatLlamaServer(base_url=chat_server.base_url)
    before = chat_server.client().metrics()["n_decode_total"]
    with pytest.raises(NotSupportedError, match="does not support image input") as caught:
        llm.invoke([HumanMessage([image])])
    assert "--mmproj" in str(caught.value)
    assert caught.value.status is None, "it was not sent"
    assert chat_server.client().metrics()["n_decode_total"] == before


def test_a_block_whose_type_is_not_text_is_left_to_the_server() -> None:
    """A fuzzer found it."""
    assert to_wire([HumanMessage([{"type": ["a"]}])]) == [{"role": "user", "content": [{"type": ["a"]}]}]
