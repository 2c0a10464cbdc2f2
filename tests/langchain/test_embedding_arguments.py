"""Every argument of OpenAIEmbeddings and OpenAI works here, or is named in the log; a misspelt one is an error."""

import importlib
import logging
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from langchain_llamacpp_server import LlamaServerEmbeddings, LlamaServerLLM
from llamacpp_server import _notices

SAMPLES: dict[str, Any] = {
    "openai_api_base": "http://host", "base_url": "http://host", "openai_api_key": SecretStr("k"), "api_key": "k",
    "request_timeout": 5.0, "timeout": (1.0, 2.0), "default_headers": {"a": "b"}, "default_query": {"a": 1},
    "model_kwargs": {"x": 1}, "headers": {"a": "b"}, "logit_bias": {"1": 1.0}, "extra_body": {"x": 1},
    "allowed_special": "all", "client": object(), "async_client": object(), "cache": True, "metadata": {"a": 1},
    "callbacks": [], "tags": ["a"], "custom_get_token_ids": len, "http_client": None, "http_async_client": None,
    "stop": ["x"], "dimensions": 4, "temperature": 0.5, "top_p": 0.5, "name": "n",
}  # fmt: skip


def peers_fields(path: str, name: str) -> list[str]:
    """Names and aliases of a class of langchain-openai, which is not needed to run the other tests."""
    module = pytest.importorskip(path)
    fields = getattr(module, name).model_fields
    return sorted({*fields, *(field.alias for field in fields.values() if field.alias)})


def value_for(name: str, peer: type[BaseModel]) -> Any:
    if name in SAMPLES:
        return SAMPLES[name]
    field = next(f for key, f in peer.model_fields.items() if name in (key, f.alias))
    kinds = str(field.annotation)
    return next((value for kind, value in (("bool", True), ("int", 2), ("float", 1.0)) if kind in kinds), "text")


@pytest.mark.parametrize(
    ("path", "name", "ours"),
    [
        ("langchain_openai.embeddings.base", "OpenAIEmbeddings", LlamaServerEmbeddings),
        ("langchain_openai.llms.base", "OpenAI", LlamaServerLLM),
    ],
)
def test_every_argument_of_the_peer_is_taken(
    path: str, name: str, ours: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for field in peers_fields(path, name):
        monkeypatch.setattr(_notices, "_said", set())
        caplog.clear()
        value = value_for(field, getattr(importlib.import_module(path), name))
        with caplog.at_level(logging.WARNING, "llamacpp_server"):
            made = ours(**{field: value})
        taken = field in type(made).model_fields and field in made.model_fields_set
        renamed = len(made.model_fields_set) > 0
        assert taken or renamed or "no meaning here" in caplog.text or value is None, field


class TestMeaning:
    def test_names_of_the_peer(self) -> None:
        made = LlamaServerEmbeddings(
            openai_api_base="http://host/v1", openai_api_key="k", chunk_size=7, model_kwargs={"a": 1}, request_timeout=9
        )
        assert (made.base_url, made.batch_size, made.extra_body) == ("http://host/v1", 7, {"a": 1})
        assert made.api_key is not None and made.api_key.get_secret_value() == "k"
        assert (made.connect_timeout, made.read_timeout) == (5.0, 9.0)

    @pytest.mark.parametrize(("wrong", "right"), [("demensions", "dimensions"), ("preset_", "preset")])
    def test_misspelt_argument_is_an_error(self, wrong: str, right: str) -> None:
        with pytest.raises(ValueError, match=f"did you mean '{right}'"):
            LlamaServerEmbeddings(**{wrong: 1})

    def test_unknown_preset_is_an_error(self) -> None:
        with pytest.raises(ValueError, match="nomic"):
            LlamaServerEmbeddings(preset="gpt")
