"""Checks of what a caller passes, before anything is built from it; each error names the place.

Only the shape is checked that our own code relies on; what the server refuses is left to the server.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ..chat import ChatRequest, CompletionRequest, InfillRequest
from ..errors import BadRequestError

# The parsers of JSON on both sides stop at a few hundred, and no schema in use comes near.
_DEEPEST: Final = 100


def check_chat(request: ChatRequest) -> None:
    """Refuse a chat request that can't be one.

    Raises:
        BadRequestError: For the first place that holds something else than belongs there.
    """
    _list_of_objects(request.messages, "messages")
    for number, message in enumerate(request.messages):
        if not isinstance(message.get("role", ""), str):
            raise wrong(f"messages[{number}].role", "a text", message["role"])
        content = message.get("content")
        if isinstance(content, list | tuple):
            _list_of_objects(content, f"messages[{number}].content")
        elif content is not None and not isinstance(content, str):
            raise wrong(f"messages[{number}].content", "a text or a list of parts", content)
        if (calls := message.get("tool_calls")) is not None:
            _list_of_objects(calls, f"messages[{number}].tool_calls")
        check_depth(message, f"messages[{number}]")
    _list_of_objects(request.tools, "tools")
    for number, tool in enumerate(request.tools):
        if not isinstance(tool.get("function"), Mapping):
            raise wrong(f"tools[{number}].function", "an object", tool.get("function"))
        check_text(tool["function"].get("name"), f"tools[{number}].function.name")
        check_depth(tool, f"tools[{number}]")
    if request.model is not None and not isinstance(request.model, str):
        raise wrong("model", "a text", request.model)
    _fields(request.params, request.extra_body)


def check_completion(request: CompletionRequest | InfillRequest) -> None:
    """As `check_chat`, of completions and fill-in-the-middle."""
    if isinstance(request, CompletionRequest):
        if not isinstance(request.prompt, str | list | tuple):
            raise wrong("prompt", "a text, a list of texts or a list of tokens", request.prompt)
    else:
        for name in ("prefix", "suffix"):
            if not isinstance(getattr(request, name), str):
                raise wrong(name, "a text", getattr(request, name))
    _fields(request.params, request.extra_body)


def check_list(values: Any, what: str, kinds: tuple[type, ...]) -> None:
    """Refuse anything but a list of values of these kinds.

    Raises:
        BadRequestError: Also for a single text, whose letters would be taken as the list.
    """
    if isinstance(values, str):
        raise BadRequestError(f"{what} must be a list, not a single string")
    if isinstance(values, Mapping | bytes) or not isinstance(values, Sequence):
        raise wrong(what, "a list", values)
    for number, value in enumerate(values):
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise wrong(f"{what}[{number}]", " or ".join(_KINDS[kind] for kind in kinds), value)


_KINDS: Final[Mapping[type, str]] = {str: "a text", int: "a number", Mapping: "an object", list: "a list"}


def check_text(value: object, what: str) -> None:
    """Refuse anything but a text.

    Raises:
        BadRequestError: It names `what`.
    """
    if not isinstance(value, str):
        raise wrong(what, "a text", value)


def wrong(place: str, wanted: str, got: object) -> BadRequestError:
    """The error for a value of another kind. It shows the type alone, as a value may be a secret."""
    return BadRequestError(f"{place} must be {wanted}, not {type(got).__name__}")


def check_depth(value: object, place: str) -> None:
    """Refuse what is nested deeper than JSON parsers go, or holds itself.

    Raises:
        BadRequestError: It names `place`.
    """
    level: list[Any] = [value]
    for _ in range(_DEEPEST):
        below: list[Any] = []
        for one in level:
            if isinstance(one, Mapping):
                below += [inner for inner in one.values() if isinstance(inner, Mapping | list | tuple)]
            elif isinstance(one, list | tuple):
                below += [inner for inner in one if isinstance(inner, Mapping | list | tuple)]
        if not below:
            return
        if len(below) > _MOST_VALUES:
            break
        level = below
    raise BadRequestError(f"{place} is nested more than {_DEEPEST} deep, or holds itself")


# A value that holds itself twice doubles with each level.
_MOST_VALUES: Final = 1_000_000


def _list_of_objects(values: object, place: str) -> None:
    if not isinstance(values, list | tuple):
        raise wrong(place, "a list of objects", values)
    for number, value in enumerate(values):
        if not isinstance(value, Mapping):
            raise wrong(f"{place}[{number}]", "an object", value)


def _fields(params: object, extra_body: object) -> None:
    for name, fields in (("params", params), ("extra_body", extra_body)):
        if not isinstance(fields, Mapping):
            raise wrong(name, "an object", fields)
        check_depth(fields, name)
