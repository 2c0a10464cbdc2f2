"""Adapt a chat request to this server: its schemas, and the conversation for its template.

Anything that every build and template refuses is rewritten before sending. Anything that only this server's template
refuses is found after a refusal, by asking the server, and remembered for as long as that server runs
(`server_memory.py`).
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, cast

from .._history import (
    MEDIA_PARTS,
    REPAIRS,
    find_needs,
    holds_foreign_blocks,
    known_blocks,
    plain_text,
    repair_history,
    template_tags,
    unread_block,
    well_formed,
    without_media,
)
from .._notices import log_repairs
from .._schemas import (
    CONSTRAINTS,
    bisect_refused_tools,
    clean_schema,
    clean_tools,
    plain_tools,
    without_thinking,
)
from .._values import text, with_changes
from ..errors import (
    BadRequestError,
    ContextOverflowError,
    LlamaServerError,
    NotFoundError,
    NotSupportedError,
    ServerFaultError,
)
from ..info import ServerInfo
from ..replies import Repair
from ..requests import ChatRequest, enabled_repairs, messages_of
from ..results import ServerProps
from ..settings import ServerSettings, without_waits
from ..transport import (
    Call,
    Program,
    ask,
)
from ..wire import MessageDict
from .bodies import continues
from .server_memory import recall, recall_by_props

# Seconds for one question about a refusal. Rendering takes milliseconds, a token for a tool may have to wait.
_PATIENCE: Final = 30.0
_SHORT_PATIENCE: Final = 5.0
_REFUSALS: Final = (BadRequestError, ServerFaultError)
_CONSTRAINTS: Final = frozenset(CONSTRAINTS)
# The server's words for a part of a type that it does not know, which name no place (b11549).
_UNREAD: Final = "unsupported content[].type"
# What of a chat request a template sees.
_RENDERED: Final = ("model", "tools", "tool_choice", "chat_template_kwargs", "reasoning_effort", "parallel_tool_calls",
                    "add_generation_prompt", "continue_final_message", "reasoning_format")  # fmt: skip


def look_at_template(settings: ServerSettings, model: str | None) -> Program[None]:
    """Ask `/props` whether the template knows tools, and whether what was learned is of this very server.

    Never makes a router load a model.
    """
    memory, name = recall(settings, model), model or settings.model
    memory.confirmed = time.monotonic()  # one asks for many, and not again at once when there is no answer
    query = {"model": name, "autoload": "false"} if name else {}
    patience = min(_SHORT_PATIENCE, settings.read_timeout or _SHORT_PATIENCE)
    once = without_waits(settings, patience)
    try:
        props = yield from ask(once, Call(method="GET", path="/props", query=query), ServerProps.from_wire)
    except LlamaServerError as error:
        memory.looked = memory.looked or not error.retryable  # while it loads it says nothing
        return
    if props.is_router:
        return
    memory = recall_by_props(settings, model, props)
    memory.looked = True
    info = ServerInfo.build_from(props, (), name)
    memory.tools = info.tools
    reads = {"image": info.vision, "audio": info.audio, "video": info.video}
    memory.unread = frozenset(kind for kind, able in reads.items() if able is False)
    memory.tags = template_tags(f"{props.chat_template}{text(props.raw.get('chat_template_tool_use'))}")


def adapt_request(settings: ServerSettings, request: ChatRequest) -> tuple[ChatRequest, tuple[Repair, ...]]:
    """Return the request in a form that this server accepts, and its repairs; each is logged once.

    Raises:
        BadRequestError: For a name in `history_repair` that no repair has.
    """
    known = recall(settings, request.model)
    if _is_fit(request) and not (known.needs or known.blind):
        return request, ()
    try:
        messages, repairs = repair_history(
            messages_of(request), known.needs, wanted=request.history_repair, continues=continues(request)
        )
    except ValueError as error:
        raise BadRequestError(f"history_repair: {error}") from None
    messages, done = _without_blind(messages, known.blind, request.history_repair)
    repairs += done
    tools = list(request.tools)
    params, done = without_thinking(request.params)
    repairs += (*done, *request.repairs)
    if request.clean_schemas:
        tools, done = clean_tools(request.tools)
        repairs += done
        if known.plain:
            tools, done = plain_tools(tools)
            repairs += done
        repairs += _clean_answer(params)
    if repairs:
        # That a grammar of our own (`choices`, `regex`) turns thinking off is what it needs; the reply says so.
        written = any(params.get(name) is not None for name in ("choices", "regex"))
        log_repairs([repair for repair in repairs if not (written and repair.name == "thinking_off")])
    return with_changes(request, messages=messages, tools=tools, params=params, repairs=()), repairs


def _is_fit(request: ChatRequest) -> bool:
    """Whether nothing in the request could need a repair: only text, a user's turn at the end, no tools, no schema."""
    if request.tools or request.repairs or request.history_repair is not True or not request.messages:
        return False
    if not _CONSTRAINTS.isdisjoint(request.params) or plain_text(request.messages) is None:
        return False
    return request.messages[-1]["role"] != "assistant"


