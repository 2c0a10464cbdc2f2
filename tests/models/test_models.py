"""Each builder's model on the real server, over plain HTTP: a wrong byte in a GGUF file shows here and nowhere else."""

import base64
import io
import json
import struct
import wave
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from llamacpp_server import LocalServer
from tests.models import Script, build_random, build_scripted, tool_call

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
UNICODE = ["line\u2028", "paragraph\u2029", "next\u0085", *[bytes([byte]) for byte in "😀".encode()], "é"]
TWO_CALLS = tool_call("get_weather", '{"city": "Paris"}') + "\n" + tool_call("get_weather", '{"city": "Rome"}')
ScriptedServer = Callable[..., LocalServer]


def chat(server: LocalServer, content: Any, *, thinking: bool = False, **fields: Any) -> dict[str, Any]:
    messages = content if isinstance(content, list) else [{"role": "user", "content": content}]
    body = {"messages": messages, "chat_template_kwargs": {"enable_thinking": thinking}, "max_tokens": 100, **fields}
    response = httpx.post(f"{server.base_url}/v1/chat/completions", json=body)
    assert response.status_code == 200, response.text
    reply: dict[str, Any] = response.json()
    return reply


def message(server: LocalServer, content: Any, **fields: Any) -> dict[str, Any]:
    said: dict[str, Any] = chat(server, content, **fields)["choices"][0]["message"]
    return said


def deltas(server: LocalServer, content: str, *, thinking: bool = False, **fields: Any) -> Iterator[dict[str, Any]]:
    body = {
        "messages": [{"role": "user", "content": content}],
        "chat_template_kwargs": {"enable_thinking": thinking},
        "stream": True,
        **fields,
    }
    with httpx.stream("POST", f"{server.base_url}/v1/chat/completions", json=body) as response:
        for event in response.read().split(b"\n\n"):
            if event.startswith(b"data: {"):
                yield from (choice["delta"] for choice in json.loads(event[6:])["choices"])


@pytest.fixture(scope="module")
def scripted(scripted_server: ScriptedServer) -> LocalServer:
    return scripted_server(
        {
            "weather": Script(thinks="Two cities, two calls.", says=TWO_CALLS),
            "unicode": Script(says=UNICODE),
            "it's": "An apostrophe in a key.",
            "endless": Script(says=["on and", " on"], endless=True),
            "long": [" again"] * 300,
            "tool": Script(thinks="The tool answered.", says="It is sunny in Paris, and it is sunny in Rome."),
            "user": Script(thinks="I should greet.", says=["Hel", "lo", "!"]),
        }
    )


def test_random_model_knows_tools_thinking_and_any_unicode(chat_server: LocalServer) -> None:
    props = httpx.get(f"{chat_server.base_url}/props").json()
    assert props["chat_template_caps"]["supports_tools"]
    assert props["chat_template_caps"]["supports_parallel_tool_calls"]
    text = "Grüße, 你好 😀 \u2028 \0"
    tokens = httpx.post(f"{chat_server.base_url}/tokenize", json={"content": text}).json()["tokens"]
    assert httpx.post(f"{chat_server.base_url}/detokenize", json={"tokens": tokens}).json()["content"] == text
    assert "reasoning_content" in message(chat_server, "Hi", thinking=True, max_tokens=5, temperature=0)
    assert "reasoning_content" not in message(chat_server, "Hi", max_tokens=5, temperature=0)


def test_template_shows_tools_calls_results_and_earlier_thinking(chat_server: LocalServer) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Zürich"}'}}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": "", "reasoning_content": "I should call.\n", "tool_calls": [call, call]},
        {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "sunny"}]},
    ]
    body = {"messages": messages, "tools": [WEATHER]}
    prompt = httpx.post(f"{chat_server.base_url}/apply-template", json=body).json()["prompt"]
    one = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Zürich"}}\n</tool_call>'
    assert prompt == (
        f"<|im_start|>system\nBe brief.\nTools:\n{json.dumps(WEATHER['function'])}\n<|im_end|>\n"
        "<|im_start|>user\nWeather?<|im_end|>\n"
        f"<|im_start|>assistant\n<think>\nI should call.\n</think>\n\n{one}\n{one}<|im_end|>\n"
        "<|im_start|>user\n<tool_response>\nsunny\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n<think>\n"
    )


