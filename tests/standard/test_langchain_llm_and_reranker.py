"""Our own suites for the two kinds of objects that langchain-tests leaves out."""

from typing import Any

import pytest
from langchain_core.documents import BaseDocumentCompressor
from langchain_core.language_models.llms import BaseLLM

from langchain_llamacpp_server import LlamaServerLLM, LlamaServerReranker
from llamacpp_server import LocalServer
from tests.standard.llm_suite import LLMTests
from tests.standard.reranker_suite import RerankerTests

ENVIRONMENT = {"LLAMACPP_BASE_URL": "http://host:1", "LLAMACPP_API_KEY": "key", "LLAMACPP_MODEL": "m"}
MADE = {"base_url": "http://host:1", "api_key": "key", "model": "m"}


class TestLLM(LLMTests):
    @property
    def llm_class(self) -> type[BaseLLM]:
        return LlamaServerLLM

    @property
    def llm_params(self) -> dict[str, Any]:
        # Lower-case letters: what a random model says else is not always text that can be a stop text.
        return {"base_url": self.base_url, "max_tokens": 12, "temperature": 0.0, "grammar": "root ::= [a-z]{12}"}

    @property
    def init_from_env_params(self) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        return ENVIRONMENT, {}, MADE

    @pytest.fixture(autouse=True)
    def _server(self, chat_server: LocalServer) -> None:
        self.base_url = chat_server.base_url


class TestReranker(RerankerTests):
    @property
    def reranker_class(self) -> type[BaseDocumentCompressor]:
        return LlamaServerReranker

    @property
    def reranker_params(self) -> dict[str, Any]:
        return {"base_url": self.base_url}

    @property
    def init_from_env_params(self) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        return ENVIRONMENT, {}, MADE

    @pytest.fixture(autouse=True)
    def _server(self, rerank_server: LocalServer) -> None:
        self.base_url = rerank_server.base_url
