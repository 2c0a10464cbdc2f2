"""Further names of ChatOpenAI and similar classes: arguments for type checkers, and readable attributes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llamacpp_server.integration import (
    ConnectionNames,
    LoadingNames,
    RequestNames,
    read_timeouts,
)

__all__ = ["ChatNames", "EmbeddingNames", "LLMNames", "OpenAINames"]

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from dataclasses import InitVar

    import httpx
    from pydantic import BaseModel

    from llamacpp_server.integration import Key

    _ANY: Any = ...

    class OpenAINames(ConnectionNames):
        """Attributes of OpenAI's classes that programs read."""

        model_name: str | None = None
        """Another name of `model`; if none was given, the name from a reply."""
        openai_api_base: str | None = None
        """Another name of `base_url`."""
        openai_api_key: Key = _ANY
        """Another name of `api_key`."""
        openai_organization: str | None = None
        """Accepted; llama-server has no organizations."""
        request_timeout: float | tuple[float | None, ...] | httpx.Timeout | None = None
        """Another name of `timeout`; returns `read_timeout`."""

    class CallNames(BaseModel):
        """Parameters of OpenAI's API that its classes send with each call."""

        stream_options: InitVar[Mapping[str, Any] | None] = None
        """`include_usage` becomes `stream_usage`."""
        user: InitVar[Any] = None
        """Accepted; llama-server has no users."""
        prediction: InitVar[Any] = None
        """Accepted; use the server's own speculative decoding."""
        prompt_cache_key: InitVar[Any] = None
        """Accepted; the server finds the longest common prefix itself."""
        prompt_cache_retention: InitVar[Any] = None
        """Accepted; the server's prompt cache lives as long as the server."""
        safety_identifier: InitVar[Any] = None
        """Accepted; an OpenAI service."""
        moderation: InitVar[Any] = None
        """Accepted; an OpenAI service."""
        audio: InitVar[Any] = None
        """Accepted; the server answers in text."""
        web_search_options: InitVar[Any] = None
        """Accepted; bind a tool that searches."""

    class ChatNames(OpenAINames, RequestNames, LoadingNames, CallNames):
        """Further arguments of ChatOpenAI and ChatOllama."""

        tools: InitVar[Sequence[Any] | None] = None
        """Sent with every call that has none of its own."""
        tool_choice: InitVar[Any] = None
        """Sent with every call that has none of its own."""
        parallel_tool_calls: InitVar[bool | None] = None
        """Sent with every call that has none of its own."""
        functions: InitVar[Sequence[Any] | None] = None
        """The old name of `tools`."""
        function_call: InitVar[Any] = None
        """The old name of `tool_choice`."""
        suffix: InitVar[Any] = None
        """Accepted; a chat has no suffix."""
        root_client: InitVar[Any] = None
        """Accepted; `client` is this package's own."""
        root_async_client: InitVar[Any] = None
        """Accepted; `async_client` is this package's own."""
        include_response_headers: InitVar[Any] = None
        """Accepted; see `response_metadata`."""
        context_management: InitVar[Any] = None
        """Accepted; an OpenAI service."""
        include: InitVar[Any] = None
        """Accepted; belongs to the Responses API."""
        prompt_cache_options: InitVar[Any] = None
        """Accepted; see `cache_prompt`."""
        truncation: InitVar[Any] = None
        """Accepted; llama-server does not shorten conversations."""
        use_previous_response_id: InitVar[Any] = None
        """Accepted; belongs to the Responses API."""
        use_responses_api: InitVar[Any] = None
        """Accepted; belongs to the Responses API."""

    class EmbeddingNames(OpenAINames, LoadingNames):
        """Further arguments of OpenAIEmbeddings and OllamaEmbeddings."""

        chunk_size: InitVar[int | None] = None
        """Another name of `batch_size`."""
        model_kwargs: InitVar[Mapping[str, Any] | None] = None
        """Another name of `extra_body`."""
        embedding_ctx_length: InitVar[Any] = None
        """Accepted; see `on_oversize`."""
        check_embedding_ctx_length: InitVar[Any] = None
        """Accepted; texts are always sent as texts."""
        tiktoken_enabled: InitVar[Any] = None
        """Accepted; texts are always sent as texts."""
        tiktoken_model_name: InitVar[Any] = None
        """Accepted; tokens are counted by the server."""
        allowed_special: InitVar[Any] = None
        """Accepted; texts are always sent as texts."""
        disallowed_special: InitVar[Any] = None
        """Accepted; texts are always sent as texts."""
        show_progress_bar: InitVar[Any] = None
        """Accepted; there is no progress bar."""
        user: InitVar[Any] = None
        """Accepted; llama-server has no users."""
        verbose: InitVar[Any] = None
        """Accepted; the server writes its own log."""
        encoding_format: InitVar[Any] = None
        """Accepted; vectors come as floats."""
        skip_empty: InitVar[Any] = None
        """Accepted; empty texts are embedded if the model supports it."""
        retry_min_seconds: InitVar[Any] = None
        """Accepted; see `max_retries` and `total_timeout`."""
        retry_max_seconds: InitVar[Any] = None
        """Accepted; see `max_retries` and `total_timeout`."""
        temperature: InitVar[Any] = None
        """Accepted; an embedding model generates no text."""
        top_k: InitVar[Any] = None
        """Accepted; an embedding model generates no text."""
        top_p: InitVar[Any] = None
        """Accepted; an embedding model generates no text."""
        mirostat: InitVar[Any] = None
        """Accepted; an embedding model generates no text."""
        mirostat_eta: InitVar[Any] = None
        """Accepted; an embedding model generates no text."""
        mirostat_tau: InitVar[Any] = None
        """Accepted; an embedding model generates no text."""
        repeat_last_n: InitVar[Any] = None
        """Accepted; an embedding model generates no text."""
        repeat_penalty: InitVar[Any] = None
        """Accepted; an embedding model generates no text."""
        seed: InitVar[Any] = None
        """Accepted; an embedding model generates no text."""
        stop: InitVar[Any] = None
        """Accepted; an embedding model generates no text."""
        tfs_z: InitVar[Any] = None
        """Accepted; an embedding model generates no text."""

    class LLMNames(OpenAINames, RequestNames, LoadingNames, CallNames):
        """Further arguments of OpenAI and OllamaLLM."""

        model_kwargs: InitVar[Mapping[str, Any] | None] = None
        """Another name of `extra_body`."""
        allowed_special: InitVar[Any] = None
        """Accepted; texts are always sent as texts."""
        disallowed_special: InitVar[Any] = None
        """Accepted; texts are always sent as texts."""
        batch_size: InitVar[Any] = None
        """Accepted; all prompts go in one request."""
        best_of: InitVar[Any] = None
        """Accepted; use `n`."""

