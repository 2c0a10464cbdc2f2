"""Program of a chat, from top to bottom in `_program`.

The request gets its cache salt, its media and a form that the server accepts; its answer is relayed. If a refusal shows
what the server needs, the request is adapted and sent again. If a required tool call is missing, a second request
obtains it. Programs as in `transport/exchange.py`; what they decide is in `adapt.py` and `_tools/`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from .._history import (
    holds_broken,
)
from .._media import (
    holds_media,
    with_media,
)
from .._notices import log_repairs, warn_once
from .._replies import (
    BrokenTokenFilter,
    ChatBodyDecoder,
    ChatStreamDecoder,
    DeltaFilter,
    LoopFilter,
    StreamDecoder,
    ThinkingAsText,
    ThinkTagFilter,
    WithoutPrefill,
    WithoutTopLogprobs,
    answer_pieces,
    argument_pieces,
    fold_chat,
    pipeline,
)
from .._schemas import (
    CONSTRAINTS,
    rules_thinking,
)
from .._tools import (
    AnswerAsToolCall,
    AnswerFilter,
    CallRules,
    TextCallFilter,
    ToolCallFilter,
    ToolChoice,
    can_follow,
    forced_request,
    ids_of,
    is_limited,
    with_answer_tool,
)
from ..errors import (
    BadRequestError,
    LlamaServerError,
    MissingToolCallError,
    NotSupportedError,
    ServerBusyError,
    ServerFaultError,
)
from ..replies import ChatDelta, ChatReply, Repair
from ..requests import ChatRequest, messages_of
from ..settings import ServerSettings, redact_url, without_waits
from ..transport import (
    Call,
    Delivery,
    Program,
    Ticket,
    begin,
    named,
)
from .adapt import adapt_request, diagnose_refusal, look_at_template, with_known_blocks
from .bodies import answers_of, chat_body, with_cache_salt
from .inputs import check_chat
from .lora import with_lora_ids
from .many_answers import Part, in_several_requests, is_too_many, part_filter
from .server import end_reasoning, with_progress
from .server_memory import OriginCheck, ServerMemory, recall
from .special_tokens import break_special_tokens, may_hold_tokens
from .thinking_watch import ThinkingWatch

Decoder = Callable[[], StreamDecoder[ChatDelta]]
Filters = list[Callable[[], DeltaFilter[ChatDelta]]]

_PATH: Final = "/v1/chat/completions"
_REFUSALS: Final = (BadRequestError, NotSupportedError, ServerFaultError)
# Seconds for ending a thought while its stream waits.
_CONTROL_PATIENCE: Final = 5.0
_NO_TOOLS: Final = "the model's chat template does not support tools, so the server drops them silently"


@dataclass(frozen=True, slots=True)
class _Chat:
    """A chat and its destination.

    Attributes:
        settings: Where it goes.
        request: With its salt, and with the answer's form as a tool where it has both.
        choice: Of its tools; None where it has none.
        repairs: What was rewritten so far.
        part: Which of its answers this is for, where it is one of several requests.
    """

    settings: ServerSettings
    request: ChatRequest
    choice: ToolChoice | None = None
    repairs: tuple[Repair, ...] = ()
    part: Part | None = None


@dataclass(frozen=True, slots=True)
class _Round:
    """One request of a chat, adapted to the server, and how its answer is read.

    Attributes:
        chat: What it is for.
        request: Before it was adapted.
        body: As it is sent.
        decoder: Makes a decoder for one answer.
        forced: Whether it is the one that gets a required call alone.
        goes_on: Whether that one may follow it.
        first: What the round before it ended in; None where there was none.
    """

    chat: _Chat
    request: ChatRequest
    body: dict[str, Any]
    decoder: Decoder
    forced: bool = False
    goes_on: bool = False
    first: LlamaServerError | None = None


def chat(settings: ServerSettings, request: ChatRequest) -> Program[ChatReply]:
    """Return the complete reply of `stream_chat`."""
    deltas: list[ChatDelta] = []
    yield from stream_chat(settings, request, deltas)
    return fold_chat(deltas)


def stream_chat(
    settings: ServerSettings, request: ChatRequest, collected: list[ChatDelta] | None = None
) -> Program[None]:
    """`/v1/chat/completions`, with its media, adapted to the server; and once more when it lacks a required call.

    What can't be sent is raised at once, unless something has to be asked before.

    Raises:
        BadRequestError: For what can't be sent.
        NotSupportedError: When a call is required of a template that is known to have no tools, and no other way is
            allowed.
    """
    request = check_chat(request)
    return in_several_requests(_stream_chat, settings, request, collected, fold_chat)


def _stream_chat(
    settings: ServerSettings, request: ChatRequest, collected: list[ChatDelta] | None, part: Part | None = None
) -> Program[None]:
    request, converted = with_known_blocks(request)
    wanted = _Chat(settings, with_cache_salt(request), repairs=converted, part=part)
    if request.tools:
        asked, choice, repairs = with_answer_tool(wanted.request)
        wanted = _Chat(settings, asked, choice, (*converted, *repairs), part)
        if repairs:
            log_repairs(repairs)
    ready = None if _asks_before(wanted) else _first_round(wanted)
    return _program(wanted, ready, collected)


def _program(wanted: _Chat, ready: _Round | None, collected: list[ChatDelta] | None) -> Program[None]:
    """Run all steps of a chat, in order."""
    delivery = yield from begin(wanted.settings, _PATH, collected)
    if ready is None:
        ready = _first_round((yield from _looked_up(wanted)))
    try:
        return (yield from _relay(delivery, ready))
    except LlamaServerError as error:
        if not (ready.goes_on and can_follow(error, limited=is_limited(ready.body))):
            raise
        # Its traceback would refer to this frame, and this frame to it.
        missing = error.with_traceback(None)
    try:
        yield from _relay(delivery.next_round(), _forced_round(ready.chat, missing))
    except LlamaServerError as error:
        error.earlier = (missing, *error.earlier)
        raise


def _asks_before(wanted: _Chat) -> bool:
    """Whether another request has to be made before the chat can be sent."""
    request = wanted.request
    known = recall(wanted.settings, request.model)
    if known.is_due(tools=bool(request.tools)) or holds_media(messages_of(request)) or may_hold_tokens(request):
        return True
    return _asks_for_template(wanted, known)


def _asks_for_template(wanted: _Chat, known: ServerMemory) -> bool:
    """Whether it is unknown if the template supports tools."""
    if wanted.choice is None or wanted.choice.word == "none":
        return False
    return known.tools is None and not known.looked


def _looked_up(wanted: _Chat) -> Program[_Chat]:
    """The chat with its media read and special tokens broken up, and with its template looked at."""
    settings, request = wanted.settings, wanted.request
    if recall(settings, request.model).is_due(tools=bool(request.tools)):
        yield from look_at_template(settings, request.model)
    request, converted = (yield from with_media(request)) if holds_media(messages_of(request)) else (request, ())
    request, broken = yield from break_special_tokens(settings, request)
    choice = wanted.choice
    if choice is not None:
        sent = {tool["function"]["name"]: tool for tool in request.tools}
        choice = choice._replace(tools=[sent[tool["function"]["name"]] for tool in choice.tools])
    if _asks_for_template(wanted, recall(settings, request.model)):
        yield from look_at_template(settings, request.model)
    return replace(wanted, request=request, choice=choice, repairs=(*converted, *broken, *wanted.repairs))


def _relay(delivery: Delivery, ready: _Round) -> Program[None]:
    """Send a request and relay its answer; after a refusal with a known reason, send the adapted request."""
    settings = ready.chat.settings
    call = yield from _call_of(ready)
    while True:
        ticket = Ticket()
        try:
            yield from delivery.admission(ticket, call)
            try:
                reply = yield from delivery.open(ticket, call)
            except _REFUSALS as error:
                if not (yield from _teaches(ready, error)):
                    raise
                ready = _forced_round(ready.chat, ready.first) if ready.forced else _round(ready.chat)
                call = yield from _call_of(ready)
                reply = yield from delivery.open(ticket, call)
            return (yield from delivery.relay(ticket, reply, call, ready.decoder(), _watch(settings, ready)))
        except ServerBusyError as error:
            delivery.begin_again(error)
        finally:
            ticket.place.left = True
            ticket.leave()


def _call_of(ready: _Round) -> Program[Call]:
    body = yield from with_lora_ids(ready.chat.settings, ready.body)
    return Call(method="POST", path=_PATH, body=body, takes_slot=True)


def _teaches(ready: _Round, error: LlamaServerError) -> Program[bool]:
    """Whether the request can be adapted after a refusal; false if the reason is unknown."""
    if is_too_many(error):
        return False  # more than one request gets them
    try:
        return (yield from diagnose_refusal(ready.chat.settings, ready.request, ready.body, error))
    except LlamaServerError:
        return False


def _first_round(wanted: _Chat) -> _Round:
    """The first request of a chat: the forced one if the template does not support tools."""
    settings, request, choice = wanted.settings, wanted.request, wanted.choice
    if choice is None or choice.word == "none" or recall(settings, request.model).tools is not False:
        return _round(wanted)
    if choice.forced is None:
        warn_once(f"{_NO_TOOLS} ({request.model or settings.model or redact_url(settings.base_url)})")
        return _round(replace(wanted, repairs=(*wanted.repairs, Repair("no_tools", "tools", _NO_TOOLS))))
    if not (request.check_calls and request.forced_round):
        raise NotSupportedError(_NO_TOOLS, remedy="start the server with a --chat-template-file that supports tools")
    return _forced_round(wanted, None)


def _round(wanted: _Chat) -> _Round:
    settings, request, choice = wanted.settings, wanted.request, wanted.choice
    fitted, repairs = adapt_request(settings, request)
    body = {**named(settings, None), **chat_body(fitted)}
    # Whether a required call may be asked for alone depends on all answers, in whatever request they come.
    answers = answers_of(body) if wanted.part is None else wanted.part.total
    filters, rules = _filters(fitted, body, answers), None
    if choice is not None and request.check_calls:
        rules = _rules(request, choice, body, answers)
        texts = None
        if choice.word != "none":
            texts = partial(
                TextCallFilter, choice.tools, take=request.parse_text_calls, forced=choice.forced, answers=answers
            )
        filters.append(partial(ToolCallFilter, rules, answers, texts))
    if choice is not None and choice.answer is not None:
        filters.append(partial(AnswerFilter, choice.answer))
    decoder = _decoder(settings, body, wanted.repairs + repairs, filters + part_filter(wanted.part))
    return _Round(wanted, request, body, decoder, goes_on=rules is not None and rules.round_follows)


def _forced_round(wanted: _Chat, first: LlamaServerError | None) -> _Round:
    """The round that gets the call alone, after one that ended in `first`."""
    settings, request, choice = wanted.settings, wanted.request, wanted.choice
    if choice is None:
        raise ValueError("forcing a tool call requires tools")
    ended = isinstance(first, MissingToolCallError) and first.finish_reason == "stop"
    said = first.partial.content if ended and first is not None and isinstance(first.partial, ChatReply) else ""
    without = recall(settings, request.model).tools is False
    asked = forced_request(request, choice.tools, said, tools_in_text=without)
    fitted, repairs = adapt_request(settings, asked)
    body = {**named(settings, None), **chat_body(fitted)}
    rules = replace(_rules(request, choice, body, 1), within=None, round_follows=False)
    filters: Filters = [
        *_filters(fitted, body, 1),
        partial(AnswerAsToolCall, choice.forced or "required", first),
        partial(ToolCallFilter, rules),
        *([] if choice.answer is None else [partial(AnswerFilter, choice.answer)]),
        *part_filter(wanted.part),
    ]
    before = wanted.repairs if first is None else ()
    return _Round(wanted, asked, body, _decoder(settings, body, before + repairs, filters), forced=True, first=first)


def _rules(request: ChatRequest, choice: ToolChoice, body: Mapping[str, Any], answers: int) -> CallRules:
    return CallRules(
        names=frozenset([tool["function"]["name"] for tool in choice.tools]),
        forced=choice.forced,
        one_call=request.parallel_tool_calls is False or choice.one_call,
        taken=ids_of(request.messages),
        within=None if is_limited(body) else request.forced_call_within,
        limited=is_limited(body),
        round_follows=request.forced_round and choice.forced is not None and answers == 1,
        missing_is_error=request.missing_call_is_error,
    )


def _decoder(settings: ServerSettings, body: dict[str, Any], repairs: tuple[Repair, ...], filters: Filters) -> Decoder:
    """Return the decoder for the answer; the body requests progress if something listens."""
    decoder = pipeline(partial(ChatStreamDecoder if body.get("stream") else ChatBodyDecoder, repairs), filters)
    if settings.on_progress is not None:
        decoder = with_progress(settings.on_progress, decoder, body)
    return pipeline(decoder, [partial(OriginCheck, settings, body.get("model"))])


def _filters(fitted: ChatRequest, body: Mapping[str, Any], answers: int) -> Filters:
    """Return the filters of every answer, in order."""
    filters: Filters = []
    if rules_thinking(body.get("grammar")):
        filters.append(ThinkingAsText)
    elif body.get("reasoning_format") != "none":
        filters.append(partial(ThinkTagFilter, answers))
    if body.get("continue_final_message") and not body.get("echo") and not body.get("stream"):
        begun = fitted.messages[-1].get("content")
        filters.append(partial(WithoutPrefill, begun if isinstance(begun, str) else ""))
    if holds_broken(fitted.messages, fitted.tools):
        filters.append(BrokenTokenFilter)
    if fitted.params.get("top_logprobs") == 0 and body.get("logprobs"):
        filters.append(WithoutTopLogprobs)
    held = not body.keys().isdisjoint(CONSTRAINTS) and any(body.get(name) for name in CONSTRAINTS)
    if (held or body.get("tools")) and fitted.loop_limit is not None and not is_limited(body):
        pieces = answer_pieces if held else argument_pieces
        filters.append(partial(LoopFilter[ChatDelta], fitted.loop_limit, pieces))
    return filters


def _watch(settings: ServerSettings, ready: _Round) -> ThinkingWatch | None:
    seconds, control = ready.request.max_thinking_seconds, ready.request.thinking_control
    if ready.forced or (seconds is None and control is None):
        return None
    return ThinkingWatch(seconds, control, lambda reply_id: _end_thinking(settings, reply_id, ready.request.model))


def _end_thinking(settings: ServerSettings, reply_id: str, model: str | None) -> Program[None]:
    """Call `end_reasoning` for a running stream, which continues whatever the outcome."""
    patience = min(_CONTROL_PATIENCE, settings.read_timeout or _CONTROL_PATIENCE)
    once = without_waits(settings, patience)
    try:
        yield from end_reasoning(once, reply_id, model)
    except LlamaServerError as error:
        warn_once(f"could not end the reasoning of a reply, so it continues: {error.server_message or error.message}")
