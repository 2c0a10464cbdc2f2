"""Convert one call's arguments to a request and its options. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from langchain_core.messages import BaseMessage, SystemMessage
from pydantic import BaseModel

from llamacpp_server import BadRequestError, ChatRequest, ServerInfo
from llamacpp_server.integration import (
    ModelDefaults,
    object_of,
    read_timeouts,
    stop_texts,
)
from llamacpp_server.sampling import SAMPLING_FIELDS

from ._arguments import CHAT_CALLS
from ._messages import to_wire
from ._tools import wire_tools

if TYPE_CHECKING:
    pass

_PER_CALL: Final = (
    "connect_timeout",
    "read_timeout",
    "first_token_timeout",
    "total_timeout",
    "on_progress",
    "priority",
)
# What a call may say of tools, and the fields of `model_kwargs` that are read as if it did.
_OF_TOOLS: Final = ("tools", "tool_choice", "parallel_tool_calls", "functions", "function_call")


@dataclass(frozen=True, slots=True)
class ChatDefaults(ModelDefaults):
    """Settings of a model for all its calls."""

    model_kwargs: Mapping[str, Any] = field(default_factory=dict)
    disabled_params: Mapping[str, Any] = field(default_factory=dict)
    stream_usage: bool = True

    def with_model_kwargs(self) -> ChatDefaults:
        """Return the settings with `model_kwargs` merged: parameters override fields, the rest does not."""
        if not self.model_kwargs:
            return self
        params = {name: value for name, value in self.model_kwargs.items() if name in SAMPLING_FIELDS}
        others = {
            name: value
            for name, value in self.model_kwargs.items()
            if name not in SAMPLING_FIELDS and name not in _OF_TOOLS
        }
        return replace(self, params={**self.params, **params}, extra_body={**others, **self.extra_body})

    def disable(self, name: str, value: Any) -> bool:
        """As ChatOpenAI reads `disabled_params`: None disables a parameter, a list disables those values of it."""
        disabled = self.disabled_params
        return name in disabled and (disabled[name] is None or value in disabled[name])

    def adjusted(self, params: dict[str, Any]) -> dict[str, Any]:
        """Parameters without the disabled ones, and with a class in place of a `response_format` as its schema."""
        if "response_format" in params:
            from ._structured import wire_format

            params["response_format"] = wire_format(params["response_format"])
        if not self.disabled_params:
            return params
        return {name: value for name, value in params.items() if not self.disable(name, value)}


@dataclass(frozen=True, slots=True)
class ChatCall:
    """A request and the other options of a call.

    Attributes:
        request: What is sent.
        settings: Fields of `ServerSettings` that differ for this call.
        stream_usage: Whether streamed chunks tell the token counts.
        answer_class: The class that was given as `response_format`, for `additional_kwargs["parsed"]`.
    """

    request: ChatRequest
    settings: Mapping[str, Any]
    stream_usage: bool
    answer_class: type[BaseModel] | None = None


def prepare(
    messages: Sequence[BaseMessage],
    stop: Sequence[str] | None,
    kwargs: Mapping[str, Any],
    defaults: ChatDefaults,
    info: ServerInfo | None = None,
) -> ChatCall:
    """The call.

    Args:
        messages: The conversation.
        stop: Wins over all other stop texts; None leaves them.
        kwargs: The call's own arguments.
        defaults: The model's.
        info: The server; needed where thinking is switched or media are sent.

    Raises:
        BadRequestError: For invalid arguments.
        NotSupportedError: For media that the server is known not to take.
    """
    given = CHAT_CALLS.call(_with_tools(kwargs, defaults.model_kwargs))
    given.pop("stream", None)
    if stop is not None:
        given["stop"] = stop_texts(stop)
    stream_usage, own_class = _stream_usage(given, defaults), answer_class(given.get("response_format"))
    check = bool(given.pop("check_forced_call", True))
    tools, strict = given.pop("tools", None), given.pop("strict", None)
    given["tools"] = wire_tools(tools, strict) if tools else []
    if defaults.disabled_params:
        for name in ("tool_choice", "parallel_tool_calls"):
            if defaults.disable(name, given.get(name)):
                given.pop(name, None)
    settings, own = call_settings(given), defaults.with_model_kwargs()
    request = own.chat(to_wire(messages), given, info, own.adjusted, missing_call_is_error=check)
    return ChatCall(request, settings, stream_usage, own_class)


def _with_tools(kwargs: Mapping[str, Any], model_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """A call's arguments, with the tools and functions of `model_kwargs` where the call has none of its own."""
    if not model_kwargs:
        return dict(kwargs)
    of_model = {name: value for name, value in model_kwargs.items() if name in _OF_TOOLS}
    return of_model | {name: value for name, value in kwargs.items() if name not in of_model or value is not None}


def count_arguments(tools: Sequence[Any] | None, max_tokens: int | None, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call that is to be counted."""
    return {**kwargs, "tools": tools, **({} if max_tokens is None else {"max_tokens": max_tokens})}


def with_system_message(system: str | SystemMessage | None, messages: Sequence[BaseMessage]) -> list[BaseMessage]:
    """A conversation with its system message, where one is given."""
    first = SystemMessage(system) if isinstance(system, str) else system
    return [*([first] if first else []), *messages]


def _stream_usage(given: dict[str, Any], defaults: ChatDefaults) -> bool:
    options = object_of(given.pop("stream_options", None), "stream_options")
    asked = given.pop("stream_usage", options.get("include_usage"))
    return defaults.stream_usage if asked is None else bool(asked)


def answer_class(response_format: Any) -> type[BaseModel] | None:
    """The class that a `response_format` is; None for dicts, which ChatOpenAI makes no objects of either."""
    is_class = isinstance(response_format, type) and issubclass(response_format, BaseModel)
    return response_format if is_class else None


def call_settings(given: dict[str, Any]) -> dict[str, Any]:
    """Fields of `ServerSettings` that a call changes; they are no longer in `given` afterwards."""
    settings: dict[str, Any] = {}
    timeout = given.pop("timeout", None)
    if timeout is not None:
        try:
            settings |= read_timeouts(timeout)
        except (TypeError, ValueError):
            raise BadRequestError(f"timeout must be a number of seconds, not {type(timeout).__name__}") from None
    if not given.keys().isdisjoint(_PER_CALL):
        settings |= {name: given.pop(name) for name in _PER_CALL if name in given}
    if settings.get("priority", "") is None:
        del settings["priority"]
    if headers := object_of(given.pop("extra_headers", None), "extra_headers"):
        settings["headers"] = dict(headers)
    if query := object_of(given.pop("extra_query", None), "extra_query"):
        settings["query"] = {name: str(value) for name, value in query.items()}
    return settings
