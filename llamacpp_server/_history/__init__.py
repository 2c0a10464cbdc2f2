"""Message histories that the server's template would refuse, repaired; no I/O.

Which repairs a template needs is asked by `_endpoints`; schemas of tools are in `_schemas`. In come messages as the
server takes them; out come new ones, and a `Repair` for each change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy

if TYPE_CHECKING:
    from .always import ALWAYS as ALWAYS
    from .always import REPAIRS as REPAIRS
    from .always import TOOL_ROLES as TOOL_ROLES
    from .always import find_needs as find_needs
    from .always import repair_history as repair_history
    from .always import unreadable as unreadable
    from .always import well_formed as well_formed
    from .always import without_media as without_media
    from .blocks import holds_foreign_blocks as holds_foreign_blocks
    from .blocks import known_blocks as known_blocks
    from .blocks import unread_block as unread_block
    from .plain import PlainMessages as PlainMessages
    from .plain import is_plain_answer as is_plain_answer
    from .plain import plain_text as plain_text
    from .special_tokens import JOINER as JOINER
    from .special_tokens import break_items as break_items
    from .special_tokens import break_tokens as break_tokens
    from .special_tokens import break_tools as break_tools
    from .special_tokens import candidates_in as candidates_in
    from .special_tokens import candidates_in_items as candidates_in_items
    from .special_tokens import holds_broken as holds_broken
    from .special_tokens import holds_candidates as holds_candidates
    from .special_tokens import holds_joiners as holds_joiners
    from .special_tokens import is_tag as is_tag
    from .special_tokens import is_usual as is_usual
    from .special_tokens import joined_again as joined_again
    from .special_tokens import special_among as special_among
    from .special_tokens import template_tags as template_tags
    from .templates import MEDIA_PARTS as MEDIA_PARTS
    from .templates import NO_RESULT as NO_RESULT
    from .templates import TEMPLATE_REPAIRS as TEMPLATE_REPAIRS

__getattr__, __dir__ = lazy(
    __name__,
    {
        "always": (
            "ALWAYS",
            "REPAIRS",
            "TOOL_ROLES",
            "find_needs",
            "repair_history",
            "unreadable",
            "well_formed",
            "without_media",
        ),
        "blocks": ("holds_foreign_blocks", "known_blocks", "unread_block"),
        "plain": ("PlainMessages", "is_plain_answer", "plain_text"),
        "special_tokens": (
            "JOINER",
            "break_items",
            "break_tokens",
            "break_tools",
            "candidates_in",
            "candidates_in_items",
            "holds_broken",
            "holds_candidates",
            "holds_joiners",
            "is_tag",
            "is_usual",
            "joined_again",
            "special_among",
            "template_tags",
        ),
        "templates": ("MEDIA_PARTS", "NO_RESULT", "TEMPLATE_REPAIRS"),
    },
)