def _without_blind(
    messages: list[MessageDict], kinds: Collection[str], wanted: bool | Collection[str]
) -> tuple[list[MessageDict], tuple[Repair, ...]]:
    """Replace media in tool results that the model can't read."""
    if not kinds or "tool_results" not in enabled_repairs(REPAIRS, wanted):
        return messages, ()
    repairs = list[Repair]()
    changed = without_media(
        cast(list[dict[str, Any]], messages),
        kinds,
        lambda where, what: repairs.append(Repair("tool_results", where, what)),
    )
    return cast(list[MessageDict], changed), tuple(repairs)


def _learn_of_media(
    settings: ServerSettings, request: ChatRequest, body: Mapping[str, Any], error: NotSupportedError
) -> Program[bool]:
    """Whether the model can't read media that tool results hold; those kinds are remembered then.

    The server refuses the first kind only. The others are asked for, so that one more request is enough.
    """
    words = f"{error.server_message or error.message}".lower()
    kinds = {kind for kind in ("image", "audio", "video") if f"{kind} input" in words or f"{kind}s input" in words}
    if _without_blind(body["messages"], kinds, request.history_repair)[0] == body["messages"]:
        return False
    yield from look_at_template(settings, request.model)
    memory = recall(settings, request.model)
    memory.blind |= kinds | memory.unread
    return True


def _clean_answer(params: dict[str, Any]) -> tuple[Repair, ...]:
    """Clean the schema of the answer, wherever it is in the parameters."""
    if isinstance(schema := params.get("json_schema"), Mapping) and schema:
        params["json_schema"], repairs = clean_schema(schema, name="json_schema")
        return repairs
    if (given := params.get("response_format")) is None:
        return ()
    form = given.get("json_schema") if isinstance(given, Mapping) else None
    if not isinstance(form, Mapping) or not isinstance(form.get("schema"), Mapping):
        return ()
    cleaned, repairs = clean_schema(form["schema"], name="response_format")
    params["response_format"] = {**cast(Mapping[str, Any], given), "json_schema": {**form, "schema": cleaned}}
    return repairs


def with_known_blocks(request: ChatRequest) -> tuple[ChatRequest, tuple[Repair, ...]]:
    """Convert content blocks of other APIs to the server's format, so that their media are read like all others."""
    messages = messages_of(request)
    if not holds_foreign_blocks(messages) or "blocks" not in enabled_repairs(REPAIRS, request.history_repair):
        return request, ()
    repairs = list[Repair]()
    changed = known_blocks(messages, lambda where, what: repairs.append(Repair("blocks", where, what)))
    log_repairs(repairs)
    return replace(request, messages=cast(list[MessageDict], changed)), tuple(repairs)


def diagnose_refusal(
    settings: ServerSettings, request: ChatRequest, body: Mapping[str, Any], error: LlamaServerError
) -> Program[bool]:
    """Whether the reason for a refusal was found, so that the request is worth sending again.

    If tools are to blame and nothing helps, `error` names them.

    Args:
        settings: Where the request went.
        request: It, as the caller gave it.
        body: It, as it was sent.
        error: What came back.
    """
    if isinstance(error, ContextOverflowError):
        return False
    if _UNREAD in str(error) and (block := unread_block(body["messages"])) is not None:
        error.remedy = f"{block}: send a text, image_url, input_audio, input_video or file part"
        return False
    # The refusal is told at once when there is nobody to ask for its reason.
    patience = min(_PATIENCE, settings.read_timeout or _PATIENCE)
    settings = without_waits(settings, patience)
    if isinstance(error, NotSupportedError):
        return (yield from _learn_of_media(settings, request, body, error))
    found = False
    if request.history_repair is not False:
        found = yield from _learn_of_history(settings, request, body)
    if not found and body.get("tools") and isinstance(error, BadRequestError | ServerFaultError):
        found = yield from _learn_of_tools(settings, request, body, error)
    if found and recall(settings, request.model).seen is None:
        yield from look_at_template(settings, request.model)  # to notice when it is another one
    return found


