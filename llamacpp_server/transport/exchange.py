"""Programs for a request: generators that do no I/O themselves.

A program yields effects (`Send`, `Read`, `Sleep`, `Work` …), is sent their results, and returns the answer. The two
shells in `shells.py` carry the effects out, one with blocking calls and one with awaits, so that retries, waiting
for a model to load and the making of errors exist once. Programs are put together with `yield from`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, Literal, TypeVar

from pydantic_core import from_json

from .._notices import logger, warn_once
from .._replies import (
    failure,
    is_web_page,
    not_this_api,
)
from ..errors import (
    BadRequestError,
    ConnectionFailedError,
    LlamaServerError,
    NotFoundError,
    NotSupportedError,
    ServerBusyError,
)
from ..progress import Progress
from ..settings import ServerSettings, WaitState, redact_url, without_waits
from .bodies import ACCEPTED, encode
from .call_log import CallNote, note_call, recorded
from .deadlines import FirstToken
from .echoes import hide_echoes
from .effects import Admit, Enter, OpenReply, Program, Read, Send, Sleep, Together
from .gate import Ticket, forget_contexts, gate_for
from .place import Place
from .prompt_size import UNLIMITED, Occupancy, PromptSize, conversation, is_count, token_count, tokens_held
from .recent_failures import RecentFailures, address_in_use, note_answer, note_refusal, other_address
from .retry import RetryState, Wait, crowded_pause, next_wait, overflow_of

T = TypeVar("T")
D = TypeVar("D")


# The server has four HTTP threads more than slots, and its system queues five connections (b11434): beyond that, those
# of a crowd that counts tokens or asks what the model can do would not be taken any more.
_ASIDE: Final = "\0"
_MOST_ASIDE: Final = 4
# What `_total_slots` gives for a router.
_ROUTER: Final = UNLIMITED + 1
_RECENT_FAILURES: Final = RecentFailures()
# How often a request that a shared context had no room for is sent alone: while others run, and when none seem to.
_MOST_ROUNDS: Final = 8
_LONELY_ROUNDS: Final = 3
# Seconds for which a request waits for room beside other processes, and until it looks again, about.
_LONGEST_CROWD: Final = 60.0
_NEXT_LOOK: Final = 0.1
# Prompts whose tokens one request has the server count, where the slots share a context.
_MOST_COUNTED: Final = 16
# Threads, where the server has very many slots or does not tell.
_MOST_AT_ONCE: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request to one endpoint.

    Attributes:
        method: HTTP method.
        path: Path below the server's root, such as `/v1/models`.
        body: Sent as JSON, or as it is where it is bytes; None sends none.
        query: Added to the address.
        takes_slot: Whether the server runs it in a slot; such requests pass the gate.
        content_type: What the body is.
        headers: Further headers.
        first_token: Further limits of the waits for the answer; None sets none.
    """

    method: str
    path: str
    body: object = None
    query: Mapping[str, str] = field(default_factory=dict)
    takes_slot: bool = False
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    first_token: FirstToken | None = None


def open_reply(settings: ServerSettings, call: Call) -> Program[OpenReply]:
    """An answer with status 2xx, after as many waits and repeats as the settings allow.

    Raises:
        LlamaServerError: The error of the last attempt; those before it are in `earlier`.
    """
    send = _request(settings, call)
    tried, earlier = RetryState(), list[LlamaServerError]()
    started, deadline = time.monotonic(), deadline_in(settings.total_timeout)
    while True:
        elapsed = time.monotonic() - started
        try:
            reply, url = yield from _find_server(_bounded(send, deadline, call.first_token), settings, call)
            if 200 <= reply.status_code < 300:
                _RECENT_FAILURES.forget(send.url, send.content)
                note_answer(url, settings)
                return reply
            body = yield Read(reply, deadline)
            raise failure(reply.status_code, reply.headers, body, redact_url(url))
        except LlamaServerError as error:
            hide_echoes(error, settings)
            elapsed = time.monotonic() - started
            if isinstance(error, ConnectionFailedError) and error.reason == "refused":
                note_refusal(settings.base_url)
                forget_contexts(settings.base_url)
            tried.above = tried.above or _RECENT_FAILURES.known(send.url, send.content)
            wait = next_wait(error, tried, elapsed, settings, random.random())  # noqa: S311 (not for secrets)
            if wait is None:
                if tried.retries or tried.resent or tried.above:
                    _RECENT_FAILURES.note(send.url, send.content)
                error.earlier = tuple(earlier)
                raise error.at(redact_url(send.url)) from error.__cause__
            # A wait for a loading model asks hundreds of times for the same answer: keep the first of a kind.
            if not earlier or type(earlier[-1]) is not type(error):
                earlier.append(error.at(redact_url(send.url)).with_traceback(None))
            log_wait(wait, elapsed, settings, first=tried.polls == 1)
        send = replace(send, fresh=tried.resent)
        if wait.seconds:
            yield Sleep(wait.seconds)


