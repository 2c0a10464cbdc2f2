"""Arguments of other packages' classes, and what becomes of each in ours.

One table for each of our model classes drives its constructor, its calls and the pages of the docs. Here are the parts
that both adapters share; what belongs to one framework is in that adapter. And values that a framework passes on as its
caller gave them are brought into the shape that the code behind them relies on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from inspect import isawaitable
from pathlib import Path
from types import NoneType
from typing import Any, Final, get_args

from pydantic import BaseModel

from .._notices import warn_once
from .._printable import did_you_mean
from .._values import of_key, small_key
from ..errors import BadRequestError
from ..sampling import SAMPLING_FIELDS
from ..settings import DEFAULT_CONNECT_TIMEOUT

__all__ = [
    "ADDITIONAL_KWARGS",
    "CONNECTION_ARGUMENTS",
    "LOADING_ARGUMENTS",
    "REQUEST_ARGUMENTS",
    "ArgumentTable",
    "Converted",
    "as_json",
    "list_of",
    "object_of",
    "read_timeouts",
    "stop_texts",
]


@dataclass(frozen=True, slots=True)
class Converted:
    """An argument of another class that works without having its own field.

    Attributes:
        becomes: Its effect, for the docs.
        fields: Our fields for a value; the second argument has the other given arguments, by our names.
    """

    becomes: str
    fields: Callable[[Any, Mapping[str, Any]], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class ArgumentTable:
    """Arguments of other classes.

    Attributes:
        renamed: Other names of fields of this package, or of a converted argument.
        converted: Works, by other means.
        meaningless: Arguments that are accepted without effect; the reason is logged once.
    """

    renamed: Mapping[str, str] = field(default_factory=dict)
    converted: Mapping[str, Converted] = field(default_factory=dict)
    meaningless: Mapping[str, str] = field(default_factory=dict)

    def __or__(self, other: ArgumentTable) -> ArgumentTable:
        """Both; `other` says what becomes of a name that both have."""
        own = other.names()
        return ArgumentTable(
            {**{name: ours for name, ours in self.renamed.items() if name not in own}, **other.renamed},
            {**{name: way for name, way in self.converted.items() if name not in own}, **other.converted},
            {**{name: why for name, why in self.meaningless.items() if name not in own}, **other.meaningless},
        )

    def names(self) -> set[str]:
        """All known arguments."""
        return {*self.renamed, *self.converted, *self.meaningless}

    def our_names(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments by our names; a name of ours wins over another for it, and a value over None."""
        values = {name: value for name, value in given.items() if name not in self.renamed}
        for name, value in given.items():
            if name in self.renamed and (value is not None or self.renamed[name] not in values):
                values.setdefault(self.renamed[name], value)
        return values

    def constructor(self, given: Mapping[str, Any], model: type[BaseModel]) -> dict[str, Any]:
        """A constructor's arguments as fields of `model`; None is left out if the field does not allow it.

        Raises:
            ValueError: For an unknown name; the message has the name that was probably meant.
        """
        fields = model.model_fields
        values = self.our_names(given)
        for name in [name for name in values if name not in fields and name not in self.converted]:
            if name not in self.meaningless:
                raise ValueError(self.unknown(name, fields))
            self.ignore(name, values.pop(name))
        self._convert(values, fields)
        takes_none = _fields_with_none(model)
        return {name: value for name, value in values.items() if value is not None or name in takes_none}

    def call(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """A call's arguments by our names, without those that have no effect; unknown ones are kept.

        Raises:
            BadRequestError: For an invalid value.
        """
        if not given:
            return {}
        values = self.our_names(given)
        for name in [name for name in REQUEST_ARGUMENTS.converted if name in values and name in self.converted]:
            value = values.pop(name)
            try:
                values |= {} if value is None else self.converted[name].fields(value, values)
            except ValueError as error:
                raise BadRequestError(str(error)) from error
        for name in [name for name in values if name in self.meaningless]:
            self.ignore(name, values.pop(name))
        return values

    def ignore(self, name: str, value: Any) -> None:
        """Log once that an argument has no effect, unless its value requests nothing."""
        if value is not None and value is not False:
            warn_once(f"ignoring {name!r}: {self.meaningless[name]}")

    def unknown(self, name: str, fields: Iterable[str]) -> str:
        """The error message for an unknown name, with the name that was probably meant."""
        hint = f"{did_you_mean(name, [*fields, *self.names()])} Request fields of a newer server go into extra_body."
        return f"unknown argument {name!r}: {hint.lstrip()}"

    def becomes(self, name: str, fields: Collection[str]) -> str:
        """Effect of an argument, for the docs."""
        if name in self.renamed:
            return f"another name of `{self.renamed[name]}`"
        if name in self.converted:
            text = self.converted[name].becomes
            return f"becomes {text}" if text.startswith("`") else f"works; {text}"
        if name in self.meaningless:
            return f"accepted and logged once: {self.meaningless[name]}"
        if name not in fields:
            raise KeyError(f"unknown argument {name!r}")
        return "works the same"

    def _convert(self, values: dict[str, Any], fields: Collection[str]) -> None:
        # A conversion may give names that are converted themselves, such as options within options.
        for _ in range(3):
            for name in [name for name in self.converted if name in values]:
                value = values.pop(name)
                if value is not None:
                    values.update(self.converted[name].fields(value, values))
            values.update(self.our_names({name: values.pop(name) for name in list(values) if name in self.renamed}))
        for name in [name for name in values if name not in fields and name in self.meaningless]:
            self.ignore(name, values.pop(name))


@cache
def _fields_with_none(model: type[BaseModel]) -> frozenset[str]:
    """Fields in which None is a value: for the others, as elsewhere, it means "not given"."""
    return frozenset(
        name
        for name, field in model.model_fields.items()
        if field.default_factory is None and (field.annotation is Any or NoneType in get_args(field.annotation))
    )


# -- conversions


def read_timeouts(timeout: Any) -> dict[str, float | None]:
    """Convert OpenAI's `timeout` (a number, a tuple, `httpx.Timeout`) to `connect_timeout` and `read_timeout`."""
    if hasattr(timeout, "connect") and hasattr(timeout, "read"):
        return {"connect_timeout": timeout.connect, "read_timeout": timeout.read}
    if isinstance(timeout, tuple | list):
        connect, read = (*timeout, *timeout)[:2]
        return {"connect_timeout": connect, "read_timeout": read}
    return {"connect_timeout": min(float(timeout), DEFAULT_CONNECT_TIMEOUT), "read_timeout": float(timeout)}


def reasoning_fields(reasoning: Any) -> dict[str, Any]:
    """Our fields for OpenAI's `reasoning` object, or for Ollama's switch.

    Raises:
        ValueError: For another form.
    """
    if isinstance(reasoning, bool | str):
        return {"thinking": reasoning}
    if not isinstance(reasoning, Mapping):
        raise ValueError(
            f"reasoning must be True, False, an effort, or a dict such as {{'effort': 'low'}}, not {reasoning!r}"
        )
    rest = set(reasoning) - {"effort"}
    if rest:
        warn_once(
            f"ignoring {', '.join(sorted(map(str, rest)))} of 'reasoning': the server returns all of the reasoning"
        )
    effort = reasoning.get("effort")
    return {} if effort is None else {"reasoning_effort": str(effort)}


def _unless_given(found: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if others.get(name) is None}


def _timeouts(value: Any, others: Mapping[str, Any]) -> dict[str, Any]:
    return {name: limit for name, limit in read_timeouts(value).items() if name not in others}


def _chunk_timeout(value: Any, others: Mapping[str, Any]) -> dict[str, Any]:
    given = others.get("read_timeout")
    return {"read_timeout": value if given is None else min(given, value)} if value else {}


def _reasoning(value: Any, others: Mapping[str, Any]) -> dict[str, Any]:
    return _unless_given(reasoning_fields(value), others)


def _key(api_key: Any, others: Mapping[str, Any]) -> dict[str, Any]:
    if not callable(api_key):
        return {"api_key": api_key}
    key = api_key()
    if isawaitable(key):
        close = getattr(key, "close", None)
        if close is not None:
            close()
        raise ValueError("api_key can't be a coroutine function: await it first, and pass the result")
    return {"api_key": key}


def _query(query: Any, others: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(query, Mapping):
        return {"default_query": query}
    return {"default_query": {name: str(value) for name, value in query.items()}}


_OF_CLIENTS: Final[Mapping[str, str]] = {
    "headers": "default_headers",
    "params": "default_query",
    "timeout": "timeout",
    "verify": "verify",
}


def _client_kwargs(given: Any, others: Mapping[str, Any]) -> dict[str, Any]:
    for name in given:
        if name not in _OF_CLIENTS:
            raise ValueError(
                f"client_kwargs: {name!r} is not supported; pass http_client=httpx.Client({name}=...) "
                f"and http_async_client=httpx.AsyncClient({name}=...) instead"
            )
    return _unless_given({_OF_CLIENTS[name]: value for name, value in given.items()}, others)


def _format(value: Any, others: Mapping[str, Any]) -> dict[str, Any]:
    if value == "":
        return {}
    if value != "json" and not isinstance(value, Mapping):
        raise ValueError(f"format must be 'json' or a JSON schema, not {value!r}")
    return _unless_given({"json_schema": {} if value == "json" else dict(value)}, others)


def _json_mode(value: Any, others: Mapping[str, Any]) -> dict[str, Any]:
    return _format("json", others) if value else {}


def _num_predict(value: Any, others: Mapping[str, Any]) -> dict[str, Any]:
    return _unless_given({"max_tokens": -1 if value == -2 else value}, others)


def _grammar_file(path: Any, others: Mapping[str, Any]) -> dict[str, Any]:
    return _unless_given({"grammar": Path(path)}, others)


def _merged_into(field: str) -> Callable[[Any, Mapping[str, Any]], dict[str, Any]]:
    def fields(given: Any, others: Mapping[str, Any]) -> dict[str, Any]:
        return {field: {**given, **(others.get(field) or {})} if isinstance(given, Mapping) else given}

    return fields


def _additional_kwargs(given: Any, others: Mapping[str, Any]) -> dict[str, Any]:
    """Request fields where a name is one, or is known of another class; the rest is sent as it is."""
    found: dict[str, Any] = {}
    body = dict(given.get("extra_body") or {})
    for name, value in given.items():
        if name in _MERGED:
            found[_MERGED[name]] = {**value, **(others.get(_MERGED[name]) or {})}
        elif name in SAMPLING_FIELDS or name in _IN_ADDITIONAL or name in CONNECTION_ARGUMENTS.meaningless:
            found |= _unless_given({name: value}, others)
        elif name != "extra_body":
            body[name] = value
    return {**found, "extra_body": {**body, **(others.get("extra_body") or {})}} if body else found


_MERGED: Final = {"extra_headers": "default_headers", "extra_query": "default_query"}

_SERVERS: Final = "set on the server's command line: "

CONNECTION_ARGUMENTS: Final = ArgumentTable(
    renamed={
        "model_name": "model",
        "openai_api_key": "api_key",
        "openai_api_base": "base_url",
        "api_base": "base_url",
        "request_timeout": "timeout",
        "headers": "default_headers",
        "async_http_client": "http_async_client",
        "openai_organization": "organization",
        "sync_client_kwargs": "client_kwargs",
        "async_client_kwargs": "client_kwargs",
    },
    converted={
        "client_kwargs": Converted(
            "`default_headers`, `default_query`, `timeout` and `verify`; for others, pass an `http_client`",
            _client_kwargs,
        ),
        "timeout": Converted(
            "`read_timeout` (maximum gap between two bytes), and `connect_timeout` if it is shorter; "
            "a tuple or an httpx.Timeout sets both",
            _timeouts,
        ),
        "stream_chunk_timeout": Converted("`read_timeout`, if it is shorter", _chunk_timeout),
        "api_key": Converted("a callable is called once, when the model is created", _key),
        # Of calls; OpenAI's classes keep them for every call.
        "extra_headers": Converted("`default_headers`", _merged_into("default_headers")),
        "extra_query": Converted("`default_query`", _merged_into("default_query")),
        "default_query": Converted("values are converted to strings", _query),
    },
    meaningless={
        "client": "the model creates its own client: `model.client`",
        "async_client": "the model creates its own client: `model.async_client`",
        "organization": "llama-server has no organizations",
        "openai_proxy": "pass `http_client=httpx.Client(proxy=...)` (and `http_async_client`) instead",
        "http_socket_options": "pass an `http_client` with a custom transport instead",
        "reuse_client": "connections are shared safely between threads and event loops",
        "api_version": "Azure only",
        "openai_api_version": "Azure only",
        "openai_api_type": "Azure only",
        "deployment": "Azure only",
        "num_ctx": _SERVERS + "`-c`, shared by its slots (`-np`)",
        "num_thread": _SERVERS + "`-t`",
        "num_gpu": _SERVERS + "`-ngl`",
        "keep_alive": _SERVERS + "`--sleep-idle-seconds`; on a router, use `client.load_model` and `unload_model`",
    },
)
"""Arguments of every class: the connection, and how the model runs."""

REQUEST_ARGUMENTS: Final = ArgumentTable(
    renamed={"max_completion_tokens": "max_tokens", "stop_sequences": "stop"},
    converted={
        "num_predict": Converted("`max_tokens`; -2 becomes -1", _num_predict),
        "format": Converted("`json_schema`: `json` allows any JSON, a schema is enforced", _format),
        "json_mode": Converted("`json_schema={}`, which allows any JSON", _json_mode),
        "reasoning": Converted(
            "`thinking` for True, False and an effort; the `effort` of OpenAI's object becomes `reasoning_effort`",
            _reasoning,
        ),
    },
    meaningless={
        "verbosity": "not supported by llama-server; ask for it in the system message",
        "modalities": "llama-server returns text only",
        "service_tier": "only OpenAI offers this",
        "store": "not supported by llama-server",
        "tfs_z": "llama.cpp removed tail-free sampling; use `min_p`",
        "tiktoken_model_name": "tokens are counted with the server's own tokenizer",
    },
)
"""Further arguments of every language model."""

_LOADING: Final = "the server loads the model: `-m` or `-hf`, or `LocalServer(...)` for a server of your own"
_REMOVED: Final = "llama.cpp removed it"

LOADING_ARGUMENTS: Final = ArgumentTable(
    renamed={"max_new_tokens": "max_tokens", "last_n_tokens_size": "repeat_last_n"},
    converted={"grammar_path": Converted("`grammar=Path(...)`", _grammar_file)},
    meaningless={
        "model_path": _LOADING,
        "model_url": _LOADING,
        "n_ctx": CONNECTION_ARGUMENTS.meaningless["num_ctx"],
        "n_threads": CONNECTION_ARGUMENTS.meaningless["num_thread"],
        "n_gpu_layers": CONNECTION_ARGUMENTS.meaningless["num_gpu"],
        "n_batch": _SERVERS + "`-b` and `-ub`",
        "use_mlock": _SERVERS + "`--mlock`",
        "use_mmap": _SERVERS + "`--no-mmap`",
        "rope_freq_base": _SERVERS + "`--rope-freq-base`",
        "rope_freq_scale": _SERVERS + "`--rope-freq-scale`",
        "f16_kv": _SERVERS + "`-ctk` and `-ctv`",
        "lora_path": _SERVERS + "`--lora`; see `lora` for single calls",
        "lora_base": _REMOVED,
        "n_parts": _REMOVED,
        "logits_all": "`logprobs` works without it",
        "vocab_only": "tokens are counted by the server",
        "device": _SERVERS + "`-dev`",
    },
)
"""Arguments of classes that load a model into their own process with llama-cpp-python."""

_IN_ADDITIONAL: Final = REQUEST_ARGUMENTS.names() | {"dimensions", "timeout"}

ADDITIONAL_KWARGS: Final = Converted(
    "fields of the same names, and `default_headers` and `default_query` for `extra_headers` and `extra_query`; "
    "everything else goes into `extra_body`",
    _additional_kwargs,
)
"""LlamaIndex's `additional_kwargs`."""


def list_of(value: Any, place: str, kind: type | tuple[type, ...] = object) -> list[Any]:
    """The items of a list.

    Args:
        value: The list.
        place: Its name in errors.
        kind: Required types of its items.

    Raises:
        BadRequestError: For anything else, including a single string.
    """
    if type(value) is not list and (isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable)):
        raise _wrong_value(place, "a list", value)
    items = list(value)
    for number, item in enumerate(items):
        if not isinstance(item, kind):
            wanted = kind if isinstance(kind, type) else kind[0]
            raise _wrong_value(f"{place}[{number}]", f"a {wanted.__name__}", item)
    return items


def object_of(value: Any, place: str) -> Mapping[str, Any]:
    """Return the fields of an object; none for None.

    Raises:
        BadRequestError: For anything else.
    """
    if value is not None and not isinstance(value, dict | Mapping):
        raise _wrong_value(place, "an object", value)
    for name in value or ():
        if not isinstance(name, str):
            raise _wrong_value(f"a name in {place}", "a string", name)
    return value or {}


def stop_texts(value: Any) -> list[str]:
    """Return the stop texts as a list.

    Raises:
        BadRequestError: For anything else.
    """
    return [value] if isinstance(value, str) else list_of(value, "stop", str)


_WRITE: Final = json.JSONEncoder(ensure_ascii=False).encode


def as_json(value: Any, place: str) -> str:
    """A value as JSON.

    Raises:
        BadRequestError: For values that JSON can't represent, such as a set, or that contain themselves.
    """
    try:
        key = small_key(value)
        return _WRITE(value) if key is None else _written(key)
    except (TypeError, ValueError, RecursionError) as error:
        raise BadRequestError(f"{place} can't be written as JSON: {str(error)[:200]}") from None


@lru_cache(maxsize=1024)
def _written(key: bytes) -> str:
    """An agent sends the same arguments again with each of its turns."""
    return _WRITE(of_key(key))


def _wrong_value(place: str, wanted: str, got: object) -> BadRequestError:
    return BadRequestError(f"{place} must be {wanted}, not {type(got).__name__}")
