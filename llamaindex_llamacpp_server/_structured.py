"""Structured output in LlamaIndex's four forms. The attempts are made in `llamacpp_server.integration`."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator, Mapping
from contextlib import aclosing, closing, contextmanager
from types import TracebackType
from typing import Any, cast

import llama_index.core.instrumentation as instrument
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, MessageRole, ThinkingBlock, ToolCallBlock
from llama_index.core.instrumentation.events.llm import LLMStructuredPredictEndEvent, LLMStructuredPredictStartEvent
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.program.utils import FlexibleModel, create_flexible_model, get_program_for_llm
from llama_index.core.prompts import BasePromptTemplate, ChatPromptTemplate
from llama_index.core.types import Model, PydanticProgramMode
from pydantic import BaseModel, Field, ValidationError
from pydantic_core import from_json

from llamacpp_server import BadRequestError, ChatChoice, LlamaServerError, ToolCall, UnfitAnswerError
from llamacpp_server.integration import (
    CONSTRAINTS,
    LADDER,
    Ask,
    Attempts,
    says_thinking,
    schema_grammar,
)

from ._errors import UnusableReplyError
from ._structured_llm import StreamingStructuredLLM

__all__ = ["NativeStructuredOutput"]

dispatcher = instrument.get_dispatcher(__name__)  # type: ignore[attr-defined]  # how every integration gets it

# What the core's programs take from `llm_kwargs`: they choose tools, and here there are none.
_OF_PROGRAMS = ("tool_required", "tool_choice", "allow_parallel_tool_calls")

Partial = Any
"""An object that is still incomplete: of the model class once it validates, a `FlexibleModel` before."""


class NativeStructuredOutput(FunctionCallingLLM):
    """The structured methods of an LLM whose server takes a JSON schema.

    `pydantic_program_mode=DEFAULT` is the native way; other modes are LlamaIndex's programs.
    """

    schema_in_prompt: bool = False
    """Show the model the JSON schema, in the system message: the grammar alone never shows what the fields mean, but
    small models answer worse with it.
    """
    repair_rounds: int = Field(default=1, ge=0)
    """How often an answer that does not fit its class is asked for again; streams are not asked again."""

    @dispatcher.span
    def structured_predict(
        self,
        output_cls: type[Model],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Model:
        """An object of `output_cls`.

        Raises:
            UnusableReplyError: When the reply was cut off, or does not validate.
        """
        if not self._is_native():
            return cast(Model, super().structured_predict(output_cls, prompt, dict(llm_kwargs or {}), **prompt_args))
        _started(output_cls, prompt, prompt_args)
        messages = self._get_messages(prompt, **prompt_args)
        attempts = self._attempts(output_cls, llm_kwargs, self.repair_rounds)
        with _naming(output_cls):
            while not attempts.done:
                try:
                    response = self.chat(_asked(messages, attempts.ask), **_held(output_cls, attempts.ask, llm_kwargs))
                except LlamaServerError as error:
                    with _as_unusable:
                        attempts.refused(error)
                else:
                    _record_answer(attempts, response)
        return _ended(attempts.value)

    @dispatcher.span
    async def astructured_predict(
        self,
        output_cls: type[Model],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Model:
        """Async version of `structured_predict`."""
        if not self._is_native():
            prompt = self._with_system_prompt(prompt, prompt_args)
            found = await super().astructured_predict(output_cls, prompt, dict(llm_kwargs or {}), **prompt_args)
            return cast(Model, found)
        _started(output_cls, prompt, prompt_args)
        messages = self._get_messages(prompt, **prompt_args)
        attempts = self._attempts(output_cls, llm_kwargs, self.repair_rounds)
        with _naming(output_cls):
            while not attempts.done:
                try:
                    held = _held(output_cls, attempts.ask, llm_kwargs)
                    response = await self.achat(_asked(messages, attempts.ask), **held)
                except LlamaServerError as error:
                    with _as_unusable:
                        attempts.refused(error)
                else:
                    _record_answer(attempts, response)
        return _ended(attempts.value)

    def _structured_stream_call(
        self,
        output_cls: type[Model],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Generator[Partial, None, None]:
        if not self._is_native():
            program = get_program_for_llm(output_cls, prompt, self, **self._program_options())
            return program.stream_call(llm_kwargs=dict(llm_kwargs or {}), **prompt_args)
        messages = self._get_messages(prompt, **prompt_args)
        attempts = self._attempts(output_cls, llm_kwargs, 0)

        def ask() -> Generator[ChatResponse, None, None]:
            return self.stream_chat(messages, **_held(output_cls, attempts.ask, llm_kwargs))

        return _partials(ask, attempts, output_cls)

    async def _structured_astream_call(
        self,
        output_cls: type[Model],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> AsyncGenerator[Partial, None]:
        if not self._is_native():
            program = get_program_for_llm(output_cls, prompt, self, **self._program_options())
            return await program.astream_call(llm_kwargs=dict(llm_kwargs or {}), **prompt_args)
        messages = self._get_messages(prompt, **prompt_args)
        attempts = self._attempts(output_cls, llm_kwargs, 0)

        async def ask() -> AsyncGenerator[ChatResponse, None]:
            return await self.astream_chat(messages, **_held(output_cls, attempts.ask, llm_kwargs))

        return _apartials(ask, attempts, output_cls)

    def as_structured_llm(self, output_cls: type[BaseModel], **kwargs: Any) -> StreamingStructuredLLM:
        """An LLM whose every answer is an object of `output_cls`, in `raw`, and its JSON."""
        return StreamingStructuredLLM(llm=self, output_cls=output_cls, **kwargs)

    def _attempts(
        self, output_cls: type[Model], llm_kwargs: Mapping[str, Any] | None, repair_rounds: int
    ) -> Attempts[Model]:
        given = {**getattr(self, "given", dict)(), **(llm_kwargs or {})}
        thinking = given.get("thinking", getattr(self, "thinking", None)) is not None
        schema = output_cls.model_json_schema()
        address = getattr(self, "base_url", None)
        return Attempts(
            output_cls.__name__,
            LADDER if self.metadata.is_function_calling_model else LADDER[:-1],
            output_cls.model_validate_json,
            schema=schema,
            repair_rounds=repair_rounds,
            thinking_is_given=thinking or says_thinking(given),
            key=(address, getattr(self, "model", None), json.dumps(schema)) if address is not None else None,
            schema_in_prompt=self.schema_in_prompt,
        )

    def _is_native(self) -> bool:
        return self.pydantic_program_mode == PydanticProgramMode.DEFAULT and self.metadata.is_chat_model

    def _uses_functions(self) -> bool:
        return self.pydantic_program_mode == PydanticProgramMode.FUNCTION

    def _program_options(self) -> dict[str, Any]:
        """The core's streaming programs don't pass `tool_required` on, which would leave the call to chance."""
        options: dict[str, Any] = {"pydantic_program_mode": self.pydantic_program_mode}
        return {**options, "tool_choice": "required"} if self._uses_functions() else options

    def _with_system_prompt(self, prompt: BasePromptTemplate, prompt_args: Mapping[str, Any]) -> BasePromptTemplate:
        """The core's awaited function program forgets the system prompt."""
        if not (self.system_prompt and self._uses_functions()):
            return prompt
        return ChatPromptTemplate(
            message_templates=self._extend_messages(prompt.format_messages(llm=self, **prompt_args))
        )


