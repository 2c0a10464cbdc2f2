"""The runnable behind `with_structured_output`: requests, validates, and retries if that helps."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing
from typing import Any, cast

from langchain_core.callbacks import AsyncCallbackManagerForChainRun, CallbackManagerForChainRun
from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.runnables import Runnable, RunnableConfig, RunnableSerializable
from langchain_core.runnables.config import patch_config
from langchain_core.runnables.utils import AddableDict
from pydantic import ConfigDict, Field, PrivateAttr

from llamacpp_server import ChatChoice, LlamaServerError, ToolCall, UnfitAnswerError
from llamacpp_server.integration import (
    Ask,
    StructuredAttempts,
    aread_answer,
    arun_steps,
    hides_arguments,
    object_steps,
    read_answer,
    run_steps,
)

from ._errors import unfit
from ._registration import let_load_find
from ._structured import Goal, goal


class _Part(AddableDict):
    """A part of a streamed answer: messages are added, objects replace each other (unlike in LangChain's class)."""

    def __add__(self, other: Mapping[str, Any]) -> _Part:
        return _sum(self, other)

    def __radd__(self, other: Mapping[str, Any]) -> _Part:
        return _sum(other, self)


def _sum(before: Mapping[str, Any], after: Mapping[str, Any]) -> _Part:
    complete = _Part({**before, **after})
    if "raw" in before and "raw" in after:
        complete["raw"] = before["raw"] + after["raw"]
    return complete


class StructuredChain(RunnableSerializable[LanguageModelInput, Any]):
    """A model whose answers are objects.

    `StructuredAttempts` decides how often an answer is requested. A stream that has begun is not requested again.

    A class is dumped as its JSON schema, since a dump must not name code to import. A loaded chain gives dicts.

    Attributes:
        model: The chat model.
        form: The schema as the caller gave it; None for any JSON.
        method: As in `with_structured_output`.
        include_raw: As in `with_structured_output`.
        strict: As in `with_structured_output`.
        options: Parameters of every call.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    name: str | None = "StructuredChain"
    model: Any
    form: Any = None
    method: str = "json_schema"
    include_raw: bool = False
    strict: bool | None = None
    options: dict[str, Any] = Field(default_factory=dict, repr=False)

    _made_goal = cast("Goal | None", PrivateAttr(default=None))

    @property
    def _goal(self) -> Goal:
        if self._made_goal is None:
            self._made_goal = goal(self.model, self.form, self.method, self.strict, self.options)
        return self._made_goal

    def check(self) -> None:
        """Checks its schema and its method.

        Raises:
            BadRequestError: For an unknown method, or no schema where one is needed.
        """
        _ = self._goal

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """Return True: the class can be serialized."""
        return True

    @classmethod
    def get_lc_namespace(cls) -> list[str]:
        """The namespace where `langchain_core.load` finds the class."""
        return [str(__package__), "_structured_chain"]

    def to_json(self) -> Any:
        """The chain as `langchain_core.load` reads it."""
        written = cast(dict[str, Any], super().to_json())
        if isinstance(self.form, type):
            written["kwargs"]["form"] = {"title": self._goal.name, **(self._goal.schema or {})}
        return written

    @property
    def OutputType(self) -> Any:
        """The class of the answers, as far as there is one."""
        # Before Python 3.12 pydantic refuses the TypedDicts of `typing`.
        refused = sys.version_info < (3, 12) and type(self.form).__module__ == "typing"
        if self.include_raw or refused or not isinstance(self.form, type):
            return dict[str, Any]
        return self.form

    def get_output_jsonschema(self, config: RunnableConfig | None = None) -> dict[str, Any]:
        """The JSON schema of the answers."""
        schema = self._goal.schema
        if self.include_raw or schema is None or self.OutputType is self.form:
            return super().get_output_jsonschema(config)
        return schema

    @property
    def config_specs(self) -> list[Any]:
        """Configurable fields of the model."""
        return list(self._goal.bound(self._goal.ways[0]).config_specs)

    @hides_arguments
    def invoke(self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Return the object, with `include_raw` together with the message."""
        return self._call_with_config(self._ask, input, config, **kwargs)

    @hides_arguments
    async def ainvoke(self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Async version of `invoke`."""
        return await self._acall_with_config(self._aask, input, config, **kwargs)

    @hides_arguments
    def stream(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Iterator[Any]:
        """The object as it grows."""
        yield from self._transform_stream_with_config(iter([input]), self._partial_objects, config, **kwargs)

    @hides_arguments
    async def astream(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[Any]:
        """Async version of `stream`."""
        async with aclosing(
            cast(Any, self._atransform_stream_with_config(_only(input), self._apartial_objects, config, **kwargs))
        ) as parts:
            async for part in parts:
                yield part

    # -- streams

    @hides_arguments
    def _partial_objects(
        self,
        inputs: Iterator[LanguageModelInput],
        run_manager: CallbackManagerForChainRun,
        config: RunnableConfig,
        **kwargs: Any,
    ) -> Iterator[Any]:
        (input,) = inputs

        @hides_arguments
        def ask(step: Ask) -> Any:
            return self._model(step).stream(input, config, **kwargs)

        # Not a sequence of runnables: LangChain reads the model's stream to its end when one is left early.
        yield from read_answer(_StreamedObject(self), ask)

    @hides_arguments
    async def _apartial_objects(
        self,
        inputs: AsyncIterator[LanguageModelInput],
        run_manager: AsyncCallbackManagerForChainRun,
        config: RunnableConfig,
        **kwargs: Any,
    ) -> AsyncIterator[Any]:
        input = await anext(inputs)

        @hides_arguments
        async def ask(step: Ask) -> Any:
            return self._model(step).astream(input, config, **kwargs)

        async with aclosing(aread_answer(_StreamedObject(self), ask)) as parts:
            async for part in parts:
                yield part

    # -- whole answers

    @hides_arguments
    def _ask(
        self, given: LanguageModelInput, run_manager: CallbackManagerForChainRun, config: RunnableConfig, **kwargs: Any
    ) -> Any:
        answer = _Answer(self._goal.attempts())
        config = patch_config(config, callbacks=run_manager.get_child())

        @hides_arguments
        def ask(step: Ask) -> Any:
            return self._model(step).invoke(self._messages(given, step), config, **kwargs)

        try:
            run_steps(object_steps(answer.attempts, answer.record), ask)
        except UnfitAnswerError as error:
            return self._unfit(answer, error)
        return self._output(answer)

    @hides_arguments
    async def _aask(
        self,
        given: LanguageModelInput,
        run_manager: AsyncCallbackManagerForChainRun,
        config: RunnableConfig,
        **kwargs: Any,
    ) -> Any:
        answer = _Answer(self._goal.attempts())
        config = patch_config(config, callbacks=run_manager.get_child())

        @hides_arguments
        async def ask(step: Ask) -> Any:
            return await self._model(step).ainvoke(self._messages(given, step), config, **kwargs)

        try:
            await arun_steps(object_steps(answer.attempts, answer.record), ask)
        except UnfitAnswerError as error:
            return self._unfit(answer, error)
        return self._output(answer)

    def _model(self, ask: Ask) -> Runnable[Any, Any]:
        bound = self._goal.bound(ask.way, schema_in_prompt=ask.schema_in_prompt)
        return bound if ask.thinking is None else bound.bind(thinking=ask.thinking)

    def _messages(self, given: LanguageModelInput, ask: Ask) -> Any:
        if ask.correction is None:
            return given
        before, words = ask.correction
        asked: list[BaseMessage] = self._goal.model._convert_input(given).to_messages()
        return [*asked, AIMessage(before), HumanMessage(words)]

    def _unfit(self, answer: _Answer, error: UnfitAnswerError) -> dict[str, Any]:
        """Value to return without an object; raises unless the error is returned next to the message."""
        message = answer.message
        own = unfit(error, message.response_metadata.get("finish_reason") if message is not None else None)
        if self.include_raw and message is not None:
            return {"raw": _with_repairs(message, answer.attempts), "parsed": None, "parsing_error": own}
        raise own from error.__cause__

    def _output(self, answer: _Answer) -> Any:
        if not self.include_raw or answer.message is None:
            return answer.attempts.value
        raw = _with_repairs(answer.message, answer.attempts)
        return {"raw": raw, "parsed": answer.attempts.value, "parsing_error": None}


class _Answer:
    """A complete answer, requested until it is an object.

    Attributes:
        attempts: What to ask.
        message: The last that came; None before.
    """

    def __init__(self, attempts: StructuredAttempts[Any]) -> None:
        self.attempts = attempts
        self.message: AIMessage | None = None

    def record(self, message: AIMessage) -> None:
        """Take a message."""
        self.message = message
        _record_answer(self.attempts, [message])


class _StreamedObject:
    """A streamed object, as a `StreamedAnswer`."""

    def __init__(self, chain: StructuredChain) -> None:
        self._goal, self._with_raw = chain._goal, chain.include_raw
        self._attempts, self._seen = self._goal.attempts(repair_rounds=0), list[AIMessage]()

    def begin(self) -> Ask:
        self._reader = self._goal.reader(self._attempts.ask.way)
        return self._attempts.ask

    def add(self, chunk: AIMessage) -> Iterator[Any]:
        self._seen.append(chunk)
        found = self._reader.read(chunk)
        if self._with_raw:
            yield _Part(raw=chunk)
        if found is not None:
            yield _Part(parsed=found) if self._with_raw else found

    def failed(self, error: LlamaServerError) -> None:
        if self._seen:
            raise error
        self._attempts.refused(error)

    def end(self) -> Iterator[Any]:
        """Return the validated object if it differs from the last one returned."""
        try:
            _record_answer(self._attempts, self._seen, complete=False)
        except UnfitAnswerError as error:
            reasons = [message.response_metadata.get("finish_reason") for message in self._seen]
            own = unfit(error, next((reason for reason in reasons if reason), None))
            if not self._with_raw:
                raise own from error.__cause__
            yield _Part(parsed=None, parsing_error=own)
            return
        value = self._attempts.value
        if not self._reader.gave(value):
            yield _Part(parsed=value) if self._with_raw else value
        if self._with_raw:
            yield _Part(parsing_error=None)


async def _only(input: LanguageModelInput) -> AsyncIterator[LanguageModelInput]:
    yield input


def _record_answer(
    attempts: StructuredAttempts[Any], messages: list[AIMessage], *, complete: bool = True
) -> ChatChoice:
    """Record an answer, given as one message or as its chunks."""
    calls: dict[Any, str] = {}
    reason, tokens, texts, thoughts = None, None, [], []
    for message in messages:
        reason = message.response_metadata.get("finish_reason") or reason
        tokens = message.usage_metadata["output_tokens"] if message.usage_metadata else tokens
        texts.append(str(message.text))
        thoughts.append(message.additional_kwargs.get("reasoning_content") or "")
        if isinstance(message, AIMessageChunk) and message.tool_call_chunks:
            for piece in message.tool_call_chunks:
                calls[piece["index"]] = calls.get(piece["index"], "") + (piece["args"] or "")
        elif not isinstance(message, AIMessageChunk):
            for call in message.tool_calls:
                calls[len(calls)] = json.dumps(call["args"], ensure_ascii=False)
            for broken in message.invalid_tool_calls:
                calls[len(calls)] = broken["args"] or ""
    choice = ChatChoice(
        "".join(texts), "".join(thoughts), tuple(ToolCall("", "", arguments) for arguments in calls.values()), reason
    )
    attempts.answered(choice, complete=complete, tokens=tokens)
    return choice


def _with_repairs(message: AIMessage, attempts: StructuredAttempts[Any]) -> AIMessage:
    """Return the message, with the repairs of the object added to its own."""
    if not attempts.repairs:
        return message
    of_server = message.response_metadata.get("llamacpp") or {}
    repairs = [*(of_server.get("repairs") or []), *(repair.as_dict() for repair in attempts.repairs)]
    metadata = {**message.response_metadata, "llamacpp": {**of_server, "repairs": repairs}}
    return message.model_copy(update={"response_metadata": metadata})


let_load_find(StructuredChain)

__all__ = ["StructuredChain"]
