"""For type checkers: what constructors take besides fields (`arguments.py` says what becomes of it).

Checkers make a constructor of the fields of a class and its bases. An `InitVar` is an argument and no attribute.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from .._read_as import ReadAs

__all__ = ["ConnectionNames", "Key", "LoadingNames", "RequestNames"]

Key = ReadAs[SecretStr | None, SecretStr | str | Callable[[], str] | None]
"""A field that holds a secret, and takes a text as well, or what gives one."""

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from dataclasses import InitVar
    from os import PathLike

    import httpx
    from pydantic import BaseModel

    from .given_clients import GivenAsyncClient

    class ConnectionNames(BaseModel):
        """Arguments of every class: the server's address, and how its model runs."""

        api_base: InitVar[str | None] = None
        """Another name of `base_url`."""
        headers: InitVar[Mapping[str, str] | None] = None
        """Another name of `default_headers`."""
        async_http_client: InitVar[GivenAsyncClient] = None
        """Another name of `http_async_client`."""
        timeout: InitVar[float | tuple[float | None, ...] | httpx.Timeout | None] = None
        """Seconds: becomes `read_timeout`, and `connect_timeout` where it is shorter."""
        stream_chunk_timeout: InitVar[float | None] = None
        """Becomes `read_timeout`, where it is shorter."""
        client_kwargs: InitVar[Mapping[str, Any] | None] = None
        """Ollama's: `headers`, `params`, `timeout` and `verify` of the connections."""
        sync_client_kwargs: InitVar[Mapping[str, Any] | None] = None
        """Another name of `client_kwargs`."""
        async_client_kwargs: InitVar[Mapping[str, Any] | None] = None
        """Another name of `client_kwargs`."""
        extra_headers: InitVar[Mapping[str, str] | None] = None
        """Become `default_headers`."""
        extra_query: InitVar[Mapping[str, Any] | None] = None
        """Becomes `default_query`."""
        organization: InitVar[Any] = None
        """Accepted; llama-server knows no organizations."""
        openai_proxy: InitVar[Any] = None
        """Accepted; pass an `http_client` instead."""
        http_socket_options: InitVar[Any] = None
        """Accepted; pass an `http_client` instead."""
        reuse_client: InitVar[Any] = None
        """Accepted; connections are shared, safely."""
        api_version: InitVar[Any] = None
        """Accepted; belongs to Azure."""
        openai_api_version: InitVar[Any] = None
        """Accepted; belongs to Azure."""
        openai_api_type: InitVar[Any] = None
        """Accepted; belongs to Azure."""
        deployment: InitVar[Any] = None
        """Accepted; belongs to Azure."""
        num_ctx: InitVar[Any] = None
        """Accepted; the server's `-c` sets it."""
        num_thread: InitVar[Any] = None
        """Accepted; the server's `-t` sets it."""
        num_gpu: InitVar[Any] = None
        """Accepted; the server's `-ngl` sets it."""
        keep_alive: InitVar[Any] = None
        """Accepted; the server's `--sleep-idle-seconds` sets it."""

    class RequestNames(BaseModel):
        """Further arguments of every language model."""

        max_completion_tokens: InitVar[int | None] = None
        """Another name of `max_tokens`."""
        stop_sequences: InitVar[Sequence[str] | None] = None
        """Another name of `stop`."""
        num_predict: InitVar[int | None] = None
        """Ollama's: becomes `max_tokens`."""
        format: InitVar[str | Mapping[str, Any] | None] = None
        """Ollama's: `json` or a schema becomes `json_schema`."""
        json_mode: InitVar[bool | None] = None
        """LlamaIndex's Ollama: any JSON."""
        reasoning: InitVar[bool | str | Mapping[str, Any] | None] = None
        """Ollama's switch becomes `thinking`; the `effort` of OpenAI's object becomes `reasoning_effort`."""
        verbosity: InitVar[Any] = None
        """Accepted; say it in the system message."""
        modalities: InitVar[Any] = None
        """Accepted; the server answers in text."""
        service_tier: InitVar[Any] = None
        """Accepted; an OpenAI service."""
        store: InitVar[Any] = None
        """Accepted; llama-server stores nothing."""
        tfs_z: InitVar[Any] = None
        """Accepted; use `min_p`."""
        tiktoken_model_name: InitVar[Any] = None
        """Accepted; tokens are counted by the server."""

    class LoadingNames(BaseModel):
        """Arguments of classes that load a model into their own process."""

        max_new_tokens: InitVar[int | None] = None
        """Another name of `max_tokens`."""
        last_n_tokens_size: InitVar[int | None] = None
        """Another name of `repeat_last_n`."""
        grammar_path: InitVar[str | PathLike[str] | None] = None
        """A file with a grammar."""
        model_path: InitVar[Any] = None
        """Accepted; the server loads the model."""
        model_url: InitVar[Any] = None
        """Accepted; the server loads the model."""
        n_ctx: InitVar[Any] = None
        """Accepted; the server's `-c` sets it."""
        n_threads: InitVar[Any] = None
        """Accepted; the server's `-t` sets it."""
        n_gpu_layers: InitVar[Any] = None
        """Accepted; the server's `-ngl` sets it."""
        n_batch: InitVar[Any] = None
        """Accepted; the server's `-b` and `-ub` set it."""
        use_mlock: InitVar[Any] = None
        """Accepted; the server's `--mlock` sets it."""
        use_mmap: InitVar[Any] = None
        """Accepted; the server's `--no-mmap` sets it."""
        rope_freq_base: InitVar[Any] = None
        """Accepted; the server's `--rope-freq-base` sets it."""
        rope_freq_scale: InitVar[Any] = None
        """Accepted; the server's `--rope-freq-scale` sets it."""
        f16_kv: InitVar[Any] = None
        """Accepted; the server's `-ctk` and `-ctv` set it."""
        lora_path: InitVar[Any] = None
        """Accepted; the server's `--lora` sets it."""
        lora_base: InitVar[Any] = None
        """Accepted; llama.cpp removed it."""
        n_parts: InitVar[Any] = None
        """Accepted; llama.cpp removed it."""
        logits_all: InitVar[Any] = None
        """Accepted; `logprobs` works without it."""
        vocab_only: InitVar[Any] = None
        """Accepted; tokens are counted by the server."""
        device: InitVar[Any] = None
        """Accepted; the server's `-dev` sets it."""

else:

    class LoadingNames:
        """Arguments of classes that load a model into their own process."""

    class ConnectionNames:
        """Arguments of every class: the server's address, and how its model runs."""

    class RequestNames:
        """Further arguments of every language model."""
