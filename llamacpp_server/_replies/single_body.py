"""Replies that were asked for in one piece -> the deltas that a stream of them would have had."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import Any, Generic, TypeVar

from pydantic_core import from_json

from ..chat import ChatDelta, CompletionDelta, Repair, ToolCallFragment
from ..errors import LlamaServerError, MalformedReplyError
from .failures import event_failure, not_this_api
from .parse import chat_reply, completion_reply
from .sse import MAX_EVENT_BYTES

D = TypeVar("D", ChatDelta, CompletionDelta)


class _WholeDecoder(Generic[D]):
    """Keeps the bytes until the end, and then gives one delta for each choice."""

    def __init__(self) -> None:
        self._body = bytearray()

    def feed(self, data: bytes) -> list[D]:
        """Nothing yet: the reply is not whole.

        Raises:
            MalformedReplyError: When it is absurdly long; an endless one would fill the memory.
        """
        self._body += data
        if len(self._body) > MAX_EVENT_BYTES:
            raise MalformedReplyError(f"the answer is longer than {MAX_EVENT_BYTES} bytes")
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


class WholeChatDecoder(_WholeDecoder[ChatDelta]):
    """The answer of `/v1/chat/completions` without `stream`."""

    def __init__(self, repairs: tuple[Repair, ...] = ()) -> None:
        super().__init__()
        self._repairs = repairs

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
        deltas[-1] = deltas[-1]._replace(usage=reply.usage, timings=reply.timings)
        return deltas


class WholeCompletionDecoder(_WholeDecoder[CompletionDelta]):
    """The answer of `/v1/completions` or of a native endpoint without `stream`."""

    def _read(self, wire: Any) -> list[CompletionDelta]:
        reply = completion_reply(wire)
        deltas = [
            CompletionDelta(choice.text, choice.tokens, choice.finish_reason, number, choice.logprobs)
            for number, choice in enumerate(reply.choices)
        ]
        deltas[0] = deltas[0]._replace(start=reply.start)
        deltas[-1] = deltas[-1]._replace(usage=reply.usage, timings=reply.timings)
        return deltas