def test_plain_template_has_no_tools(serve: Callable[..., LocalServer]) -> None:
    server = serve("plain.gguf")
    assert not httpx.get(f"{server.base_url}/props").json()["chat_template_caps"]["supports_tools"]
    counts = [chat(server, "Hi", max_tokens=1, tools=tools)["usage"]["prompt_tokens"] for tools in ([], [WEATHER])]
    assert counts[0] == counts[1], "the tools are dropped silently"


def test_infill_needs_its_tokens(serve: Callable[..., LocalServer], chat_server: LocalServer) -> None:
    body = {"input_prefix": "def f(", "input_suffix": "): ...", "n_predict": 2}
    assert httpx.post(f"{serve('fim.gguf').base_url}/infill", json=body).status_code == 200
    assert httpx.post(f"{chat_server.base_url}/infill", json=body).status_code == 501


def test_seed_changes_the_random_model(tmp_path: Path) -> None:
    files = [build_random(tmp_path / f"{n}.gguf", seed=seed).read_bytes() for n, seed in enumerate((0, 0, 1))]
    assert files[0] == files[1] != files[2]


def test_encoder_embeds_and_reranks(embedding_server: LocalServer, rerank_server: LocalServer) -> None:
    body = {"input": ["one", "another", "日本"]}
    vectors = httpx.post(f"{embedding_server.base_url}/v1/embeddings", json=body).json()["data"]
    assert [len(one["embedding"]) for one in vectors] == [64, 64, 64]
    assert len({tuple(one["embedding"]) for one in vectors}) == 3
    ranking = {"query": "one", "documents": ["another", "日本"]}
    results = httpx.post(f"{rerank_server.base_url}/v1/rerank", json=ranking).json()["results"]
    assert {one["index"] for one in results} == {0, 1}
    assert results[0]["relevance_score"] > results[1]["relevance_score"]


def picture(*colour: int) -> str:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes(colour) * 56 for _ in range(56))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 56, 56, 8, 2, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def sound() -> str:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(b"\1\2" * 8000)
    return base64.b64encode(buffer.getvalue()).decode()


def test_projector_gives_eyes_and_ears(vision_server: LocalServer) -> None:
    modalities = httpx.get(f"{vision_server.base_url}/props").json()["modalities"]
    assert modalities["vision"]
    assert modalities["audio"]

    def seen(*parts: dict[str, Any]) -> dict[str, Any]:
        return chat(
            vision_server, [{"role": "user", "content": list(parts)}], max_tokens=1, logprobs=True, temperature=0
        )

    text = {"type": "text", "text": "?"}
    images = [{"type": "image_url", "image_url": {"url": picture(*colour)}} for colour in ((255, 0, 0), (0, 0, 255))]
    audio = {"type": "input_audio", "input_audio": {"data": sound(), "format": "wav"}}
    plain = seen(text)["usage"]["prompt_tokens"]
    red, blue = (seen(text, image) for image in images)
    assert red["usage"]["prompt_tokens"] >= plain + 16
    assert red["choices"][0] != blue["choices"][0], "the pixels reach the model"
    assert seen(text, audio)["usage"]["prompt_tokens"] >= plain + 25


