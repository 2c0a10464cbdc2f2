"""Every block of a message, on its way to the server."""

import copy
from base64 import b64decode, b64encode
from io import BytesIO

import pytest
from llama_index.core.base.llms.types import (
    AudioBlock,
    BaseContentBlock,
    CacheControl,
    CachePoint,
    ChatMessage,
    CitableBlock,
    CitationBlock,
    DocumentBlock,
    ImageBlock,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    VideoBlock,
)

from llamacpp_server import BadRequestError, NotSupportedError
from tests.llamaindex.behind_doors import to_wire
from tests.media import picture, sound

PNG = picture()
WAV = sound()


def wire(*blocks, role="user", replay_thinking=True, **additional_kwargs):
    message = ChatMessage(role=role, blocks=list(blocks), additional_kwargs=additional_kwargs)
    before = message.model_dump()
    (converted,) = to_wire([message], replay_thinking=replay_thinking)
    assert message.model_dump() == before
    return converted


@pytest.mark.parametrize(
    ("role", "sent"),
    [
        ("system", "system"),
        ("developer", "system"),
        ("user", "user"),
        ("assistant", "assistant"),
        ("chatbot", "assistant"),
        ("model", "assistant"),
        ("tool", "tool"),
        ("function", "tool"),
    ],
)
def test_roles(role, sent):
    assert wire(TextBlock(text="x"), role=role) == {"role": sent, "content": "x"}


def test_texts_are_joined_as_the_message_itself_joins_them():
    blocks = [TextBlock(text="a"), CachePoint(cache_control=CacheControl(type="ephemeral")), TextBlock(text="b")]
    assert wire(*blocks)["content"] == ChatMessage(blocks=blocks).content == "a\nb"


@pytest.mark.parametrize(
    "block",
    [
        ImageBlock(image=PNG),
        ImageBlock(image=b64encode(PNG)),
        ImageBlock(image=BytesIO(PNG)),
        ImageBlock(url="data:image/png;base64," + b64encode(PNG).decode()),
        DocumentBlock(data=PNG),
    ],
    ids=["bytes", "base64", "file object", "data URL", "document"],
)
def test_images_are_sent_as_data(block):
    for _ in range(2):
        text, image = wire(TextBlock(text="What is it?"), block)["content"]
        head, _, data = image["image_url"]["url"].partition(",")
        assert text == {"type": "text", "text": "What is it?"}
        assert (head, b64decode(data)) == ("data:image/png;base64", PNG)


def test_of_a_path_or_an_address_the_place_is_passed_on(tmp_path):
    path = tmp_path / "a dot.png"
    path.write_bytes(PNG)
    place = path.as_uri()
    path_parts = wire(ImageBlock(path=path), AudioBlock(path=path), VideoBlock(path=path), DocumentBlock(path=path))
    assert path_parts["content"] == [
        {"type": "image_url", "image_url": {"url": place}},
        {"type": "input_audio", "input_audio": {"url": place}},
        {"type": "input_video", "input_video": {"url": place}},
        {"type": "file", "file": {"file_data": place, "filename": "input_document"}},
    ]
    (image,) = wire(ImageBlock(url="http://host/a.png"))["content"]
    assert image == {"type": "image_url", "image_url": {"url": "http://host/a.png"}}


def test_sound_and_video():
    (sound,) = wire(AudioBlock(audio=WAV))["content"]
    assert (sound["type"], b64decode(sound["input_audio"]["data"]), sound["input_audio"]["format"]) == (
        "input_audio",
        WAV,
        "wav",
    )
    (sound,) = wire(DocumentBlock(data=WAV))["content"]
    assert b64decode(sound["input_audio"]["data"]) == WAV
    (video,) = wire(VideoBlock(video=b"not really a video", video_mimetype="video/mp4"))["content"]
    assert b64decode(video["input_video"]["data"]) == b"not really a video"


def test_documents_and_citations_become_text():
    assert wire(DocumentBlock(data="Größe".encode(), title="t.md"))["content"] == "t.md:\nGröße"
    cited = CitableBlock(title="T", source="http://s", content=[TextBlock(text="a"), DocumentBlock(data=b"b")])
    assert wire(cited)["content"] == "T (http://s):\na\ninput_document:\nb"
    citation = CitationBlock(cited_content="c", source="s", title="T", additional_location_info={})
    assert wire(citation, role="assistant")["content"] == "T (s):\nc"


@pytest.mark.parametrize("data", [b"%PDF-1.7 text", b"%PDF-1.7 \xff\xfe", b"\xff\xfe\x00binary"])
def test_documents_that_are_not_text_are_refused(data):
    with pytest.raises(BadRequestError, match=r"report"):
        wire(DocumentBlock(data=data, title="report"))


