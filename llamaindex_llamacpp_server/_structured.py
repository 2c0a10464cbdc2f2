"""Structured output in LlamaIndex's four forms. The attempts are made in `llamacpp_server.integration`."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Generator, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any

import llama_index.core.instrumentation as instrument
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, MessageRole, ThinkingBlock, ToolCallBlock
from llama_index.core.instrumentation.events.llm import LLMStructuredPredictEndEvent, LLMStructuredPredictStartEvent
from llama_index.core.program.utils import FlexibleModel, create_flexible_model
from llama_index.core.prompts import BasePromptTemplate, ChatPromptTemplate
from llama_index.core.types import Model, PydanticProgramMode
from pydantic import BaseModel, ValidationError

from llamacpp_server import BadRequestError, ChatChoice, LlamaServerError, ToolCall, UnfitAnswerError
from llamacpp_server.integration import (
    CONSTRAINTS,
    LADDER,
    Ask,
    PartialReader,
    StructuredAttempts,
    aread_answer,
    arun_steps,
    attempts_of,
    hides_arguments,
    object_steps,
    read_answer,
    require_all,
    run_steps,
    schema_grammar,
)

from ._errors import UnusableReplyError
from ._metadata import aprobe

if TYPE_CHECKING:
    from .llms import LlamaServer

__all__ = ["Partial", "apartials", "is_native", "partials", "predicted", "program_options", "with_system_prompt"]

dispatcher = instrument.get_dispatcher(__name__)  # type: ignore[attr-defined]  # how every integration gets it

# What the core's programs take from `llm_kwargs`: they choose tools, and here there are none.
_OF_PROGRAMS = ("tool_required", "tool_choice", "allow_parallel_tool_calls")

Partial = Any
"""A partial object: of the model class once it validates, a `FlexibleModel` before."""


def is_native(llm: LlamaServer) -> bool:
    """Whether objects come from the server's schemas; other modes are LlamaIndex's programs."""
    return llm.pydantic_program_mode == PydanticProgramMode.DEFAULT and llm.metadata.is_chat_model


def predicted(
    llm: LlamaServer,
    output_cls: type[Model],
    prompt: BasePromptTemplate,
    llm_kwargs: Mapping[str, Any] | None,
    prompt_args: Mapping[str, Any],
) -> Model:
    """Return an object of `output_cls`, with the schema enforced by the server.

    Raises:
        UnusableReplyError: If the reply was cut off or does not validate.
    """
    messages, attempts = _begin(llm, output_cls, prompt, llm_kwargs, prompt_args)

    @hides_arguments
    def ask(step: Ask) -> ChatResponse:
        return llm.chat(_next_messages(messages, step), **_with_constraint(llm, output_cls, step, llm_kwargs))  # type: ignore[no-any-return]  # decorated

    run_steps(_object_steps(output_cls, attempts), ask)
    return _ended(attempts.value)


async def apredicted(
    llm: LlamaServer,
    output_cls: type[Model],
    prompt: BasePromptTemplate,
    llm_kwargs: Mapping[str, Any] | None,
    prompt_args: Mapping[str, Any],
) -> Model:
    """Async version of `predicted`."""
    await aprobe(llm)  # `metadata` decides which ways there are
    messages, attempts = _begin(llm, output_cls, prompt, llm_kwargs, prompt_args)

    @hides_arguments
    async def ask(step: Ask) -> ChatResponse:
        return await llm.achat(_next_messages(messages, step), **_with_constraint(llm, output_cls, step, llm_kwargs))  # type: ignore[no-any-return]  # decorated

    await arun_steps(_object_steps(output_cls, attempts), ask)
    return _ended(attempts.value)


def partials(
    llm: LlamaServer,
    output_cls: type[Model],
    prompt: BasePromptTemplate,
    llm_kwargs: Mapping[str, Any] | None,
    prompt_args: Mapping[str, Any],
) -> Generator[Partial, None, None]:
    """The object as it grows."""
    messages = llm._get_messages(prompt, **prompt_args)

    @hides_arguments
    def ask(step: Ask) -> Generator[ChatResponse, None, None]:
        return llm.stream_chat(messages, **_with_constraint(llm, output_cls, step, llm_kwargs))  # type: ignore[no-any-return]  # decorated

    return read_answer(_StreamedObject(output_cls, _attempts(llm, output_cls, llm_kwargs, 0)), ask)


async def apartials(
    llm: LlamaServer,
    output_cls: type[Model],
    prompt: BasePromptTemplate,
    llm_kwargs: Mapping[str, Any] | None,
    prompt_args: Mapping[str, Any],
) -> AsyncGenerator[Partial, None]:
    """Async version of `partials`; returns an async generator."""
    await aprobe(llm)
    messages = llm._get_messages(prompt, **prompt_args)

    @hides_arguments
    async def ask(step: Ask) -> AsyncGenerator[ChatResponse, None]:
        return await llm.astream_chat(messages, **_with_constraint(llm, output_cls, step, llm_kwargs))  # type: ignore[no-any-return]  # decorated

    return aread_answer(_StreamedObject(output_cls, _attempts(llm, output_cls, llm_kwargs, 0)), ask)


def _begin(
    llm: LlamaServer,
    output_cls: type[Model],
    prompt: BasePromptTemplate,
    llm_kwargs: Mapping[str, Any] | None,
    prompt_args: Mapping[str, Any],
) -> tuple[list[ChatMessage], StructuredAttempts[Model]]:
    dispatcher.event(
        LLMStructuredPredictStartEvent(output_cls=output_cls, template=prompt, template_args=dict(prompt_args))
    )
    messages = llm._get_messages(prompt, **prompt_args)
    return messages, _attempts(llm, output_cls, llm_kwargs, llm.repair_rounds)


def _attempts(
    llm: LlamaServer, output_cls: type[Model], llm_kwargs: Mapping[str, Any] | None, repair_rounds: int
) -> StructuredAttempts[Model]:
    return attempts_of(
        llm,
        output_cls.__name__,
        LADDER if llm.metadata.is_function_calling_model else LADDER[:-1],
        output_cls.model_validate_json,
        call=llm_kwargs or {},
        schema=_schema_of(llm, output_cls, llm_kwargs),
        repair_rounds=repair_rounds,
        schema_in_prompt=llm.schema_in_prompt,
    )


def _object_steps(output_cls: type[Model], attempts: StructuredAttempts[Model]) -> Generator[Ask, ChatResponse, None]:
    def refused(error: LlamaServerError) -> None:
        with _as_unusable:
            attempts.refused(error)

    with _name_class_in_errors(output_cls):
        yield from object_steps(attempts, partial(_record_answer, attempts), refused)


def program_options(llm: LlamaServer) -> dict[str, Any]:
    """The core's streaming programs don't pass `tool_required` on, so the model might not call the tool."""
    options: dict[str, Any] = {"pydantic_program_mode": llm.pydantic_program_mode}
    return {**options, "tool_choice": "required"} if _uses_functions(llm) else options


def with_system_prompt(
    llm: LlamaServer, prompt: BasePromptTemplate, prompt_args: Mapping[str, Any]
) -> BasePromptTemplate:
    """The prompt with the LLM's system prompt, which the core's async function program omits."""
    if not (llm.system_prompt and _uses_functions(llm)):
        return prompt
    return ChatPromptTemplate(message_templates=llm._extend_messages(prompt.format_messages(llm=llm, **prompt_args)))


def _uses_functions(llm: LlamaServer) -> bool:
    return llm.pydantic_program_mode == PydanticProgramMode.FUNCTION


def _schema_of(llm: LlamaServer, output_cls: type[BaseModel], llm_kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    schema = output_cls.model_json_schema()
    return require_all(schema) if (llm_kwargs or {}).get("strict", llm.strict) else schema


def _with_constraint(
    llm: LlamaServer, output_cls: type[BaseModel], ask: Ask, llm_kwargs: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The caller's keyword arguments, and the schema in place of any other constraint."""
    given = {name: value for name, value in (llm_kwargs or {}).items() if name not in _OF_PROGRAMS}
    given |= dict.fromkeys(CONSTRAINTS)
    if ask.thinking is not None:
        given["thinking"] = ask.thinking
    schema, name = _schema_of(llm, output_cls, llm_kwargs), output_cls.__name__
    if ask.schema_in_prompt and ask.way != "tool":  # which the model sees
        given["schema_in_prompt"] = schema
    if ask.way == "grammar":
        return {**given, "grammar": schema_grammar(schema)}
    if ask.way == "tool":
        about = {"description": schema["description"]} if "description" in schema else {}
        function = {"name": name, **about, "parameters": schema}
        return {**given, "tools": [{"type": "function", "function": function}], "tool_required": True}
    constraint = {"type": "json_schema", "json_schema": {"name": name, "schema": schema, "strict": True}}
    return {**given, "response_format": constraint}