def test_each_piece_is_one_chunk(scripted: LocalServer) -> None:
    spoken = [delta["content"] for delta in deltas(scripted, "Hi") if delta.get("content")]
    assert spoken == ["Hel", "lo", "!"]
    reply = chat(scripted, "Hi")
    assert reply["usage"]["completion_tokens"] == 4  # the end of the turn is a token too
    assert reply["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("temperature", [0, 2])
def test_thinking_comes_first_when_it_is_on(scripted: LocalServer, temperature: float) -> None:
    said = message(scripted, "Hi", thinking=True, temperature=temperature)
    assert (said["reasoning_content"].strip(), said["content"]) == ("I should greet.", "Hello!")
    assert "reasoning_content" not in message(scripted, "Hi", temperature=temperature)


def test_two_calls_and_the_answer_to_their_results(scripted: LocalServer) -> None:
    asked = {"role": "user", "content": "What is the weather in Paris and Rome?"}
    called = message(scripted, [asked], thinking=True, tools=[WEATHER])
    arguments = [json.loads(call["function"]["arguments"]) for call in called["tool_calls"]]
    assert arguments == [{"city": "Paris"}, {"city": "Rome"}]
    assert called["reasoning_content"].strip() == "Two cities, two calls."
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "sunny"} for call in called["tool_calls"]]
    answer = message(scripted, [asked, {"role": "assistant", **called}, *results], tools=[WEATHER])
    assert answer["content"] == "It is sunny in Paris, and it is sunny in Rome."


def test_call_is_streamed_in_pieces(scripted: LocalServer) -> None:
    calls = [
        delta["tool_calls"][0] for delta in deltas(scripted, "weather?", tools=[WEATHER]) if delta.get("tool_calls")
    ]
    for index, city in enumerate(("Paris", "Rome")):
        pieces = [call["function"]["arguments"] for call in calls if call["index"] == index]
        assert len(pieces) > 1
        assert json.loads("".join(pieces)) == {"city": city}


def test_any_unicode_and_characters_cut_into_bytes(scripted: LocalServer) -> None:
    full = "line\u2028paragraph\u2029next\u0085😀é"
    assert message(scripted, "unicode")["content"] == full
    assert "".join(delta.get("content") or "" for delta in deltas(scripted, "unicode")) == full


def test_same_piece_may_be_said_often(scripted: LocalServer) -> None:
    reply = chat(scripted, "a long one", max_tokens=1000)
    assert reply["choices"][0]["message"]["content"].strip() == " ".join(["again"] * 300)
    assert reply["usage"]["completion_tokens"] == 301


def test_endless_script_ends_at_max_tokens(scripted: LocalServer) -> None:
    choice = chat(scripted, "endless", max_tokens=50)["choices"][0]
    assert choice["finish_reason"] == "length"
    assert choice["message"]["content"] == "on and" + " on" * 49


def test_key_is_looked_for_in_the_last_message_only(scripted: LocalServer) -> None:
    history = [{"role": "user", "content": "weather"}, {"role": "assistant", "content": "endless"}]
    assert message(scripted, [*history, {"role": "user", "content": "Hi"}])["content"] == "Hello!"
    assert message(scripted, "so it's a key")["content"] == "An apostrophe in a key."


def test_prompt_without_a_template_gets_the_default(scripted: LocalServer) -> None:
    body = {"prompt": "Once upon", "n_predict": 20}
    assert httpx.post(f"{scripted.base_url}/completion", json=body).json()["content"] == "Hello!"


def test_call_that_is_not_json_is_text_without_tools_and_cut_by_max_tokens(scripted_server: ScriptedServer) -> None:
    server = scripted_server(tool_call("get_weather", '{"city": "Par'))
    assert message(server, "Hi")["content"] == tool_call("get_weather", '{"city": "Par')
    cut = chat(server, "Hi", tools=[WEATHER], max_tokens=6)["choices"][0]
    assert cut["finish_reason"] == "length"
    with pytest.raises(json.JSONDecodeError):
        json.loads(cut["message"]["tool_calls"][0]["function"]["arguments"])


def test_script_that_cannot_be_built_says_why(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="key 'user'"):
        build_scripted(tmp_path / "model.gguf", {"tool": "only"})
    with pytest.raises(ValueError, match="too often"):
        build_scripted(tmp_path / "model.gguf", Script(says=["a"] * 10))
    with pytest.raises(ValueError, match="empty"):
        build_scripted(tmp_path / "model.gguf", Script(says=["a", ""]))