def placed_reply(ticket: Ticket, settings: ServerSettings, call: Call) -> Program[OpenReply]:
    """`open_reply` for a call that has its place: sent again, alone, where others filled the context they share.

    Raises:
        ServerBusyError: When other processes kept the context full.
        ContextOverflowError: When it does not fit even alone.
    """
    deadline = deadline_in(settings.total_timeout)
    rounds = 0
    while True:
        try:
            return (yield from open_reply(within(settings, deadline), call))
        except ServerBusyError as error:
            if not (error.shared_context and call.takes_slot):
                raise
            rounds += 1
            crowded = error
            note_crowded(ticket)
        yield from run_alone(ticket, within(settings, deadline), call, crowded, rounds)


def note_crowded(ticket: Ticket) -> None:
    """Take note that the slots of a request's server share one context: from now on the gate counts prompts."""
    if ticket.place.gate is not None:
        ticket.place.gate.note_crowd()


def run_alone(
    ticket: Ticket, settings: ServerSettings, call: Call, error: ServerBusyError, rounds: int
) -> Program[None]:
    """Wait until nothing else of this process runs on the server, and nothing of others as far as it tells.

    The server fails all running requests when their shared context is full (b11434), so they would fail together again.

    Args:
        ticket: Gets a place beside which nothing starts.
        settings: Where the request goes.
        call: It.
        error: What it ended in.
        rounds: How often.

    Raises:
        LlamaServerError: When it ran alone already and that does not help.
    """
    place = ticket.place
    model = str(call.body.get("model", "")) if isinstance(call.body, Mapping) else ""
    if place.alone or rounds > 1:  # a reply begun anew has a new place each time
        if rounds >= _MOST_ROUNDS:
            raise error
        if rounds >= _LONELY_ROUNDS and not (yield from _fits_alone(settings, call, model)):
            raise overflow_of(error)
        yield Sleep(crowded_pause(rounds, random.random()))  # noqa: S311 (not for secrets)
    log_wait(Wait(0.0, "busy"), 0.0, settings, first=rounds == 1)
    gate = place.gate or gate_for(settings.base_url)
    again = Place(model, named_slot(call), 1, session=place.session, prompt=PromptSize(call.body))
    again.alone = True
    yield Enter(ticket, gate, again)
    yield from _granted(ticket, settings, None)
    if gate.crowded_at is not None:
        yield from _room_beside_others(ticket, settings)


def _fits_alone(settings: ServerSettings, call: Call, model: str) -> Program[bool]:
    """Whether a prompt is known to fit, so that requests of other processes must have filled the context.

    Where the server does not count, it is whether it works on something else now.
    """
    once, size = without_waits(settings), PromptSize(call.body)
    yield from _count(once, model, size)
    slots, context = yield from _slots_and_context(settings, None)
    if slots == _ROUTER:
        _, context = yield from _slots_and_context(settings, model)
    if context is not None and size.counted:
        return size.counted < context
    try:
        query = {"model": model} if model else {}
        busy = yield from ask(once, Call(method="GET", path="/slots", query=query), Occupancy.of)
    except LlamaServerError:
        return False
    return busy.running > 0