def _next_messages(messages: list[ChatMessage], ask: Ask) -> list[ChatMessage]:
    if ask.correction is None:
        return messages
    before, words = ask.correction
    return [
        *messages,
        ChatMessage(role=MessageRole.ASSISTANT, content=before),
        ChatMessage(role=MessageRole.USER, content=words),
    ]


def _record_answer(attempts: StructuredAttempts[Model], response: ChatResponse, *, complete: bool = True) -> None:
    """Record the outcome.

    Raises:
        UnusableReplyError: When there is no object, and nothing left to try.
    """
    blocks, details = response.message.blocks, response.additional_kwargs
    thoughts = "".join(block.content or "" for block in blocks if isinstance(block, ThinkingBlock))
    calls = tuple(
        ToolCall(block.tool_call_id or "", block.tool_name, _arguments(block.tool_kwargs))
        for block in blocks
        if isinstance(block, ToolCallBlock)
    )
    choice = ChatChoice(response.message.content or "", thoughts, calls, details.get("finish_reason"))
    with _as_unusable:
        attempts.answered(choice, complete=complete, tokens=details.get("completion_tokens"))


class _AsUnusable:
    def __enter__(self) -> None:
        """Nothing to set up."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, UnfitAnswerError) and not isinstance(error, UnusableReplyError):
            raise error.recast(UnusableReplyError) from error.__cause__


_as_unusable = _AsUnusable()


def _arguments(given: Any) -> str:
    return given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)


class _StreamedObject:
    """A streamed object, as a `StreamedAnswer`."""

    def __init__(self, output_cls: type[Model], attempts: StructuredAttempts[Model]) -> None:
        self._output_cls, self._attempts = output_cls, attempts
        self._flexible: type[FlexibleModel] = create_flexible_model(output_cls)
        self._reader: PartialReader[BaseModel] = PartialReader(self._object)
        self._last: ChatResponse | None = None

    def begin(self) -> Ask:
        return self._attempts.ask

    def add(self, response: ChatResponse) -> Iterator[Partial]:
        self._last = response
        if response.delta or response.message.additional_kwargs.get("tool_calls"):
            found = self._reader.read(_json_so_far(response.message))
            if found is not None:
                yield found

    def failed(self, error: LlamaServerError) -> None:
        with _name_class_in_errors(self._output_cls):
            if self._last is not None:
                raise error
            self._attempts.refused(error)

    def end(self) -> Iterator[Partial]:
        if self._last is not None:
            _record_answer(self._attempts, self._last, complete=False)
            yield self._attempts.value

    def _object(self, data: Any) -> BaseModel:
        if not isinstance(data, dict):
            raise ValueError("not an object")
        try:
            return self._output_cls.model_validate(data)
        except ValidationError:
            return self._flexible.model_validate(data)


def _json_so_far(message: ChatMessage) -> str:
    """The JSON so far: the arguments of a call, or the text."""
    for block in message.blocks:
        if isinstance(block, ToolCallBlock):
            return _arguments(block.tool_kwargs)
    return message.content or ""


def _ended(output: Model) -> Model:
    dispatcher.event(LLMStructuredPredictEndEvent(output=output))
    return output


@contextmanager
def _name_class_in_errors(output_cls: type[BaseModel]) -> Iterator[None]:
    """The error of a rejected request names the class of its schema."""
    try:
        yield
    except BadRequestError as error:
        error.message += f" (requested with the JSON schema of {output_cls.__name__})"
        raise
