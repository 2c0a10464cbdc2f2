"""Convert values to request bodies. Every quirk of llama-server about requests is handled here (b11434)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, cast

from .._history import PlainMessages, is_plain_answer, plain_text
from .._notices import warn_once
from .._schemas import (
    as_grammar,
)
from .._tools import (
    resolve_tool_choice,
)
from ..errors import BadRequestError
from ..requests import ChatRequest, CompletionRequest, InfillRequest
from ..sampling import check_params
from ..wire import MessageDict, ToolDict
from .completion_forms import with_held_form

# What says whether an answer at the end is to be continued.
_CONTINUING: Final = frozenset({"continue_final_message", "echo", "add_generation_prompt"})
# Types of values that are no null and hold none.
_LEAVES: Final = frozenset({str, bool, int, float})


def chat_body(request: ChatRequest) -> dict[str, Any]:
    """The body of `/v1/chat/completions`.

    Raises:
        BadRequestError: For anything that the server would refuse or silently ignore.
    """
    body = parameters(request.params)
    text = plain_text(request.messages)
    if text is None:
        body["messages"] = [_message(message) for message in request.messages]
    else:
        body["messages"] = PlainMessages(request.messages, text)
    _continued(body)
    if request.model is not None:
        body["model"] = request.model
    tools, choice, one_call, _ = resolve_tool_choice(request.tools, request.tool_choice)
    if tools:
        body["tools"] = _without_null_fields(tools)
        if "grammar" in body or "json_schema" in body or "response_format" in body:
            _refuse_constraint_with_tools(body)
        if choice is not None:
            body["tool_choice"] = choice
        if request.parallel_tool_calls is not None or one_call:
            body["parallel_tool_calls"] = bool(request.parallel_tool_calls) and not one_call
    if streamable(body):
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}
    if request.max_thinking_seconds is not None or request.thinking_control is not None:
        body["reasoning_control"] = True
    body.update(request.extra_body)
    return body


def with_cache_salt(request: ChatRequest) -> ChatRequest:
    """Insert the cache salt as the first line of the prompt."""
    if not request.cache_salt:
        return request
    line, messages = f"[{request.cache_salt}]", list(request.messages)
    first = messages[0] if messages else None
    if first is None or first.get("role") not in ("system", "developer"):
        messages.insert(0, {"role": "system", "content": line})
    elif isinstance(content := first.get("content"), list):
        messages[0] = {**first, "content": [{"type": "text", "text": f"{line}\n"}, *content]}
    else:
        messages[0] = {**first, "content": f"{line}\n{content or ''}"}
    return replace(request, messages=messages, cache_salt=None)


def countable(request: ChatRequest) -> ChatRequest:
    """The request in a form that the server counts: it refuses a conversation that ends in tool calls.

    Their results are counted as empty ones. The next request will have them, and more.
    """
    last = request.messages[-1] if request.messages else {}
    if last.get("role") != "assistant" or not last.get("tool_calls"):
        return request
    results: list[MessageDict] = [
        {"role": "tool", "tool_call_id": call.get("id") or "", "content": ""} for call in last["tool_calls"]
    ]
    return replace(request, messages=[*request.messages, *results])


def answer_room(params: Mapping[str, Any]) -> int:
    """Maximum tokens of the answer, under any of its names; one if there is no limit."""
    for name in ("n_predict", "max_completion_tokens", "max_tokens"):
        if params.get(name) is not None:
            return max(int(params[name]), 1)
    return 1


def streamable(body: Mapping[str, Any]) -> bool:
    """Whether the server streams this: it refuses log probabilities of a stream with tools (b11434)."""
    return not (body.get("tools") and (body.get("logprobs") or body.get("n_probs")))


def completion_body(request: CompletionRequest, *, collect: bool = False) -> dict[str, Any]:
    """The body of `/v1/completions` and of the native `/completion`; `collect` for a caller who wants a whole reply."""
    body = _completion_parameters(request.params)
    if isinstance(request.prompt, Mapping):
        raise BadRequestError("prompt must be a string, token ids or a list of either, not a dict")
    body["prompt"] = request.prompt if isinstance(request.prompt, str) else list(request.prompt)
    if request.model is not None:
        body["model"] = request.model
    return {**body, "stream": _streams(body, collect), **request.extra_body}


def _streams(body: Mapping[str, Any], collect: bool) -> bool:
    """A whole reply is streamed too, so that the server notices a disconnect.

    Not with `return_tokens`: a stream leaves out the ids of tokens that are part of a character only (b11549).
    """
    return not (collect and body.get("return_tokens"))


def _completion_parameters(params: Mapping[str, Any]) -> dict[str, Any]:
    body, _ = with_held_form(parameters(params))
    if body.get("response_fields"):
        raise BadRequestError(
            "response_fields is not supported: it would remove fields that the client needs",
            remedy="remove it, and pick the fields from the reply",
        )
    most = body.pop("top_logprobs", None)
    if most is not None:  # of completions the server knows the native name only
        del body["logprobs"]
        body["n_probs"] = most
    return body


def answers_of(body: Mapping[str, Any]) -> int:
    """Number of answers that a completion's body requests: prompts times `n`. A list of numbers is one prompt."""
    prompt = body.get("prompt")
    batch = isinstance(prompt, list) and not any(isinstance(part, int) for part in prompt)
    return max(len(prompt) if batch and prompt else 1, 1) * (body.get("n") or body.get("n_cmpl") or 1)


