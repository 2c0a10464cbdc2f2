"""Values of a local server's options: of the type that each option has, before any process is started with them."""

from __future__ import annotations

import functools
import json
import math
import operator
import os
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import SecretStr

from ..errors import BadRequestError
from .options import LocalServerOptions

__all__ = ["check_arguments", "checked_values"]

# What the server's own integers hold: seeds are unsigned.
_INTEGERS: Final = range(-(2**31), 2**32)
_PORTS: Final = range(2**16)
# Not shown in any dump of the object.
_SECRET: Final = frozenset({"api_key", "hf_token"})
# What becomes part of an address or of a header.
_PATTERNS: Final = MappingProxyType(
    {
        "host": (re.compile(r"[^\s\x00-\x1f]+|[^\x00-\x1f]+\.sock"), "not be empty or contain white space"),
        "api_prefix": (re.compile(r"(?:/[^\s?#\x00-\x1f]*)?"), "begin with / and be the path of an address"),
        "api_key": (re.compile(r"[ -~]*"), "hold printable ASCII characters only, as it is sent in a header"),
    }
)


def checked_values(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options, with keys as secrets, and numbers of other libraries as Python's.

    Raises:
        BadRequestError: For a value of another type; names the option, and shows no text.
    """
    return {name: _checked(name, value) for name, value in options.items()}


def check_arguments(model: object, binary: object, extra_args: object, load_timeout: object) -> None:
    """Refuse further arguments of another type. One string as `extra_args` would be a list of its characters.

    Raises:
        BadRequestError: Names the argument.
    """
    for name, path in (("model", model), ("binary", binary)):
        if path is not None and not _is_path(path):
            raise BadRequestError(f"{name} must be {_WANTED[os.PathLike]}, not {_shown(path)}")
    if (
        not isinstance(extra_args, Sequence)
        or isinstance(extra_args, str | bytes)
        or not all(map(_is_text, extra_args))
    ):
        wanted = "a list of strings without NUL characters"
        raise BadRequestError(f"extra_args must be {wanted}, not {_shown(extra_args)}")
    if isinstance(load_timeout, bool) or not isinstance(load_timeout, int | float) or not load_timeout >= 0:
        raise BadRequestError(f"load_timeout must be a number of seconds from 0, not {_shown(load_timeout)}")


def _checked(name: str, value: Any) -> Any:
    kinds = _kinds(name)
    if isinstance(value, str) and str not in kinds and (int in kinds or float in kinds):
        value = _number_in(value, int if int in kinds else float)
    if int in kinds and (number := _integer(value)) is not None:
        value = number
    if str in kinds and isinstance(value, os.PathLike) and _is_path(value):
        value = os.fspath(value)  # several options that name files are texts to the server
    if name == "port" and (type(value) is not int or value not in _PORTS):
        raise BadRequestError(f"port must be an int from 0 to {_PORTS[-1]}, not {_shown(value)}")
    if not any(_fits(value, kind) for kind in kinds):
        wanted = " or ".join(dict.fromkeys(map(_wanted, kinds)))
        raise BadRequestError(f"{name} must be {wanted}, not {_shown(value)}")
    if name in _PATTERNS and not _PATTERNS[name][0].fullmatch(value if isinstance(value, str) else _revealed(value)):
        raise BadRequestError(f"{name} must {_PATTERNS[name][1]}")
    return SecretStr(value) if name in _SECRET and isinstance(value, str) else value


def _revealed(value: Any) -> str:
    return str(value.get_secret_value())


@functools.lru_cache(maxsize=512)
def _kinds(name: str) -> tuple[Any, ...]:
    """The types that an option may have: those of a union one by one."""
    hint = _hints()[name]
    union = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return tuple(kind for kind in union if kind is not type(None))


@functools.lru_cache(maxsize=1)
def _hints() -> dict[str, Any]:
    return get_type_hints(LocalServerOptions)


def _fits(value: object, kind: Any) -> bool:
    if get_origin(kind) is Literal:
        return isinstance(value, str) and value in get_args(kind)
    return _CHECKS[get_origin(kind) or kind](value)


def _wanted(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(map(repr, get_args(kind)))
    return _WANTED[get_origin(kind) or kind]


def _number_in(text: str, kind: type[int] | type[float]) -> object:
    """A number that comes as text, from an environment variable or a settings file; other texts as they are."""
    try:
        return kind(text) if len(text) <= _LONGEST_NUMBER else text
    except ValueError:
        return text


def _integer(value: object) -> int | None:
    """An integer of any library; None for what is none."""
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except Exception:  # noqa: BLE001 (whatever the object raises)
        return None


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return -math.inf < value < math.inf and abs(value) < _LARGEST


def _is_text(value: object) -> bool:
    """Whether a text can be an argument of a program."""
    if not isinstance(value, str) or "\0" in value:
        return False
    try:
        os.fsencode(value)
    except UnicodeEncodeError:
        return False
    return True


def _is_path(value: object) -> bool:
    if not isinstance(value, os.PathLike):
        return _is_text(value)
    try:
        return _is_text(os.fspath(value))
    except Exception:  # noqa: BLE001 (whatever the object raises)
        return False


def _is_list(value: object) -> bool:
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        return False
    return all(_is_path(one) or _is_number(one) or (isinstance(one, tuple) and _is_list(one)) for one in value)


def _is_json_mapping(value: object) -> bool:
    if not isinstance(value, Mapping) or not all(map(_is_text, value)):
        return False
    try:
        json.dumps(dict(value), allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


_LARGEST: Final = 1e300
_LONGEST_NUMBER: Final = 32
_CHECKS: Final[Mapping[Any, Callable[[Any], bool]]] = MappingProxyType(
    {
        bool: lambda value: isinstance(value, bool),
        int: lambda value: type(value) is int and value in _INTEGERS,
        float: _is_number,
        str: _is_text,
        os.PathLike: _is_path,
        Sequence: _is_list,
        Mapping: _is_json_mapping,
        SecretStr: lambda value: isinstance(value, SecretStr) and _is_text(value.get_secret_value()),
    }
)
_WANTED: Final[Mapping[Any, str]] = MappingProxyType(
    {
        bool: "True or False",
        int: "an int of 32 bits",
        float: "a finite number",
        str: "a string without NUL characters",
        os.PathLike: "a path without NUL characters",
        Sequence: "a list",
        Mapping: "a mapping that JSON can hold",
        SecretStr: "a SecretStr",
    }
)


def _shown(value: object) -> str:
    """A number, or the type alone: a text may be a key in the wrong place, and its `repr` may fail."""
    return repr(value) if type(value) is bool or _is_number(value) else type(value).__name__
