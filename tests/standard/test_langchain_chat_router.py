"""LangChain's standard integration tests on a router with two models, where a call can name another model."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llamacpp_server import LocalServer
from tests.standard.langchain_chat import MODEL, Standard

pytestmark = pytest.mark.binary


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    directory = tmp_path_factory.mktemp("router")
    for name in ("first", "second"):
        shutil.copy(MODEL, directory / f"{name}.gguf")
    with LocalServer(models_dir=directory, ctx_size=8192, parallel=2, threads=1) as server:
        yield server


class TestRouter(Standard):
    def server_for(self, request: pytest.FixtureRequest, scripted_server: Any) -> LocalServer:
        usual: LocalServer = super().server_for(request, scripted_server)
        self.routed = usual.model is not None and Path(usual.model) == MODEL
        type(self).own = {"model": "first"} if self.routed else {}  # type: ignore[attr-defined]
        return request.getfixturevalue("router") if self.routed else usual

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {**super().chat_model_params, **self.own}  # type: ignore[attr-defined]

    @property
    def model_override_value(self) -> str:
        return "second"


del Standard
