"""Check the caller's values before use; each error names the place.

Only the structure that this package relies on is checked; the rest is left to the server.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import fields
from functools import lru_cache
from numbers import Integral, Real
from typing import Any, Final

from .._history import TOOL_ROLES, PlainMessages, is_plain_answer, plain_text
from .._values import KeyedList, content_key, of_key, with_changes
from ..errors import BadRequestError
from ..replies import Repair
from ..requests import ChatRequest, CompletionRequest, InfillRequest

# The parsers of JSON on both sides stop at a few hundred, and no schema in use comes near.
_DEEPEST: Final = 100


def check_request(request: object, cls: type) -> None:
    """Reject values that are not a request of this class, or whose fields have the wrong type.

    Raises:
        BadRequestError: It names the field.
    """
    if not isinstance(request, cls):
        raise wrong_value("request", f"a {cls.__name__}", request)
    for name, wanted, plain, of_objects in _annotations(cls):
        value = getattr(request, name)
        if type(value) in plain and not (value and type(value) in _CONTAINERS):
            continue
        if not (of_objects and type(value) is list and _ONLY_DICTS.issuperset(map(type, value))):
            _check_value(value, name, wanted)


@lru_cache(64)
def _annotations(cls: type) -> tuple[tuple[str, tuple[str, ...], frozenset[type], bool], ...]:
    """The fields that can be checked, with the alternatives of their annotations, and whether they are lists of dicts.

    The types are those whose values need no further look, unless they are containers that hold something: nearly all
    fields of nearly all requests.
    """
    found = []
    for one in fields(cls):
        wanted = _alternatives(_settable(str(one.type)))
        if all(_outer_type(kind) in _ANNOTATED for kind in wanted):
            accepted = [_ANNOTATED[_outer_type(kind)][0] for kind in wanted]
            plain = frozenset(type(value) for value in _EXAMPLES if any(_is_of(value, types) for types in accepted))
            found.append((one.name, wanted, plain, len(wanted) == 1 and _is_list_of_objects(wanted[0])))
    return tuple(found)


def _settable(annotation: str) -> str:
    """Types accepted for a field: the second type of a `ReadAs`, which checkers see, else the annotation itself."""
    inside = annotation.removeprefix("ReadAs[")
    return annotation if inside == annotation else _alternatives(inside[:-1], ",")[1]


def _alternatives(annotation: str, between: str = "|") -> tuple[str, ...]:
    parts, depth = [""], 0
    for letter in annotation:
        depth += (letter == "[") - (letter == "]")
        if letter == between and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return tuple(part.strip() for part in parts)


def _outer_type(annotation: str) -> str:
    return annotation.partition("[")[0]


_ANNOTATED: Final[Mapping[str, tuple[tuple[type, ...], str]]] = {
    "None": ((type(None),), ""),
    "str": ((str,), "a string"),
    "bool": ((bool,), "true or false"),
    "int": ((Integral,), "a number"),
    "float": ((Real,), "a number"),
    "Mapping": ((Mapping,), "an object"),
    "Sequence": ((Sequence,), "a list"),
    "Collection": ((Collection,), "a list"),
}
_EXAMPLES: Final[tuple[Any, ...]] = (None, "", False, 0, 0.0, {}, [], ())
_CONTAINERS: Final = frozenset({dict, list, tuple})
_ONLY_DICTS: Final = frozenset({dict})
# Values that hold no others.
_LEAVES: Final = frozenset({type(None), str, bool, int, float})
# Messages that are looked through again in less time than a request is copied.
_FEW: Final = 4
# Bytes of tools beyond which they are checked for each request.
_LONGEST_KEPT: Final = 200_000
_LISTS: Final = frozenset({list, KeyedList})
# Sequences and collections in Python's sense that nobody means by a list.
_NO_LISTS: Final = (str, bytes, bytearray, Mapping)
_OBJECTS: Final = ("Mapping", "MessageDict", "ToolDict")


def _lists(wanted: tuple[str, ...]) -> int:
    """Kinds of lists among the alternatives: of several, the items are left to the server."""
    return sum(_outer_type(kind) in ("Sequence", "Collection") for kind in wanted)


def _is_of(value: object, types: tuple[type, ...]) -> bool:
    if isinstance(value, bool):
        return bool in types
    if types[0] in (Sequence, Collection) and isinstance(value, _NO_LISTS):
        return False
    return isinstance(value, types)


def _check_value(value: object, place: str, wanted: tuple[str, ...]) -> None:
    for kind in wanted:
        if not _is_of(value, _ANNOTATED[_outer_type(kind)][0]):
            continue
        if isinstance(value, Mapping):
            for key in value:
                if not isinstance(key, str):
                    raise wrong_value(f"a key of {place}", "a string", key)
            check_depth(value, place)
        elif _outer_type(kind) in ("Sequence", "Collection"):
            _check_items(_listed(value), place, kind.partition("[")[2].removesuffix("]") if _lists(wanted) == 1 else "")
        return
    if any(map(_is_list_of_objects, wanted)):
        raise wrong_value(place, "a list of objects", value)
    words = dict.fromkeys(_ANNOTATED[_outer_type(kind)][1] for kind in wanted if kind != "None")
    raise wrong_value(place, " or ".join(words), value)


def _listed(value: Any) -> list[Any]:
    """The items of a list of any class; none of one that fails to give them, which JSON then refuses."""
    try:
        return list(value)
    except Exception:  # noqa: BLE001 (whatever the class raises)
        return []


def _is_list_of_objects(kind: str) -> bool:
    return _outer_type(kind) == "Sequence" and _are_objects(kind[9:-1])


def _are_objects(wanted: str) -> bool:
    return all(_outer_type(kind) in _OBJECTS for kind in _alternatives(wanted))


def _check_items(values: list[Any], place: str, wanted: str) -> None:
    if _are_objects(wanted):
        _list_of_objects(values, place)
    elif wanted == "str":
        check_list(values, place, (str,))
    elif wanted == "Repair":
        check_list(values, place, (Repair,))
    else:
        check_depth(values, place)


def check_mapping(value: object, place: str) -> None:
    """Reject anything but an object.

    Raises:
        BadRequestError: It names `place`.
    """
    _check_value(value, place, ("Mapping",))


def check_chat(request: ChatRequest) -> ChatRequest:
    """The request with its tools known by their content, and complete messages by their text; refuse what is none.

    Raises:
        BadRequestError: For the first invalid place.
    """
    check_request(request, ChatRequest)
    text, tools = plain_text(request.messages), request.tools
    if text is None:
        _list_of_objects(request.messages, "messages")
        for at, said in enumerate(request.messages):
            if not _is_text(said) and not is_plain_answer(said):
                _check_message(said, f"messages[{at}]")
    if tools:
        tools = KeyedList(tools, _check_tools(tools, "tools"))
    # Sent as they are, over those of the request, and read by our own code as those are.
    if "messages" in request.extra_body:
        given: Any = request.extra_body["messages"]
        _list_of_objects(given, "extra_body.messages")
        for number, message in enumerate(given):
            _check_message(message, f"extra_body.messages[{number}]")
    if request.extra_body.get("tools"):
        _check_tools(request.extra_body["tools"], "extra_body.tools")
    if not tools and len(request.messages) <= _FEW:
        return request
    messages = request.messages if text is None else PlainMessages(request.messages, text)
    return with_changes(request, messages=messages, tools=tools)


def _check_tools(tools: Any, place: str) -> bytes | None:
    """Refuse what are no tools; their `content_key`."""
    # Most programs send the same tools with each request.
    key = content_key(tools) if type(tools) in _LISTS else None
    if key is None or len(key) > _LONGEST_KEPT:
        _check_each_tool(tools, place)
    else:
        _check_tools_once(key, place)
    return key


@lru_cache(maxsize=64)
def _check_tools_once(key: bytes, place: str) -> None:
    _check_each_tool(of_key(key), place)


def _check_each_tool(tools: Any, place: str) -> None:
    _list_of_objects(tools, place)
    for number, tool in enumerate(tools):
        if not isinstance(tool.get("function"), Mapping):
            raise wrong_value(f"{place}[{number}].function", "an object", tool.get("function"))
        check_text(tool["function"].get("name"), f"{place}[{number}].function.name")
        check_depth(tool, f"{place}[{number}]")


def _is_text(message: Mapping[str, Any]) -> bool:
    """Whether a message contains only text, as most do; such a message is always valid."""
    if type(message) is not dict or message.get("tool_calls") is not None:
        return False
    texts = type(message.get("role", "")) is str and type(message.get("content", "")) is str
    return texts and _LEAVES.issuperset(map(type, message.values()))


def _check_message(message: Mapping[str, Any], place: str) -> None:
    if not isinstance(message.get("role", ""), str):
        raise wrong_value(f"{place}.role", "a string", message["role"])
    content = message.get("content")
    if isinstance(content, list | tuple):
        _list_of_objects(content, f"{place}.content")
        for at, part in enumerate(content):
            check_text(part.get("type", ""), f"{place}.content[{at}].type")
            if part.get("type") == "text" and message.get("role") not in TOOL_ROLES:  # a tool's own are repaired
                check_text(part.get("text"), f"{place}.content[{at}].text")
    elif content is not None and not isinstance(content, str):
        raise wrong_value(f"{place}.content", "a string or a list of parts", content)
    if (calls := message.get("tool_calls")) is not None:
        _list_of_objects(calls, f"{place}.tool_calls")
        for at, call in enumerate(calls):
            check_text(call.get("id") or "", f"{place}.tool_calls[{at}].id")
    check_depth(message, place)


def check_completion(request: CompletionRequest | InfillRequest) -> None:
    """As `check_chat`, of completions and fill-in-the-middle."""
    if not isinstance(request, InfillRequest):
        check_request(request, CompletionRequest)
        if not isinstance(request.prompt, str | list | tuple):
            raise wrong_value("prompt", "a string, a list of strings or a list of tokens", request.prompt)
    else:
        check_request(request, InfillRequest)
        for name in ("prefix", "suffix"):
            if not isinstance(getattr(request, name), str):
                raise wrong_value(name, "a string", getattr(request, name))
        for number, pair in enumerate(request.extra):
            if not isinstance(pair, tuple | list) or [type(text) for text in pair] != [str, str]:
                raise wrong_value(f"extra[{number}]", "a pair of a file's name and its text", pair)


def check_list(values: Any, what: str, kinds: tuple[type, ...]) -> None:
    """Reject anything but a list of values of these types.

    Raises:
        BadRequestError: Also for a single string, which would be read as a list of characters.
    """
    if isinstance(values, str):
        raise BadRequestError(f"{what} must be a list, not a single string")
    if isinstance(values, Mapping | bytes) or not isinstance(values, Sequence):
        raise wrong_value(what, "a list", values)
    for number, value in enumerate(values):
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise wrong_value(f"{what}[{number}]", " or ".join(_KINDS[kind] for kind in kinds), value)


_KINDS: Final[Mapping[type, str]] = {
    str: "a string",
    int: "a number",
    Mapping: "an object",
    list: "a list",
    Repair: "a Repair",
}


def check_text(value: object, what: str) -> None:
    """Reject anything but a string.

    Raises:
        BadRequestError: It names `what`.
    """
    if not isinstance(value, str):
        raise wrong_value(what, "a string", value)


def wrong_value(place: str, wanted: str, got: object) -> BadRequestError:
    """Return the error for a value of the wrong type. It shows only the type, because the value may be a secret."""
    return BadRequestError(f"{place} must be {wanted}, not {type(got).__name__}")


def check_depth(value: object, place: str) -> None:
    """Reject values that are nested too deeply for JSON parsers or contain themselves.

    Raises:
        BadRequestError: It names `place`.
    """
    level: list[Any] = [value]
    for _ in range(_DEEPEST):
        below: list[Any] = []
        for one in level:
            if isinstance(one, dict | Mapping):
                inside: Iterable[Any] = one.values()
                if not _KEYS.issuperset(map(type, one)):
                    _check_keys(one, place)
            else:
                inside = one if isinstance(one, list | tuple) else ()
            # Types first: an abstract class takes ten times as long to say that a text is none of its instances.
            below += [at for at in inside if type(at) not in _LEAVES and isinstance(at, dict | list | tuple | Mapping)]
        if not below:
            return
        if len(below) > _MOST_VALUES:
            break
        level = below
    raise BadRequestError(f"{place} is nested more than {_DEEPEST} levels deep, or contains itself")


# What JSON writes as a key.
_KEYS: Final = frozenset({str, int, float, bool, type(None)})


def _check_keys(value: Mapping[Any, Any], place: str) -> None:
    for key in value:
        if not isinstance(key, str | int | float | None):
            raise wrong_value(f"a key within {place}", "a string", key)


# A value that holds itself twice doubles with each level.
_MOST_VALUES: Final = 1_000_000


def _list_of_objects(values: object, place: str) -> None:
    if not isinstance(values, list | tuple):
        raise wrong_value(place, "a list of objects", values)
    for number, value in enumerate(values):
        if not isinstance(value, dict | Mapping):
            raise wrong_value(f"{place}[{number}]", "an object", value)