def infill_body(request: InfillRequest, *, collect: bool = False) -> dict[str, Any]:
    """The body of `/infill`; `collect` as in `completion_body`."""
    body = _completion_parameters(request.params)
    body["input_prefix"] = request.prefix
    body["input_suffix"] = request.suffix
    if request.prompt:
        body["prompt"] = request.prompt
    if request.extra:
        body["input_extra"] = [{"filename": name, "text": text} for name, text in request.extra]
    if request.model is not None:
        body["model"] = request.model
    return {**body, "stream": _streams(body, collect), **request.extra_body}


def parameters(params: Mapping[str, Any]) -> dict[str, Any]:
    body = as_grammar(check_params(params))
    if "parse_tool_calls" in body:
        warn_once("`parse_tool_calls` has no effect: llama-server has ignored it since autumn 2026")
    if "stop" in body:
        _clean_stop(body)
    if "response_format" in body:
        body["response_format"] = _nested_format(body["response_format"])
    if body.get("top_logprobs") == 0 and body.get("logprobs") is True:
        body["top_logprobs"] = 1  # for 0 the server leaves out the tokens themselves as well
    if body.get("top_logprobs") is not None and not body.get("logprobs"):
        body["logprobs"] = True
    return body


def continues(request: ChatRequest) -> bool:
    """Whether the request continues its last answer."""
    given = {**request.params, **request.extra_body}
    if _CONTINUING.isdisjoint(given):
        return False
    asked = given.get("continue_final_message"), given.get("echo")
    return (
        any(value is not None and value is not False for value in asked) or given.get("add_generation_prompt") is False
    )


def _continued(body: dict[str, Any]) -> None:
    """Set explicitly what the server does with a final answer, because the defaults of builds differ.

    The answer that was there is not a part of the reply, unless `echo` asks for it.
    """
    last = body["messages"][-1] if body["messages"] else {}
    if last.get("role") != "assistant" or last.get("tool_calls"):
        return
    if not body.get("continue_final_message"):
        body["continue_final_message"] = True
    body["add_generation_prompt"] = False  # a new turn and an old one at once is a 400
    body.setdefault("echo", False)


def _clean_stop(body: dict[str, Any]) -> None:
    """An empty stop text matches at once and leaves an empty answer."""
    given = [body["stop"]] if isinstance(body["stop"], str) else body["stop"]
    stop = [text for text in given if text]
    if len(stop) < len(given):
        warn_once("dropped empty strings in `stop`: they would end every answer at its first token")
    body["stop"] = stop
    if given and not stop:
        del body["stop"]


def _nested_format(given: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a schema to the only enforced form; the server accepts the flat one but ignores it."""
    if given.get("type") == "json_schema" and "schema" in given and "json_schema" not in given:
        return {"type": "json_schema", "json_schema": {"schema": given["schema"]}}
    return dict(given)


def _refuse_constraint_with_tools(body: Mapping[str, Any]) -> None:
    if "grammar" in body:
        raise BadRequestError("a request can have a grammar or tools, not both; `regex` and `choices` are grammars too")


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message without nulls: `name: null` and the like are answered with 500, `content: null` by old builds."""
    if type(message) is dict and "content" in message and _LEAVES.issuperset(map(type, message.values())):
        return message.copy()
    if is_plain_answer(message):
        return dict(message)
    if "text" in message and not message.keys() & {"content", "tool_calls"}:
        raise BadRequestError("a message has `text` instead of `content`", remedy="rename it to `content`")
    clean: dict[str, Any] = _without_nulls(message)
    clean.setdefault("content", "")
    return clean


def _without_null_fields(tools: list[ToolDict]) -> list[ToolDict]:
    """Tools without nulls beside their schemas; within a schema a null may be a value."""
    if not [tool for tool in tools if None in tool["function"].values()]:
        return tools
    functions = [{name: value for name, value in tool["function"].items() if value is not None} for tool in tools]
    return [cast(ToolDict, {**tool, "function": function}) for tool, function in zip(tools, functions, strict=True)]


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        # The arguments of a call are the model's own JSON, where a null is a value.
        return {k: v if k == "arguments" else _without_nulls(v) for k, v in value.items() if v is not None}
    if isinstance(value, list | tuple):
        return [_without_nulls(entry) for entry in value]
    return value
