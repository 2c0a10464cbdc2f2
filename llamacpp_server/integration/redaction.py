"""Validation errors of model classes that don't repeat secrets: neither in their text nor among their inputs."""

from __future__ import annotations

from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from ..settings import redact_url

_SHOWN: Final = 100
# Fields whose values are secret or may hold a secret. The address is shown without credentials.
_SECRET: Final = frozenset({"api_key", "default_headers", "default_query", "extra_body", "model_kwargs"})


class Withheld:
    """Stands for an input that is not shown, because it may hold a secret."""

    def __repr__(self) -> str:
        return "'**********'"


def redacted(error: ValidationError) -> ValidationError:
    """The same complaints, with only those inputs that can't hold a secret."""
    details = [
        InitErrorDetails(
            type=PydanticCustomError(line["type"], line["msg"]),
            loc=line["loc"],
            input=_shown_value(line["loc"], line["input"]),
        )
        for line in error.errors(include_url=False, include_context=False)
    ]
    return ValidationError.from_exception_data(error.title, details)


def _shown_value(loc: tuple[int | str, ...], given: Any) -> Any:
    """A plain value of a field that is not secret; nothing else, as dicts and objects may hold one."""
    if not loc or loc[0] in _SECRET or not isinstance(given, str | int | float | None):
        return Withheld()
    if isinstance(given, str):
        return redact_url(given) if loc[0] == "base_url" else given[:_SHOWN]
    return given