def _room_beside_others(ticket: Ticket, settings: ServerSettings) -> Program[None]:
    """Wait for a while after a full context until a request fits beside those of other processes."""
    place, once = ticket.place, without_waits(settings)
    until = time.monotonic() + min(_LONGEST_CROWD, settings.total_timeout or _LONGEST_CROWD)
    model = {"model": place.model} if place.model else {}
    while place.prompt is not None and ticket.gate.may_be_crowded() and time.monotonic() < until:
        try:
            crowd = yield from ask(once, Call(method="GET", path="/slots", query=model), Occupancy.of)
        except LlamaServerError:
            return
        ticket.gate.note_tokens(crowd.held)
        if not crowd.running or crowd.has_room(place.prompt):
            return
        if place.prompt.counted is None:
            yield from _count(once, place.model, place.prompt)
        else:
            yield Sleep(_NEXT_LOOK * (0.5 + random.random()))  # noqa: S311 (not for secrets)


def _find_server(send: Send, settings: ServerSettings, call: Call) -> Program[tuple[OpenReply, str]]:
    """The head of the answer and where it came from: the other default port, where nobody named a server."""
    try:
        return (yield from _send(send, settings, call)), _without_query(send.url)
    except ConnectionFailedError as error:
        other = other_address(send.url, settings) if error.reason == "refused" else None
        if other is None:
            raise
        refusal = error
    try:
        return (yield from _send(replace(send, url=other), settings, call)), _without_query(other)
    except ConnectionFailedError as error:
        # With nothing at either port, the error is that of the port which was asked first.
        raise (refusal if error.reason == "refused" else error) from error.__cause__


def _without_query(url: str) -> str:
    """The address for messages and for what is remembered: a query may hold a key, which no frame should show."""
    return url.partition("?")[0]


def _send(send: Send, settings: ServerSettings, call: Call) -> Program[OpenReply]:
    """The head of the answer. What needs no slot has no gate of its own, and must not run the server over."""
    reply: OpenReply
    if call.takes_slot or settings.max_concurrency is None:
        reply = yield send
        return reply
    ticket = Ticket()
    try:
        yield Enter(ticket, gate_for(settings.base_url, _ASIDE), Place(limit=_MOST_ASIDE))
        if not ticket.granted:
            yield Admit(ticket, settings.total_timeout)
        reply = yield send
    finally:
        ticket.place.left = True
        ticket.leave()
    return reply


def ask(
    settings: ServerSettings, call: Call, read: Callable[[Any], T], parse: Callable[[bytes], Any] = from_json
) -> Program[T]:
    """Send `call`, parse its JSON answer with `parse`, and return the result of `read`.

    Raises:
        MalformedReplyError: When it is no JSON, or of a shape that `read` does not know.
    """
    note = note_of(settings, call)
    return (yield from recorded(note, _ask(settings, call, read, parse, note)))


def _ask(
    settings: ServerSettings, call: Call, read: Callable[[Any], T], parse: Callable[[bytes], Any], note: CallNote | None
) -> Program[T]:
    deadline = deadline_in(settings.total_timeout)
    ticket = Ticket()
    try:
        yield from admission(ticket, settings, call)
        reply = yield from placed_reply(ticket, within(settings, deadline), call)
        try:
            body = yield Read(reply, deadline)
        except LlamaServerError as error:
            raise error.at(redact_url(settings.base_url + call.path)) from error.__cause__
    finally:
        ticket.place.left = True
        ticket.leave()
    try:
        wire = parse(body)
        if note is not None:
            note.read_answer(wire)
        return read(wire)
    except (AttributeError, LookupError, TypeError, ArithmeticError, RecursionError, ValueError):
        raise unreadable(settings, call, reply, body) from None


def unreadable(settings: ServerSettings, call: Call, reply: OpenReply, body: bytes) -> LlamaServerError:
    """The error for an answer with status 2xx that is not what the endpoint answers."""
    shown = redact_url(settings.base_url + call.path)
    error = not_this_api(body, reply.headers.get("content-type", ""), shown, reply.status_code)
    hide_echoes(error, settings)
    return error


