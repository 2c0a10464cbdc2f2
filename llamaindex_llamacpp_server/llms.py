"""`LlamaServer`: llama-server as a LlamaIndex LLM. Only hooks; conversions are in the other modules of this package."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import llama_index.core.instrumentation as instrument
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    LLMMetadata,
)
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection, default_completion_to_prompt
from llama_index.core.program.utils import get_program_for_llm
from llama_index.core.prompts import BasePromptTemplate
from llama_index.core.tools.types import BaseTool
from llama_index.core.types import Model
from pydantic import BaseModel, Field, PrivateAttr, model_validator

from llamacpp_server import ChatRequest, Fit, InfillRequest, PromptRead, ServerSettings
from llamacpp_server.integration import (
    ChatFields,
    ContextBudget,
    ReadAs,
    default_value,
    hides_arguments,
    list_of,
    on_event_loop,
)

from ._arguments import LLM, LLMNames, constructor_arguments
from ._context import Transcripts
from ._events import announcing, has_listeners, with_events
from ._metadata import aprobe, described, facts, info_at_once, probe
from ._responses import (
    ChatState,
    CompletionState,
    chat_response,
    chat_to_completion,
    completion_response,
    completion_to_chat,
)
from ._streams import amapped, aresponses, mapped, responses
from ._structured import (
    Partial,
    apartials,
    apredicted,
    is_native,
    partials,
    predicted,
    program_options,
    with_system_prompt,
)
from ._structured_llm import StreamingStructuredLLM
from ._tools import selections, tool_dict, with_user_message
from ._turns import ChatDefaults, count_arguments, user_message, with_system_message

if TYPE_CHECKING:
    from llama_index.core.chat_engine.types import AgentChatResponse

    from llamacpp_server import AsyncLlamaServerClient, LlamaServerClient
else:  # hints resolve at runtime too, and the import stays quick
    AgentChatResponse = AsyncLlamaServerClient = LlamaServerClient = Any

__all__ = ["LlamaServer"]

dispatcher = instrument.get_dispatcher(__name__)  # type: ignore[attr-defined]  # how every integration gets it


class LlamaServer(LLMNames, ChatFields, FunctionCallingLLM):
    """LlamaIndex LLM backed by a llama-server.

    Examples:
        >>> llm = LlamaServer(base_url="http://localhost:8080", temperature=0.2)
        >>> llm.complete("Why is the sky blue?").text  # doctest: +SKIP

    Every request field of the server is a field of this class and a keyword of every call; the call's value overrides
    the field, and None in a call uses the server default. Use `extra_body` for fields of newer servers. Calls also
    accept `model`, `thinking`, `tools`, `tool_choice`, `tool_required`, `parallel_tool_calls` and `replay_thinking`.

    `chat` and its variants use the chat endpoint with the model's chat template. `complete` and its variants do too,
    with the prompt as a user message; with `formatted=True`, a `completion_to_prompt` or `is_chat_model=False` they
    send the text unchanged to the completion endpoint.

    Every request streams internally, so cancelling a call releases the server's slot. Errors are those of
    `llamacpp_server`, and `UnusableReplyError` for a reply that does not match the request.
    """

    extra_body: ReadAs[dict[str, Any], Mapping[str, Any] | None] = Field(default_factory=default_value(dict))
    """Request fields that are sent unchanged and override all others."""
    context_window: int | None = Field(default=None, gt=0)
    """Context of one slot, in tokens; None queries the server."""
    is_chat_model: bool = True
    """False for a model without a chat template: everything uses the completion endpoint."""
    is_function_calling_model: bool | None = None
    """Whether the model calls tools; None queries the server's chat template."""
    schema_in_prompt: bool = False
    """Whether to add the JSON schema to the system message. The grammar alone does not show the model what fields mean,
    but small models answer worse with the schema in the prompt.
    """
    strict: bool = False
    """Whether to require every property of classes and tool arguments, as OpenAI's API does: more fields are right, but
    fields without a known value are invented.
    """
    repair_rounds: int = Field(default=1, ge=0)
    """Maximum retries of an answer that does not match its class; streams are not retried."""
    replay_thinking: bool = True
    """Whether to send the model's earlier reasoning back to it."""
    context_budget: ContextBudget | None = None
    """Fraction of a slot's context to keep chat prompts within, by the server's own count: old tool results are removed
    and the oldest messages summarized first. None sends prompts unchanged.
    """

    _transcripts = PrivateAttr(default_factory=Transcripts)

    @classmethod
    def class_name(cls) -> str:
        """The name used in serialized form."""
        return "LlamaServer"

    @model_validator(mode="before")
    @classmethod
    def _take_other_names(cls, values: Any) -> Any:
        return constructor_arguments(LLM, values, cls)

    def server_settings(self) -> ServerSettings:
        """Return the fields as settings of a client, which reports progress to event handlers."""
        settings = super().server_settings()
        report = announcing(settings.on_progress)
        return settings if report is settings.on_progress else settings.replace(on_progress=report)

    def _settings_key(self) -> object:
        return super()._settings_key(), has_listeners()

    # -- what LlamaIndex asks about a model

    @property
    def metadata(self) -> LLMMetadata:
        """The capabilities of the model. Queries the server on first use, for at most two seconds.

        On an event loop it never queries the server and returns what is known so far. Each call of the model, and
        `await llm.aserver_info()`, fills in the rest. Given values take precedence.
        """
        return described(self, info_at_once(self))

    def to_payload(self) -> dict[str, Any]:
        """Return the fields for events and traces, without key and address; sends nothing on an event loop."""
        metadata = facts(self, info_at_once(self))
        named = {"model": metadata["model_name"], "temperature": None}
        return {"class_name": self.class_name(), **metadata, **named, **self.given()}

    # -- chat

    @with_events(llm_chat_callback())
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer a conversation.

        Raises:
            BadRequestError: For an unknown keyword or an invalid message.
            MissingToolCallError: If a required tool call is missing.
        """
        return self._chat(messages, kwargs)

    @with_events(llm_chat_callback())
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Async version of `chat`."""
        return await self._achat(messages, kwargs)

    @with_events(llm_chat_callback())
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Stream the answer: each item holds the message so far, the last one also usage and timings."""
        return self._stream_chat(messages, kwargs)

    @with_events(llm_chat_callback())
    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """Async version of `stream_chat`; returns an async generator."""
        return await self._astream_chat(messages, kwargs)

    # -- completion

    @with_events(llm_completion_callback())
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answer a prompt; with `formatted=True`, continue the text without the chat template.

        With `suffix="..."`, fill the gap between prompt and suffix, which requires a model with fill-in-the-middle
        tokens; `input_extra` adds other files, as pairs of file name and text.
        """
        text = self._raw_prompt(prompt, formatted or kwargs.get("suffix") is not None)
        if text is None:
            return chat_to_completion(self._chat(user_message(prompt), kwargs))
        client = self._raw_client()
        return completion_response(client.complete(self._defaults().completion(text, kwargs)))

    @with_events(llm_completion_callback())
    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Async version of `complete`."""
        text = self._raw_prompt(prompt, formatted or kwargs.get("suffix") is not None)
        if text is None:
            return chat_to_completion(await self._achat(user_message(prompt), kwargs))
        client = await self._araw_client()
        return completion_response(await client.complete(self._defaults().completion(text, kwargs)))

    @with_events(llm_completion_callback())
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        """Stream `complete`: each item holds the text so far, the last one also usage and timings."""
        text = self._raw_prompt(prompt, formatted or kwargs.get("suffix") is not None)
        if text is None:
            return mapped(self._stream_chat(user_message(prompt), kwargs), chat_to_completion)
        request = self._defaults().completion(text, kwargs)
        client = self._raw_client()
        return responses(client.stream_complete(request), CompletionState())

    @with_events(llm_completion_callback())
    async def astream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseAsyncGen:
        """Async version of `stream_complete`; returns an async generator."""
        text = self._raw_prompt(prompt, formatted or kwargs.get("suffix") is not None)
        if text is None:
            return amapped(await self._astream_chat(user_message(prompt), kwargs), chat_to_completion)
        request = self._defaults().completion(text, kwargs)
        client = await self._araw_client()
        return aresponses(client.stream_complete(request), CompletionState())

    # -- code

    @hides_arguments
    def infill(
        self,
        prefix: str,
        suffix: str,
        *,
        prompt: str = "",
        extra: Sequence[tuple[str, str]] = (),
        **kwargs: Any,
    ) -> CompletionResponse:
        """Fill in the middle between a prefix and a suffix; requires a model with fill-in-the-middle tokens.

        Args:
            prefix: Text before the gap.
            suffix: Text after the gap.
            prompt: Start of the answer.
            extra: Other files for context, as pairs of file name and text.
            **kwargs: As in `complete`.
        """
        request = self._defaults().infill(prefix, suffix, prompt, extra, kwargs)
        return self._infill(prefix, request)  # type: ignore[no-any-return]  # decorated

    @hides_arguments
    async def ainfill(
        self,
        prefix: str,
        suffix: str,
        *,
        prompt: str = "",
        extra: Sequence[tuple[str, str]] = (),
        **kwargs: Any,
    ) -> CompletionResponse:
        """Async version of `infill`."""
        request = self._defaults().infill(prefix, suffix, prompt, extra, kwargs)
        return await self._ainfill(prefix, request)  # type: ignore[no-any-return]  # decorated

    @llm_completion_callback()
    def _infill(self, prompt: str, request: InfillRequest) -> CompletionResponse:
        return completion_response(self._raw_client().infill(request))

    @llm_completion_callback()
    async def _ainfill(self, prompt: str, request: InfillRequest) -> CompletionResponse:
        return completion_response(await (await self._araw_client()).infill(request))

    # -- tools

    @hides_arguments
    def _prepare_chat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        tool_choice: str | Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        return {
            "messages": with_user_message(user_msg, chat_history),
            "tools": [tool_dict(tool) for tool in list_of(tools, "tools")],
            "tool_choice": tool_choice,
            "tool_required": tool_required,
            "parallel_tool_calls": allow_parallel_tool_calls,
            **kwargs,
        }

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **kwargs: Any
    ) -> list[ToolSelection]:
        """Return the tool calls of a response or of any chunk of a stream.

        Raises:
            UnusableReplyError: If there are none and `error_on_no_tool_call` is set.
        """
        return selections(response, error_on_no_tool_call=error_on_no_tool_call)

    @hides_arguments
    def predict_and_call(self, tools: Sequence[BaseTool], *args: Any, **kwargs: Any) -> AgentChatResponse:
        """Have the model choose a tool, and call it; a model without tool support uses LlamaIndex's ReAct agent.

        Args:
            tools: The available tools.
            *args: As in LlamaIndex: `user_msg`, `chat_history`, `verbose`.
            **kwargs: As in LlamaIndex, or request fields. ReAct also accepts `react_chat_formatter` and
                `output_parser`.

        Raises:
            UnusableReplyError: If there is no call; with ReAct, LlamaIndex returns the text of any error instead.
        """
        return super().predict_and_call(tools, *args, **self._reacting(kwargs))

    @hides_arguments
    async def apredict_and_call(self, tools: Sequence[BaseTool], *args: Any, **kwargs: Any) -> AgentChatResponse:
        """Async version of `predict_and_call`."""
        await aprobe(self)
        return await super().apredict_and_call(tools, *args, **self._reacting(kwargs))

    def _reacting(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """The core passes None for a missing formatter and parser to its agent, which rejects None."""
        if self.metadata.is_function_calling_model:
            return kwargs
        from llama_index.core.agent.react import ReActChatFormatter, ReActOutputParser

        own = {"react_chat_formatter": ReActChatFormatter.from_defaults(), "output_parser": ReActOutputParser()}
        return own | kwargs

    # -- structured output: `pydantic_program_mode=DEFAULT` is the server's way, other modes are LlamaIndex's programs

    @dispatcher.span
    @hides_arguments
    def structured_predict(
        self,
        output_cls: type[Model],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Model:
        """Return an object of `output_cls`.

        Raises:
            UnusableReplyError: If the reply was cut off or does not validate.
        """
        if is_native(self):
            return predicted(self, output_cls, prompt, llm_kwargs, prompt_args)
        return cast(Model, super().structured_predict(output_cls, prompt, dict(llm_kwargs or {}), **prompt_args))

    @dispatcher.span
    @hides_arguments
    async def astructured_predict(
        self,
        output_cls: type[Model],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Model:
        """Async version of `structured_predict`."""
        if is_native(self):
            return await apredicted(self, output_cls, prompt, llm_kwargs, prompt_args)
        prompt = with_system_prompt(self, prompt, prompt_args)
        found = await super().astructured_predict(output_cls, prompt, dict(llm_kwargs or {}), **prompt_args)
        return cast(Model, found)

    @hides_arguments
    def _structured_stream_call(
        self,
        output_cls: type[Model],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Generator[Partial, None, None]:
        if is_native(self):
            return partials(self, output_cls, prompt, llm_kwargs, prompt_args)
        program = get_program_for_llm(output_cls, prompt, self, **program_options(self))
        return program.stream_call(llm_kwargs=dict(llm_kwargs or {}), **prompt_args)

    @hides_arguments
    async def _structured_astream_call(
        self,
        output_cls: type[Model],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> AsyncGenerator[Partial, None]:
        if is_native(self):
            return await apartials(self, output_cls, prompt, llm_kwargs, prompt_args)
        program = get_program_for_llm(output_cls, prompt, self, **program_options(self))
        return await program.astream_call(llm_kwargs=dict(llm_kwargs or {}), **prompt_args)

    def as_structured_llm(self, output_cls: type[BaseModel], **kwargs: Any) -> StreamingStructuredLLM:
        """Return an LLM that answers with an object of `output_cls` in `raw`, and its JSON as text."""
        return StreamingStructuredLLM(llm=self, output_cls=output_cls, **kwargs)

    # -- tokens

    def tokenize(self, text: str) -> list[int]:
        """Tokenize text and return token IDs."""
        return self.client.tokenize(text)

    async def atokenize(self, text: str) -> list[int]:
        """Async version of `tokenize`."""
        return await self.async_client.tokenize(text)

    @hides_arguments
    def count_tokens(
        self, messages: Sequence[ChatMessage], tools: Sequence[BaseTool | Mapping[str, Any]] = (), **kwargs: Any
    ) -> int:
        """Count the prompt tokens for these messages and tools, using the server's tokenizer."""
        return self.client.count_tokens(self._request(messages, {"tools": tools, **kwargs}))

    @hides_arguments
    async def acount_tokens(
        self, messages: Sequence[ChatMessage], tools: Sequence[BaseTool | Mapping[str, Any]] = (), **kwargs: Any
    ) -> int:
        """Async version of `count_tokens`."""
        return await self.async_client.count_tokens(await self._arequest(messages, {"tools": tools, **kwargs}))

    @hides_arguments
    def fits(
        self,
        messages: Sequence[ChatMessage],
        tools: Sequence[BaseTool | Mapping[str, Any]] = (),
        max_tokens: int | None = None,
        **kwargs: Any,
    ) -> Fit:
        """Check whether a prompt and its answer fit in the context; generates nothing.

        Args:
            messages: The conversation.
            tools: The tools of the request.
            max_tokens: Tokens reserved for the answer; None uses the model's `max_tokens`, else one token.
            **kwargs: As in `chat`.

        Raises:
            NotSupportedError: If the server does not report its context.
        """
        return self.client.fits(self._request(messages, count_arguments(tools, max_tokens, kwargs)))

    @hides_arguments
    async def afits(
        self,
        messages: Sequence[ChatMessage],
        tools: Sequence[BaseTool | Mapping[str, Any]] = (),
        max_tokens: int | None = None,
        **kwargs: Any,
    ) -> Fit:
        """Async version of `fits`."""
        return await self.async_client.fits(await self._arequest(messages, count_arguments(tools, max_tokens, kwargs)))

    # -- the prompt cache

    @hides_arguments
    def prewarm(
        self,
        system: str | None = None,
        tools: Sequence[BaseTool | Mapping[str, Any]] = (),
        *,
        messages: Sequence[ChatMessage] = (),
        **kwargs: Any,
    ) -> PromptRead:
        """Load a prompt into the server's cache ahead of time, such as an agent's at program start.

        Args:
            system: The agent's system prompt.
            tools: The agent's tools, in its order.
            messages: A conversation to be continued.
            **kwargs: Parameters of the later calls that change their prompt, such as `thinking`.

        Returns:
            The tokens of the prompt, and how many of them came from the cache.
        """
        request = self._request(with_system_message(system, messages), {"tools": tools, **kwargs})
        return self.client.prewarm(request)

    @hides_arguments
    async def aprewarm(
        self,
        system: str | None = None,
        tools: Sequence[BaseTool | Mapping[str, Any]] = (),
        *,
        messages: Sequence[ChatMessage] = (),
        **kwargs: Any,
    ) -> PromptRead:
        """Async version of `prewarm`."""
        request = await self._arequest(with_system_message(system, messages), {"tools": tools, **kwargs})
        return await self.async_client.prewarm(request)

    # -- the same without callbacks, so that every public path has one pair of events

    def _chat(self, messages: Sequence[ChatMessage], kwargs: Mapping[str, Any]) -> ChatResponse:
        if not self.is_chat_model:
            request = self._defaults().completion(self._text_of(messages), kwargs)
            client = self._raw_client()
            return completion_to_chat(completion_response(client.complete(request)))
        messages, context = self._transcripts.within(self, messages, kwargs)
        return chat_response(self.client.chat(self._request(messages, kwargs)), context)

    async def _achat(self, messages: Sequence[ChatMessage], kwargs: Mapping[str, Any]) -> ChatResponse:
        if not self.is_chat_model:
            request = self._defaults().completion(self._text_of(messages), kwargs)
            client = await self._araw_client()
            return completion_to_chat(completion_response(await client.complete(request)))
        messages, context = await self._transcripts.awithin(self, messages, kwargs)
        return chat_response(await self.async_client.chat(await self._arequest(messages, kwargs)), context)

    def _stream_chat(self, messages: Sequence[ChatMessage], kwargs: Mapping[str, Any]) -> ChatResponseGen:
        if not self.is_chat_model:
            request = self._defaults().completion(self._text_of(messages), kwargs)
            client = self._raw_client()
            return mapped(responses(client.stream_complete(request), CompletionState()), completion_to_chat)
        messages, context = self._transcripts.within(self, messages, kwargs)
        return responses(self.client.stream_chat(self._request(messages, kwargs)), ChatState(context))

    async def _astream_chat(self, messages: Sequence[ChatMessage], kwargs: Mapping[str, Any]) -> ChatResponseAsyncGen:
        if not self.is_chat_model:
            request = self._defaults().completion(self._text_of(messages), kwargs)
            client = await self._araw_client()
            return amapped(aresponses(client.stream_complete(request), CompletionState()), completion_to_chat)
        messages, context = await self._transcripts.awithin(self, messages, kwargs)
        return aresponses(self.async_client.stream_chat(await self._arequest(messages, kwargs)), ChatState(context))

    # -- requests

    def _defaults(self, **request_fields: Any) -> ChatDefaults:
        return ChatDefaults(
            params=self.given(),
            extra_body=self.extra_body,
            thinking=self.thinking,
            request_fields=request_fields,
            replay_thinking=self.replay_thinking,
            loop_limit=self.loop_limit,
            strict=self.strict,
            split_n=self.split_n,
        )

    def _request(self, messages: Sequence[ChatMessage], kwargs: Mapping[str, Any]) -> ChatRequest:
        call = dict(kwargs)
        return self._defaults(**self.request_fields(call)).chat_request(messages, call, probe(self))

    async def _arequest(self, messages: Sequence[ChatMessage], kwargs: Mapping[str, Any]) -> ChatRequest:
        call = dict(kwargs)
        return self._defaults(**self.request_fields(call)).chat_request(messages, call, await aprobe(self))

    def _raw_client(self) -> LlamaServerClient:
        """The client for a prompt without a template; queries the server if `metadata` could not (on an event loop)."""
        if on_event_loop():
            probe(self)
        return self.client

    async def _araw_client(self) -> AsyncLlamaServerClient:
        """Async version of `_raw_client`."""
        await aprobe(self)
        return self.async_client

    def _raw_prompt(self, prompt: str, formatted: bool) -> str | None:
        """The text for the completion endpoint; None if the prompt is sent as a user message."""
        if formatted:
            return prompt
        own = self.completion_to_prompt not in (None, default_completion_to_prompt)
        if self.is_chat_model and not own:
            return None
        return self.completion_to_prompt(prompt) if self.completion_to_prompt is not None else prompt

    def _text_of(self, messages: Sequence[ChatMessage]) -> str:
        assert self.messages_to_prompt is not None  # noqa: S101 (the base class sets it)
        return self.messages_to_prompt(messages)
