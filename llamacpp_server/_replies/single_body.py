"""Convert unstreamed replies to the deltas that a stream would have had."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import Any, Generic, TypeVar

from pydantic_core import from_json, to_json

from ..errors import LlamaServerError, MalformedReplyError
from ..replies import ChatDelta, CompletionDelta, Repair, ToolCallFragment
from .failures import event_failure, not_this_api
from .parse import chat_reply, completion_reply
from .stream import MAX_EVENT_BYTES, StreamDecoder

D = TypeVar("D", ChatDelta, CompletionDelta)
S = TypeVar("S")


class _BodyDecoder(Generic[D]):
    """Keep the bytes until the end, then return one delta for each choice."""

    is_done = False
    over: bool = False

    def __init__(self, repairs: tuple[Repair, ...] = ()) -> None:
        self._body = bytearray()
        self._repairs = repairs

    def feed(self, data: bytes) -> list[D]:
        """Return nothing: the reply is not complete yet.

        Raises:
            MalformedReplyError: When it is absurdly long; an endless one would fill the memory.
        """
        self._body += data
        if len(self._body) > MAX_EVENT_BYTES:
            raise MalformedReplyError(f"the response is longer than {MAX_EVENT_BYTES} bytes")
        return []

    def close(self) -> list[D]:
        """The whole reply, as one delta for each choice.

        Raises:
            LlamaServerError: When the body is not a reply.
        """
        body = bytes(self._body)
        try:
            wire = from_json(body)
            if not (isinstance(wire, dict) and wire.get("error")):
                return self._read(wire)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):
            raise not_this_api(body, "", "") from None
        raise event_failure(wire["error"])

    def with_partial(self, error: LlamaServerError) -> LlamaServerError:
        """`error` as it is: half a JSON text says nothing."""
        return error

    @abstractmethod
    def _read(self, wire: Any) -> list[D]: ...


class ChatBodyDecoder(_BodyDecoder[ChatDelta]):
    """The answer of `/v1/chat/completions` without `stream`."""

    def _read(self, wire: Any) -> list[ChatDelta]:
        reply = chat_reply(wire)
        deltas = []
        for number, choice in enumerate(reply.choices):
            calls = tuple(ToolCallFragment(i, c.id, c.name, c.arguments) for i, c in enumerate(choice.tool_calls))
            deltas.append(
                ChatDelta(
                    choice.content, choice.reasoning_content, calls, choice.finish_reason, number, choice.logprobs
                )
            )
        deltas[0] = deltas[0]._replace(start=replace(reply.start, repairs=self._repairs))
        deltas[-1] = deltas[-1]._replace(usage=reply.usage, timings=reply.timings, raw=reply.raw)
        return deltas


class CompletionBodyDecoder(_BodyDecoder[CompletionDelta]):
    """The answer of `/v1/completions` or of a native endpoint without `stream`."""

    def _read(self, wire: Any) -> list[CompletionDelta]:
        reply = completion_reply(wire)
        deltas = [
            CompletionDelta(choice.text, choice.tokens, choice.finish_reason, number, choice.logprobs, raw=choice.raw)
            for number, choice in enumerate(reply.choices)
        ]
        deltas[0] = deltas[0]._replace(start=replace(reply.start, repairs=self._repairs))
        deltas[-1] = deltas[-1]._replace(usage=reply.usage, timings=reply.timings)
        return deltas


class BodyAsStream(Generic[S]):
    """A decoder of a stream that may get one JSON text instead, as some gateways send that do not stream.

    Args:
        decoder: Decodes the events of the stream that was asked for.
    """

    def __init__(self, decoder: StreamDecoder[S]) -> None:
        self._decoder = decoder
        self._body: bytearray | None = bytearray()

    @property
    def is_done(self) -> bool:
        """Whether the end mark came."""
        return self._decoder.is_done

    @property
    def over(self) -> bool:
        """Whether no more of the reply is needed."""
        return self._decoder.over

    def feed(self, data: bytes) -> list[S]:
        """Deltas that `data` completes: none of a JSON text, which has to be whole.

        Raises:
            MalformedReplyError: When it is absurdly long.
        """
        if self._body is None:
            return self._decoder.feed(data)
        self._body += data
        if len(self._body) > MAX_EVENT_BYTES:
            raise MalformedReplyError(f"the response is longer than {MAX_EVENT_BYTES} bytes")
        start = bytes(self._body[:64]).lstrip()[:1]
        if start in (b"", b"{", b"["):
            return []
        body, self._body = bytes(self._body), None  # events under a wrong name
        return self._decoder.feed(body)

    def close(self) -> list[S]:
        """Deltas that were left; raises when the reply is not at its end."""
        body, self._body = self._body, None
        return [*self._decoder.feed(as_events(bytes(body)) if body else b""), *self._decoder.close()]

    def with_partial(self, error: LlamaServerError) -> LlamaServerError:
        """`error`, with what had arrived attached."""
        return self._decoder.with_partial(error)


def as_events(body: bytes) -> bytes:
    """The events that a stream of this whole reply would have had; what is no reply comes back as it is."""
    try:
        wire = from_json(body)
    except ValueError:
        return body
    items = wire if isinstance(wire, list) else [wire]
    if not items or not all(isinstance(item, dict) and item.keys() & {"choices", "content", "error"} for item in items):
        return body
    events = [b"data: " + to_json(_as_event(item)) + b"\n\n" for item in items]
    return b"".join([*events, b"data: [DONE]\n\n"])


def _as_event(reply: dict[str, Any]) -> dict[str, Any]:
    if "choices" not in reply:
        return {"stop": True, **reply}
    choices = reply["choices"] if isinstance(reply["choices"], list) else [reply["choices"]]
    return {**reply, "choices": [_as_piece(choice) for choice in choices]}


def _as_piece(choice: Any) -> Any:
    if not isinstance(choice, dict) or not isinstance(message := choice.get("message"), dict):
        return choice
    calls = message.get("tool_calls")
    if isinstance(calls, list):
        calls = [{**call, "index": at} if isinstance(call, dict) else call for at, call in enumerate(calls)]
        message = {**message, "tool_calls": calls}
    return {**choice, "delta": message}
