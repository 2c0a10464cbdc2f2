"""ChatOpenAI's arguments, and what becomes of each here.

One table drives the constructor, single calls, and `docs/chatopenai-arguments.md` (a test keeps them equal, and walks
ChatOpenAI's own fields to see that none is missing).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from inspect import isawaitable
from typing import Any, Final

import httpx

from llamacpp_server._notices import say_once
from llamacpp_server.settings import DEFAULT_CONNECT_TIMEOUT

# Works under the same name.
SAME: Final = frozenset(
    {"name", "cache", "verbose", "callbacks", "tags", "metadata", "custom_get_token_ids", "rate_limiter"}
    | {"disable_streaming", "output_version", "profile", "model", "base_url", "temperature", "model_kwargs"}
    | {"stream_usage", "max_retries", "presence_penalty", "frequency_penalty", "seed", "logprobs", "top_logprobs"}
    | {"logit_bias", "streaming", "n", "top_p", "max_tokens", "reasoning_effort", "default_headers", "http_client"}
    | {"http_async_client", "stop", "extra_body", "disabled_params"}
)

# Other names of the same thing.
RENAMED: Final[Mapping[str, str]] = {
    "model_name": "model",
    "openai_api_key": "api_key",
    "openai_api_base": "base_url",
    "request_timeout": "timeout",
    "max_completion_tokens": "max_tokens",
    "stop_sequences": "stop",
    "openai_organization": "organization",
}

# Accepted, and said once that nothing comes of it.
MEANINGLESS: Final[Mapping[str, str]] = {
    "client": "the model makes its own client; `model.client` is it",
    "async_client": "the model makes its own client; `model.async_client` is it",
    "root_client": "there is no client of the openai package here; `model.client` is ours",
    "root_async_client": "there is no client of the openai package here; `model.async_client` is ours",
    "organization": "llama-server knows no organizations",
    "openai_proxy": "pass `http_client=httpx.Client(proxy=...)` (and `http_async_client`) instead",
    "http_socket_options": "pass an `http_client` with a transport of your own instead",
    "verbosity": "llama-server has no such switch; say it in the system message",
    "tiktoken_model_name": "tokens are counted by the server, with the model's own tokenizer",
    "include_response_headers": "the server says in its replies what others say in headers",
    "context_management": "an OpenAI service; LangChain's SummarizationMiddleware does it for any model",
    "include": "belongs to the Responses API; logprobs are asked for with `logprobs`",
    "prompt_cache_options": "the server's prompt cache is on by itself; see `cache_prompt`",
    "service_tier": "an OpenAI service",
    "store": "llama-server stores nothing",
    "truncation": "llama-server does not shorten conversations; a ContextOverflowError says by how much it is too long",
    "use_previous_response_id": "belongs to the Responses API; llama-server keeps no conversations",
    "use_responses_api": "belongs to the Responses API; thinking, tools and media all work without it",
}

# Of single calls only: parameters of OpenAI's API that are no fields of ChatOpenAI.
MEANINGLESS_IN_CALLS: Final[Mapping[str, str]] = {
    "user": "llama-server knows no users",
    "metadata": "llama-server keeps none; use the run's metadata",
    "prediction": "llama-server speculates by itself (`--model-draft`)",
    "prompt_cache_key": "the server finds the longest common beginning by itself",
    "prompt_cache_retention": "the server's prompt cache lives as long as the server",
    "safety_identifier": "an OpenAI service",
    "modalities": "the server answers in text",
    "audio": "the server answers in text",
    "web_search_options": "llama-server does not search the web; bind a tool that does",
}

# Works as with ChatOpenAI though nothing of that name exists here.
CONVERTED: Final[Mapping[str, str]] = {
    "timeout": "`read_timeout` (silence between two bytes), and `connect_timeout` where it is shorter; "
    "a tuple or an httpx.Timeout gives both",
    "stream_chunk_timeout": "`read_timeout`, where it is shorter",
    "reasoning": "its `effort` becomes `reasoning_effort`",
    "api_key": "a callable is asked once, when the model is made",
    "default_query": "its values become strings",
}


def constructor_arguments(given: Mapping[str, Any], known: Iterable[str]) -> dict[str, Any]:
    """A constructor's arguments under our names.

    Args:
        given: What the user wrote.
        known: The names of our fields.

    Raises:
        ValueError: For a name that neither ChatOpenAI nor we know.
    """
    known = set(known)
    values = renamed(given)
    for name in [name for name in values if name not in known]:
        if name in MEANINGLESS:
            ignore(name, values.pop(name), MEANINGLESS)
        elif name not in CONVERTED:
            raise ValueError(unknown_argument(name, known))
    _convert_timeouts(values)
    effort = reasoning_effort(values.pop("reasoning", None))
    if effort is not None:
        values.setdefault("reasoning_effort", effort)
    if callable(values.get("api_key")):
        values["api_key"] = _called(values["api_key"])
    if isinstance(values.get("default_query"), Mapping):
        values["default_query"] = {name: str(value) for name, value in values["default_query"].items()}
    return values


def renamed(given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments, by the names of the right-hand side of `RENAMED`; a name given itself wins over another for it."""
    values = {name: value for name, value in given.items() if name not in RENAMED}
    for name, value in given.items():
        if name in RENAMED and (value is not None or RENAMED[name] not in values):
            values.setdefault(RENAMED[name], value)
    return values


