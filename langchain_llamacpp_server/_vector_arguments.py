"""The arguments of OpenAIEmbeddings and OpenAI, and what becomes of each in the classes other than the chat model.

What ChatOpenAI knows as well is in `_arguments`; here is the rest. A test walks the fields of both classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from ._arguments import constructor_arguments, ignore

EMBEDDING_NAMES: Final[Mapping[str, str]] = {
    "chunk_size": "batch_size",
    "model_kwargs": "extra_body",
    "headers": "default_headers",
}

LLM_NAMES: Final[Mapping[str, str]] = {"model_kwargs": "extra_body"}

MEANINGLESS: Final[Mapping[str, str]] = {
    "deployment": "belongs to Azure",
    "openai_api_version": "belongs to Azure",
    "api_version": "belongs to Azure",
    "openai_api_type": "belongs to Azure",
    "embedding_ctx_length": "the server says how long a text may be; see `on_oversize`",
    "check_embedding_ctx_length": "texts are always sent as texts, never as tokens of another model",
    "tiktoken_enabled": "texts are always sent as texts, never as tokens of another model",
    "allowed_special": "texts are always sent as texts, never as tokens of another model",
    "disallowed_special": "texts are always sent as texts, never as tokens of another model",
    "show_progress_bar": "there is none",
    "skip_empty": "empty texts are embedded, where the model can",
    "retry_min_seconds": "see `max_retries` and `total_timeout`",
    "retry_max_seconds": "see `max_retries` and `total_timeout`",
    "batch_size": "all prompts are one request; the server queues what exceeds its slots",
    "best_of": "the server ignores it; use `n`",
}


def model_arguments(given: Mapping[str, Any], names: Mapping[str, str], known: Iterable[str]) -> dict[str, Any]:
    """A constructor's arguments under our names.

    Args:
        given: What the user wrote.
        names: Other names for some of our fields.
        known: The names of our fields.

    Raises:
        ValueError: For a name that nobody knows.
    """
    known = set(known)
    values = {}
    for name, value in given.items():
        ours = names.get(name, name)
        if ours in known:
            if name == ours or value is not None:
                values[ours] = value
        elif ours in MEANINGLESS:
            ignore(ours, value, MEANINGLESS)
        else:
            values[ours] = value
    return constructor_arguments(values, known)
