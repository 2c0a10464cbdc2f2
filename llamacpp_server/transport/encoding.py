"""Request bodies as bytes."""

from __future__ import annotations

import json
import re
from typing import Final

from .._notices import warn_once
from ..errors import BadRequestError

_SURROGATES: Final = re.compile("[\ud800-\udfff]")


def encode(body: object) -> bytes:
    """JSON as the server takes it: UTF-8, no NaN, no lone surrogates (it answers those with 400).

    Raises:
        BadRequestError: For values that JSON does not have.
    """
    try:
        text = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise BadRequestError(f"can't encode the request as JSON: {error}") from error
    try:
        return text.encode()
    except UnicodeEncodeError:
        warn_once("replaced lone surrogates in the text by U+FFFD, because JSON can't represent them")
        return _SURROGATES.sub("\ufffd", text).encode()