def _held(output_cls: type[BaseModel], ask: Ask, llm_kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    """The caller's keyword arguments, and the schema in place of any other constraint."""
    given = {name: value for name, value in (llm_kwargs or {}).items() if name not in _OF_PROGRAMS}
    given |= dict.fromkeys(CONSTRAINTS)
    if ask.thinking is not None:
        given["thinking"] = ask.thinking
    schema, name = output_cls.model_json_schema(), output_cls.__name__
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


def _asked(messages: list[ChatMessage], ask: Ask) -> list[ChatMessage]:
    if ask.correction is None:
        return messages
    before, words = ask.correction
    return [
        *messages,
        ChatMessage(role=MessageRole.ASSISTANT, content=before),
        ChatMessage(role=MessageRole.USER, content=words),
    ]


def _record_answer(attempts: Attempts[Model], response: ChatResponse, *, complete: bool = True) -> None:
    """Tells how it went.

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


def _partials(
    ask: Callable[[], Generator[ChatResponse, None, None]], attempts: Attempts[Model], output_cls: type[Model]
) -> Generator[Partial, None, None]:
    reader, response = _PartialReader(output_cls), None
    with _naming(output_cls):
        while response is None:
            try:
                with closing(ask()) as responses:
                    for response in responses:
                        if (partial := reader.read(response)) is not None:
                            yield partial
                break
            except LlamaServerError as error:
                if response is not None:
                    raise
                attempts.refused(error)
        if response is not None:
            _record_answer(attempts, response, complete=False)
            yield attempts.value


async def _apartials(
    ask: Callable[[], Awaitable[AsyncGenerator[ChatResponse, None]]], attempts: Attempts[Model], output_cls: type[Model]
) -> AsyncGenerator[Partial, None]:
    reader, response = _PartialReader(output_cls), None
    with _naming(output_cls):
        while response is None:
            try:
                async with aclosing(await ask()) as responses:
                    async for response in responses:
                        if (partial := reader.read(response)) is not None:
                            yield partial
                break
            except LlamaServerError as error:
                if response is not None:
                    raise
                attempts.refused(error)
        if response is not None:
            _record_answer(attempts, response, complete=False)
            yield attempts.value


class _PartialReader:
    """JSON as far as it has come -> an object, whenever there is more of it than before."""

    def __init__(self, output_cls: type[BaseModel]) -> None:
        self._output_cls = output_cls
        self._flexible: type[FlexibleModel] = create_flexible_model(output_cls)
        self._last: Any = None

    def read(self, response: ChatResponse) -> BaseModel | None:
        if not response.delta and not response.message.additional_kwargs.get("tool_calls"):
            return None
        try:
            data = from_json(_said(response.message), allow_partial="trailing-strings")
        except ValueError:
            return None
        if not isinstance(data, dict) or data == self._last:
            return None
        self._last = data
        try:
            return self._output_cls.model_validate(data)
        except ValidationError:
            return self._flexible.model_validate(data)


def _said(message: ChatMessage) -> str:
    """The JSON so far: the arguments of a call, or the text."""
    for block in message.blocks:
        if isinstance(block, ToolCallBlock):
            return _arguments(block.tool_kwargs)
    return message.content or ""


def _started(output_cls: type[BaseModel], prompt: BasePromptTemplate, prompt_args: Mapping[str, Any]) -> None:
    dispatcher.event(
        LLMStructuredPredictStartEvent(output_cls=output_cls, template=prompt, template_args=dict(prompt_args))
    )


def _ended(output: Model) -> Model:
    dispatcher.event(LLMStructuredPredictEndEvent(output=output))
    return output


@contextmanager
def _naming(output_cls: type[BaseModel]) -> Iterator[None]:
    """A refused request says which class its schema was made from."""
    try:
        yield
    except BadRequestError as error:
        error.message += f" (requested with the JSON schema of {output_cls.__name__})"
        raise
