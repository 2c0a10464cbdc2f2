"""Request bodies as bytes: the same for tools that were written before as for new ones."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamacpp_server import BadRequestError
from llamacpp_server._history import PlainMessages, plain_text
from llamacpp_server.transport import encode

TOOLS = [{"type": "function", "function": {"name": "say", "parameters": {"enum": ["\u00e9", 1, 1.5, True, None]}}}]


def test_a_body_is_the_same_json_whether_its_tools_were_written_before_or_not() -> None:
    body = {"tools": TOOLS, "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    first, second = encode(body), encode(json.loads(json.dumps(body)))
    assert first == second
    assert json.loads(first) == body


@pytest.mark.parametrize(
    "body", [{"tools": TOOLS}, {"tools": [], "n": 1}, {"tools": {}, "n": 1}, {"tools": None, "n": 1}]
)
def test_tools_of_any_shape_are_written(body: Any) -> None:
    assert json.loads(encode(body)) == body


@pytest.mark.parametrize("value", [float("nan"), b"bytes", {1, 2}, object()])
def test_values_that_json_does_not_have_are_refused_in_tools_too(value: Any) -> None:
    for _ in range(2):
        with pytest.raises(BadRequestError, match="JSON"):
            encode({"messages": [], "tools": [{"default": value}]})


def test_tools_that_hold_themselves_are_refused() -> None:
    tools: list[Any] = []
    tools += [tools, tools]
    with pytest.raises(BadRequestError, match="JSON"):
        encode({"messages": [], "tools": tools})


def test_a_changed_tool_is_sent_as_it_is_now() -> None:
    tools = json.loads(json.dumps(TOOLS))
    encode({"messages": [], "tools": tools})
    tools[0]["function"]["name"] = "sing"
    assert json.loads(encode({"messages": [], "tools": tools}))["tools"] == tools


def test_an_object_of_the_caller_that_fails_while_it_is_read_is_named_in_the_error() -> None:
    class Closed(dict[str, int]):
        def items(self) -> Any:
            raise RuntimeError("closed")

    with pytest.raises(BadRequestError, match="can't encode the request as JSON: RuntimeError"):
        encode({"a": Closed(a=1)})


def written_by_json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=3))
def test_texts_of_a_plain_conversation_are_written_as_others_are(texts: list[str]) -> None:
    call = {"id": "a1", "type": "function", "function": {"name": "add", "arguments": json.dumps({"texts": texts})}}
    messages: list[Any] = [{"role": "user", "content": text} for text in texts]
    messages.append({"role": "assistant", "content": "", "tool_calls": [call]})
    said = plain_text(messages)
    assert said is not None
    for more in ({}, {"max_tokens": 4, "top_p": 1e-7}, {"tools": [{"type": "function"}]}):
        sent = encode({"messages": PlainMessages(messages, said), **more})
        assert json.loads(sent) == {"messages": messages, **more}
        assert written_by_json(messages) in sent


def test_every_character_of_a_plain_conversation_is_written_as_json_writes_it() -> None:
    text = "".join(chr(code) for code in range(0x3000) if not 0xD800 <= code < 0xE000)
    messages = [{"role": "user", "content": text + "\U0001f600"}]
    assert encode({"messages": PlainMessages(messages, text)}) == written_by_json({"messages": messages})


def test_half_a_surrogate_pair_in_a_plain_conversation_is_replaced() -> None:
    messages = [{"role": "user", "content": "a\ud83d"}]
    assert json.loads(encode({"messages": PlainMessages(messages, "a\ud83d")}))["messages"][0]["content"] == "a\ufffd"