def ignore(name: str, value: Any, reasons: Mapping[str, str]) -> None:
    """Says once that an argument has no meaning here, unless it asks for nothing."""
    if value is not None and value is not False:
        say_once(f"{name!r} is accepted and has no meaning here: {reasons[name]}")


def unknown_argument(name: str, known: Iterable[str]) -> str:
    """The message for a name that nobody knows, with the one that is probably meant."""
    near = difflib.get_close_matches(name, [*known, *RENAMED, *CONVERTED, *MEANINGLESS], n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"unknown argument {name!r}: {hint}Request fields of a newer server go into extra_body."


def read_timeouts(timeout: Any) -> dict[str, float | None]:
    """`connect_timeout` and `read_timeout` for the forms of OpenAI's `timeout`."""
    if isinstance(timeout, httpx.Timeout):
        return {"connect_timeout": timeout.connect, "read_timeout": timeout.read}
    if isinstance(timeout, tuple | list):
        connect, read = (*timeout, *timeout)[:2]
        return {"connect_timeout": connect, "read_timeout": read}
    return {"connect_timeout": min(float(timeout), DEFAULT_CONNECT_TIMEOUT), "read_timeout": float(timeout)}


def reasoning_effort(reasoning: Any) -> str | None:
    """The effort of OpenAI's `reasoning` object."""
    if not reasoning:
        return None
    if not isinstance(reasoning, Mapping):
        raise ValueError(f"reasoning must be a dict such as {{'effort': 'low'}}, not {reasoning!r}")
    rest = set(reasoning) - {"effort"}
    if rest:
        say_once(f"{', '.join(sorted(rest))} of 'reasoning' has no meaning here: the server shows all thinking")
    effort = reasoning.get("effort")
    return None if effort is None else str(effort)


def _convert_timeouts(values: dict[str, Any]) -> None:
    timeout, chunk_timeout = values.pop("timeout", None), values.pop("stream_chunk_timeout", None)
    if timeout is not None:
        for name, value in read_timeouts(timeout).items():
            values.setdefault(name, value)
    if chunk_timeout:
        given = values.get("read_timeout")
        values["read_timeout"] = chunk_timeout if given is None else min(given, chunk_timeout)


def _called(api_key: Callable[[], Any]) -> Any:
    key = api_key()
    if isawaitable(key):
        close = getattr(key, "close", None)
        if close is not None:
            close()
        raise ValueError("api_key can't be a coroutine function here: await it first, and pass what it gives")
    return key


def argument_table() -> str:
    """The table of `docs/chatopenai-arguments.md`."""
    rows = {name: "works the same" for name in SAME}
    rows |= {name: f"becomes {text}" if text.startswith("`") else f"works; {text}" for name, text in CONVERTED.items()}
    rows |= {name: f"accepted and logged once: {text}" for name, text in MEANINGLESS.items()}
    rows |= {name: f"another name of `{target}`" for name, target in RENAMED.items()}
    lines = [f"| `{name}` | {rows[name]} |" for name in sorted(rows)]
    return "\n".join(["| argument of ChatOpenAI | here |", "|---|---|", *lines]) + "\n"
