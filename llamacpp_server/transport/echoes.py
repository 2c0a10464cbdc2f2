"""Secrets of a request that its answer repeats: a gateway, or a page for debugging, may send back what it was sent."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from ..errors import LlamaServerError
from ..settings import ServerSettings

HIDDEN: Final = "**********"
# Shorter ones are words, such as "test" or "model", which a message would lose.
_SHORTEST: Final = 8
_SECRET_NAME: Final = re.compile(r"auth|cookie|key|token|secret|session|passw|credential|sig", re.IGNORECASE)
_TEXTS: Final = ("message", "server_message", "server_type", "remedy", "body", "raw")


def hide_echoes(error: LlamaServerError, settings: ServerSettings) -> None:
    """Hide the key, the password, and secret headers and query parameters in what an error repeats of an answer."""
    for secret in sorted(set(_secrets(settings)), key=len, reverse=True):
        for name in _TEXTS:
            text = getattr(error, name, None)
            if isinstance(text, str) and secret[:_SHORTEST] in text:
                setattr(error, name, _hidden(text, secret))
    error.args = (error.message, *error.args[1:])


def _secrets(settings: ServerSettings) -> Iterator[str]:
    given = [value for name, value in settings.request_headers().items() if _SECRET_NAME.search(name)]
    given += [str(value) for name, value in settings.query.items() if _SECRET_NAME.search(str(name))]
    if "@" in settings.base_url:
        given.append(unquote(urlsplit(settings.base_url).password or ""))
    for value in given:
        # `Bearer KEY`, `Basic LOGIN`, `session=TICKET; theme=dark`
        for word in re.split(r"[\s;,=]+(?=.)", value):
            yield from (form for form in {word, quote(word, safe="")} if len(form) >= _SHORTEST)


def _hidden(text: str, secret: str) -> str:
    """The text without the secret, nor a part that is left where the text was cut."""
    parts, at = list[str](), 0
    while (found := text.find(secret[:_SHORTEST], at)) >= 0:
        end = found + _SHORTEST
        while end < len(text) and end - found < len(secret) and text[end] == secret[end - found]:
            end += 1
        parts += [text[at:found], HIDDEN]
        at = end
    return "".join(parts) + text[at:]
