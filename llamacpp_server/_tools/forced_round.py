"""A demanded tool call that did not come, asked for once more as an answer that the grammar holds to a schema. Pure.

`tool_choice: "none"` leaves the tools in the prompt, so that the model sees them and the server's prompt cache stays
good, and lets a `response_format` hold the answer (b11434). The answer is the JSON of the arguments, or where several
tools are offered, of the name and the arguments; it is passed on as the call that it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from .._notices import log_repairs
from .._replies import (
    DeltaFilter,
    fallback_call_id,
)
from .._schemas import (
    relocate_references,
    with_absolute_references,
)
from ..errors import LlamaServerError, MissingToolCallError, UnreadableOutputError
from ..replies import ChatDelta, ChatReply, Repair, ReplyStart, ToolCallFragment, Usage
from ..requests import ChatRequest, messages_of
from ..wire import MessageDict, ToolDict
from .checks import missing_call

# What belongs to the first round only: its own form, texts that end it, and an answer that was to be continued.
_NOT_AGAIN: Final = (
    "response_format",
    "json_schema",
    "grammar",
    "regex",
    "choices",
    "stop",
    "continue_final_message",
    "add_generation_prompt",
)
_HEAD: Final = re.compile(r'\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"arguments"\s*:\s*(?=\{)')
_TAIL: Final = re.compile(r"[\s}]*\Z")
_LONGEST_HEAD: Final = 2000


def can_follow(error: LlamaServerError, *, limited: bool = False) -> bool:
    """Whether a reply that ended so is worth asking for once more: there is room, and no call has begun.

    A reply that ran on to the end of the context leaves room for another, which does not hold its text; one that
    reached a limit of the request's own (`limited`) does not.
    """
    if isinstance(error, MissingToolCallError):
        return error.finish_reason != "length" or not limited
    begun = isinstance(error.partial, ChatReply) and any(choice.tool_calls for choice in error.partial.choices)
    return isinstance(error, UnreadableOutputError) and not begun


def forced_request(
    request: ChatRequest, tools: Sequence[ToolDict], said: str = "", *, tools_in_text: bool = False
) -> ChatRequest:
    """The request for the call alone.

    Args:
        request: The first one.
        tools: Those of which one has to be called.
        said: The text of the first reply; the model goes on from it.
        tools_in_text: Whether the tools are described in the message, for a template that does not show them.
    """
    names = [tool["function"]["name"] for tool in tools]
    if len(tools) == 1:
        words = f"Call the tool {names[0]!r} now: answer with the JSON object of its arguments and nothing else."
    else:
        words = (
            f"Call one of the tools {', '.join(map(repr, names))} now: answer with a JSON object that has its "
            '"name" and its "arguments", and nothing else.'
        )
    if tools_in_text:
        shown = "\n".join(json.dumps(tool["function"], ensure_ascii=False) for tool in tools)
        words = f"{words} The tools:\n{shown}"
    params: dict[str, Any] = {name: value for name, value in request.params.items() if name not in _NOT_AGAIN}
    # It has thought already.
    params["chat_template_kwargs"] = dict(params.get("chat_template_kwargs") or {}) | {"enable_thinking": False}
    params["reasoning_budget_tokens"] = 0
    schema = _schema(tools)
    params["response_format"] = {"type": "json_schema", "json_schema": {"name": "call", "schema": schema}}
    return replace(
        request,
        messages=_with_demand(messages_of(request), said, words),
        tools=list(tools),
        tool_choice="none",
        parallel_tool_calls=None,
        params=params,
    )


def _with_demand(messages: Sequence[MessageDict], said: str, words: str) -> list[MessageDict]:
    """The conversation with the demand at its end, and roles that alternate as far as they did."""
    if said.strip():
        return [*messages, {"role": "assistant", "content": said}, {"role": "user", "content": words}]
    last: MessageDict = messages[-1] if messages else {}
    content = last.get("content")
    if last.get("role") == "user" and isinstance(content, str):
        return [*messages[:-1], {**last, "content": f"{content}\n\n{words}"}]
    return [*messages, {"role": "user", "content": words}]


def _schema(tools: Sequence[ToolDict]) -> dict[str, Any]:
    schemas: list[Mapping[str, Any]] = [tool["function"].get("parameters") or {"type": "object"} for tool in tools]
    if len(schemas) == 1:
        return dict(schemas[0])
    definitions: dict[str, Any] = {}
    calls = []
    for number, (tool, schema) in enumerate(zip(tools, schemas, strict=True)):
        place = f"tool{number}"
        if '"$ref"' in json.dumps(schema, default=str):  # references are paths from the root, which this is no more
            definitions[place] = relocate_references(with_absolute_references(schema), f"#/$defs/{place}")
            schema = {"$ref": f"#/$defs/{place}"}
        named = {"name": {"const": tool["function"]["name"]}, "arguments": schema}
        calls.append({"type": "object", "properties": named, "required": ["name", "arguments"]})
    return {"anyOf": calls, **({"$defs": definitions} if definitions else {})}


class AnswerAsToolCall(DeltaFilter[ChatDelta]):
    """Passes the text of an answer on as the arguments of a call.

    Args:
        forced: A tool's name, or `required` where the answer names it.
        first: What the first round ended in; None where there was none.
    """

    def __init__(self, forced: str, first: LlamaServerError | None) -> None:
        self._forced = forced
        self._why = "the chat template does not support tools" if first is None else "the reply did not contain one"
        partial = first.partial if first is not None else None
        self._before = partial if isinstance(partial, ChatReply) else None
        self._stopped_after = first.tokens if isinstance(first, MissingToolCallError) else None
        self._start = ReplyStart()
        self._head = ""
        self._begun = False
        self._held = ""
        self._finish: str | None = None

    def add(self, deltas: list[ChatDelta]) -> list[ChatDelta]:
        """The deltas, with the call in place of their text.

        Raises:
            MissingToolCallError: When the answer is not what the schema holds it to.
        """
        return [made for delta in deltas if (made := self._convert(delta)) != ChatDelta(choice=delta.choice)]

    def end(self) -> list[ChatDelta]:
        """Nothing; raises MissingToolCallError for an answer without text."""
        if not self._begun:
            raise missing_call(self._forced, self._finish)
        return []

    def _convert(self, delta: ChatDelta) -> ChatDelta:
        repairs: tuple[Repair, ...] = ()
        if delta.start is not None:
            self._start = delta.start
            repairs = self._new_repairs()
        fragments = self._feed(delta.content) if delta.content else ()
        finish = delta.finish_reason
        if finish is not None:
            self._finish = finish
            fragments = (*fragments, *self._last_arguments())
            finish = "tool_calls" if finish == "stop" else finish
        return delta._replace(
            content="",
            tool_calls=fragments,
            finish_reason=finish,
            usage=self._total_usage(delta.usage),
            start=delta.start if self._before is None else None,
            repairs=repairs,
        )

    def _new_repairs(self) -> tuple[Repair, ...]:
        """The round itself as a repair, and what else was repaired that the first round's start did not tell."""
        forced = Repair(
            "forced_round", "tool_choice", f"obtained the tool call through a JSON schema because {self._why}"
        )
        log_repairs((forced,))
        before = self._before.start.repairs if self._before is not None else self._start.repairs
        return (forced, *(repair for repair in self._start.repairs if repair not in before))

    def _total_usage(self, usage: Usage | None) -> Usage | None:
        """The prompt of this round, and what was generated in both."""
        first = self._before.usage if self._before is not None else None
        before = first.completion_tokens if first is not None else self._stopped_after
        if usage is None or not before:
            return usage
        return replace(usage, completion_tokens=usage.completion_tokens + before)

    def _feed(self, text: str) -> tuple[ToolCallFragment, ...]:
        if self._begun:
            return self._next_arguments(text)
        self._head += text
        name, rest = self._forced, self._head.lstrip()
        if self._forced == "required":
            found = _HEAD.match(self._head)
            if found is None:
                if not "{".startswith(rest[:1]) or len(self._head) > _LONGEST_HEAD:
                    raise missing_call(self._forced, self._finish)
                return ()
            name, rest = json.loads(found[1]), self._head[found.end() :]
        elif not rest:
            return ()
        elif rest[0] != "{":  # a server that took the schema and did not keep to it
            raise missing_call(self._forced, self._finish)
        self._begun = True
        begun = ToolCallFragment(0, fallback_call_id(self._start, 0, 0), name)
        arguments = "".join(fragment.arguments for fragment in self._next_arguments(rest))
        return (begun._replace(arguments=arguments),)

    def _next_arguments(self, text: str) -> tuple[ToolCallFragment, ...]:
        """More of the arguments. The brace that ends the object around them is not one of theirs."""
        if self._forced == "required":
            text = self._held + text
            tail = _TAIL.search(text)
            cut = tail.start() if tail else len(text)
            text, self._held = text[:cut], text[cut:]
        return (ToolCallFragment(0, arguments=text),) if text else ()

    def _last_arguments(self) -> tuple[ToolCallFragment, ...]:
        arguments, _, _ = self._held.rpartition("}")
        self._held = ""
        return (ToolCallFragment(0, arguments=arguments),) if arguments else ()
