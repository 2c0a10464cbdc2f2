"""`CacheReport`: a callback that reports the prompt cache usage of each turn, and its limits."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, LLMResult

from llamacpp_server import ChatRequest, LlamaServerError, Timings, Usage
from llamacpp_server.diagnostics import CacheReport as CoreCacheReport
from llamacpp_server.diagnostics import Recording, recording_of, with_thinking

from ._messages import to_wire
from ._tools import wire_tools

if TYPE_CHECKING:
    from .chat_models import ChatLlamaServer
else:  # hints resolve at runtime too
    ChatLlamaServer = Any

__all__ = ["CacheReport"]

# What of a call changes its prompt.
_RENDERED = ("tools", "tool_choice", "parallel_tool_calls", "thinking", "chat_template_kwargs", "reasoning_effort",
             "cache_salt", "model")  # fmt: skip


class CacheReport(CoreCacheReport, BaseCallbackHandler):
    """Report about each turn: prompt tokens, reused tokens, tokens processed again, and the first change.

    Examples:
        >>> report = CacheReport(llm)  # doctest: +SKIP
        >>> agent.invoke(..., {"callbacks": [report], "configurable": {"thread_id": "1"}})  # doctest: +SKIP
        >>> print(report)  # doctest: +SKIP

    Pass it in a call's `callbacks` or to the model (`ChatLlamaServer(callbacks=[report])`). Sessions are identified by
    LangGraph's `thread_id` or a `session` in the call's metadata, and by their messages. Streamed chunks cause no extra
    work; `print` and `turns` may have the server render prompts.

    Args:
        llm: Renders prompts, for equal requests whose prompts may differ; None compares only requests.
        recording: File that receives each turn as a line, for `llamacpp-server doctor`. It contains the texts of the
            conversations, but no keys or addresses; None records nothing.
    """

    # In a thread of its own each token of an awaited stream would be handed over to it.
    run_inline = True
    ignore_agent = ignore_chain = ignore_retriever = ignore_custom_event = True

    def __init__(
        self, llm: ChatLlamaServer | None = None, *, recording: str | os.PathLike[str] | Recording | None = None
    ) -> None:
        render = None if llm is None else lambda request: llm.client.apply_template(request)
        super().__init__(render, recording_of(recording, llm))
        self._llm = llm
        self._running: dict[UUID, tuple[list[BaseMessage], Mapping[str, Any], str | None]] = {}

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Record a request."""
        named = metadata or {}
        session = named.get("session", named.get("thread_id"))
        params = kwargs.get("invocation_params") or {}
        self._running[run_id] = (messages[0], params, None if session is None else str(session))

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Discard a failed call; a recording gets its kind."""
        if self._running.pop(run_id, None) and self.recording is not None and isinstance(error, LlamaServerError):
            self.recording.error(error)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        """Record the turn."""
        started = self._running.pop(run_id, None)
        generation = response.generations[0][0] if response.generations and response.generations[0] else None
        if started is None or not isinstance(generation, ChatGeneration):
            return
        messages, params, session = started
        reply = generation.message
        if isinstance(reply, AIMessage) and (timings := reply.response_metadata.get("timings")):
            self.add_counts(self._request(messages, params), _usage(reply), Timings(**timings), session)

    def _request(self, messages: list[BaseMessage], params: Mapping[str, Any]) -> ChatRequest:
        given = {name: params[name] for name in _RENDERED if params.get(name) is not None}
        if self._llm is None:
            return ChatRequest(messages=to_wire(messages), tools=wire_tools(given.get("tools") or (), None))
        return self._llm._prepare(messages, None, given, self._llm.known_server_info()).request


def _usage(reply: AIMessage) -> Usage | None:
    usage = reply.usage_metadata
    if usage is None:
        return None
    thought = usage.get("output_token_details", {}).get("reasoning")
    said = len(reply.text) + sum(len(str(call["args"])) for call in reply.tool_calls)
    found = Usage(usage["input_tokens"], usage["output_tokens"], reasoning_tokens=thought)
    return with_thinking(found, len(reply.additional_kwargs.get("reasoning_content") or ""), said)
