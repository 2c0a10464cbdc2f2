"""LangChain's standard integration tests for chat models on real servers, to be subclassed.

Most run with the trained tiny model. It is blind and deaf: the tests with images and sound run with the random model,
which has eyes and ears. What the suite would download for them is made here.

The tiny model copies no Chinese or Japanese, and takes "San Francisco, CA" for two places. The tests about those run
against a model that says what is to be said: the same server, the same client, and a script instead of a mind.
"""

import struct
import wave
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_tests.integration_tests import ChatModelIntegrationTests

from langchain_llamacpp_server import ChatLlamaServer
from llamacpp_server import LocalServer
from tests.models import tool_call

MODEL = Path(__file__).parents[2] / "models" / "tiny-chat.gguf"


def customer(name: str) -> str:
    return tool_call("unicode_customer", f'{{"customer_name": "{name}", "description": "a company"}}')


NAMES = ("你好啊集团", "こんにちは株式会社")
SCRIPTS: dict[str, dict[str, Any]] = {
    "test_unicode_tool_call_integration": {**{name: customer(name) for name in NAMES}, "user": "Hello."},
    "test_agent_loop": {
        "tool": "It is sunny in San Francisco.",
        "user": tool_call("get_weather", '{"location": "San Francisco, CA"}'),
    },
}


MEDIA = {"test_image_inputs", "test_audio_inputs", "test_image_tool_message", "test_anthropic_inputs"}


def image() -> bytes:
    """A small picture (PNG)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes([y * 8, 64, 128]) * 32 for y in range(32))
    header = struct.pack(">IIBBBBB", 32, 32, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def sound() -> bytes:
    """A second of a tone (WAV)."""
    buffer = BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(b"".join(struct.pack("<h", (n % 40 - 20) * 500) for n in range(16000)))
    return buffer.getvalue()


def download(url: str, **_: Any) -> httpx.Response:
    """What the suite takes from the web."""
    return httpx.Response(200, content=sound() if url.endswith(".wav") else image())


class Standard(ChatModelIntegrationTests):
    """What holds for all. No PDF: the server reads none. No image URLs: the server would fetch them from the web."""

    method = "json_schema"
    thinking = False

    @pytest.fixture(autouse=True)
    def _server(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, scripted_server: Any) -> None:
        type(self).base_url = self.server_for(request, scripted_server).base_url
        monkeypatch.setattr(httpx, "get", download)
        monkeypatch.setenv("LANGCHAIN_TESTS_USER_AGENT", "none is asked")

    def server_for(self, request: pytest.FixtureRequest, scripted_server: Any) -> LocalServer:
        test = request.node.originalname
        if test in SCRIPTS:
            return scripted_server(SCRIPTS[test])
        if test in MEDIA:
            return request.getfixturevalue("vision_server")
        return request.getfixturevalue("serve")(MODEL, parallel=2, ctx_size=8192)

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatLlamaServer

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {
            "base_url": self.base_url,
            "temperature": 0,
            "max_tokens": 1500 if self.thinking else 400,
            "chat_template_kwargs": {"enable_thinking": self.thinking},
        }

    @property
    def structured_output_kwargs(self) -> dict[str, Any]:
        return {"method": self.method}

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def supports_image_inputs(self) -> bool:
        return True

    @property
    def supports_image_tool_message(self) -> bool:
        return True

    @property
    def supports_audio_inputs(self) -> bool:
        return True

    @property
    def supports_anthropic_inputs(self) -> bool:
        return True

    @property
    def supported_usage_metadata_details(self) -> dict[str, list[str]]:
        return {"invoke": ["cache_read_input"], "stream": ["cache_read_input"]}

    def invoke_with_cache_read_input(self, *, stream: bool = False) -> AIMessage:
        """The server keeps the prompt of the call before."""
        model = ChatLlamaServer(**self.chat_model_params)
        model.invoke("Hello! My name is Anna and I like the sea.")
        if not stream:
            return model.invoke("Hello! My name is Anna and I like the sea.")
        first, *rest = model.stream("Hello! My name is Anna and I like the sea.")
        return first + rest
