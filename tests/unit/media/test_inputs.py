"""Odd values of a caller end in a BadRequestError that names the place, before anything is sent."""

import io
from collections import deque
from typing import Any

import numpy
import pytest
from PIL import Image

from llamacpp_server import (
    BadRequestError,
    ChatRequest,
    CompletionRequest,
    ConnectionFailedError,
    EmbedRequest,
    LlamaServerClient,
)
from llamacpp_server._media import transcode

USER = {"role": "user", "content": "Hi"}
LOOP: dict[str, Any] = {"role": "user", "content": "Hi"}
LOOP["self"] = LOOP
DEEP: Any = "x"
for _ in range(5000):
    DEEP = [DEEP]


def chat(**request: Any) -> Any:
    return lambda client: client.chat(ChatRequest(**{"messages": [USER], **request}))


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (chat(messages="Hi"), r"messages must be a list of objects, not str"),
        (chat(messages={"role": "user"}), r"messages must be a list of objects, not dict"),
        (chat(messages=[None]), r"messages\[0\] must be an object, not NoneType"),
        (chat(messages=[{"role": "user", "content": [None]}]), r"messages\[0\].content\[0\] must be an object"),
        (
            chat(messages=[{"role": "user", "content": ["hi"]}]),
            r"messages\[0\].content\[0\] must be an object, not str",
        ),
        (chat(messages=[{"role": "user", "content": 5}]), r"messages\[0\].content must be a string or a list of parts"),
        (chat(messages=[{"role": [1], "content": "x"}]), r"messages\[0\].role must be a string, not list"),
        (chat(messages=[USER, {"role": "assistant", "tool_calls": "x"}]), r"messages\[1\].tool_calls must be a list"),
        (chat(messages=[LOOP]), r"messages\[0\] is nested more than 100 levels deep, or contains itself"),
        (chat(params={"logit_bias": DEEP}), r"params is nested more than 100 levels deep"),
        (chat(tools=[{}]), r"tools\[0\].function must be an object, not NoneType"),
        (chat(tools=[{"function": {"name": 5}}]), r"tools\[0\].function.name must be a string, not int"),
        (chat(model=5), r"model must be a string, not int"),
        (chat(extra_body=[1]), r"extra_body must be an object, not list"),
        (lambda client: client.complete(CompletionRequest(prompt={"a": 1})), r"prompt must be a string"),
        (lambda client: client.rerank("q", [None]), r"documents to rank\[0\] must be a string, not NoneType"),
        (lambda client: client.rerank(5, ["a"]), r"query must be a string, not int"),
        (lambda client: client.embed("one text"), r"must be a list, not a single string"),
        (lambda client: client.embed([None]), r"\[0\] must be a string"),
        (lambda client: client.tokenize(5), r"text must be a string, not int"),
        (lambda client: client.detokenize(["a"]), r"tokens\[0\] must be a number, not str"),
    ],
    ids=range(21),
)
def test_a_value_of_the_wrong_kind_is_named_by_its_place(ask: Any, words: str) -> None:
    client = LlamaServerClient("http://127.0.0.1:9", max_retries=0)
    with pytest.raises(BadRequestError, match=words):
        ask(client)


@pytest.mark.parametrize("pattern", ["(" * 5000 + "a" + ")" * 5000, "a" * 10_000_000])
def test_a_regex_beyond_all_measure_is_refused_quickly(pattern: str) -> None:
    client = LlamaServerClient("http://127.0.0.1:9", max_retries=0)
    with pytest.raises(BadRequestError) as caught:
        client.chat(ChatRequest(messages=[USER], params={"regex": pattern}))
    assert len(str(caught.value)) < 2000


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded() -> None:
    written = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(written, "TIFF", compression="group4")
    assert len(written.getvalue()) < 100_000
    with pytest.raises(BadRequestError, match=r"20000 x 20000 pixels|can.t read an image"):
        transcode(written.getvalue(), "image/tiff")


def test_sequences_and_numbers_of_other_kinds_are_taken_as_lists_and_numbers() -> None:
    with LlamaServerClient("http://127.0.0.1:9", max_retries=0) as client:
        for inputs in (deque(["a", "b"]), ("a",)):
            with pytest.raises(ConnectionFailedError):
                client.embed_texts(EmbedRequest(inputs=inputs, batch_size=numpy.int64(4), dimensions=numpy.int32(8)))
        for wrong in ("text", b"bytes", {"a": 1}):
            with pytest.raises(BadRequestError, match="inputs must be a list"):
                client.embed_texts(EmbedRequest(inputs=wrong))