def note_of(settings: ServerSettings, call: Call, begun: float | None = None) -> CallNote | None:
    """A note of a call for `recorded`; None where it takes no slot, or nothing is recorded.

    Args:
        settings: Where the call goes.
        call: It.
        begun: When it was made, in seconds since 1970; None is now.
    """
    return note_call(settings, call.path, call.body, begun, _described) if call.takes_slot else None


def _described(settings: ServerSettings, model: str) -> Program[dict[str, Any]]:
    """Data about a server for a recording."""
    size, context = yield from _slots_and_context(settings, None)
    is_router = size == _ROUTER
    if is_router:
        size, context = yield from _slots_and_context(settings, model)
    return {"is_router": is_router, "slots": size if is_count(size) else None, "n_ctx": context}


def admission(ticket: Ticket, settings: ServerSettings, call: Call, *, shown: bool = False) -> Program[None]:
    """Wait until `ticket` has a place for `call`. Only what runs in a slot has to wait for one.

    Where the answer is `shown` as it comes, nothing may start beside it that could crowd it out of a shared context.

    The caller makes the ticket before, and gives it back in a `finally`: first by a store, which no interrupt can cut
    in two, and then by `leave`, which lets the next one in:

        ticket.place.left = True
        ticket.leave()
    """
    limit = settings.max_concurrency
    slot = named_slot(call)
    if not call.takes_slot or (limit is None and slot is None):
        return
    deadline = deadline_in(settings.total_timeout)
    model = str(call.body.get("model", "")) if isinstance(call.body, dict | Mapping) else ""
    gate = gate_for(settings.base_url)
    if slot:
        # The server takes the number modulo its slots (b11434), so two numbers may be one slot.
        total = yield from _total_slots(settings, model or None)
        slot = slot % total if total and 0 < total < UNLIMITED else slot
    most, counted = limit if isinstance(limit, int) else None, limit is not None
    kind: Any = {
        "background": settings.priority == "background",
        "session": conversation(call.body),
        "prompt": PromptSize(call.body),
        "shown": shown,
    }
    if shown and most is not None and gate.lacks_context():
        size, context = yield from _slots_and_context(settings, None)
        if size != _ROUTER:
            gate.resize(size, context)
    yield Enter(ticket, gate, Place(model, slot, most, counted, **kind))
    yield from _granted(ticket, settings, None)
    if gate.crowded_at is not None:
        yield from _room_beside_others(ticket, within(settings, deadline))
    if gate.is_router and most is None:
        # Slots are the model's. Who was let in to find that out queues again, in the same order.
        yield Enter(ticket, gate_for(settings.base_url, model), Place(model, slot, most, counted, **kind))
        yield from _granted(ticket, within(settings, deadline), model)


def _granted(ticket: Ticket, settings: ServerSettings, model: str | None) -> Program[None]:
    if ticket.granted:
        return
    yield from _measure(ticket, settings, model)
    if not ticket.granted:
        yield from _make_room(ticket, settings)
    if not ticket.granted:
        begun = time.monotonic()
        _report_slot_wait(settings, 0.0, over=False)
        try:
            yield from _wait_for_place(ticket, settings)
        except LlamaServerError:
            _report_slot_wait(settings, time.monotonic() - begun, over=True)
            raise
        _report_slot_wait(settings, time.monotonic() - begun, over=True)
        yield from _measure(ticket, settings, model)
        yield from _make_room(ticket, settings)


def _report_slot_wait(settings: ServerSettings, elapsed: float, *, over: bool) -> None:
    if settings.on_wait is not None:
        settings.on_wait(WaitState("slot", elapsed, None, redact_url(settings.base_url), over))


def _make_room(ticket: Ticket, settings: ServerSettings) -> Program[None]:
    """Find out whether prompts really have to wait for each other: what is known of them is a bound from their bytes.

    Has the server count their tokens, in the order in which they came; and looks whether its slots hold more than one
    context together, where it is unknown whether they share it.
    """
    gate, place = ticket.gate, ticket.place
    crowd = gate.crowd(_MOST_COUNTED)
    if not crowd:
        return
    once = without_waits(settings)
    model = {"model": place.model} if place.model else {}
    for size in crowd:
        if not size.asked:
            yield from _count(once, place.model, size)
    if gate.shares_context is None and gate.crowd(_MOST_COUNTED):
        try:
            gate.note_tokens((yield from ask(once, Call(method="GET", path="/slots", query=model), tokens_held)))
        except LlamaServerError:
            return
    gate.settle()


