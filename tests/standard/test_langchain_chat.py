"""LangChain's standard integration tests for chat models, on a real server with the trained tiny model.

A class for each way to structured output, with thinking off; one with thinking on; one with eyes and ears.

The tiny model copies no Chinese or Japanese, and takes "San Francisco, CA" for two places. The tests about those run
against a model that says what is to be said: the same server, the same client, and a script instead of a mind.
"""

from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_tests.integration_tests import ChatModelIntegrationTests

from langchain_llamacpp_server import ChatLlamaServer
from llamacpp_server import LocalServer
from tests.models import tool_call

MODEL = Path(__file__).parents[2] / "models" / "tiny-chat.gguf"


@pytest.fixture(scope="session")
def tiny_chat(serve: Any) -> LocalServer:
    return serve(MODEL, parallel=2, ctx_size=8192)


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


class Standard(ChatModelIntegrationTests):
    """What holds for all."""

    method = "json_schema"
    thinking = False

    @pytest.fixture(autouse=True)
    def _server(self, request: pytest.FixtureRequest, scripted_server: Any) -> None:
        script = SCRIPTS.get(request.node.originalname)
        server: LocalServer = scripted_server(script) if script else request.getfixturevalue("tiny_chat")
        type(self).base_url = server.base_url

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


class TestJsonSchema(Standard):
    pass


class TestFunctionCalling(Standard):
    method = "function_calling"


class TestJsonMode(Standard):
    method = "json_mode"


class TestThinking(Standard):
    thinking = True


del Standard, ChatModelIntegrationTests
