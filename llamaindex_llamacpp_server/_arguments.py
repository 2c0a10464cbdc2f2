"""Arguments of LlamaIndex's classes for OpenAI's API, Ollama, Jina and Cohere, and what becomes of each in ours.

The tables drive the constructors, single calls, and the pages of the docs; a test holds them to the other classes' own
arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel

from llamacpp_server.integration import (
    ADDITIONAL_KWARGS,
    CONNECTION_ARGUMENTS,
    LOADING_ARGUMENTS,
    REQUEST_ARGUMENTS,
    ArgumentTable,
    ConnectionNames,
    Converted,
    LoadingNames,
    RequestNames,
)
from llamacpp_server.sampling import SAMPLING_FIELDS

__all__ = [
    "EMBEDDING",
    "LLM",
    "LLM_CALLS",
    "RERANK",
    "EmbeddingNames",
    "LLMNames",
    "RerankNames",
    "constructor_arguments",
]

LLM: Final = (
    CONNECTION_ARGUMENTS
    | REQUEST_ARGUMENTS
    | LOADING_ARGUMENTS
    | ArgumentTable(
        renamed={"generate_kwargs": "additional_kwargs"},
        converted={"additional_kwargs": ADDITIONAL_KWARGS},
        meaningless={
            "verbose": "the server writes its own log: `-v`",
            "model_kwargs": "arguments of llama.cpp's loader are options of the server's command line",
            "openai_client": "the model creates its own client: `model.client`",
            "async_openai_client": "the model creates its own client: `model.async_client`",
            "audio_config": "llama-server returns text only",
            "prompt_key": "there is only one prompt format",
            "should_use_structured_outputs": "structured output is always constrained to its schema where possible",
            "tokenizer": "tokens are counted by the server; `model.tokenizer` is its tokenizer",
        },
    )
)

# Ollama's class takes `think` with a call, for what its constructor calls `thinking`.
LLM_CALLS: Final = LLM | ArgumentTable(renamed={"think": "thinking"})

EMBEDDING: Final = (
    CONNECTION_ARGUMENTS
    | ArgumentTable(meaningless=dict.fromkeys([*SAMPLING_FIELDS, "tfs_z"], "an embedding model generates no text"))
    | ArgumentTable(
        renamed={"ollama_additional_kwargs": "additional_kwargs"},
        converted={"additional_kwargs": ADDITIONAL_KWARGS},
        meaningless={"mode": "use `preset` for query and text instructions"},
    )
)


def _of_endpoint(url: Any, others: Mapping[str, Any]) -> dict[str, Any]:
    return {} if others.get("base_url") else {"base_url": str(url).rstrip("/").removesuffix("/rerank")}


RERANK: Final = CONNECTION_ARGUMENTS | ArgumentTable(
    converted={"api_url": Converted("`base_url`, without its `/rerank`", _of_endpoint)},
    meaningless={
        "device": LOADING_ARGUMENTS.meaningless["device"],
        "cache_folder": LOADING_ARGUMENTS.meaningless["model_path"],
        "trust_remote_code": "a GGUF file holds no code",
        "cross_encoder_kwargs": LOADING_ARGUMENTS.meaningless["model_path"],
    },
)


def constructor_arguments(table: ArgumentTable, values: Any, model: type[BaseModel]) -> Any:
    """A constructor's arguments as fields. The core's classes accept any keyword and silently drop unknown ones.

    Raises:
        ValueError: For an unknown name.
    """
    if not isinstance(values, dict):
        return values
    # The core writes the class's name into its dumps.
    return table.constructor({name: value for name, value in values.items() if name != "class_name"}, model)


if TYPE_CHECKING:
    from dataclasses import InitVar

    from llamacpp_server.integration import LlamaServerTokenizer, ReadAs, default_value

    class LLMNames(ConnectionNames, RequestNames, LoadingNames):
        """Further arguments of OpenAILike and Ollama."""

        request_timeout: InitVar[float | None] = None
        """Another name of `timeout`."""
        additional_kwargs: InitVar[Mapping[str, Any] | None] = None
        """Names of fields become fields; the rest goes into `extra_body`."""
        generate_kwargs: InitVar[Mapping[str, Any] | None] = None
        """Another name of `additional_kwargs`."""
        verbose: InitVar[Any] = None
        """Accepted; the server writes its own log."""
        model_kwargs: InitVar[Any] = None
        """Accepted; the server loads the model."""
        openai_client: InitVar[Any] = None
        """Accepted; `client` is this package's own."""
        async_openai_client: InitVar[Any] = None
        """Accepted; `async_client` is this package's own."""
        audio_config: InitVar[Any] = None
        """Accepted; llama-server returns text only."""
        prompt_key: InitVar[Any] = None
        """Accepted; there is only one prompt format."""
        tokenizer: ReadAs[LlamaServerTokenizer, Any] = default_value(None)
        """The server's tokenizer; another one is accepted and has no effect."""
        should_use_structured_outputs: InitVar[Any] = None
        """Accepted; structured output is always constrained to its schema where possible."""

    class EmbeddingNames(ConnectionNames):
        """Further arguments of OpenAILikeEmbedding and OllamaEmbedding."""

        request_timeout: InitVar[float | None] = None
        """Another name of `timeout`."""
        additional_kwargs: InitVar[Mapping[str, Any] | None] = None
        """Names of fields become fields; the rest goes into `extra_body`."""
        ollama_additional_kwargs: InitVar[Mapping[str, Any] | None] = None
        """Another name of `additional_kwargs`."""
        mode: InitVar[Any] = None
        """Accepted; see `preset`."""

    class RerankNames(ConnectionNames):
        """Further arguments of JinaRerank and CohereRerank."""

        request_timeout: InitVar[float | None] = None
        """Another name of `timeout`."""
        api_url: InitVar[str | None] = None
        """Jina's: becomes `base_url`, without its `/rerank`."""
        device: InitVar[Any] = None
        """Accepted; the server's `-dev` sets it."""
        cache_folder: InitVar[Any] = None
        """Accepted; the server loads the model."""
        trust_remote_code: InitVar[Any] = None
        """Accepted; a GGUF file holds no code."""
        cross_encoder_kwargs: InitVar[Any] = None
        """Accepted; the server loads the model."""

else:
    LLMNames = type("LLMNames", (ConnectionNames, RequestNames, LoadingNames), {})
    EmbeddingNames = type("EmbeddingNames", (ConnectionNames,), {})
    RerankNames = type("RerankNames", (ConnectionNames,), {})
