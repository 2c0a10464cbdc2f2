"""Find the model's special tokens in a conversation, with its tokenizer and its chat template.

Results are remembered with the other facts about a model (`server_memory`), so only new texts of a conversation cost
requests.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from .._history import (
    break_items,
    break_tokens,
    break_tools,
    candidates_in,
    candidates_in_items,
    holds_candidates,
    is_tag,
    is_usual,
    special_among,
    template_tags,
)
from .._notices import log_repairs
from ..errors import (
    AuthenticationFailedError,
    BadRequestError,
    MalformedReplyError,
    NotFoundError,
    NotSupportedError,
    ServerFaultError,
)
from ..replies import Repair
from ..requests import ChatRequest, messages_of
from ..settings import ServerSettings
from ..transport import (
    Call,
    Program,
    ask,
    named,
)
from .adapt import look_at_template
from .server_memory import recall

# The server is there and won't say. Others (it loads, it is down) are what the chat itself would end in.
_REFUSALS: Final = (
    AuthenticationFailedError,
    BadRequestError,
    MalformedReplyError,
    NotFoundError,
    NotSupportedError,
    ServerFaultError,
)
_MOST_TOKENS: Final = 4096
# Tags that are known to be written by templates, for a server that does not show its own.
_USUAL_TAGS: Final = template_tags("<think></think><tool_call></tool_call><tool_response></tool_response><function=")


def may_hold_tokens(request: ChatRequest) -> bool:
    """Whether `break_special_tokens` has anything to look up for a request."""
    try:
        return request.break_special_tokens and holds_candidates(messages_of(request), request.tools)
    except RecursionError:
        return False  # it can't be sent either


def break_special_tokens(
    settings: ServerSettings, request: ChatRequest
) -> Program[tuple[ChatRequest, tuple[Repair, ...]]]:
    """The request with the model's special tokens broken up in what others say, and what was; see `_history`."""
    if not may_hold_tokens(request):
        return request, ()
    special, tags = yield from _looked_up(settings, request.model, candidates_in(messages_of(request), request.tools))
    messages, repairs = break_tokens(messages_of(request), special, tags)
    tools, of_tools = break_tools(request.tools, special, tags)
    repairs += of_tools
    log_repairs(repairs)
    return replace(request, messages=messages, tools=tools), repairs


def break_in_items(
    settings: ServerSettings,
    model: str | None,
    items: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]],
    where: str,
) -> Program[tuple[list[Any], list[Any], tuple[Repair, ...]]]:
    """Items and tools of the Responses and Messages APIs with special tokens broken up as in a chat, and what was.

    Args:
        settings: Where the request goes.
        model: Its model.
        items: Its messages.
        tools: Its tools.
        where: The field that holds the items.
    """
    try:
        candidates = candidates_in_items(items, tools)
    except RecursionError:
        candidates = set()  # it can't be sent either
    if not candidates:
        return list(items), list(tools), ()
    special, tags = yield from _looked_up(settings, model, candidates)
    broken, repairs = break_items(items, special, tags, where)
    changed, of_tools = break_tools(tools, special, tags)
    repairs += of_tools
    log_repairs(repairs)
    return broken, changed, repairs


def _looked_up(
    settings: ServerSettings, model: str | None, candidates: Collection[str]
) -> Program[tuple[set[str], frozenset[str]]]:
    """The candidates that are special tokens, and those that are tags of the template."""
    special = yield from _special(settings, model, candidates)
    tags = yield from _tags(settings, model)
    return special, frozenset(token for token in candidates if is_tag(token, tags))


def _special(settings: ServerSettings, model: str | None, candidates: Collection[str]) -> Program[set[str]]:
    """The candidates that are special tokens; asked for are those that are not known yet, all at once."""
    known = recall(settings, model).special
    special = {token for token in candidates if known.get(token)}
    unknown = sorted(token for token in candidates if token not in known)
    if not unknown:
        return special
    try:
        parsed = yield from _pieces(settings, model, unknown, parse_special=True)
        unparsed = yield from _pieces(settings, model, unknown, parse_special=False)
    except _REFUSALS:
        return special | {token for token in unknown if is_usual(token)}
    found = special_among(unknown, parsed, unparsed)
    known.update((token, token in found) for token in unknown[:_MOST_TOKENS])
    while len(known) > _MOST_TOKENS:
        known.pop(next(iter(known)), None)
    return special | found


def _pieces(
    settings: ServerSettings, model: str | None, texts: Sequence[str], *, parse_special: bool
) -> Program[list[str]]:
    body = {**named(settings, model), "content": "\n".join(texts), "parse_special": parse_special, "with_pieces": True}
    return (yield from ask(settings, Call(method="POST", path="/tokenize", body=body), _all_pieces))


def _all_pieces(answer: Any) -> list[str]:
    """The pieces that are text; those that are a part of a character come as numbers, and are no special tokens."""
    pieces = [entry["piece"] for entry in answer["tokens"]]
    return [piece for piece in pieces if isinstance(piece, str)]


def _tags(settings: ServerSettings, model: str | None) -> Program[frozenset[str]]:
    """The tags of the template; the usual ones where the server does not tell."""
    if recall(settings, model).tags is None:
        yield from look_at_template(settings, model)
    memory = recall(settings, model)
    if memory.tags is None and memory.looked:
        memory.tags = _USUAL_TAGS  # it has no template to show
    return _USUAL_TAGS if memory.tags is None else memory.tags
