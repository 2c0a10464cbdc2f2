"""Whatever a tool returns, the conversation goes on."""

from typing import Any, get_args

import llama_index.core.base.llms.types as blocks
import pytest
from llama_index.core.base.llms.types import (
    AudioBlock,
    BaseContentBlock,
    CitableBlock,
    CitationBlock,
    DocumentBlock,
    ImageBlock,
    TextBlock,
    VideoBlock,
)

from llamacpp_server import NotSupportedError
from llamaindex_llamacpp_server import LlamaServer
from tests.llamaindex.test_messages import PNG, WAV

PDF = b"%PDF-1.7 \xff\xfe"
RESULTS: list[BaseContentBlock] = [
    ImageBlock(image=PNG, image_mimetype="image/png"),
    ImageBlock(url="https://example.com/a.png"),
    ImageBlock(),
    AudioBlock(audio=WAV, format="wav"),
    VideoBlock(video=b"\0\0\0\x18ftypmp42" + bytes(32), video_mimetype="video/mp4"),
    DocumentBlock(data=PDF, title="a", document_mimetype="application/pdf"),
    CitableBlock(title="t", source="s", content=[DocumentBlock(data=PDF, document_mimetype="application/pdf")]),
    CitationBlock(title="t", source="s", cited_content=ImageBlock(image=PNG), additional_location_info={}),
]
# Blocks of text, or sent in a field of their own.
READ = {"TextBlock", "ThinkingBlock", "ToolCallBlock", "CachePoint"}


def history(block: BaseContentBlock, role: str = "tool") -> list[Any]:
    call = {"id": "a1b2c3d4e", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    return [
        blocks.ChatMessage(role="user", content="look"),
        blocks.ChatMessage(role="assistant", content="", additional_kwargs={"tool_calls": [call]}),
        blocks.ChatMessage(
            role=role, blocks=[TextBlock(text="seen"), block], additional_kwargs={"tool_call_id": "a1b2c3d4e"}
        ),
    ]


def test_the_table_has_every_kind_of_block() -> None:
    known = {kind.__name__ for kind in get_args(get_args(blocks.ContentBlock)[0])}
    assert known - READ == {type(block).__name__ for block in RESULTS}


@pytest.mark.parametrize("block", RESULTS, ids=lambda block: type(block).__name__)
@pytest.mark.parametrize("later", [False, True], ids=["now", "earlier"])
def test_a_result_of_any_kind_leaves_the_thread_usable(llm: LlamaServer, block: BaseContentBlock, later: bool) -> None:
    messages = history(block)
    if later:
        messages += [blocks.ChatMessage(role="assistant", content="ok"), blocks.ChatMessage(role="user", content="so?")]
    reply = llm.chat(messages)
    details = reply.message.additional_kwargs.get("llamacpp") or reply.additional_kwargs["llamacpp"]
    assert any(repair["name"] == "tool_results" for repair in details["repairs"])


def test_an_image_of_the_user_stays_an_error(llm: LlamaServer) -> None:
    with pytest.raises(NotSupportedError):
        llm.chat([*history(RESULTS[0]), blocks.ChatMessage(role="user", blocks=[RESULTS[0]])])
