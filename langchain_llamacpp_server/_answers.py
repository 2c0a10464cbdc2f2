"""Tools and a schema for the answer in one request, which the server can't hold together. Pure.

With a `response_format`, llama-server's grammar allows nothing but the answer, and tools are never called, without a
word (b11434). An agent with tools and a schema for its answer would never act. So the schema becomes one more tool,
some call is forced, and the call of that tool is the answer: its arguments are the message's text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from llamacpp_server import ChatChoice, ChatDelta, ChatReply
from llamacpp_server.wire import ToolDict


def answer_tool(response_format: Any, tools: Sequence[ToolDict]) -> ToolDict | None:
    """The tool that stands for a `response_format`; None for one that asks for plain text."""
    kind = response_format.get("type")
    if kind == "json_schema":
        inner = response_format.get("json_schema") or response_format
    elif kind == "json_object":
        inner = response_format
    else:
        return None
    schema = inner.get("schema") or {"type": "object"}
    taken = {tool["function"]["name"] for tool in tools}
    name = re.sub(r"\W", "_", inner.get("name") or schema.get("title") or "answer")
    while name in taken:
        name += "_answer"
    description = schema.get("description") or "The final answer."
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


class AnswerStream:
    """Turns the call of the answer's tool into text, delta by delta.

    What the model says before it calls is held back: in front of the answer it would spoil the JSON.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._indexes: set[int] = set()
        self._other = False
        self._said = ""

    def add(self, delta: ChatDelta) -> ChatDelta:
        """The delta, with the answer in place of its call."""
        self._said += delta.content
        text, calls = "", []
        for fragment in delta.tool_calls:
            if fragment.name == self._name:
                self._indexes.add(fragment.call_index)
            if fragment.call_index in self._indexes:
                text += fragment.arguments
            else:
                self._other = True
                calls.append(fragment)
        return delta._replace(content=text, tool_calls=tuple(calls))

    def end(self, finish_reason: str | None) -> tuple[str | None, str]:
        """The finish reason of a reply that ended so, and the text that was held back and is wanted after all."""
        answered = bool(self._indexes)
        if answered and not self._other and finish_reason == "tool_calls":
            finish_reason = "stop"
        return finish_reason, "" if answered else self._said


def answered(reply: ChatReply, name: str) -> ChatReply:
    """A whole reply, with the answer in place of its call."""
    return replace(reply, choices=tuple(_answered(choice, name) for choice in reply.choices))


def _answered(choice: ChatChoice, name: str) -> ChatChoice:
    answers = [call.arguments for call in choice.tool_calls if call.name == name]
    if not answers:
        return choice
    others = tuple(call for call in choice.tool_calls if call.name != name)
    reason = "stop" if choice.finish_reason == "tool_calls" and not others else choice.finish_reason
    return replace(choice, content=answers[0], tool_calls=others, finish_reason=reason)
