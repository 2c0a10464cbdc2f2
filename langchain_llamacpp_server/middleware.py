"""`LlamaServerMiddleware`: keeps an agent's prompts within a budget, counted by the server."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final, NotRequired, TypedDict, cast

from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage, RemoveMessage, ToolMessage
from langchain_core.messages.utils import get_buffer_string

from llamacpp_server import Fit
from llamacpp_server.integration import (
    TRIMMED,
    Compacted,
    Compaction,
    ContextBudget,
    Count,
    Steps,
    Summarize,
    arun_steps,
    compaction,
    run_steps,
    shortened,
)

from ._errors import langchain_errors
from .chat_models import ChatLlamaServer

try:
    from langchain.agents.middleware import (
        AgentMiddleware,
        AgentState,
        ExtendedModelResponse,
        ModelRequest,
        ModelResponse,
        SummarizationMiddleware,
    )
    from langchain.agents.middleware.types import PrivateStateAttr
    from langchain.agents.structured_output import OutputToolBinding, ToolStrategy
    from langgraph.types import Command
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "LlamaServerMiddleware needs LangChain's agents: pip install langchain", name=error.name
    ) from error

if TYPE_CHECKING:
    from langchain.agents.middleware.summarization import Summarizer
else:  # hints resolve at runtime too
    Summarizer = Any

__all__ = ["LlamaServerMiddleware"]

Handler = Callable[[ModelRequest[Any]], ModelResponse[Any]]
AsyncHandler = Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]

# Where the prompt is counted before its summary is written.
_STAND_IN: Final = HumanMessage("Here is a summary of the conversation to date:")
# A summary asks for less than this part of a slot; the rest is for what frames it and its answer.
_FEWEST_CHARACTERS: Final = 200


class Record(TypedDict):
    """A thread's compaction, by message IDs, since positions change if others edit the thread."""

    summary: list[AnyMessage]
    covered: str | None
    trimmed: list[str]


class LlamaServerState(AgentState[Any]):
    """State of an agent, with the form in which its conversation is sent."""

    llama_server_context: NotRequired[Annotated[Record | None, PrivateStateAttr]]


