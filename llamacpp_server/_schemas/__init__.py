"""JSON schemas and regular expressions: cleaned for the server, validated, written as grammars; no I/O.

In come a caller's schema or pattern; out come what the server's grammar converter takes, and a `Repair` for each
change. What a refusal of the server says of a schema is learned in `_endpoints`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy

if TYPE_CHECKING:
    from .clean import bisect_refused as bisect_refused
    from .clean import bisect_refused_tools as bisect_refused_tools
    from .clean import clean_schema as clean_schema
    from .clean import clean_tools as clean_tools
    from .clean_types import ANY_ITEM as ANY_ITEM
    from .constraints import CONSTRAINTS as CONSTRAINTS
    from .constraints import as_grammar as as_grammar
    from .constraints import rules_thinking as rules_thinking
    from .constraints import says_thinking as says_thinking
    from .constraints import without_thinking as without_thinking
    from .flatten import relocate_references as relocate_references
    from .flatten import with_absolute_references as with_absolute_references
    from .grammars import choices_grammar as choices_grammar
    from .grammars import regex_grammar as regex_grammar
    from .positions import with_subschemas as with_subschemas
    from .regex import server_pattern as server_pattern
    from .simplify import plain_tools as plain_tools
    from .strict import require_all as require_all
    from .strict import strict_tool as strict_tool
    from .to_gbnf import schema_grammar as schema_grammar
    from .validate import SchemaError as SchemaError
    from .validate import known_names as known_names
    from .validate import validation_errors as validation_errors

__getattr__, __dir__ = lazy(
    __name__,
    {
        "clean": ("clean_schema", "clean_tools", "bisect_refused", "bisect_refused_tools"),
        "clean_types": ("ANY_ITEM",),
        "constraints": ("CONSTRAINTS", "as_grammar", "rules_thinking", "says_thinking", "without_thinking"),
        "flatten": ("with_absolute_references", "relocate_references"),
        "grammars": ("choices_grammar", "regex_grammar"),
        "positions": ("with_subschemas",),
        "regex": ("server_pattern",),
        "simplify": ("plain_tools",),
        "strict": ("require_all", "strict_tool"),
        "to_gbnf": ("schema_grammar",),
        "validate": ("SchemaError", "known_names", "validation_errors"),
    },
)
