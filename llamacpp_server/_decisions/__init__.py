"""Prompts of decisions, and answers from the probabilities of their labels; no I/O.

The input is questions and a state; the output is prompts and, from the probabilities, answers. Requests are made in
`_endpoints`; the values that callers see are in `decisions` and `calibration`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy

if TYPE_CHECKING:
    from .answers import answer_of as answer_of
    from .answers import clamped as clamped
    from .answers import right_position as right_position
    from .labels import Labels as Labels
    from .labels import labels_for as labels_for
    from .native import is_option_limit as is_option_limit
    from .native import native_body as native_body
    from .native import native_limit as native_limit
    from .native import native_probabilities as native_probabilities
    from .prompt import Tail as Tail
    from .prompt import messages_for as messages_for
    from .prompt import tail_of as tail_of
    from .questions import Asked as Asked
    from .questions import check_questions as check_questions
    from .questions import rotations_of as rotations_of
    from .state import data_url as data_url
    from .state import in_messages as in_messages
    from .state import json_text as json_text
    from .state import media_note as media_note
    from .state import split_media as split_media
    from .state import with_parts as with_parts
    from .tree import Path as Path
    from .tree import walk as walk

__getattr__, __dir__ = lazy(
    __name__,
    {
        "answers": ("answer_of", "clamped", "right_position"),
        "labels": ("Labels", "labels_for"),
        "native": ("is_option_limit", "native_body", "native_limit", "native_probabilities"),
        "prompt": ("Tail", "messages_for", "tail_of"),
        "questions": ("Asked", "check_questions", "rotations_of"),
        "state": ("data_url", "in_messages", "json_text", "media_note", "with_parts", "split_media"),
        "tree": ("Path", "walk"),
    },
)
