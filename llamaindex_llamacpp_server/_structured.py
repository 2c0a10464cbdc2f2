"""Structured output on the server's own JSON schema, in all the ways that LlamaIndex asks for it."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import llama_index.core.instrumentation as instrument
from llama_index.core.base.llms.types import ChatMessage, ChatResponse
from llama_index.core.instrumentation.events.llm import LLMStructuredPredictEndEvent, LLMStructuredPredictStartEvent
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.program.utils import FlexibleModel, create_flexible_model, get_program_for_llm
from llama_index.core.prompts import BasePromptTemplate, ChatPromptTemplate
from llama_index.core.types import Model, PydanticProgramMode
from pydantic import BaseModel, Field, ValidationError
from pydantic_core import from_json

from llamacpp_server import BadRequestError

from ._errors import UnusableReplyError, why_it_ended

__all__ = ["NativeStructuredOutput"]

dispatcher = instrument.get_dispatcher(__name__)  # type: ignore[attr-defined]  # how every integration gets it

# What the core's programs take from `llm_kwargs`: they choose tools, and here there are none.
_OF_PROGRAMS = ("tool_required", "tool_choice", "allow_parallel_tool_calls")
_IN_PROMPT = "Answer with JSON only, that follows this JSON schema:\n"

Partial = Any
"""An object that is still incomplete: of the model class once it validates, a `FlexibleModel` before."""


class NativeStructuredOutput(FunctionCallingLLM):
    """The structured methods of an LLM whose server takes a JSON schema.

    `pydantic_program_mode=DEFAULT` is the native way; other modes are LlamaIndex's programs.
    """

    schema_in_prompt: bool = Field(
        True,
        description="Put the JSON schema behind the last message as well: the grammar alone "
        "never shows the model what the fields mean.",
    )

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
        messages = self._structured_messages(output_cls, prompt, prompt_args)
        with _naming(output_cls):
            response = self.chat(messages, **_constrained(output_cls, llm_kwargs))
        return _ended(_validated(response, output_cls))

    @dispatcher.span
    async def astructured_predict(
        self,
        output_cls: type[Model],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Model:
        """`structured_predict`, awaited."""
        if not self._is_native():
            prompt = self._with_system_prompt(prompt, prompt_args)
            found = await super().astructured_predict(output_cls, prompt, dict(llm_kwargs or {}), **prompt_args)
            return cast(Model, found)
        _started(output_cls, prompt, prompt_args)
        messages = self._structured_messages(output_cls, prompt, prompt_args)
        with _naming(output_cls):
            response = await self.achat(messages, **_constrained(output_cls, llm_kwargs))
        return _ended(_validated(response, output_cls))

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
        messages = self._structured_messages(output_cls, prompt, prompt_args)
        with _naming(output_cls):
            responses = self.stream_chat(messages, **_constrained(output_cls, llm_kwargs))
        return _partials(responses, output_cls)

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
        messages = self._structured_messages(output_cls, prompt, prompt_args)
        with _naming(output_cls):
            responses = await self.astream_chat(messages, **_constrained(output_cls, llm_kwargs))
        return _apartials(responses, output_cls)

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

    def _structured_messages(
        self, output_cls: type[BaseModel], prompt: BasePromptTemplate, prompt_args: Mapping[str, Any]
    ) -> list[ChatMessage]:
        messages = self._get_messages(prompt, **prompt_args)
        if not self.schema_in_prompt or not messages:
            return messages
        last = messages[-1].model_copy()
        schema = json.dumps(output_cls.model_json_schema(), ensure_ascii=False)
        last.blocks = [*last.blocks, *ChatMessage(content=_IN_PROMPT + schema).blocks]
        return [*messages[:-1], last]


def _constrained(output_cls: type[BaseModel], llm_kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    """The caller's keyword arguments, and the schema in place of any other constraint."""
    given = {name: value for name, value in (llm_kwargs or {}).items() if name not in _OF_PROGRAMS}
    schema = {"name": output_cls.__name__, "schema": output_cls.model_json_schema(), "strict": True}
    constraint = {"type": "json_schema", "json_schema": schema}
    return {**given, "response_format": constraint, "json_schema": None, "grammar": None}


def _validated(response: ChatResponse, output_cls: type[Model]) -> Model:
    """The object that the whole reply holds.

    Raises:
        UnusableReplyError: When it holds none.
    """
    text = response.message.content or ""
    try:
        return output_cls.model_validate_json(text)
    except ValidationError as error:
        finish = response.additional_kwargs.get("finish_reason")
        ended = why_it_ended(finish)
        if finish == "length" and not text.strip():
            ended += " before it began: thinking took all of it"
        raise UnusableReplyError(
            f"the reply is no {output_cls.__name__}; {ended}; its text is {text[:500]!r}",
            remedy="raise max_tokens" if finish == "length" else f"see the cause: {error.error_count()} error(s)",
        ) from error


def _partials(
    responses: Generator[ChatResponse, None, None], output_cls: type[Model]
) -> Generator[Partial, None, None]:
    reader, response = _PartialReader(output_cls), None
    with _naming(output_cls):
        for response in responses:
            if (partial := reader.read(response)) is not None:
                yield partial
    if response is not None:
        yield _validated(response, output_cls)


async def _apartials(
    responses: AsyncGenerator[ChatResponse, None], output_cls: type[Model]
) -> AsyncGenerator[Partial, None]:
    reader, response = _PartialReader(output_cls), None
    with _naming(output_cls):
        async for response in responses:
            if (partial := reader.read(response)) is not None:
                yield partial
    if response is not None:
        yield _validated(response, output_cls)


class _PartialReader:
    """JSON as far as it has come -> an object, whenever there is more of it than before."""

    def __init__(self, output_cls: type[BaseModel]) -> None:
        self._output_cls = output_cls
        self._flexible: type[FlexibleModel] = create_flexible_model(output_cls)
        self._last: Any = None

    def read(self, response: ChatResponse) -> BaseModel | None:
        if not response.delta:
            return None
        try:
            data = from_json(response.message.content or "", allow_partial="trailing-strings")
        except ValueError:
            return None
        if not isinstance(data, dict) or data == self._last:
            return None
        self._last = data
        try:
            return self._output_cls.model_validate(data)
        except ValidationError:
            return self._flexible.model_validate(data)


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
        error.message += f" (asked for with the JSON schema of {output_cls.__name__})"
        raise