def _count(once: ServerSettings, model: str, size: PromptSize) -> Program[None]:
    """Have the server count the tokens of a prompt."""
    size.asked = True
    body = {"content": size.text(), "add_special": True, **({"model": model} if model else {})}
    try:
        size.count((yield from ask(once, Call(method="POST", path="/tokenize", body=body), token_count)))
    except LlamaServerError:
        size.count(None)


def named_slot(call: Call) -> int | None:
    """The slot that a request names; None for one that leaves it to the server."""
    named = call.body.get("id_slot") if isinstance(call.body, dict | Mapping) else None
    return named if isinstance(named, int) and named >= 0 else None


def _wait_for_place(ticket: Ticket, settings: ServerSettings) -> Program[None]:
    deadline = deadline_in(settings.total_timeout)
    while not ticket.granted:
        yield Admit(ticket, within(settings, deadline).total_timeout)
        # The server does not wait for readers: a stream that nobody reads may have left its slot long ago.
        if not ticket.granted and ticket.gate.is_held_up_by_readers(ticket.place):
            if (yield from _is_free(settings, ticket.place)):
                ticket.gate.admit(ticket.place)
            else:
                warn_once(
                    f"a request is waiting for slot {ticket.place.slot}, held by a stream that nobody reads or closes"
                )


def _is_free(settings: ServerSettings, place: Place) -> Program[bool]:
    once = without_waits(settings)
    query = {"model": place.model} if place.model else {}
    try:
        slots = yield from ask(once, Call(method="GET", path="/slots", query=query), list)
    except LlamaServerError:
        return False
    entries = (entry for entry in slots if isinstance(entry, dict))
    return any(entry.get("id") == place.slot and not entry.get("is_processing", True) for entry in entries)


def _measure(ticket: Ticket, settings: ServerSettings, model: str | None) -> Program[None]:
    gate = ticket.gate
    if (settings.max_concurrency == "slots" or gate.shares_context) and gate.should_ask(ticket.place):
        size = context = None
        try:
            size, context = yield from _slots_and_context(settings, model)
        finally:
            gate.is_router = False
            if size == _ROUTER:
                gate.hand_over(partial(gate_for, settings.base_url))
            gate.resize(size, context)


def _total_slots(settings: ServerSettings, model: str | None = None) -> Program[int | None]:
    """The server's slots, or those of a model of a router (which is not loaded for that).

    `UNLIMITED` where it has none to tell of, `_ROUTER` for a router as a whole; None when it could not be asked, or the
    model is not loaded.
    """
    return (yield from _slots_and_context(settings, model))[0]


def _slots_and_context(settings: ServerSettings, model: str | None) -> Program[tuple[int | None, int | None]]:
    """The slots as `_total_slots` has them, and the context of one, where the server tells."""
    once = without_waits(settings)
    query = {} if model is None else {"model": model, "autoload": "false"}
    try:
        props = yield from ask(once, Call(method="GET", path="/props", query=query), dict)
    except (NotFoundError, NotSupportedError, BadRequestError):
        return (UNLIMITED if model is None else None), None
    except LlamaServerError:
        return None, None
    slots, generation = props.get("total_slots"), props.get("default_generation_settings")
    context = generation.get("n_ctx") if isinstance(generation, Mapping) else None
    size = _ROUTER if props.get("role") == "router" else slots if is_count(slots) else UNLIMITED
    return size, context if is_count(context) else None


