"""Arguments of LangChain's classes for OpenAI and Ollama, and their effect here.

The tables drive the constructors, single calls and the docs; a test compares them with the other classes' own fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from llamacpp_server.integration import (
    CONNECTION_ARGUMENTS,
    LOADING_ARGUMENTS,
    REQUEST_ARGUMENTS,
    ArgumentTable,
    Converted,
)
from llamacpp_server.sampling import SAMPLING_FIELDS

__all__ = ["CHAT", "CHAT_CALLS", "EMBEDDINGS", "LLM", "LLM_CALLS", "RERANKER"]

_RESPONSES = "Responses API only; "
_TEXT_ONLY: Final = REQUEST_ARGUMENTS.meaningless["modalities"]


def _for_each_call(name: str) -> Converted:
    def fields(value: Any, others: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"model_kwargs": {name: value, **(others.get("model_kwargs") or {})}}

    return Converted("`model_kwargs`, so every call has it", fields)


def _stream_options(value: Any, others: Mapping[str, Any]) -> Mapping[str, Any]:
    asked = value.get("include_usage") if isinstance(value, Mapping) else value
    return {} if asked is None or "stream_usage" in others else {"stream_usage": asked}


# Parameters of OpenAI's API without a field: its classes send them with each call if their constructor got them.
_OF_REQUESTS: Final = ArgumentTable(
    converted={"stream": Converted("`streaming`", lambda stream, others: {"streaming": stream})},
    meaningless={
        "user": "llama-server has no users",
        "prediction": "use llama-server's own speculative decoding (`--model-draft`)",
        "prompt_cache_key": "the server finds the longest common prefix itself",
        "prompt_cache_retention": "the server's prompt cache lives as long as the server",
        "safety_identifier": "only OpenAI offers this",
        "moderation": "only OpenAI offers this",
        "audio": _TEXT_ONLY,
        "web_search_options": "llama-server does not search the web; bind a tool that does",
    },
)

CHAT: Final = (
    CONNECTION_ARGUMENTS
    | REQUEST_ARGUMENTS
    | LOADING_ARGUMENTS
    | _OF_REQUESTS
    | ArgumentTable(
        converted={
            **{name: _for_each_call(name) for name in ("tools", "tool_choice", "parallel_tool_calls")},
            **{name: _for_each_call(name) for name in ("functions", "function_call")},
            "stream_options": Converted("`stream_usage`", _stream_options),
        },
        meaningless={
            "root_client": "the openai client is not used; see `model.client`",
            "root_async_client": "the openai client is not used; see `model.async_client`",
            "suffix": "a chat has no suffix; `LlamaServerLLM` has",
            "include_response_headers": "llama-server has no such headers; see response_metadata",
            "context_management": "only OpenAI offers this; use LangChain's SummarizationMiddleware",
            "include": _RESPONSES + "use `logprobs` to request log probabilities",
            "prompt_cache_options": "the server's prompt cache is on by default; see `cache_prompt`",
            "truncation": "llama-server does not shorten conversations; a ContextOverflowError has both token counts",
            "use_previous_response_id": _RESPONSES + "llama-server stores no conversations",
            "use_responses_api": _RESPONSES + "reasoning, tools and media all work without it",
        },
    )
)

# A field of LangChain's models, for the run; in a call, a parameter of OpenAI's API.
_OF_CALLS: Final = ArgumentTable(meaningless={"metadata": "llama-server stores none; use the run's metadata"})
# Today's names of what OpenAI's API called functions; a function without its envelope is a tool to `wire_tools`.
CHAT_CALLS: Final = CHAT | _OF_CALLS | ArgumentTable(renamed={"functions": "tools", "function_call": "tool_choice"})

_AS_TEXTS = "texts are never sent as tokens of another model"
_RETRIES = "see `max_retries` and `total_timeout`"

EMBEDDINGS: Final = (
    CONNECTION_ARGUMENTS
    | LOADING_ARGUMENTS
    | ArgumentTable(meaningless=dict.fromkeys([*SAMPLING_FIELDS, "tfs_z"], "an embedding model generates no text"))
    | ArgumentTable(
        renamed={"chunk_size": "batch_size", "model_kwargs": "extra_body"},
        meaningless={
            "embedding_ctx_length": "the server reports the maximum length; see `on_oversize`",
            "check_embedding_ctx_length": _AS_TEXTS,
            "tiktoken_enabled": _AS_TEXTS,
            "tiktoken_model_name": REQUEST_ARGUMENTS.meaningless["tiktoken_model_name"],
            "allowed_special": _AS_TEXTS,
            "disallowed_special": _AS_TEXTS,
            "show_progress_bar": "no progress bar",
            "user": _OF_REQUESTS.meaningless["user"],
            "verbose": "the server writes its own log: `-v`",
            "encoding_format": "vectors are always transferred as base64, and returned as floats",
            "skip_empty": "empty texts are embedded if the model supports it",
            "retry_min_seconds": _RETRIES,
            "retry_max_seconds": _RETRIES,
        },
    )
)

LLM: Final = (
    CONNECTION_ARGUMENTS
    | REQUEST_ARGUMENTS
    | LOADING_ARGUMENTS
    | _OF_REQUESTS
    | ArgumentTable(
        renamed={"model_kwargs": "extra_body"},
        meaningless={
            "stream_options": "a stream always ends with the token counts",
            "reasoning": "a completion has no chat template, so the model is not switched",
            "allowed_special": _AS_TEXTS,
            "disallowed_special": _AS_TEXTS,
            "batch_size": "all prompts go in one request, which the server queues",
            "best_of": "the server ignores it; use `n`",
        },
    )
)
LLM_CALLS: Final = LLM | _OF_CALLS

RERANKER: Final = CONNECTION_ARGUMENTS
