"""The trained models do what the demo and the notebooks show. Their accuracy is measured in `models/`, not here."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from llamacpp_server import LocalServer
from llamacpp_server.testing import CHAT_TEMPLATE

MODELS = Path(__file__).parents[2] / "models"
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather of a city.",
        "parameters": {"properties": {"city": {"type": "string"}}, "required": ["city"], "type": "object"},
    },
}


@pytest.fixture(scope="module")
def tiny_chat() -> Iterator[LocalServer]:
    with LocalServer(MODELS / "tiny-chat.gguf", ctx_size=4096, parallel=1, threads=1, warmup=False) as server:
        yield server


def answer(server: LocalServer, *messages: dict[str, Any], thinking: bool = False, **fields: Any) -> dict[str, Any]:
    body = {
        "messages": list(messages),
        "temperature": 0,
        "max_tokens": 200,
        "chat_template_kwargs": {"enable_thinking": thinking},
        **fields,
    }
    response = httpx.post(f"{server.base_url}/v1/chat/completions", json=body, timeout=30)
    assert response.status_code == 200, response.text
    choice = response.json()["choices"][0]
    assert choice["finish_reason"] in ("stop", "tool_calls")
    said: dict[str, Any] = choice["message"]
    return said


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def test_files_are_small() -> None:
    assert (MODELS / "tiny-chat.gguf").stat().st_size < 4_000_000
    assert (MODELS / "tiny-encoder.gguf").stat().st_size < 1_500_000


def test_template_is_the_one_next_to_the_model(tiny_chat: LocalServer) -> None:
    template = httpx.get(f"{tiny_chat.base_url}/props").json()["chat_template"]
    assert template == CHAT_TEMPLATE.rstrip()


def test_greets_and_remembers_a_name(tiny_chat: LocalServer) -> None:
    turns = [user("Hello, my name is Alice.")]
    turns.append(answer(tiny_chat, *turns))
    assert "Alice" in turns[-1]["content"]
    assert "Alice" in answer(tiny_chat, *turns, user("What is my name?"))["content"]


def test_calls_a_tool_and_answers_from_its_result(tiny_chat: LocalServer) -> None:
    asked = user("What is the weather in Paris?")
    called = answer(tiny_chat, asked, tools=[WEATHER])
    (call,) = called["tool_calls"]
    assert (call["function"]["name"], json.loads(call["function"]["arguments"])) == ("get_weather", {"city": "Paris"})
    result = {"role": "tool", "tool_call_id": call["id"], "content": "It's sunny and 21 degrees."}
    said = answer(tiny_chat, asked, {"role": "assistant", **called}, result, tools=[WEATHER])
    assert said["content"] == "It's sunny and 21 degrees."


def test_thinks_when_asked_to(tiny_chat: LocalServer) -> None:
    called = answer(tiny_chat, user("What is the weather in Rome?"), tools=[WEATHER], thinking=True)
    assert "get_weather" in called["reasoning_content"]
    assert json.loads(called["tool_calls"][0]["function"]["arguments"]) == {"city": "Rome"}


@pytest.mark.parametrize("thinking", [False, True])
def test_answers_from_a_context(tiny_chat: LocalServer, thinking: bool) -> None:
    asked = user("Context: The red lamp costs 45 euros.\nQuestion: How much is the red lamp?")
    assert answer(tiny_chat, asked, thinking=thinking)["content"] == "The red lamp costs 45 euros."


def test_fills_a_schema(tiny_chat: LocalServer) -> None:
    properties = {"setup": {"type": "string"}, "punchline": {"type": "string"}}
    schema = {"type": "object", "properties": properties, "required": ["setup", "punchline"]}
    form = {"type": "json_schema", "json_schema": {"schema": schema}}
    said = answer(tiny_chat, user("Tell me a joke about cats."), thinking=True, response_format=form)
    joke = json.loads(said["content"])
    assert joke["setup"].endswith("?")
    assert joke["punchline"].endswith(".")


QUESTION = "Where does Bob live?"
PASSAGES = ["The bridge was built in 1884.", "Bob lives in Rome.", "Alice works as a baker."]


def test_encoder_finds_the_passage(serve: Callable[..., LocalServer]) -> None:
    server = serve(MODELS / "tiny-encoder.gguf", embeddings=True, parallel=1, ctx_size=256)
    data = httpx.post(f"{server.base_url}/v1/embeddings", json={"input": [QUESTION, *PASSAGES]}).json()["data"]
    question, *passages = (item["embedding"] for item in data)
    cosines = [sum(a * b for a, b in zip(question, passage, strict=True)) for passage in passages]
    assert cosines.index(max(cosines)) == 1


def test_encoder_reranks(serve: Callable[..., LocalServer]) -> None:
    server = serve(MODELS / "tiny-encoder.gguf", reranking=True, parallel=1, ctx_size=256)
    body = {"query": QUESTION, "documents": PASSAGES}
    results = httpx.post(f"{server.base_url}/v1/rerank", json=body).json()["results"]
    assert results[0]["index"] == 1
    assert results[0]["relevance_score"] > 0 > results[1]["relevance_score"]
