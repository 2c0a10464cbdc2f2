"""Secrets of a request that its answer repeats: a gateway, or a page for debugging, may send back what it was sent."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from itertools import takewhile
from operator import eq
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
    secrets = set(_secrets(settings))
    for name in _TEXTS:
        text = getattr(error, name, None)
        if isinstance(text, str):
            setattr(error, name, _hidden(text, secrets))
    error.args = (error.message, *error.args[1:])


def _secrets(settings: ServerSettings) -> Iterator[str]:
    given = [value for name, value in settings.request_headers().items() if _SECRET_NAME.search(name)]
    given += [str(value) for name, value in settings.query.items() if _SECRET_NAME.search(str(name))]
    if "@" in settings.base_url:
        given.append(unquote(urlsplit(settings.base_url).password or ""))
    for value in given:
        # `Bearer KEY`, `Basic LOGIN`, `session=TICKET; theme=dark`; and a password of several short words.
        for word in (value, *re.split(r"[\s;,=]+(?=.)", value)):
            forms = {word, quote(word, safe=""), json.dumps(word)[1:-1]}
            yield from (form for form in forms if len(form) >= _SHORTEST)


def _hidden(text: str, secrets: Iterable[str]) -> str:
    """The text without the secrets, nor a part that is left where the text was cut."""
    found = list[tuple[int, int]]()
    for secret in secrets:
        for match in re.finditer(re.escape(secret[:_SHORTEST]), text):
            start = match.start()
            shared = map(eq, secret, text[start : start + len(secret)])
            found.append((start, start + sum(takewhile(bool, shared))))
    parts, at = list[str](), 0
    for start, end in sorted(found):
        if start >= at:
            parts += [text[at:start], HIDDEN]
        at = max(at, end)
    return "".join(parts) + text[at:]