class LlamaServerMiddleware(AgentMiddleware[LlamaServerState, Any, Any]):
    """Keep an agent's prompts within a budget of the slot's context, by the server's own count.

    Before each model call the whole prompt is counted (system message, tools, chat template). If it exceeds the budget,
    old tool results are removed from the request, and if that is not enough, LangChain's own `SummarizationMiddleware`
    summarizes the oldest messages. The thread keeps every message; the compaction is part of the agent's state, so that
    later calls start with the same prompt and can use the prompt cache.

    Examples:
        >>> from langchain.agents import create_agent  # doctest: +SKIP
        >>> agent = create_agent(llm, tools, middleware=[LlamaServerMiddleware()])  # doctest: +SKIP

    A compaction is logged, and the answer has `response_metadata["context"]`: messages summarized, tool results
    removed, and the tokens of the prompt before and after. Models other than `ChatLlamaServer` (such as a fallback)
    receive the unchanged thread.

    Args:
        limit: Maximum tokens of prompt and answer: a fraction of the slot's context, or a number of tokens.
        target: Maximum fraction of the budget for the prompt after a compaction.
        answer_tokens: Tokens reserved for the answer; None uses the model's `max_tokens`, else an eighth of the
            context.
        summary_tokens: Maximum tokens of a summary; None means an eighth of the context, at most 512.
        keep_tool_results: Number of the newest tool results that are never removed.
        summarizer: As in `SummarizationMiddleware`; None uses the agent's model.
        summary_prompt: As in `SummarizationMiddleware`; None uses LangChain's.

    Raises:
        ContextOverflowError: From a model call, if no compaction makes its prompt small enough; also an instance of
            LangChain's class.
    """

    state_schema = LlamaServerState

    def __init__(
        self,
        *,
        limit: float = 0.9,
        target: float = 0.5,
        answer_tokens: int | None = None,
        summary_tokens: int | None = None,
        keep_tool_results: int = 2,
        summarizer: Summarizer | None = None,
        summary_prompt: str | None = None,
    ) -> None:
        super().__init__()
        self.budget = ContextBudget(limit, target, answer_tokens, summary_tokens, keep_tool_results)
        self._summarizing: dict[str, Any] = {"summarizer": summarizer}
        if summary_prompt is not None:
            self._summarizing["summary_prompt"] = summary_prompt

    def wrap_model_call(self, request: ModelRequest[Any], handler: Handler) -> ModelResponse[Any]:
        """Compact the prompt if it exceeds its budget, then call the model."""
        model = request.model
        if not isinstance(model, ChatLlamaServer):
            return handler(request)
        thread = _Thread.of(request)

        def carry_out(step: Count[BaseMessage] | _Parts) -> Any:
            if isinstance(step, Count):
                return model.fits(**_counted(request, step))
            return step.middleware().before_model(step.state(), request.runtime)

        with langchain_errors:
            sent = run_steps(thread.steps(self.budget, partial(self._summarize, model, thread)), carry_out)
        return _model_response(handler(request.override(messages=sent.messages)), sent, thread)

    async def awrap_model_call(self, request: ModelRequest[Any], handler: AsyncHandler) -> ModelResponse[Any]:
        """Async version of `wrap_model_call`."""
        model = request.model
        if not isinstance(model, ChatLlamaServer):
            return await handler(request)
        thread = _Thread.of(request)

        async def carry_out(step: Count[BaseMessage] | _Parts) -> Any:
            if isinstance(step, Count):
                return await model.afits(**_counted(request, step))
            return await step.middleware().abefore_model(step.state(), request.runtime)

        with langchain_errors:
            sent = await arun_steps(thread.steps(self.budget, partial(self._summarize, model, thread)), carry_out)
        return _model_response(await handler(request.override(messages=sent.messages)), sent, thread)

    def _summarize(
        self, model: ChatLlamaServer, thread: _Thread, step: Summarize, summary: list[AnyMessage]
    ) -> Generator[Count[BaseMessage] | _Parts, Any, list[AnyMessage] | None]:
        messages = [*summary, *thread.messages[step.start : step.end]]
        writer = model.model_copy(update={"max_tokens": min(step.tokens, model.max_tokens or step.tokens)})
        parts = _Parts(writer, messages, max(map(_length, messages), default=0), self._summarizing)
        while not _leaves_room((yield Count(parts.prompt(), {})), step.tokens):
            if parts.longest <= _FEWEST_CHARACTERS:
                # A summarizer of the program may take more than the model does.
                if step.is_divisible and self._summarizing["summarizer"] is None:
                    return None
                break
            parts = replace(parts, longest=parts.longest // 2)
        return _summary_messages((yield parts))


@dataclass(frozen=True, slots=True)
class _Thread:
    """A thread's messages, and the form and summary with which they were last sent."""

    messages: Sequence[AnyMessage]
    form: Compaction
    summary: list[AnyMessage]

    @classmethod
    def of(cls, request: ModelRequest[Any]) -> _Thread:
        """The thread of a request."""
        record, form = _recalled(cast("Record | None", request.state.get("llama_server_context")), request.messages)
        return cls(request.messages, form, record["summary"])

    def steps(
        self,
        budget: ContextBudget,
        summarize: Callable[[Summarize, list[AnyMessage]], Generator[Any, Any, list[AnyMessage] | None]],
    ) -> Steps[AnyMessage, list[AnyMessage]]:
        """Program: count and summarize as needed, and return the messages to send."""
        roles = [_ROLES.get(message.type, "user") for message in self.messages]
        return compaction(roles, (self.form, self.summary), budget, self.formed, [_STAND_IN], summarize)

    def formed(self, form: Compaction, summary: Sequence[AnyMessage]) -> list[AnyMessage]:
        """The thread in the form in which it is sent."""
        kept = [
            message.model_copy(update={"content": TRIMMED, "artifact": None}) if index in form.trimmed else message
            for index, message in enumerate(self.messages)
            if index >= form.start
        ]
        return [*summary, *kept] if form.start else kept

    def record(self, sent: Compacted[AnyMessage, list[AnyMessage]]) -> Record:
        """State to remember."""
        covered = self.messages[sent.form.start - 1].id if sent.form.start else None
        trimmed = [str(self.messages[at].id) for at in sorted(sent.form.trimmed)]
        return Record(summary=sent.summary, covered=covered, trimmed=trimmed)


@dataclass(frozen=True, slots=True)
class _Parts:
    """Input of a summary: the messages, each truncated to `longest` characters so that they fit."""

    model: ChatLlamaServer
    messages: list[AnyMessage]
    longest: int
    options: dict[str, Any]

    def middleware(self) -> SummarizationMiddleware[Any, Any]:
        """LangChain's summarizer, set so that it summarizes all but the last message whenever it is asked."""
        return SummarizationMiddleware(
            self.model,
            trigger=("messages", 1),
            keep=("messages", 1),
            trim_tokens_to_summarize=None,
            **{name: value for name, value in self.options.items() if value is not None},
        )

    def prompt(self) -> list[BaseMessage]:
        """About what the summarizer sends."""
        text = get_buffer_string(self._shortened_messages(), format="xml")
        return [HumanMessage(self.middleware().summary_prompt.format(messages=text))]

    def state(self) -> Any:
        """The state that the summarizer is given."""
        return {"messages": [*self._shortened_messages(), HumanMessage("-")]}

    def _shortened_messages(self) -> list[AnyMessage]:
        return [_shortened(message, self.longest) for message in self.messages]


_ROLES: Final = {"human": "user", "ai": "assistant", "tool": "tool", "system": "system"}


def _leaves_room(fit: Fit, answer: int) -> bool:
    """Whether the prompt of a summary leaves room for it."""
    return fit.prompt_tokens + min(answer, fit.available // 4) <= fit.available


def _length(message: AnyMessage) -> int:
    """Characters of the longest part of a message: its text, or the arguments of a call."""
    calls = message.tool_calls if isinstance(message, AIMessage) else []
    return max(len(message.text), *(len(_json(call["args"])) for call in calls), 0)


def _json(arguments: dict[str, Any]) -> str:
    return json.dumps(arguments, ensure_ascii=False, default=str)


def _shortened(message: AnyMessage, most: int) -> AnyMessage:
    changes = dict[str, Any]()
    if (text := shortened(message.text, most)) != message.text:
        changes["content"] = text
    if isinstance(message, AIMessage) and message.tool_calls and _length(message) > most:
        changes["tool_calls"] = [
            {**call, "args": {"arguments": shortened(_json(call["args"]), most)}} for call in message.tool_calls
        ]
    return message.model_copy(update=changes) if changes else message


def _counted(request: ModelRequest[Any], step: Count[BaseMessage]) -> dict[str, Any]:
    """Arguments of `fits` for the prompt of a request, with its system message and tools.

    `create_agent` adds the tools of a structured answer only later.
    """
    if step.options is not None:
        return {"messages": step.messages, **step.options}
    system = [] if request.system_message is None else [request.system_message]
    tools: list[Any] = list(request.tools)
    if isinstance(request.response_format, ToolStrategy):
        tools += [OutputToolBinding.from_schema_spec(spec).tool for spec in request.response_format.schema_specs]
    return {"messages": [*system, *step.messages], "tools": tools, **request.model_settings}


def _recalled(record: Record | None, thread: Sequence[AnyMessage]) -> tuple[Record, Compaction]:
    """State of a thread as positions in it; empty if the last summarized message is gone."""
    nothing = Record(summary=[], covered=None, trimmed=[])
    if record is None:
        return nothing, Compaction()
    places = {message.id: index for index, message in enumerate(thread) if message.id is not None}
    if record["covered"] is not None and record["covered"] not in places:
        return nothing, Compaction()
    start = 0 if record["covered"] is None else places[record["covered"]] + 1
    trimmed = {places[name] for name in record["trimmed"] if name in places}
    return record, Compaction(
        start, frozenset(at for at in trimmed if at >= start and isinstance(thread[at], ToolMessage))
    )


def _summary_messages(update: dict[str, Any] | None) -> list[AnyMessage]:
    """The messages that the summarizer puts before those it keeps (the last one, which was ours)."""
    messages = [] if update is None else update["messages"]
    return [message for message in messages[:-1] if not isinstance(message, RemoveMessage)]


def _model_response(
    response: Any, sent: Compacted[AnyMessage, list[AnyMessage]], thread: _Thread
) -> ModelResponse[Any]:
    """The model's answer, with what changed of the prompt."""
    if sent.report is None:
        return cast("ModelResponse[Any]", response)
    inner = response.model_response if isinstance(response, ExtendedModelResponse) else response
    for message in [inner] if isinstance(inner, AIMessage) else inner.result:
        if isinstance(message, AIMessage):
            message.response_metadata["context"] = sent.report
    if isinstance(inner, AIMessage):
        inner = ModelResponse(result=[inner])
    # What an inner middleware wrote into the state stays; an outer one composes with both.
    earlier = response.command if isinstance(response, ExtendedModelResponse) else None
    update = {**((earlier.update or {}) if earlier is not None else {}), "llama_server_context": thread.record(sent)}
    command: Command[Any] = Command(update=update) if earlier is None else replace(earlier, update=update)
    return cast("ModelResponse[Any]", ExtendedModelResponse(model_response=inner, command=command))