def side_by_side(settings: ServerSettings, programs: Sequence[Program[T]]) -> Program[list[T]]:
    """The results of programs of which each fills a slot: as many at once as the server has slots.

    Raises:
        LlamaServerError: The error of the first that failed; no further ones are started then.
    """
    if not programs:
        return []
    if len(programs) == 1:
        return [(yield from programs[0])]
    limit = settings.max_concurrency
    slots = limit if isinstance(limit, int) else (yield from _total_slots(settings)) or 1
    results = yield Together(programs, min(slots, len(programs), _MOST_AT_ONCE))
    for result in results:
        if isinstance(result, LlamaServerError):
            raise result
    return results  # type: ignore[no-any-return]  # what a yield gives back has no type


def ask_text(settings: ServerSettings, call: Call) -> Program[str]:
    """The text of the answer to `call`."""
    return (yield from ask_text_and_headers(settings, call))[0]


def ask_text_and_headers(settings: ServerSettings, call: Call) -> Program[tuple[str, Mapping[str, str]]]:
    """The text of the answer to `call`, and its headers, with lower-case lookup."""
    deadline = deadline_in(settings.total_timeout)
    reply = yield from open_reply(settings, call)
    body: bytes = yield Read(reply, deadline)
    kind = reply.headers.get("content-type", "")
    if is_web_page(body, kind):
        raise unreadable(settings, call, reply, body)
    return body.decode("utf-8", "replace"), reply.headers


def named(settings: ServerSettings, model: str | None) -> dict[str, str]:
    """The model for a request, where there is a name: routers demand one, other servers ignore it."""
    name = model if model is not None else settings.model
    if name is None or isinstance(name, str):
        return {} if name is None else {"model": name}
    raise BadRequestError(f"model must be a string, not {type(name).__name__}")


def _request(settings: ServerSettings, call: Call) -> Send:
    url = settings.address(call.path, call.query)
    if address_in_use(settings) != settings.base_url:
        url = other_address(url, settings) or url
    headers = {**settings.request_headers(), **call.headers}
    content = None
    if call.body is not None:
        headers["Content-Type"] = call.content_type
        content = call.body if isinstance(call.body, bytes) else encode(call.body)
    headers["Accept-Encoding"] = ACCEPTED
    patience = settings.connect_timeout, settings.read_timeout
    return Send(call.method, url, headers, content, *patience, verify=settings.verify)


def deadline_in(seconds: float | None) -> float | None:
    """The time on the monotonic clock in some seconds; None sets none."""
    return None if seconds is None else time.monotonic() + seconds


def within(settings: ServerSettings, deadline: float | None) -> ServerSettings:
    """Settings for what is left of the whole time, after a wait for a place."""
    return settings if deadline is None else settings.replace(total_timeout=max(deadline - time.monotonic(), 0.001))


def _bounded(send: Send, deadline: float | None, first: FirstToken | None) -> Send:
    """`send` with no silence allowed that is longer than what is left of the whole time, or for the first token."""
    if first is not None:
        first.sent()
        send = replace(send, read_timeout=first.silence)
        if deadline is None or first.deadline < deadline:
            return replace(send, deadline=first.deadline, limit="first_token_timeout")
    if deadline is None:
        return send
    left = max(deadline - time.monotonic(), 0.001)
    connect, read = (left if limit is None else min(limit, left) for limit in (send.connect_timeout, send.read_timeout))
    return replace(send, connect_timeout=connect, read_timeout=read, deadline=deadline)


def log_wait(wait: Wait, elapsed: float, settings: ServerSettings, *, first: bool) -> None:
    """Report a wait: to the log at first and every ten seconds, to `on_wait` and `on_progress` each time."""
    shown = redact_url(settings.base_url)
    if first or wait.reason in ("busy", "retry") or int(elapsed + wait.seconds) // 10 > int(elapsed) // 10:
        logger.info("%s is %s; waiting (%.0f s so far)", shown, wait.reason, elapsed)
    if settings.on_wait is not None:
        settings.on_wait(WaitState(wait.reason, elapsed, wait.budget, shown))
    if settings.on_progress is not None:
        stage: Literal["loading", "waiting"] = "loading" if wait.reason == "loading" else "waiting"
        settings.on_progress(Progress(stage, elapsed, wait.budget, "seconds", model=settings.model or ""))
