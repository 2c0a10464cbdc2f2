"""The server's other OpenAI and Anthropic APIs: Responses, Messages and transcriptions.

The server converts their requests to chats, and ignores or refuses anything else (b11549). Fields that it would
silently ignore are corrected here where possible.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from .._history import (
    holds_joiners,
)
from .._replies import (
    BrokenTokenReader,
    EventDecoder,
    fold_transcription,
    messages_event,
    responses_event,
    transcription_event,
)
from .._tools import (
    resolve_tool_choice,
)
from ..errors import BadRequestError
from ..messages import MessagesEvent, MessagesReply, MessagesRequest
from ..progress import Progress
from ..replies import Repair
from ..responses import ResponsesEvent, ResponsesReply, ResponsesRequest
from ..settings import ServerSettings
from ..transcription import TranscriptionEvent
from ..transport import (
    Call,
    Program,
    Work,
    ask,
    begin,
    named,
    stream_reply,
)
from .bodies import parameters
from .inputs import check_request, check_text, wrong_value
from .special_tokens import break_in_items

E = TypeVar("E", ResponsesEvent, MessagesEvent)

_ENDS_OF_RESPONSES: Final = ("response.completed", "response.incomplete", "response.failed")


@dataclass(frozen=True, slots=True)
class _Form(Generic[E]):
    """Description of one of the two APIs.

    Attributes:
        path: Its endpoint.
        items: The field of its messages.
        read: What an event says.
        ends: Whether the reply is whole with an event.
        fold: What events add up to.
    """

    path: str
    items: str
    read: Callable[[Mapping[str, Any]], E]
    ends: Callable[[E], bool]
    fold: Callable[[list[E]], Any]


def stream_response(settings: ServerSettings, request: ResponsesRequest) -> Program[None]:
    """`/v1/responses`."""
    body = {**named(settings, None), **responses_body(request), "stream": True}
    report = settings.on_progress
    if report is not None:
        body["return_progress"] = True

    def watch(events: Sequence[ResponsesEvent]) -> None:
        for event in events:
            if report is not None and event.progress is not None:
                report(Progress.of_prompt(event.progress))

    form = _Form("/v1/responses", "input", responses_event, _ends_response, ResponsesReply.from_events)
    return _stream(settings, request, body, form, None if report is None else watch)


def _ends_response(event: ResponsesEvent) -> bool:
    return event.type in _ENDS_OF_RESPONSES


def count_response_tokens(settings: ServerSettings, request: ResponsesRequest) -> Program[int]:
    """`/v1/responses/input_tokens`."""
    body = {**named(settings, None), **responses_body(request)}
    body, _ = yield from _unforged(settings, request, body, "input")
    return (yield from ask(settings, Call(method="POST", path="/v1/responses/input_tokens", body=body), _input_tokens))


def responses_body(request: ResponsesRequest) -> dict[str, Any]:
    """The body of `/v1/responses`."""
    check_request(request, ResponsesRequest)
    _check_tools([tool for tool in request.tools if tool.get("type", "function") == "function"])
    body = parameters(request.params)
    body["input"] = request.input if isinstance(request.input, str) else [_item(item) for item in request.input]
    for name in ("instructions", "max_output_tokens", "reasoning", "model"):
        if (value := getattr(request, name)) is not None:
            body[name] = value
    functions = [tool for tool in request.tools if tool.get("type", "function") == "function"]
    if tools := _chosen(functions, request.tool_choice, body):
        body["tools"] = [{"type": "function", **tool} for tool in tools]
        if request.parallel_tool_calls is not None:
            body["parallel_tool_calls"] = request.parallel_tool_calls
    answer = (request.text or {}).get("format")
    if answer is not None and answer.get("type") != "text":
        inner = {name: value for name, value in answer.items() if name != "type"}
        body["response_format"] = {"type": answer["type"], **({"json_schema": inner} if inner else {})}
    return {**body, **request.extra_body}


def _item(item: Mapping[str, Any]) -> Mapping[str, Any]:
    """An input item. A message of the assistant without its type is refused (b11549), though the API allows it."""
    return {"type": "message", **item} if item.get("role") == "assistant" else item


def stream_message(settings: ServerSettings, request: MessagesRequest) -> Program[None]:
    """`/v1/messages`."""
    body = {**named(settings, None), **messages_body(request), "stream": True}
    return _stream(
        settings,
        request,
        body,
        _Form("/v1/messages", "messages", messages_event, _ends_message, MessagesReply.from_events),
    )


def _ends_message(event: MessagesEvent) -> bool:
    return event.type == "message_stop"


def count_message_tokens(settings: ServerSettings, request: MessagesRequest) -> Program[int]:
    """`/v1/messages/count_tokens`."""
    body = {**named(settings, None), **messages_body(request)}
    body, _ = yield from _unforged(settings, request, body, "messages")
    return (yield from ask(settings, Call(method="POST", path="/v1/messages/count_tokens", body=body), _input_tokens))


def messages_body(request: MessagesRequest) -> dict[str, Any]:
    """The body of `/v1/messages`."""
    check_request(request, MessagesRequest)
    _check_tools(request.tools)
    body: dict[str, Any] = {"messages": [dict(message) for message in request.messages]}
    names = ("max_tokens", "system", "thinking", "temperature", "top_p", "top_k", "chat_template_kwargs", "metadata")
    for name in (*names, "model"):
        if (value := getattr(request, name)) is not None:
            body[name] = value
    if stops := [text for text in request.stop_sequences if text]:
        body["stop_sequences"] = stops
    if tools := _chosen(request.tools, request.tool_choice, body):
        body["tools"] = [dict(tool) for tool in tools]
        # The server reads an object only, and knows no `none`.
        if (word := body.pop("tool_choice", None)) is not None:
            body["tool_choice"] = {"type": "any" if word == "required" else word}
    return {**body, **request.extra_body}


def _stream(
    settings: ServerSettings,
    request: ResponsesRequest | MessagesRequest,
    body: dict[str, Any],
    form: _Form[E],
    watch: Callable[[Sequence[E]], None] | None = None,
) -> Program[None]:
    """Run a request of one of the two APIs, with special tokens broken up, and report that in its answer."""
    delivery = yield from begin(settings, form.path)
    body, repairs = yield from _unforged(settings, request, body, form.items)
    call = Call(method="POST", path=form.path, body=body, takes_slot=True)

    def decoder() -> EventDecoder[E]:
        read = BrokenTokenReader(form.read, repairs) if holds_joiners(body) else form.read
        return EventDecoder(read, form.ends, form.fold)

    yield from stream_reply(delivery, call, decoder, watch=watch)


def _unforged(
    settings: ServerSettings, request: ResponsesRequest | MessagesRequest, body: dict[str, Any], where: str
) -> Program[tuple[dict[str, Any], tuple[Repair, ...]]]:
    """Break up the model's special tokens in the body's items and tools; return the body and the repairs."""
    if not request.break_special_tokens:
        return body, ()
    # What `extra_body` puts in their place is sent as it is.
    given = None if where in request.extra_body else body.get(where)
    tools = [] if "tools" in request.extra_body else body.get("tools", [])
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given or []
    items, tools, repairs = yield from break_in_items(settings, request.model, items, tools, where)
    changed: dict[str, Any] = {"tools": tools} if tools else {}
    if items:
        changed[where] = items[0]["content"] if isinstance(given, str) else items
    return {**body, **changed}, repairs


def _check_tools(tools: Sequence[Mapping[str, Any]]) -> None:
    for number, tool in enumerate(tools):
        check_text(tool.get("name"), f"tools[{number}].name")


def _chosen(tools: Sequence[Mapping[str, Any]], choice: Any, body: dict[str, Any]) -> list[Mapping[str, Any]]:
    """Return the tools to send, and put the tool choice into the body. `none` sends no tools."""
    wanted, word, _, _ = resolve_tool_choice([{"type": "function", "function": {**tool}} for tool in tools], choice)  # type: ignore[typeddict-item]
    if word == "none":
        return []
    if word is not None:
        body["tool_choice"] = word
    names = {tool["function"]["name"] for tool in wanted}
    return [tool for tool in tools if tool["name"] in names]


def _input_tokens(answer: Any) -> int:
    return int(answer["input_tokens"])


def stream_transcription(settings: ServerSettings, audio: bytes | Path, fields: Mapping[str, object]) -> Program[None]:
    """`/v1/audio/transcriptions`. A path is read away from the event loop."""
    if not isinstance(audio, bytes | Path):
        raise wrong_value("audio", "bytes or a Path", audio)
    return _transcription(settings, audio, fields)


def _transcription(settings: ServerSettings, audio: bytes | Path, fields: Mapping[str, object]) -> Program[None]:
    path = "/v1/audio/transcriptions"
    delivery = yield from begin(settings, path)
    recording: bytes = audio if isinstance(audio, bytes) else (yield Work(partial(_bytes_of, audio)))
    boundary = secrets.token_hex(16)
    texts = {**named(settings, None), **_form_fields(fields), "stream": "true"}
    call = Call(
        method="POST",
        path=path,
        body=multipart(boundary, texts, recording),
        content_type=f"multipart/form-data; boundary={boundary}",
        takes_slot=True,
    )
    decoder = partial(EventDecoder, transcription_event, _ends_transcription, fold_transcription)
    yield from stream_reply(delivery, call, decoder)


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadRequestError(f"can't read the audio: {error}") from error


def _form_fields(fields: Mapping[str, object]) -> dict[str, str]:
    return {name: str(value) for name, value in fields.items() if value is not None}


def multipart(boundary: str, fields: Mapping[str, str], file: bytes) -> bytes:
    """Build a form with text fields and one `file`. The server checks the file's content, not its name."""
    heads = [f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n' for name in fields]
    texts = b"".join(
        head.encode() + value.encode() + b"\r\n" for head, value in zip(heads, fields.values(), strict=True)
    )
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="audio"\r\n'
    return (
        texts
        + f"{head}Content-Type: application/octet-stream\r\n\r\n".encode()
        + file
        + f"\r\n--{boundary}--\r\n".encode()
    )


def _ends_transcription(event: TranscriptionEvent) -> bool:
    return event.result is not None
