"""LangChain's standard unit tests for chat models."""

from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_tests.unit_tests import ChatModelUnitTests

from langchain_llamacpp_server import ChatLlamaServer


class TestUnit(ChatModelUnitTests):
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatLlamaServer

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": "tiny-chat"}

    @property
    def init_from_env_params(self) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        environment = {
            "LLAMACPP_BASE_URL": "http://gpu:8080/v1",
            "LLAMACPP_API_KEY": "test",
            "LLAMACPP_MODEL": "qwen3",
        }
        return environment, {}, {"base_url": "http://gpu:8080/v1", "api_key": "test", "model": "qwen3"}
