"""Whatever a tool returns, the conversation goes on; what the user sends is never replaced."""

import json
from base64 import b64encode
from typing import Any

import httpx
import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from langchain_llamacpp_server import ChatLlamaServer
from llamacpp_server import AsyncLlamaServerClient, ChatRequest, LocalServer, NotSupportedError
from llamacpp_server.errors import BadRequestError
from tests.langchain.behind_doors import to_wire
from tests.media import picture, sound

PNG = b64encode(picture()).decode()
PDF = b64encode(b"%PDF-1.7 text").decode()
WAV = b64encode(sound()).decode()
CALL = AIMessage("", tool_calls=[{"name": "look", "args": {}, "id": "a1b2c3d4e"}])


def result(*blocks: Any) -> ToolMessage:
    return ToolMessage(list(blocks), tool_call_id="a1b2c3d4e")


RESULTS: list[tuple[dict[str, Any], str]] = [
    ({"type": "json", "json": {"city": "Oslo"}}, '{"city": "Oslo"}'),
    ({"type": "json", "value": [1, 2]}, "[1, 2]"),
    (
        {
            "type": "search_result",
            "title": "Oslo",
            "source": "https://o.no",
            "content": [{"type": "text", "text": "a city"}],
        },
        "Oslo\nhttps://o.no\na city",
    ),
    ({"type": "resource", "resource": {"uri": "file:///a", "text": "words"}}, "words"),
    ({"type": "resource", "data": PDF, "mimeType": "application/zip"}, "[application/zip: llama-server can't read it]"),
    ({"type": "file", "base64": PDF, "mime_type": "application/pdf"}, "[application/pdf: it can't be read]"),
    ({"type": "file", "file_id": "file-1"}, "[file: it can't be read]"),
    (
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PDF}},
        "[application/pdf: it can't be read]",
    ),
    ({"type": "file", "source_type": "base64", "data": PDF, "mime_type": "application/pdf"}, "[application/pdf:"),
    ({"type": "image", "base64": PNG, "mime_type": "image/png"}, "[image/png: this model can't read images]"),
    ({"type": "image", "source_type": "base64", "data": PNG, "mime_type": "image/png"}, "[image/png: this model"),
    ({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}, "[image/png: this model"),
    ({"type": "image", "url": "https://example.com/a.png"}, "[image: it can't be read]"),
    ({"type": "image", "file_id": "file-1"}, "[image: llama-server can't read it]"),
    ({"type": "image_url", "image_url": None}, ""),
    ({"type": "image_url", "image_url": {"url": ""}}, ""),
    ({"type": "non_standard", "value": {"type": "json", "json": {"a": 1}}}, '{"a": 1}'),
    ({"type": "made_up", "field": 1}, '{"type": "made_up", "field": 1}'),
]


@pytest.mark.parametrize(("block", "text"), RESULTS, ids=lambda value: value["type"] if isinstance(value, dict) else "")
@pytest.mark.parametrize("later", [False, True], ids=["now", "earlier"])
def test_a_result_of_any_kind_leaves_the_thread_usable(
    nonsense: ChatLlamaServer, block: dict[str, Any], text: str, later: bool
) -> None:
    messages: list[BaseMessage] = [
        HumanMessage("look"),
        CALL,
        result({"type": "text", "text": "seen"}, block),
    ]
    if later:
        messages += [AIMessage("done"), HumanMessage("and now?")]
    reply = nonsense.invoke(messages)
    repairs = reply.response_metadata["llamacpp"]["repairs"]
    # An embedded resource with a text is a block of MCP, converted in any message.
    name = "blocks" if "resource" in block else "tool_results"
    assert any(repair["name"] == name for repair in repairs), repairs