def _learn_of_history(settings: ServerSettings, request: ChatRequest, body: Mapping[str, Any]) -> Program[bool]:
    """Whether the template refuses these messages but accepts others; if so, its needs are remembered."""
    if (yield from _is_accepted(settings, _rendering(body, body["messages"]))):
        return False
    known = recall(settings, request.model).needs
    original = {**body, "messages": request.messages}
    wanted, goes_on = request.history_repair, continues(request)
    needs = yield from template_needs(settings, original, known, wanted=wanted, continues=goes_on)
    if needs == known:
        return False
    # A message that no template could render says nothing about this one: leave the needs of everybody else alone.
    proper = well_formed(messages_of(request), known, continues=goes_on)
    if proper != body["messages"] and (yield from _is_accepted(settings, _rendering(body, proper))):
        return False
    recall(settings, request.model).needs = needs
    return True


def _learn_of_tools(
    settings: ServerSettings, request: ChatRequest, body: Mapping[str, Any], error: LlamaServerError
) -> Program[bool]:
    refused = yield from tools_at_fault(settings, body)
    if not refused:
        return False
    if request.clean_schemas and not recall(settings, request.model).plain:
        tools, _ = plain_tools(body["tools"])
        if (yield from _is_accepted(settings, _chat({**_minimal_request(body), "tools": tools}))):
            recall(settings, request.model).plain = True
            return True
    error.message += f" (the server rejects the tools {', '.join(map(repr, refused))})"
    return False


def template_needs(
    settings: ServerSettings,
    body: Mapping[str, Any],
    known: Collection[str],
    *,
    wanted: bool | Collection[str] = True,
    continues: bool = False,
) -> Program[frozenset[str]]:
    """Repairs that the server's template needs after it refused a chat request; `known` if they can't be determined.

    Args:
        settings: Where the request went.
        body: It, with the messages as the caller gave them.
        known: The needs that the refused messages were repaired for.
        wanted: As in `repair_history`.
        continues: As in `repair_history`.
    """
    search = find_needs(body["messages"], known, wanted=wanted, continues=continues)
    try:
        candidate = next(search)
        while True:
            candidate = search.send((yield from _is_accepted(settings, _rendering(body, candidate))))
    except StopIteration as stop:
        return frozenset(known) if stop.value is None else frozenset(stop.value)
    except NotFoundError:
        return frozenset(known)  # a build without `/apply-template`


def tools_at_fault(settings: ServerSettings, body: Mapping[str, Any]) -> Program[list[str]]:
    """Names of the tools for which the server refused a chat request; empty if the tools are not the reason."""
    least = _minimal_request(body)
    if (yield from _is_accepted(settings, _chat({**least, "tools": body["tools"]}))):
        return []
    if not (yield from _is_accepted(settings, _chat(_without_choice(least)))):
        return []  # refused without any tool as well
    search = bisect_refused_tools(body["tools"])
    try:
        asked = next(search)
        while True:
            asked = search.send(not (yield from _is_accepted(settings, _chat({**least, "tools": list(asked)}))))
    except StopIteration as stop:
        return list(stop.value)


def _minimal_request(body: Mapping[str, Any]) -> dict[str, Any]:
    """Copy of `body` without tools and with almost no text."""
    least = {key: body[key] for key in _RENDERED if key in body and key != "tools"}
    return {**least, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}


def _without_choice(least: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in least.items() if name not in ("tool_choice", "parallel_tool_calls")}


def _rendering(body: Mapping[str, Any], messages: Sequence[Any]) -> Call:
    rendered = {key: body[key] for key in _RENDERED if key in body}
    # Whether every image has its place in the rendered text is seen only when its tokens are counted.
    path = "/v1/chat/completions/input_tokens" if _holds_media(messages) else "/apply-template"
    return Call(method="POST", path=path, body={**rendered, "messages": list(messages)})


def _holds_media(messages: Sequence[Any]) -> bool:
    contents = (message.get("content") for message in messages)
    return any(part.get("type") in MEDIA_PARTS for parts in contents if isinstance(parts, list) for part in parts)


def _chat(body: Mapping[str, Any]) -> Call:
    return Call(method="POST", path="/v1/chat/completions", body=body)


def _is_accepted(settings: ServerSettings, call: Call) -> Program[bool]:
    try:
        yield from ask(settings, call, bool)
    except ContextOverflowError:
        return True  # it was rendered, or it could not be counted
    except _REFUSALS:
        return False
    return True
