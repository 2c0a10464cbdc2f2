"""Constraints on an answer: one per request, and their effect on reasoning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..errors import BadRequestError
from ..replies import Repair

CONSTRAINTS: Final = ("grammar", "regex", "choices", "json_schema", "response_format")
"""Parameters of which a request can have one: the server refuses some pairs, and drops one of others without a word."""

_RULING: Final = frozenset({"grammar", "regex", "choices"})
_THINKING: Final = ("reasoning_effort", "reasoning_budget_tokens", "continue_final_message")


def as_grammar(params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters with a grammar in place of `regex` or `choices`.

    Raises:
        BadRequestError: For two constraints at once, or one that no grammar can say.
    """
    found = [name for name in CONSTRAINTS if name in params and not _is_no_constraint(params[name])]
    if len(found) > 1:
        raise BadRequestError(
            f"an answer can have only one constraint, but {' and '.join(found)} are given", remedy="remove one of them"
        )
    body = dict(params)
    pattern, choices = body.pop("regex", None), body.pop("choices", None)
    if pattern is None and choices is None:
        return body
    from .grammars import choices_grammar, regex_grammar  # nearly no request needs one written

    body["grammar"] = regex_grammar(pattern) if choices is None else choices_grammar(choices)
    return body


def _is_no_constraint(value: Any) -> bool:
    return value == "" or (isinstance(value, Mapping) and value.get("type") == "text")


def rules_thinking(grammar: Any) -> bool:
    """Whether a grammar leaves no room for thinking: it holds from the first token on, and names no tags for one."""
    return isinstance(grammar, str) and bool(grammar) and "think" not in grammar and "<|" not in grammar


def says_thinking(params: Mapping[str, Any]) -> bool:
    """Whether parameters contain a reasoning option."""
    kwargs = params.get("chat_template_kwargs") or {}
    return "enable_thinking" in kwargs or any(params.get(name) is not None for name in _THINKING)


def without_thinking(params: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[Repair, ...]]:
    """Parameters of a chat with thinking turned off where a grammar leaves no room for it, and nobody asks for it.

    The template would open a thought, and the model would have to write the answer as one.
    """
    if _RULING.isdisjoint(params):
        return dict(params), ()
    ruled = any(params.get(name) is not None for name in ("regex", "choices")) or rules_thinking(params.get("grammar"))
    if not ruled or says_thinking(params):
        return dict(params), ()
    off = {**params, "chat_template_kwargs": {**(params.get("chat_template_kwargs") or {}), "enable_thinking": False}}
    return off, (Repair("thinking_off", "grammar", "disabled reasoning for this request because it uses a grammar"),)
