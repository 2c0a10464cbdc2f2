"""What is done for one chat: it is fitted to the server, its tool calls are checked, and asked for again if need be.

Programs as in `transport/exchange.py`; what they decide is in `adapt.py` and `_tools/`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

from .._history import (
    holds_broken,
)
from .._media import (
    holds_media,
    with_media,
)
from .._notices import warn_once
from .._repairs import log_repairs
from .._replies import (
    BrokenTokenFilter,
    ChatStreamDecoder,
    DeltaFilter,
    LoopFilter,
    StreamDecoder,
    ThinkingAsText,
    ThinkTagFilter,
    WholeChatDecoder,
    WithoutPrefill,
    WithoutTopLogprobs,
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
from ..chat import ChatDelta, ChatReply, ChatRequest, Repair
from ..errors import LlamaServerError, MissingToolCallError, NotSupportedError
from ..settings import ServerSettings, redact_url
from ..transport import (
    Call,
    Program,
    StreamCall,
    named,
)
from .adapt import fit, learn, look_at_template
from .bodies import answers_of, chat_body, with_cache_salt
from .inputs import check_chat
from .lora import named_loras
from .server import end_reasoning, with_progress
from .server_memory import OriginCheck, recall
from .special_tokens import break_special_tokens, may_hold_tokens
from .thinking_watch import ThinkingWatch

Decoder = Callable[[], StreamDecoder[ChatDelta]]
Filters = list[Callable[[], DeltaFilter[ChatDelta]]]
Chat = StreamCall[ChatDelta]

_PATH: Final = "/v1/chat/completions"
# Seconds for ending a thought while its stream waits.
_CONTROL_PATIENCE: Final = 5.0
_NO_TOOLS: Final = "the model's chat template does not support tools, so the server drops them silently"


def stream_chat(settings: ServerSettings, request: ChatRequest) -> Chat:
    """`/v1/chat/completions`, with its media, fitted to the server; and once more when that is found to be wanting.

    Raises:
        BadRequestError: For what can't be sent.
        NotSupportedError: When a call is demanded of a template that is known to have no tools, and no other way is
            allowed.
    """
    check_chat(request)
    request = with_cache_salt(request)
    if recall(settings, request.model).is_due(tools=bool(request.tools)):

        def confirmed() -> Program[Chat]:
            yield from look_at_template(settings, request.model)
            return _media_chat(settings, request)

        return _later(settings, confirmed)
    return _media_chat(settings, request)


def _media_chat(settings: ServerSettings, request: ChatRequest) -> Chat:
    """A salted chat whose media are not ready yet."""
    media = holds_media(request.messages)
    if not media and not may_hold_tokens(request):
        return _tool_chat(settings, request)

    def first() -> Program[Chat]:
        ready, converted = (yield from with_media(request)) if media else (request, ())
        ready, broken = yield from break_special_tokens(settings, ready)
        return _tool_chat(settings, ready, (*converted, *broken))

    return _later(settings, first)


def _tool_chat(settings: ServerSettings, request: ChatRequest, before: tuple[Repair, ...] = ()) -> Chat:
    """A chat whose media are ready, by the way that its tools need; `before` is what was repaired already."""
    if not request.tools:
        return _chat(settings, request, None, before)
    original, known = request, recall(settings, request.model)
    request, choice, repairs = with_answer_tool(request)
    log_repairs(repairs)
    repaired = (*before, *repairs)
    if choice.word == "none" or known.tools is True:
        return _chat(settings, request, choice, repaired)
    if known.tools is None and not known.looked:

        def first() -> Program[Chat]:
            yield from look_at_template(settings, request.model)
            if recall(settings, request.model).tools is None:
                return _chat(settings, request, choice, repaired)
            return _tool_chat(settings, original, before)

        return _later(settings, first)
    if known.tools is None:
        return _chat(settings, request, choice, repaired)
    if choice.forced is None:
        warn_once(f"{_NO_TOOLS} ({request.model or settings.model or redact_url(settings.base_url)})")
        return _chat(settings, request, choice, (*repaired, Repair("no_tools", "tools", _NO_TOOLS)))
    if not (request.check_calls and request.forced_round):
        raise NotSupportedError(_NO_TOOLS, remedy="start the server with a --chat-template-file that supports tools")
    return _forced_chat(settings, request, choice, repaired)


def _chat(
    settings: ServerSettings, request: ChatRequest, choice: ToolChoice | None, before: tuple[Repair, ...]
) -> Chat:
    fitted, repairs = fit(settings, request)
    body = {**named(settings, None), **chat_body(fitted)}
    answers = answers_of(body)
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

    def recover(error: LlamaServerError) -> Program[Chat | None]:
        worth_it = yield from learn(settings, request, body, error)
        return _chat(settings, request, choice, before) if worth_it else None

    def follow(error: LlamaServerError) -> Chat | None:
        if choice is None or not can_follow(error, limited=is_limited(body)):
            return None
        return _forced_chat(settings, request, choice, (), error)

    goes_on = follow if rules is not None and rules.round_follows else None
    decoder = _decoder(body, before + repairs, filters)
    return _asked(settings, body, decoder, recover=recover, follow=goes_on, watch=_watch(settings, request))


def _later(settings: ServerSettings, first: Callable[[], Program[Chat]]) -> Chat:
    """A chat that can only be made when something else was done."""
    return StreamCall(settings=settings, call=Call(method="POST", path=_PATH), decoder=ChatStreamDecoder, first=first)


def _rules(request: ChatRequest, choice: ToolChoice, body: Mapping[str, Any], answers: int) -> CallRules:
    return CallRules(
        names=frozenset(tool["function"]["name"] for tool in choice.tools),
        forced=choice.forced,
        one_call=request.parallel_tool_calls is False or choice.one_call,
        taken=ids_of(request.messages),
        within=None if is_limited(body) else request.forced_call_within,
        limited=is_limited(body),
        round_follows=request.forced_round and choice.forced is not None and answers == 1,
        missing_is_error=request.missing_call_is_error,
    )


def _forced_chat(
    settings: ServerSettings,
    request: ChatRequest,
    choice: ToolChoice,
    before: tuple[Repair, ...],
    first: LlamaServerError | None = None,
) -> Chat:
    """The round that gets the call alone."""
    forced = choice.forced or "required"
    ended = isinstance(first, MissingToolCallError) and first.finish_reason == "stop"
    said = first.partial.content if ended and first is not None and isinstance(first.partial, ChatReply) else ""
    without = recall(settings, request.model).tools is False
    asked = forced_request(request, choice.tools, said, tools_in_text=without)
    fitted, repairs = fit(settings, asked)
    body = {**named(settings, None), **chat_body(fitted)}
    rules = replace(_rules(request, choice, body, 1), within=None, round_follows=False)
    filters: Filters = [
        *_filters(fitted, body, 1),
        partial(AnswerAsToolCall, forced, first),
        partial(ToolCallFilter, rules),
        *([] if choice.answer is None else [partial(AnswerFilter, choice.answer)]),
    ]

    def recover(error: LlamaServerError) -> Program[Chat | None]:
        worth_it = yield from learn(settings, asked, body, error)
        return _forced_chat(settings, request, choice, before, first) if worth_it else None

    return _asked(settings, body, _decoder(body, before + repairs, filters), recover=recover)


def _asked(settings: ServerSettings, body: dict[str, Any], decoder: Decoder, **steps: Any) -> Chat:
    """The request of a body, with its progress told and its adapters named; `steps` are those of `StreamCall`."""
    if settings.on_progress is not None:
        decoder = with_progress(settings.on_progress, decoder, body)
    decoder = pipeline(decoder, [partial(OriginCheck, settings, body.get("model"))])
    call = Call(method="POST", path=_PATH, body=body, takes_slot=True)
    return named_loras(StreamCall(settings=settings, call=call, decoder=decoder, **steps))


def _decoder(body: Mapping[str, Any], repairs: tuple[Repair, ...], filters: Filters) -> Decoder:
    """What reads the answer to a body."""
    return pipeline(partial(ChatStreamDecoder if body.get("stream") else WholeChatDecoder, repairs), filters)


def _filters(fitted: ChatRequest, body: Mapping[str, Any], answers: int) -> Filters:
    """What is done to any answer, in order."""
    filters: Filters = []
    if rules_thinking(body.get("grammar")):
        filters.append(ThinkingAsText)
    elif body.get("reasoning_format") != "none":
        filters.append(partial(ThinkTagFilter, answers))
    if body.get("continue_final_message") and not body.get("echo") and not body.get("stream"):
        begun = fitted.messages[-1].get("content")
        filters.append(partial(WithoutPrefill, begun if isinstance(begun, str) else ""))
    if holds_broken(fitted.messages):
        filters.append(BrokenTokenFilter)
    if fitted.params.get("top_logprobs") == 0 and body.get("logprobs"):
        filters.append(WithoutTopLogprobs)
    if fitted.loop_limit is not None and not is_limited(body) and any(body.get(name) for name in CONSTRAINTS):
        filters.append(partial(LoopFilter, fitted.loop_limit))
    return filters


def _watch(settings: ServerSettings, request: ChatRequest) -> ThinkingWatch | None:
    seconds, control = request.max_thinking_seconds, request.thinking_control
    if seconds is None and control is None:
        return None
    return ThinkingWatch(seconds, control, lambda reply_id: _end_thinking(settings, reply_id, request.model))


def _end_thinking(settings: ServerSettings, reply_id: str, model: str | None) -> Program[None]:
    """`end_reasoning` on behalf of a running stream, which goes on whatever comes of it."""
    patience = min(_CONTROL_PATIENCE, settings.read_timeout or _CONTROL_PATIENCE)
    once = settings.replace(read_timeout=patience, max_retries=0, wait_while_loading=False, wait_while_refused=False)
    try:
        yield from end_reasoning(once, reply_id, model)
    except LlamaServerError as error:
        warn_once(f"could not end the reasoning of a reply, so it continues: {error.server_message or error.message}")
