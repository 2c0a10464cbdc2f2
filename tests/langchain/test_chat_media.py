"""Images and sounds of LangChain's messages on a server that sees and hears them."""

from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from langchain_core import exceptions as core
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from langchain_llamacpp_server import ChatLlamaServer
from llamacpp_server import BadRequestError, LocalServer
from tests.media import picture, sound, web_server

LOCAL = ["127.0.0.1"]


def block(kind: str, data: bytes, mime_type: str) -> dict[str, Any]:
    return {"type": kind, "base64": b64encode(data).decode(), "mime_type": mime_type}


RED = block("image", picture(), "image/png")


def asking(*blocks: Any) -> list[Any]:
    return [HumanMessage(["What is it?", *blocks])]


def prompt_tokens(message: Any) -> int:
    return message.usage_metadata["input_tokens"]


@pytest.fixture
def seer(vision_server: LocalServer) -> ChatLlamaServer:
    return ChatLlamaServer(base_url=vision_server.base_url, max_tokens=1, temperature=0, thinking=False)


async def test_all_ways_to_ask_see_the_same(seer: ChatLlamaServer) -> None:
    messages = asking(RED, block("audio", sound(), "audio/wav"))
    expected = seer.get_num_tokens_from_messages(messages)
    assert expected > seer.get_num_tokens_from_messages(asking()) + 30
    *_, streamed = seer.stream(messages)
    assert prompt_tokens(seer.invoke(messages)) == prompt_tokens(streamed) == expected
    assert prompt_tokens(await seer.ainvoke(messages)) == expected
    *_, streamed = [chunk async for chunk in seer.astream(messages)]
    assert prompt_tokens(streamed) == expected
    await seer.aclose()


async def test_an_address_is_fetched_only_where_the_caller_says_so(seer: ChatLlamaServer) -> None:
    with web_server() as web:
        web.files["/red.webp"] = ("image/webp", picture("red", "WEBP"))
        web.files["/notes.txt"] = ("text/plain", b"The code is 4711.")
        messages = asking({"type": "image", "url": f"{web.url}/red.webp"})
        with pytest.raises(core.ModelInvalidRequestError, match="fetch_urls=True") as caught:
            seer.invoke(messages)
        assert isinstance(caught.value, BadRequestError)
        assert web.asked == []
        reply = seer.invoke(messages, fetch_urls=LOCAL)
        assert [repair["name"] for repair in reply.response_metadata["llamacpp"]["repairs"]] == ["media_format"]
        open_minded = seer.model_copy(update={"fetch_urls": LOCAL})
        assert prompt_tokens(await open_minded.ainvoke(messages)) == prompt_tokens(reply)
        notes = asking({"type": "text-plain", "url": f"{web.url}/notes.txt", "mime_type": "text/plain"})
        assert open_minded.get_num_tokens_from_messages(notes) > seer.get_num_tokens_from_messages(asking()) + 10
    await open_minded.aclose()


def test_a_file_is_read_only_where_the_caller_says_so(seer: ChatLlamaServer, tmp_path: Path) -> None:
    (tmp_path / "red.png").write_bytes(picture())
    messages = asking({"type": "image", "url": (tmp_path / "red.png").as_uri()})
    with pytest.raises(BadRequestError, match="read_files=True"):
        seer.invoke(messages)
    assert prompt_tokens(seer.invoke(messages, read_files=[tmp_path])) == prompt_tokens(seer.invoke(asking(RED)))


def test_an_image_in_a_result_is_seen(seer: ChatLlamaServer) -> None:
    def history(*blocks: Any) -> list[Any]:
        call = {"name": "look", "args": {}, "id": "c1"}
        return [
            HumanMessage("Look."),
            AIMessage("", tool_calls=[call]),
            ToolMessage(["See:", *blocks], tool_call_id="c1"),
        ]

    seer.logprobs = True
    red, blue = (seer.invoke(history(block("image", picture(c), "image/png"))) for c in ("red", "blue"))
    assert prompt_tokens(red) > prompt_tokens(seer.invoke(history())) + 10
    assert red.response_metadata["logprobs"] != blue.response_metadata["logprobs"]
