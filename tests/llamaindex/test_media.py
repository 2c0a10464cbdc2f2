"""Images and sounds of LlamaIndex's blocks on a server that sees and hears them."""

import pytest
from llama_index.core.base.llms.types import AudioBlock, ChatMessage, DocumentBlock, ImageBlock, TextBlock

from llamacpp_server import BadRequestError
from tests.media import picture, sound, web_server

LOCAL = ["127.0.0.1"]


def asking(*blocks):
    return [ChatMessage(blocks=[TextBlock(text="What is it?"), *blocks])]


def prompt_tokens(response):
    return response.additional_kwargs["prompt_tokens"]


@pytest.fixture
def seer(make_llm, vision_server):
    return make_llm(vision_server, max_tokens=1, thinking=False, temperature=0)


async def test_all_ways_to_ask_see_the_same(seer):
    messages = asking(ImageBlock(image=picture()), AudioBlock(audio=sound()))
    expected = seer.count_tokens(messages)
    assert expected > seer.count_tokens(asking()) + 30
    *_, streamed = seer.stream_chat(messages)
    assert prompt_tokens(seer.chat(messages)) == prompt_tokens(streamed) == expected
    assert prompt_tokens(await seer.achat(messages)) == expected
    *_, streamed = [item async for item in await seer.astream_chat(messages)]
    assert prompt_tokens(streamed) == expected
    await seer.aclose()


async def test_a_path_is_read_only_where_the_caller_says_so(seer, tmp_path):
    path = tmp_path / "red.png"
    path.write_bytes(picture())
    messages = asking(ImageBlock(path=path))
    with pytest.raises(BadRequestError, match="read_files=True"):
        seer.chat(messages)
    with pytest.raises(BadRequestError, match="read_files=True"):
        await seer.achat(messages)
    expected = seer.count_tokens(asking(ImageBlock(image=picture())))
    assert prompt_tokens(seer.chat(messages, read_files=True)) == expected
    seer.read_files = [tmp_path]
    assert prompt_tokens(await seer.achat(messages)) == expected
    with pytest.raises(BadRequestError, match="read_files=True"):
        seer.chat(messages, read_files=False)
    (tmp_path / "notes.txt").write_text("The code is 4711.")
    given = DocumentBlock(data=b"The code is 4711.", title="notes")
    named = DocumentBlock(path=tmp_path / "notes.txt", title="notes")
    assert seer.count_tokens(asking(named)) == seer.count_tokens(asking(given))
    await seer.aclose()


async def test_an_address_is_fetched_only_where_the_caller_says_so(seer):
    with web_server() as web:
        web.files["/red.webp"] = ("image/webp", picture("red", "WEBP"))
        messages = asking(ImageBlock(url=f"{web.url}/red.webp"))
        with pytest.raises(BadRequestError, match="fetch_urls=True"):
            seer.chat(messages)
        assert web.asked == []
        reply = seer.chat(messages, fetch_urls=LOCAL)
        assert [repair["name"] for repair in reply.additional_kwargs["llamacpp"]["repairs"]] == ["media_format"]
        seer.fetch_urls = LOCAL
        assert prompt_tokens(await seer.achat(messages)) == prompt_tokens(reply)
        assert len(web.asked) == 2
    await seer.aclose()