else:

    class OpenAINames(ConnectionNames):
        """Attributes of OpenAI's classes that programs read and set."""

        @property
        def model_name(self) -> str | None:
            """The model's name: as given, else from the first reply; None before that."""
            return self.model if self.model is not None else self._reported_name()

        @model_name.setter
        def model_name(self, name: str | None) -> None:
            self.model = name

        @property
        def openai_api_base(self) -> str:
            """`base_url`."""
            return self.base_url

        @openai_api_base.setter
        def openai_api_base(self, url: str) -> None:
            self.base_url = url

        @property
        def openai_api_key(self) -> Any:
            """`api_key`."""
            return self.api_key

        @openai_api_key.setter
        def openai_api_key(self, key: Any) -> None:
            self.api_key = key

        @property
        def request_timeout(self) -> float | None:
            """`read_timeout`."""
            return self.read_timeout

        @request_timeout.setter
        def request_timeout(self, timeout: Any) -> None:
            limits = {"read_timeout": None} if timeout is None else read_timeouts(timeout)
            for name, limit in limits.items():
                setattr(self, name, limit)

        @property
        def openai_organization(self) -> None:
            """None: llama-server has no organizations."""
            return

        def _reported_name(self) -> str | None:
            return None

    class CallNames:
        """Parameters of OpenAI's API that its classes send with each call."""

    class ChatNames(OpenAINames, RequestNames, LoadingNames, CallNames):
        """Further arguments of ChatOpenAI and ChatOllama."""

        @property
        def root_client(self) -> Any:
            """Raises: there is no client of the openai package here."""
            raise AttributeError("the openai client is not used: see model.client")

        @property
        def root_async_client(self) -> Any:
            """Raises: there is no client of the openai package here."""
            raise AttributeError("the openai client is not used: see model.async_client")

    class EmbeddingNames(OpenAINames, LoadingNames):
        """Further arguments of OpenAIEmbeddings and OllamaEmbeddings."""

    class LLMNames(OpenAINames, RequestNames, LoadingNames, CallNames):
        """Further arguments of OpenAI and OllamaLLM."""