def test_what_can_not_be_read_or_sent_is_named(tmp_path):
    with pytest.raises(BadRequestError, match=r"can't read the image of a message"):
        wire(ImageBlock(image=BytesIO(b"")))

    class NewBlock(BaseContentBlock):
        pass

    message = ChatMessage.model_construct(role=ChatMessage().role, blocks=[NewBlock()], additional_kwargs={})
    with pytest.raises(BadRequestError, match=r"NewBlock"):
        to_wire([message], replay_thinking=True)


CALLS = [
    ToolCallBlock(tool_call_id="x1", tool_name="add", tool_kwargs={"a": 1, "s": "ü"}),
    ToolCallBlock(tool_name="add", tool_kwargs='{"a": 2}'),
    ToolCallBlock(tool_name="now", tool_kwargs={}),
]


def test_thinking_and_calls_of_an_assistant():
    message = wire(ThinkingBlock(content="Hm"), TextBlock(text="Let's see"), *CALLS, role="assistant", tool_call_id="z")
    assert message == {
        "role": "assistant",
        "content": "Let's see",
        "reasoning_content": "Hm",
        "tool_calls": [
            {"id": "x1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "s": "ü"}'}},
            {"id": "call_0_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 2}'}},
            {"id": "call_0_2", "type": "function", "function": {"name": "now", "arguments": "{}"}},
        ],
    }
    assert "reasoning_content" not in wire(ThinkingBlock(content="Hm"), role="assistant", replay_thinking=False)


def test_calls_in_the_legacy_place():
    class Object:
        def __init__(self):
            self.id, self.function = "y", {"name": "f", "arguments": ""}

    legacy = [{"id": "x", "function": {"name": "f", "arguments": '{"a": 1}'}}, Object()]
    calls = wire(TextBlock(text=""), role="assistant", tool_calls=legacy)["tool_calls"]
    assert [(call["id"], call["function"]["arguments"]) for call in calls] == [("x", '{"a": 1}'), ("y", "{}")]
    both = wire(*CALLS, role="assistant", tool_calls=legacy)["tool_calls"]
    assert [call["id"] for call in both] == ["x1", "call_0_1", "call_0_2"]


def test_results_without_an_id_answer_the_calls_in_order():
    def result(text, **details):
        return ChatMessage(role="tool", content=text, additional_kwargs=details)

    history = [
        ChatMessage(content="go"),
        ChatMessage(role="assistant", blocks=CALLS),
        result("second", tool_call_id="call_1_1", name="add"),
        result("first"),
        result("third"),
        result("one too many"),
    ]
    ids = [message.get("tool_call_id") for message in to_wire(history, replay_thinking=True)[2:]]
    assert ids == ["call_1_1", "x1", "call_1_2", None]


def test_a_server_with_eyes_and_ears_takes_them(make_llm, vision_server):
    llm = make_llm(vision_server, max_tokens=2, thinking=False)
    text = [ChatMessage(content="What is it?")]
    seen = [ChatMessage(blocks=[TextBlock(text="What is it?"), ImageBlock(image=PNG)])]
    heard = [ChatMessage(blocks=[TextBlock(text="What is it?"), AudioBlock(audio=WAV)])]
    assert llm.count_tokens(seen) > llm.count_tokens(text) + 10
    prompt_tokens = [llm.chat(messages).raw["usage"]["prompt_tokens"] for messages in (text, seen, heard)]
    assert prompt_tokens[1] > prompt_tokens[0] + 10
    assert prompt_tokens[2] > prompt_tokens[0] + 10
    call = ChatMessage(role="assistant", blocks=CALLS[:1])
    result = ChatMessage(role="tool", blocks=[ImageBlock(image=PNG)], additional_kwargs={"tool_call_id": "x1"})
    assert llm.count_tokens([*text, call, result]) > llm.count_tokens([*text, call, ChatMessage(role="tool")]) + 10


@pytest.mark.parametrize(
    ("block", "medium"),
    [(ImageBlock(image=PNG), "image"), (AudioBlock(audio=WAV), "audio"), (VideoBlock(video=b"x"), "video")],
)
async def test_a_medium_that_the_server_lacks_is_refused_before_sending(recorded, chat_server, block, medium):
    llm, bodies = recorded(chat_server)
    with pytest.raises(NotSupportedError, match=rf"does not support {medium} input.*--mmproj"):
        llm.stream_chat([ChatMessage(blocks=[block])])
    with pytest.raises(NotSupportedError, match=r"--mmproj"):
        await llm.achat([ChatMessage(blocks=[block])])
    assert bodies == []
    await llm.aclose()


def test_thinking_reaches_the_model_again(recorded, thinker):
    llm, bodies = recorded(thinker)
    history = [ChatMessage(content="Hello")]
    history.append(llm.chat(history).message)
    history.append(ChatMessage(content="And now?"))
    before = copy.deepcopy(history)
    llm.chat(history)
    llm.chat(history, replay_thinking=False)
    assert bodies[1]["messages"][1]["reasoning_content"].strip() == "Let me think."
    assert "reasoning_content" not in bodies[2]["messages"][1]
    assert history == before