@pytest.mark.parametrize(("block", "text"), RESULTS, ids=lambda value: value["type"] if isinstance(value, dict) else "")
async def test_what_the_model_sees_of_a_result(chat_server: LocalServer, block: dict[str, Any], text: str) -> None:
    wire = to_wire([HumanMessage("look"), CALL, result("seen", block)])
    sent: list[bytes] = []

    async def hook(request: httpx.Request) -> None:
        sent.append(request.content)

    async with (
        httpx.AsyncClient(event_hooks={"request": [hook]}, verify=False) as http,
        AsyncLlamaServerClient(base_url=chat_server.base_url, http_client=http) as client,
    ):
        await client.chat(ChatRequest(messages=wire, params={"max_tokens": 1}))
    chats = [json.loads(body) for body in sent if body and b'"messages"' in body]
    content = chats[-1]["messages"][-1]["content"]
    shown = content if isinstance(content, str) else "\n".join(part["text"] for part in content)
    assert shown.startswith("seen")
    assert text in shown


@pytest.mark.parametrize(
    ("block", "error"),
    [
        ({"type": "image", "base64": PNG, "mime_type": "image/png"}, NotSupportedError),
        ({"type": "file", "base64": PDF, "mime_type": "application/pdf"}, BadRequestError),
    ],
)
def test_unreadable_content_in_a_user_message_is_an_error(
    nonsense: ChatLlamaServer, block: dict[str, Any], error: type[Exception]
) -> None:
    image = {"type": "image", "base64": PNG, "mime_type": "image/png"}
    with pytest.raises(error):
        nonsense.invoke([HumanMessage("look"), CALL, result(image), HumanMessage([block])])


def test_an_image_without_an_address_is_left_out_of_the_users_message(nonsense: ChatLlamaServer) -> None:
    reply = nonsense.invoke([HumanMessage([{"type": "text", "text": "hi"}, {"type": "image_url", "image_url": None}])])
    assert [repair["name"] for repair in reply.response_metadata["llamacpp"]["repairs"]] == ["tool_results"]


def test_results_stay_as_they_are_where_the_repair_is_off(nonsense: ChatLlamaServer) -> None:
    llm = nonsense.model_copy(update={"history_repair": ["-tool_results"]})
    image = {"type": "image", "base64": PNG, "mime_type": "image/png"}
    with pytest.raises(NotSupportedError):
        llm.invoke([HumanMessage("look"), CALL, result(image)])


async def test_two_kinds_of_media_that_nobody_can_read_take_one_retry(chat_server: LocalServer) -> None:
    """The server names the first kind only; it must not be refused once for each."""
    noise = {"type": "audio", "base64": WAV, "mime_type": "audio/wav"}
    image = {"type": "image", "base64": PNG, "mime_type": "image/png"}
    sent: list[str] = []

    async def hook(request: httpx.Request) -> None:
        sent.append(request.url.path)

    wire = to_wire([HumanMessage("look"), CALL, result(noise, image)])
    async with (
        httpx.AsyncClient(event_hooks={"request": [hook]}, verify=False) as http,
        AsyncLlamaServerClient(base_url=chat_server.base_url, http_client=http) as client,
    ):
        reply = await client.chat(ChatRequest(messages=wire, model="not-asked-before", params={"max_tokens": 1}))
    assert sent.count("/v1/chat/completions") == 2
    notes = [repair.what for repair in reply.start.repairs if repair.name == "tool_results"]
    assert ["image" in note for note in notes] == [False, True]
    assert ["audio" in note for note in notes] == [True, False]


@pytest.mark.parametrize("said", [None, {"a": 1}, 7])
def test_a_text_block_of_a_tool_that_is_not_a_string_is_read(chat_server: LocalServer, said: Any) -> None:
    parts = [{"type": "text", "text": "seen"}, {"type": "text", "text": said}]
    answer: Any = {"role": "tool", "tool_call_id": "a1b2c3d4e", "content": parts}
    wire = [*to_wire([HumanMessage("look"), CALL]), answer]
    with chat_server.client() as client:
        reply = client.chat(ChatRequest(messages=wire, params={"max_tokens": 1}))
    assert [repair.name for repair in reply.start.repairs] == ["tool_results"]
