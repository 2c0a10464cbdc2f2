"""`CacheReport`: prompt cache usage of each turn, from LlamaIndex's events."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Self

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, ThinkingBlock, ToolCallBlock
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]  # it is their public name
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events import BaseEvent
from llama_index.core.instrumentation.events.exception import ExceptionEvent
from llama_index.core.instrumentation.events.llm import LLMChatEndEvent, LLMChatStartEvent
from llama_index.core.instrumentation.events.span import (  # type: ignore[attr-defined]
    SpanDropEvent,
)
from pydantic import PrivateAttr

from llamacpp_server import ChatRequest, LlamaServerError, Timings, Usage
from llamacpp_server.diagnostics import CacheReport as CoreCacheReport
from llamacpp_server.diagnostics import Recording, recording_of, with_thinking
from llamacpp_server.integration import warn_once

from ._messages import to_wire
from ._tools import tool_dict
from .llms import LlamaServer

__all__ = ["CacheReport"]


class CacheReport(CoreCacheReport):
    """Report about each turn: prompt tokens, reused tokens, tokens processed again, and the first change.

    Examples:
        >>> with CacheReport(llm) as report:  # doctest: +SKIP
        ...     await agent.run("How is the weather?", memory=memory)
        >>> print(report)  # doctest: +SKIP

    It records the whole process within the `with` block, or between `start` and `stop`. Sessions are identified by a
    `session` in the tags (`with instrument_tags({"session": "1"}): ...`), and by their messages: runs of a workflow
    that share a memory are one session. Streamed chunks cause no extra work; `print` and `turns` may have the server
    render prompts.

    Args:
        llm: Renders prompts, for equal requests whose prompts may differ; None compares only requests.
        recording: File that receives each turn as a line, for `llamacpp-server doctor`. It contains the texts of the
            conversations, but no keys or addresses; None records nothing.
    """

    def __init__(
        self, llm: LlamaServer | None = None, *, recording: str | os.PathLike[str] | Recording | None = None
    ) -> None:
        render = None if llm is None else lambda request: llm.client.apply_template(request)
        super().__init__(render, recording_of(recording, llm))
        self._llm = llm
        self._running: dict[str | None, Mapping[str, Any]] = {}
        self._handler = _Handler(self._note)

    def start(self) -> Self:
        """Start recording turns."""
        get_dispatcher().add_event_handler(self._handler)
        return self

    def stop(self) -> None:
        """Stop recording; recorded turns are kept."""
        handlers = get_dispatcher().event_handlers
        handlers[:] = [handler for handler in handlers if handler is not self._handler]

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.stop()

    def _note(self, event: BaseEvent) -> None:
        if isinstance(event, LLMChatStartEvent):
            self._running[event.span_id] = event.additional_kwargs
        elif isinstance(event, ExceptionEvent | SpanDropEvent):
            began = self._running.pop(event.span_id, None) is not None
            # A span that is dropped has only the text of its error, which is being handled just now.
            error = event.exception if isinstance(event, ExceptionEvent) else sys.exc_info()[1]
            if began and self.recording is not None and isinstance(error, LlamaServerError):
                self.recording.error(error)
        elif isinstance(event, LLMChatEndEvent):
            given = self._running.pop(event.span_id, {})
            details = event.response.additional_kwargs if event.response is not None else {}
            if timings := details.get("timings"):
                written = details.get("completion_tokens") or 0
                usage = Usage(tokens, written) if (tokens := details.get("prompt_tokens")) is not None else None
                session = event.tags.get("session")
                request = self._request(event.messages, given)
                usage = _with_thinking(usage, event.response)
                self.add_counts(request, usage, Timings(**timings), None if session is None else str(session))

    def _request(self, messages: Sequence[ChatMessage], given: Mapping[str, Any]) -> ChatRequest:
        if self._llm is not None:
            call = dict(given)
            defaults = self._llm._defaults(**self._llm.request_fields(call))
            return defaults.chat_request(messages, call, self._llm.known_server_info())
        tools = [tool_dict(tool) for tool in given.get("tools") or ()]
        return ChatRequest(messages=to_wire(messages, replay_thinking=True), tools=tools)


def _with_thinking(usage: Usage | None, response: ChatResponse | None) -> Usage | None:
    blocks = response.message.blocks if response is not None else []
    thought = sum(len(block.content or "") for block in blocks if isinstance(block, ThinkingBlock))
    calls = sum(len(str(block.tool_kwargs)) for block in blocks if isinstance(block, ToolCallBlock))
    said = len(response.message.content or "") if response is not None else 0
    return with_thinking(usage, thought, said + calls)


_HEARD = (LLMChatStartEvent, LLMChatEndEvent, ExceptionEvent, SpanDropEvent)


class _Handler(BaseEventHandler):
    _note: Any = PrivateAttr()

    def __init__(self, note: Any) -> None:
        super().__init__()
        self._note = note

    def handle(self, event: BaseEvent, **kwargs: Any) -> None:
        """Pass on the events that start and end an answer; those of chunks are ignored."""
        if isinstance(event, _HEARD):
            try:
                self._note(event)
            except Exception as error:  # noqa: BLE001 (LlamaIndex drops all errors of handlers without a word)
                warn_once(f"the cache report is missing a turn: {type(error).__name__}: {error}")
