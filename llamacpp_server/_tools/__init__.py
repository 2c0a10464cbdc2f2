"""Tool choice, checks of tool calls, and the second round for a required tool call; no I/O.

In come the tools and the choice of a request, then the deltas of its reply; out come the tools to send and deltas whose
calls fit. Schemas of tools are cleaned in `_schemas`; the second round is sent by `_endpoints`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy

if TYPE_CHECKING:
    from .checks import CallRules as CallRules
    from .checks import ToolCallFilter as ToolCallFilter
    from .checks import ids_of as ids_of
    from .checks import is_limited as is_limited
    from .checks import missing_call as missing_call
    from .choice import AnswerFilter as AnswerFilter
    from .choice import ToolChoice as ToolChoice
    from .choice import resolve_tool_choice as resolve_tool_choice
    from .choice import tool_for_answer as tool_for_answer
    from .choice import with_answer_tool as with_answer_tool
    from .forced_round import AnswerAsToolCall as AnswerAsToolCall
    from .forced_round import can_follow as can_follow
    from .forced_round import forced_request as forced_request
    from .text_calls import TextCallFilter as TextCallFilter
    from .text_calls import find_text_calls as find_text_calls
    from .text_calls import without_calls as without_calls

__getattr__, __dir__ = lazy(
    __name__,
    {
        "checks": ("CallRules", "ToolCallFilter", "ids_of", "is_limited", "missing_call"),
        "choice": ("AnswerFilter", "ToolChoice", "resolve_tool_choice", "tool_for_answer", "with_answer_tool"),
        "forced_round": ("AnswerAsToolCall", "can_follow", "forced_request"),
        "text_calls": ("TextCallFilter", "find_text_calls", "without_calls"),
    },
)
