"""LangChain's standard integration tests for chat models on real servers, to be subclassed.

Most run with the trained tiny model. It is blind and deaf: the tests with images and sound run with the random model,
which has eyes and ears. What the suite would download for them is made here.

The tiny model takes "San Francisco, CA" for two places, and calls a tool with 1 and 4 for "What is 3 + 4". The tests
about those run against a model that says what is to be said: the same server, the same client, and a script
instead of a mind.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_tests.integration_tests import ChatModelIntegrationTests

from langchain_llamacpp_server import ChatLlamaServer
from llamacpp_server import LocalServer
from llamacpp_server.transport import (
    Send,
)
from tests import behind_doors
from tests.behind_doors import send_fetch
from tests.media import Web, picture, sound, web_server
from tests.models import tool_call

MODEL = Path(__file__).parents[2] / "models" / "tiny-chat.gguf"


SCRIPTS: dict[str, dict[str, Any]] = {
    "test_agent_loop": {
        "tool": "It is sunny in San Francisco.",
        "user": tool_call("get_weather", '{"location": "San Francisco, CA"}'),
    },
    "test_structured_few_shot_examples": {"user": tool_call("my_adder_tool", '{"a": 3, "b": 4}')},
}


MEDIA = {"test_image_inputs", "test_audio_inputs", "test_image_tool_message", "test_anthropic_inputs"}


def download(url: str, **_: Any) -> httpx.Response:
    """What the suite takes from the web."""
    return httpx.Response(200, content=sound() if url.endswith(".wav") else picture())


def send_to(web: Web) -> Callable[..., Send]:
    """Has what is fetched from anywhere come from a server of our own, which has one picture under every path."""
    web.files = defaultdict(lambda: ("image/png", picture()))
    port = int(web.url.rpartition(":")[2])
    return lambda parts, *_: send_fetch(urlsplit(web.url + parts.path), "127.0.0.1", port, None)


class Standard(ChatModelIntegrationTests):
    """What holds for all. No PDF: the server reads none."""

    method = "json_schema"
    thinking = False

    @pytest.fixture(autouse=True)
    def _server(
        self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, scripted_server: Any
    ) -> Iterator[None]:
        type(self).base_url = self.server_for(request, scripted_server).base_url  # type: ignore[attr-defined]
        monkeypatch.setattr(httpx, "get", download)
        monkeypatch.setenv("LANGCHAIN_TESTS_USER_AGENT", "none is asked")
        with web_server() as web:
            monkeypatch.setattr(behind_doors.ADDRESSES_OF_A_HOST, lambda *_: ["127.0.0.1"])
            monkeypatch.setattr(behind_doors.SEND_FETCH, send_to(web))
            yield
            assert bool(web.asked) == (request.node.originalname == "test_image_inputs")

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
            "base_url": self.base_url,  # type: ignore[attr-defined]
            "fetch_urls": ["raw.githubusercontent.com"],
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
    def supports_image_urls(self) -> bool:
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
        details = ["cache_read_input", "reasoning_output"]
        return {"invoke": details, "stream": details}

    def invoke_with_reasoning_output(self, *, stream: bool = False) -> AIMessage:
        """The server counts tokens as they come."""
        model = ChatLlamaServer(**{**self.chat_model_params, "max_tokens": 1500}, timings_per_token=True)
        thinking: Any = {"chat_template_kwargs": {"enable_thinking": True}}
        if not stream:
            return model.invoke("What is 2 + 3?", **thinking)
        first, *rest = model.stream("What is 2 + 3?", **thinking)
        return first + rest

    def invoke_with_cache_read_input(self, *, stream: bool = False) -> AIMessage:
        """The server keeps the prompt of the call before."""
        model = ChatLlamaServer(**self.chat_model_params)
        model.invoke("Hello! My name is Anna and I like the sea.")
        if not stream:
            return model.invoke("Hello! My name is Anna and I like the sea.")
        first, *rest = model.stream("Hello! My name is Anna and I like the sea.")
        return first + rest
