"""For authors of integrations: what the LangChain and LlamaIndex adapters are built on.

Fields of models, arguments of calls and the requests that they become, structured output, context budgets, and programs
that a blocking and an awaited method share (`steps`). No framework is imported here, and nothing of HTTP is known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._frames import hides_arguments
from .._lazy import lazy, require_extra
from .._notices import logger, warn_once

if TYPE_CHECKING:
    from .._read_as import ReadAs, default_value
    from .._tools import resolve_tool_choice
    from .argument_names import ConnectionNames, Key, LoadingNames, RequestNames
    from .arguments import (
        ADDITIONAL_KWARGS,
        CONNECTION_ARGUMENTS,
        LOADING_ARGUMENTS,
        REQUEST_ARGUMENTS,
        ArgumentTable,
        Converted,
        as_json,
        list_of,
        object_of,
        read_timeouts,
        stop_texts,
    )
    from .chat_fields import ChatFields, ModelDefaults, Thinking, supported_effort, thinking_params
    from .context_budget import (
        TRIMMED,
        Compacted,
        Compaction,
        ContextBudget,
        Count,
        Steps,
        Summarize,
        compaction,
        shortened,
    )
    from .decision_fields import DecisionFields
    from .fields import ConnectionFields, MediaFields, on_event_loop
    from .server_tools import named_tools, strict_tool
    from .spans import span_above, under_span
    from .steps import StreamedAnswer, aread_answer, arun_steps, read_answer, run_steps
    from .structured import (
        CONSTRAINTS,
        LADDER,
        Ask,
        PartialReader,
        StructuredAttempts,
        Way,
        attempts_of,
        find_json,
        json_checker,
        object_steps,
        require_all,
        says_thinking,
        schema_grammar,
        schema_of,
        with_schema,
    )
    from .tokenizer import LlamaServerTokenizer
    from .vector_fields import EmbeddingFields, RankFields

__all__ = [
    "ADDITIONAL_KWARGS",
    "CONNECTION_ARGUMENTS",
    "CONSTRAINTS",
    "LADDER",
    "LOADING_ARGUMENTS",
    "REQUEST_ARGUMENTS",
    "TRIMMED",
    "ArgumentTable",
    "Ask",
    "ChatFields",
    "Compacted",
    "Compaction",
    "ConnectionFields",
    "ConnectionNames",
    "ContextBudget",
    "Converted",
    "Count",
    "DecisionFields",
    "EmbeddingFields",
    "Key",
    "LlamaServerTokenizer",
    "LoadingNames",
    "MediaFields",
    "ModelDefaults",
    "PartialReader",
    "RankFields",
    "ReadAs",
    "RequestNames",
    "Steps",
    "StreamedAnswer",
    "StructuredAttempts",
    "Summarize",
    "Thinking",
    "Way",
    "aread_answer",
    "arun_steps",
    "as_json",
    "attempts_of",
    "compaction",
    "default_value",
    "find_json",
    "hides_arguments",
    "json_checker",
    "lazy",
    "list_of",
    "logger",
    "named_tools",
    "object_of",
    "object_steps",
    "on_event_loop",
    "read_answer",
    "read_timeouts",
    "require_all",
    "require_extra",
    "resolve_tool_choice",
    "run_steps",
    "says_thinking",
    "schema_grammar",
    "schema_of",
    "shortened",
    "span_above",
    "stop_texts",
    "strict_tool",
    "supported_effort",
    "thinking_params",
    "under_span",
    "warn_once",
    "with_schema",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "._read_as": ("ReadAs", "default_value"),
        "._tools": ("resolve_tool_choice",),
        "argument_names": ("ConnectionNames", "Key", "LoadingNames", "RequestNames"),
        "arguments": (
            "ADDITIONAL_KWARGS",
            "CONNECTION_ARGUMENTS",
            "LOADING_ARGUMENTS",
            "REQUEST_ARGUMENTS",
            "ArgumentTable",
            "Converted",
            "as_json",
            "list_of",
            "object_of",
            "read_timeouts",
            "stop_texts",
        ),
        "chat_fields": ("ChatFields", "ModelDefaults", "Thinking", "supported_effort", "thinking_params"),
        "context_budget": (
            "TRIMMED",
            "Compacted",
            "Compaction",
            "ContextBudget",
            "Count",
            "Steps",
            "Summarize",
            "compaction",
            "shortened",
        ),
        "decision_fields": ("DecisionFields",),
        "fields": ("ConnectionFields", "MediaFields", "on_event_loop"),
        "server_tools": ("named_tools", "strict_tool"),
        "steps": ("StreamedAnswer", "aread_answer", "arun_steps", "read_answer", "run_steps"),
        "spans": ("span_above", "under_span"),
        "structured": (
            "CONSTRAINTS",
            "LADDER",
            "Ask",
            "PartialReader",
            "StructuredAttempts",
            "Way",
            "attempts_of",
            "find_json",
            "json_checker",
            "object_steps",
            "require_all",
            "says_thinking",
            "schema_grammar",
            "schema_of",
            "with_schema",
        ),
        "tokenizer": ("LlamaServerTokenizer",),
        "vector_fields": ("EmbeddingFields", "RankFields"),
    },
)
