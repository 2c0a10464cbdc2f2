"""Find and truncate overlong texts with the server's own tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ..settings import ServerSettings
from ..transport import (
    Program,
)
from .server import tokenize

# Each look asks the tokenizer once, and interpolating finds the place in two or three.
_LOOKS: Final = 12


def count(settings: ServerSettings, text: Any, model: str | None, *, special: bool) -> Program[int]:
    """Tokens of a text; 0 for an input that is no text, which can't be cut."""
    if not isinstance(text, str):
        return 0
    return len((yield from tokenize(settings, text, special, True, model)))


def counts(settings: ServerSettings, texts: Sequence[Any], model: str | None, *, special: bool) -> Program[list[int]]:
    """Tokens of each text."""
    found = []
    for text in texts:
        found.append((yield from count(settings, text, model, special=special)))
    return found


def truncate_to_tokens(
    settings: ServerSettings, text: str, room: int, model: str | None, *, special: bool
) -> Program[str]:
    """Truncate a text to `room` tokens; "" if not even one character fits.

    The text is cut between its own characters, because detokenized text may differ from it.

    Args:
        settings: Of the server.
        text: The text.
        room: Tokens.
        model: Name of the model (routers).
        special: Whether what the model puts around a text (BOS, EOS) is part of the count.
    """
    fits, over = 0, len(text)
    in_fits, in_over = 0, (yield from count(settings, text, model, special=special))
    if in_over <= room:
        return text
    for _ in range(_LOOKS):
        if over - fits <= 1 or in_fits == room:
            break
        guess = fits + (over - fits) * (room - in_fits) // max(in_over - in_fits, 1)
        guess = min(max(guess, fits + 1), over - 1)
        tokens = yield from count(settings, text[:guess], model, special=special)
        if tokens <= room:
            fits, in_fits = guess, tokens
        else:
            over, in_over = guess, tokens
    return text[:fits]
