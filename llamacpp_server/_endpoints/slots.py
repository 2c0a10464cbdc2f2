"""Programs that load prompts ahead of time or save them to a file, and report how much was reused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from ..errors import BadRequestError
from ..requests import ChatRequest
from ..results import PromptRead, SlotPrompt
from ..settings import ServerSettings
from ..transport import (
    Call,
    Program,
    Ticket,
    admission,
)
from .inputs import check_chat
from .server import ask_fitted, slot_action

_CHAT: Final = "/v1/chat/completions"
# Some templates refuse a conversation without a user; any words do, they are at the end of what is read.
_OPENER: Final[Any] = {"role": "user", "content": "hi"}


def prewarm(settings: ServerSettings, request: ChatRequest) -> Program[PromptRead]:
    """Process the prompt and generate one token; `max_tokens: 0` would generate one too (b11434)."""
    check_chat(request)
    body = _once(request)
    return (yield from ask_fitted(settings, _CHAT, body, PromptRead.from_wire, takes_slot=True))


def save_prompt(settings: ServerSettings, request: ChatRequest, filename: str, id_slot: int) -> Program[SlotPrompt]:
    """Process the prompt in a slot and save the slot, with no other request of this process in between."""
    check_chat(request)
    ticket = Ticket()
    try:
        yield from admission(ticket, settings, _slot_call(id_slot))
        read = yield from _read_into(settings, request, id_slot)
        saved = yield from slot_action(settings, id_slot, "save", filename, request.model)
    finally:
        ticket.place.left = True
        ticket.leave()
    if saved.n_tokens < read.tokens - 1:
        raise BadRequestError(
            f"slot {id_slot} was saved with {saved.n_tokens} tokens, but the prompt has {read.tokens}: another process "
            "used the slot in between"
        )
    return SlotPrompt(saved, read)


def restore_prompt(settings: ServerSettings, request: ChatRequest, filename: str, id_slot: int) -> Program[SlotPrompt]:
    """Restore a slot and check how much the prompt reuses, with no other request of this process in between."""
    check_chat(request)
    ticket = Ticket()
    try:
        yield from admission(ticket, settings, _slot_call(id_slot))
        restored = yield from slot_action(settings, id_slot, "restore", filename, request.model)
        read = yield from _read_into(settings, request, id_slot)
    finally:
        ticket.place.left = True
        ticket.leave()
    if read.reused < min(restored.n_tokens, read.tokens) / 2 or not restored.n_tokens:
        raise BadRequestError(
            f"restored {restored.n_tokens} tokens from {filename} to slot {id_slot}, but a prompt of {read.tokens} "
            f"could reuse only {read.reused} of them",
            remedy="the prompt must start like the saved one: the same system message, tools in the same order, "
            "the same model and template",
        )
    return SlotPrompt(restored, read)


def _once(request: ChatRequest) -> ChatRequest:
    """The request with one token to generate, for the prompt that an answer would have."""
    roles = [message.get("role") for message in request.messages[-1:]]
    messages = [*request.messages] if roles and roles[0] in ("user", "tool") else [*request.messages, _OPENER]
    params = {name: value for name, value in request.params.items() if name not in ("n_predict", "n")}
    return replace(request, messages=messages, params={**params, "max_tokens": 1})


def _read_into(settings: ServerSettings, request: ChatRequest, id_slot: int) -> Program[PromptRead]:
    """`prewarm` in a slot that the caller holds."""
    named = replace(request, params={**request.params, "id_slot": id_slot})
    return (yield from ask_fitted(settings, _CHAT, _once(named), PromptRead.from_wire))


def _slot_call(id_slot: int) -> Call:
    return Call(method="POST", path=_CHAT, body={"id_slot": id_slot}, takes_slot=True)
