"""The whole of langchain-tests for embeddings, on a real embedder."""

from typing import Any

import pytest
from langchain_core.embeddings import Embeddings
from langchain_tests.integration_tests import EmbeddingsIntegrationTests
from langchain_tests.unit_tests import EmbeddingsUnitTests

from langchain_llamacpp_server import LlamaServerEmbeddings
from llamacpp_server import LocalServer


class TestUnit(EmbeddingsUnitTests):
    @property
    def embeddings_class(self) -> type[Embeddings]:
        return LlamaServerEmbeddings

    @property
    def init_from_env_params(self) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        environment = {"LLAMACPP_BASE_URL": "http://host:1", "LLAMACPP_API_KEY": "key", "LLAMACPP_MODEL": "m"}
        return environment, {}, {"base_url": "http://host:1", "api_key": "key", "model": "m"}


class TestIntegration(EmbeddingsIntegrationTests):
    @property
    def embeddings_class(self) -> type[Embeddings]:
        return LlamaServerEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"base_url": self.base_url}

    @pytest.fixture(autouse=True)
    def _server(self, embedding_server: LocalServer) -> None:
        self.base_url = embedding_server.base_url
