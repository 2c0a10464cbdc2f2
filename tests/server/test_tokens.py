"""Whether a request has room, by the server's own count, and its tokenizer as an object."""

import base64
from typing import Any

import pytest

from llamacpp_server import (
    ChatRequest,
    ContextOverflowError,
    Fit,
    LlamaServerTokenizer,
    LocalServer,
    NotSupportedError,
)
from tests.media import picture
from tests.wire.scripted_server import MISSING, ScriptedServer, reply


def ask(text: str, **params: Any) -> ChatRequest:
    return ChatRequest(messages=[{"role": "user", "content": text}], params=params)


def test_what_fits_is_answered_and_what_does_not_is_refused(connect: Any, chat_server: LocalServer) -> None:
    client = connect(chat_server.base_url)
    short = client.fits(ask("x", max_tokens=16))
    assert short
    assert (short.answer_tokens, short.available, short.needed) == (16, 2048, short.prompt_tokens + 16)
    # A token for each letter: the longest prompt that leaves room for one token of an answer, and one more.
    longest = "x" * (2048 - short.prompt_tokens)
    fit = client.fits(ask(longest))
    assert (fit.fits, fit.needed) == (True, 2048)
    assert client.chat(ask(longest, max_tokens=1)).usage.prompt_tokens == fit.prompt_tokens
    too_long = ask(longest + "x")
    assert not client.fits(too_long)
    with pytest.raises(ContextOverflowError):
        client.chat(too_long)


def test_tools_take_room(connect: Any, chat_server: LocalServer) -> None:
    client = connect(chat_server.base_url)
    tool: Any = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    plain = ask("x")
    with_tool = ChatRequest(messages=plain.messages, tools=[tool])
    assert client.fits(with_tool).prompt_tokens > client.fits(plain).prompt_tokens + 10


PICTURE = "data:image/png;base64," + base64.b64encode(picture((200, 30, 30))).decode()


def test_images_are_counted_by_the_server(connect: Any, vision_server: LocalServer) -> None:
    client = connect(vision_server.base_url)
    picture: Any = [{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": PICTURE}}]
    request = ChatRequest(messages=[{"role": "user", "content": picture}], params={"max_tokens": 1})
    fit = client.fits(request)
    assert fit.prompt_tokens > client.fits(ask("x")).prompt_tokens
    assert client.chat(request).usage.prompt_tokens == fit.prompt_tokens


def test_a_build_without_a_counter_renders_and_tokenizes(connect: Any) -> None:
    props = reply({"default_generation_settings": {"n_ctx": 3}, "total_slots": 1})
    answers = [MISSING, reply({"prompt": "<user>"}), reply({"tokens": [1, 2]}), reply({"data": [{"id": "m"}]}), props]
    with ScriptedServer(*answers, lacks=()) as server:
        assert connect(server.url).fits(ask("x", max_tokens=-1)) == Fit(2, 1, 3)


def test_a_server_that_does_not_report_its_context(connect: Any) -> None:
    answers = [reply({"input_tokens": 2}), reply({"data": [{"id": "m"}]}), MISSING]
    with ScriptedServer(*answers, lacks=()) as server, pytest.raises(NotSupportedError, match="context"):
        connect(server.url).fits(ask("x"))


@pytest.mark.parametrize(
    ("params", "room"),
    [({}, 1), ({"max_tokens": 5}, 5), ({"max_tokens": -1}, 1), ({"n_predict": 7, "max_tokens": 5}, 7)],
)
def test_the_room_of_an_answer(connect: Any, chat_server: LocalServer, params: Any, room: int) -> None:
    assert connect(chat_server.base_url).fits(ask("x", **params)).answer_tokens == room


def test_the_tokenizer(chat_server: LocalServer) -> None:
    with chat_server.client() as client:
        tokenizer = LlamaServerTokenizer(client)
        text = "Größe 🦙"
        assert tokenizer(text) == tokenizer.encode(text) == client.tokenize(text)
        assert tokenizer.decode(tokenizer(text)) == text
        assert tokenizer.count(text) == len(client.tokenize(text))
        assert (tokenizer.count(""), tokenizer.decode([])) == (0, "")
    client.settings = client.settings.replace(base_url="http://127.0.0.1:9")
    assert tokenizer.count(text) > 5  # known already
