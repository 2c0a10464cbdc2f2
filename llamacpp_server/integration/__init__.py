"""For authors of integrations: what the LangChain and LlamaIndex adapters are built on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy

if TYPE_CHECKING:
    from .fields import ConnectionFields, MediaFields, RepairFields, ThinkingFields
    from .structured import (
        CONSTRAINTS,
        LADDER,
        Ask,
        Attempts,
        Way,
        find_json,
        json_checker,
        says_thinking,
        schema_grammar,
    )
    from .thinking import Thinking, thinking_params
    from .tokenizer import LlamaServerTokenizer
    from .vector_fields import EmbeddingFields, RankFields

__all__ = [
    "CONSTRAINTS",
    "LADDER",
    "Ask",
    "Attempts",
    "ConnectionFields",
    "EmbeddingFields",
    "LlamaServerTokenizer",
    "MediaFields",
    "RankFields",
    "RepairFields",
    "Thinking",
    "ThinkingFields",
    "Way",
    "find_json",
    "json_checker",
    "lazy",
    "says_thinking",
    "schema_grammar",
    "thinking_params",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "fields": ("ConnectionFields", "MediaFields", "RepairFields", "ThinkingFields"),
        "structured": (
            "CONSTRAINTS",
            "LADDER",
            "Ask",
            "Attempts",
            "Way",
            "find_json",
            "json_checker",
            "says_thinking",
            "schema_grammar",
        ),
        "thinking": ("Thinking", "thinking_params"),
        "tokenizer": ("LlamaServerTokenizer",),
        "vector_fields": ("EmbeddingFields", "RankFields"),
    },
)
