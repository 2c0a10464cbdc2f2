"""Asks the server what its template and its grammar converter take, where a request was refused."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from ._history import find_needs
from ._programs import Call, Program, ask
from ._schemas import guilty_tools
from .errors import BadRequestError, ContextOverflowError, NotFoundError, ServerFaultError
from .settings import ServerSettings

_REFUSALS: Final = (BadRequestError, ServerFaultError)
# What of a chat request a template sees.
_RENDERED: Final = ("model", "tools", "tool_choice", "chat_template_kwargs", "reasoning_effort", "parallel_tool_calls",
                    "add_generation_prompt", "continue_final_message", "reasoning_format")  # fmt: skip


def template_needs(
    settings: ServerSettings, body: Mapping[str, Any], known: Collection[str], *, wanted: bool | Collection[str] = True
) -> Program[frozenset[str]]:
    """What the server's template needs, after it refused a chat request; `known` where that can't be found out.

    Args:
        settings: Where the request went.
        body: It, with the messages as the caller gave them.
        known: The needs that the refused messages were repaired for.
        wanted: As in `repair_history`.
    """
    search = find_needs(body["messages"], known, wanted=wanted)
    rendered = {key: body[key] for key in _RENDERED if key in body}
    try:
        candidate = next(search)
        while True:
            call = Call(method="POST", path="/apply-template", body={**rendered, "messages": candidate})
            candidate = search.send((yield from _taken(settings, call)))
    except StopIteration as stop:
        return frozenset(known) if stop.value is None else frozenset(stop.value)
    except NotFoundError:
        return frozenset(known)  # a build without `/apply-template`


def tools_at_fault(settings: ServerSettings, body: Mapping[str, Any]) -> Program[list[str]]:
    """The names of the tools for which the server refused a chat request; none where the tools are not why."""
    least = {key: body[key] for key in _RENDERED if key in body and key != "tools"}
    least |= {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
    if (yield from _taken(settings, _chat({**least, "tools": body["tools"]}))):
        return []
    search = guilty_tools(body["tools"])
    try:
        asked = next(search)
        while True:
            asked = search.send(not (yield from _taken(settings, _chat({**least, "tools": list(asked)}))))
    except StopIteration as stop:
        return list(stop.value)


def _chat(body: Mapping[str, Any]) -> Call:
    return Call(method="POST", path="/v1/chat/completions", body=body)


def _taken(settings: ServerSettings, call: Call) -> Program[bool]:
    try:
        yield from ask(settings, call, bool)
    except ContextOverflowError:
        return True  # it was rendered, or it could not be counted
    except _REFUSALS:
        return False
    return True
