"""Any message in: JSON that the server can be sent, or an error of ours that says what can't be. In both frameworks."""

import json
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, ChatMessage, HumanMessage, SystemMessage, ToolMessage
from llama_index.core.base.llms.types import ChatMessage as IndexMessage

from llamacpp_server import BadRequestError, ChatRequest
from llamacpp_server._endpoints import (
    chat_body,
)
from llamacpp_server._history import (
    repair_history,
)
from llamacpp_server.transport import (
    encode,
)
from tests.langchain.behind_doors import to_wire as from_langchain
from tests.llamaindex.behind_doors import to_wire as from_llamaindex

WORDS = st.sampled_from(
    ["text", "type", "image_url", "image", "data", "base64", "source", "mime_type", "text/plain", "file", "document",
     "tool_use", "tool_result", "input", "id", "name", "content", "function", "arguments", "thinking", "value"]
)  # fmt: skip
NAMES = WORDS | st.text(max_size=3)
ODD = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | NAMES,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(NAMES, ODD, max_size=4)


def sent(wire):
    """What the server would get, read back; None for messages that can't be sent."""
    try:
        return json.loads(encode(chat_body(ChatRequest(messages=repair_history(wire())[0]))))["messages"]
    except BadRequestError as error:
        assert str(error)
        return None


@given(
    st.sampled_from([HumanMessage, AIMessage, SystemMessage, ToolMessage, ChatMessage]),
    st.text(max_size=9) | st.lists(NAMES | OBJECTS, max_size=3),
    OBJECTS,
    st.lists(st.fixed_dictionaries({"id": NAMES, "name": NAMES, "args": OBJECTS}), max_size=2),
)
def test_any_message_of_langchain_is_sent_or_refused_with_a_reason(kind, content, more, calls):
    fields = {ToolMessage: {"tool_call_id": "x"}, ChatMessage: {"role": "r"}, AIMessage: {"tool_calls": calls}}
    with warnings.catch_warnings(action="ignore"):  # LangChain's, about blocks of the past
        try:
            message = kind(content=content, additional_kwargs=more, **fields.get(kind, {}))
        except (AttributeError, KeyError, TypeError, ValueError):
            return  # LangChain itself takes no such message
        before = message.model_dump()
        messages = sent(lambda: from_langchain([message]))
    assert message.model_dump() == before
    if messages and isinstance(content, str):
        assert messages[0]["content"] == content.encode("utf-8", "replace").decode()


@given(
    st.sampled_from(["user", "assistant", "tool", "system", "function"]),
    st.lists(st.tuples(st.sampled_from(["text", "thinking", "tool_call", "citable", "citation", "cache"]), OBJECTS)),
    st.fixed_dictionaries({}, optional={"tool_calls": ODD, "tool_call_id": ODD, "name": ODD}),
)
def test_any_message_of_llamaindex_is_sent_or_refused_with_a_reason(role, blocks, more):
    try:
        message = IndexMessage.model_validate(
            {
                "role": role,
                "blocks": [{"block_type": kind, **block} for kind, block in blocks],
                "additional_kwargs": more,
            }
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        return  # LlamaIndex itself takes no such message
    before = message.model_dump()
    sent(lambda: from_llamaindex([message], replay_thinking=True))
    assert message.model_dump() == before


# -- what a fuzzer found


@pytest.mark.parametrize("content", [[{"text": 1}], [{"a": 1}], ["x", {}]])
@pytest.mark.parametrize("kind", [HumanMessage, AIMessage])
def test_a_block_without_a_type_is_left_to_the_server(kind, content):
    assert from_langchain([kind(content=content)])[0]["content"] == [
        {"type": "text", "text": part} if isinstance(part, str) else part for part in content
    ]


@pytest.mark.parametrize("calls", [0.5, "abc", {"function": {}}, [1], [None], [{"function": 1}], [{}]])
def test_calls_of_an_odd_shape_are_named(calls):
    message = IndexMessage(role="assistant", content="", additional_kwargs={"tool_calls": calls})
    with pytest.raises(BadRequestError, match="additional_kwargs"):
        from_llamaindex([message], replay_thinking=True)
