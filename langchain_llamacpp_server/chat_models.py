"""`ChatLlamaServer`: LangChain's hooks. The logic is in the pure modules of this package."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, closing, suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput, ModelProfile
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    MessageLikeRepresentation,
    SystemMessage,
    convert_to_messages,
)
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableConfig, RunnableSerializable
from langchain_core.runnables.utils import AnyConfigurableField
from pydantic import ConfigDict, Field, PrivateAttr, model_validator

import llamacpp_server
from llamacpp_server import LlamaServerError, ServerInfo, integration
from llamacpp_server.integration import (
    ChatFields,
    ReadAs,
    default_value,
    hides_arguments,
    on_event_loop,
    warn_once,
)
from llamacpp_server.settings import redact_url

from . import _block_translator  # noqa: F401  # the translator registers itself
from ._argument_names import ChatNames
from ._arguments import CHAT
from ._calls import ChatCall, ChatDefaults, count_arguments, prepare, with_system_message
from ._chunks import PROVIDER, StreamConverter, result, with_shares
from ._clients import async_client_for, client_for
from ._errors import langchain_errors
from ._messages import holds_media
from ._parsed import parsed, with_parsed
from ._profile import profile
from ._progress import awithin_run, with_listeners, within_run
from ._registration import let_load_find
from ._server_model import ServerModel, cache_identity, token_ids
from ._tools import wire_tools

if TYPE_CHECKING:
    from llamacpp_server import ChatReply, Fit, PromptRead

    from ._structured import Method
    from ._tools import ToolLike
else:  # `RunnableWithFallbacks` resolves the hints of each method that it passes on, such as `bind_tools`
    ChatReply = Fit = PromptRead = Method = ToolLike = Any

__all__ = ["ChatLlamaServer"]

# A profile is looked up where nobody expects a wait; a server that is slow to answer has none for now.
_PROFILE_IS_PART: Final = (
    "profile was read on an event loop before the server was queried: it has no max_input_tokens "
    "yet; call `await model.aserver_info()` first, or create the agent before the loop runs"
)
_PROFILE_PATIENCE = {"connect_timeout": 2.0, "read_timeout": 5.0}


class ChatLlamaServer(ChatNames, ChatFields, ServerModel, BaseChatModel):
    """Chat model backed by a llama-server. Accepts every ChatOpenAI argument and every field of the server.

    Examples:
        >>> from langchain_llamacpp_server import ChatLlamaServer
        >>> llm = ChatLlamaServer(base_url="http://localhost:8080", temperature=0)
        >>> llm.invoke("Hello").text  # doctest: +SKIP

    Each field of `SamplingFields` is a field of this class and a keyword of each call; the call's value overrides the
    field, and None in a call uses the server default. Every request streams internally, `invoke` too, so cancelling a
    call releases the server's slot.

    Reasoning is in `message.additional_kwargs["reasoning_content"]` and in the content blocks; it is sent back on later
    turns. `message.response_metadata` has the model name, the finish reason, the server's `timings`, and if requested
    `logprobs`, `token_timings` and `prompt_progress`.

    Errors belong to the classes of both `llamacpp_server` and LangChain (`ModelError`).
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, protected_namespaces=(), defer_build=False)

    streaming: bool = False
    """LangChain's switch: whether `invoke` reports tokens to callbacks."""
    stream_usage: ReadAs[bool, bool | None] = default_value(True)
    """Whether a stream's last chunk has the token counts."""
    model_kwargs: ReadAs[dict[str, Any], Mapping[str, Any] | None] = Field(default_factory=default_value(dict))
    """More request fields, as in ChatOpenAI."""
    extra_body: ReadAs[dict[str, Any], Mapping[str, Any] | None] = Field(default_factory=default_value(dict))
    """Request fields that are sent unchanged and override all others."""
    disabled_params: ReadAs[dict[str, Any], Mapping[str, Any] | None] = Field(default_factory=default_value(dict))
    """Parameters never to send: None for all values, or a list of values."""

    _served = cast("tuple[str, str] | None", PrivateAttr(default=None))
    _profile_due = PrivateAttr(default=True)

    @model_validator(mode="before")
    @classmethod
    def _as_chat_openai(cls, given: Any) -> Any:
        return CHAT.constructor(given, cls) if isinstance(given, Mapping) else given

    @model_validator(mode="after")
    def _set_llamacpp_server_version(self) -> ChatLlamaServer:
        # LangChain records versions in its `model_post_init`; pydantic replaces it by that of our private attributes.
        BaseChatModel.model_post_init(self, None)
        self._add_version("llamacpp-server", llamacpp_server.__version__)
        if self.profile is None:
            self.__dict__.pop("profile", None)  # `__getattr__` fills it in when it is asked for
        return self

    if not TYPE_CHECKING:  # as in pydantic, so that type checkers still see misspelt attributes

        def __getattr__(self, name: str) -> Any:
            if name == "profile":
                return self._server_profile()
            # Private attributes come here for every read; pydantic's own way to them takes several times as long.
            private = self.__pydantic_private__ if name[:1] == "_" else None
            return private[name] if private is not None and name in private else super().__getattr__(name)

    def _server_profile(self) -> ModelProfile | None:
        known = self.known_server_info()
        if known is None and on_event_loop():
            # Nothing may wait here. The next call asks for the rest.
            self._profile_due = True
            warn_once(_PROFILE_IS_PART)
            known = ServerInfo(model=self.model)
        if known is None:
            try:
                known = self.quick_server_info(**_PROFILE_PATIENCE)
            except LlamaServerError:
                return None
        return None if known is None else profile(known, urls=bool(self.fetch_urls))

    def _fill_profile(self) -> None:
        """A call on an event loop (blocking ones in a notebook) asks: `profile` itself can't ask there later."""
        if self._profile_due and self.known_server_info() is None and on_event_loop():
            self._profile_due = False
            with suppress(LlamaServerError):
                self.quick_server_info(**_PROFILE_PATIENCE)

    async def _afill_profile(self) -> None:
        if self._profile_due and self.known_server_info() is None:
            self._profile_due = False
            with suppress(LlamaServerError):
                await self.aquick_server_info(**_PROFILE_PATIENCE)

    def _reported_name(self) -> str | None:
        served: tuple[str, str] | None = (self.__pydantic_private__ or {})["_served"]
        return served[1] if served is not None and served[0] == self.base_url else None

    # -- generating

    @hides_arguments
    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        with langchain_errors:
            shares = kwargs.pop("choice_probabilities", False)
            call = self._prepare(messages, stop, kwargs, self._info_for(messages, kwargs))
            client = client_for(self.client, call, run_manager)
            found = self._chat_result(call, client.chat(call.request))
            return with_shares(found, client.choice_probabilities(call.request)) if shares else found

    @hides_arguments
    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        with langchain_errors:
            shares = kwargs.pop("choice_probabilities", False)
            call = self._prepare(messages, stop, kwargs, await self._ainfo_for(messages, kwargs))
            client = async_client_for(self.async_client, call, run_manager)
            found = self._chat_result(call, await client.chat(call.request))
            return with_shares(found, await client.choice_probabilities(call.request)) if shares else found

    @hides_arguments
    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        with langchain_errors:
            call = self._prepare(messages, stop, self._one_answer(kwargs), self._info_for(messages, kwargs))
            converter, seen = StreamConverter(usage=call.stream_usage), list[AIMessage]()
            client = client_for(self.client, call, run_manager)
            with closing(cast(Any, client.stream_chat(call.request))) as deltas:
                for delta in deltas:
                    chunk = converter.add(delta)
                    if chunk is not None:
                        if call.answer_class is not None:
                            seen.append(cast(AIMessage, chunk.message))
                        yield chunk
            yield self._last(call, converter, seen)

    @hides_arguments
    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        with langchain_errors:
            call = self._prepare(messages, stop, self._one_answer(kwargs), await self._ainfo_for(messages, kwargs))
            converter, seen = StreamConverter(usage=call.stream_usage), list[AIMessage]()
            client = async_client_for(self.async_client, call, run_manager)
            async with aclosing(cast(Any, client.stream_chat(call.request))) as deltas:
                async for delta in deltas:
                    chunk = converter.add(delta)
                    if chunk is not None:
                        if call.answer_class is not None:
                            seen.append(cast(AIMessage, chunk.message))
                        yield chunk
            yield self._last(call, converter, seen)

    # -- with progress for the callbacks that listen to it; a stream that none listens to is LangChain's own

    def stream(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> Iterator[AIMessageChunk]:
        """As in `BaseChatModel`."""
        run, config = with_listeners(config, self.callbacks, self.tags)
        chunks = super().stream(input, config, stop=stop, **kwargs)
        return chunks if run is None else within_run(run, chunks)

    def astream(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[AIMessageChunk]:
        """Async version of `stream`."""
        run, config = with_listeners(config, self.callbacks, self.tags)
        chunks = super().astream(input, config, stop=stop, **kwargs)
        return chunks if run is None else awithin_run(run, chunks)

    # -- requests

    def _prepare(
        self,
        messages: Sequence[BaseMessage],
        stop: Sequence[str] | None,
        kwargs: Mapping[str, Any],
        info: ServerInfo | None,
    ) -> ChatCall:
        call = dict(kwargs)
        defaults = ChatDefaults(
            params=self.given(),
            model=self.model,
            extra_body=self.extra_body,
            thinking=self.thinking,
            request_fields=self.request_fields(call),
            model_kwargs=self.model_kwargs,
            disabled_params=self.disabled_params,
            stream_usage=self.stream_usage,
        )
        return prepare(messages, stop, call, defaults, info)

    def _info_for(self, messages: Sequence[BaseMessage], kwargs: Mapping[str, Any]) -> ServerInfo | None:
        """Server info, if needed: to switch reasoning as the template supports it, or to send media."""
        if self._needs_info(messages, kwargs):
            return self.server_info()
        self._fill_profile()
        return None

    async def _ainfo_for(self, messages: Sequence[BaseMessage], kwargs: Mapping[str, Any]) -> ServerInfo | None:
        if self._needs_info(messages, kwargs):
            return await self.aserver_info()
        await self._afill_profile()
        return None

    def _needs_info(self, messages: Sequence[BaseMessage], kwargs: Mapping[str, Any]) -> bool:
        if kwargs.get("thinking", self.thinking) is not None or kwargs.get("reasoning") is not None:
            return True
        return kwargs.get("reasoning_effort", self.reasoning_effort) is not None or holds_media(messages)

    def _one_answer(self, kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        """The arguments of a stream: it is one message, so it has one answer."""
        if (kwargs.get("n") or self.n or 1) == 1:
            return kwargs
        warn_once("ignoring n when streaming; use `generate` for several answers")
        return {**kwargs, "n": 1}

    def _chat_result(self, call: ChatCall, reply: ChatReply) -> ChatResult:
        self._served = (self.base_url, reply.start.model) if reply.start.model else self._served
        return with_parsed(call.answer_class, result(reply))

    def _last(self, call: ChatCall, converter: StreamConverter, seen: list[AIMessage]) -> ChatGenerationChunk:
        if converter.start is not None and converter.start.model:
            self._served = (self.base_url, converter.start.model)
        last = converter.last()
        if call.answer_class is not None:
            last.message.additional_kwargs |= parsed(call.answer_class, [*seen, cast(AIMessage, last.message)])
        return last

    # -- tools and structured output

    @hides_arguments
    def bind_tools(
        self,
        tools: Sequence[ToolLike],
        *,
        tool_choice: dict[str, Any] | str | bool | None = None,
        strict: bool | None = None,
        parallel_tool_calls: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Bind tools to the model.

        Args:
            tools: Functions, classes, LangChain's tools, or dicts in OpenAI's or Anthropic's format.
            tool_choice: `auto`, `none`, `any` or `required` or True (some tool), a tool's name, or an object in the
                format of OpenAI or Anthropic. A named tool is enforced. A missing required call is requested once more
                (`forced_round`); if it is still missing, `MissingToolCallError` is raised.
            strict: Passed on; the server constrains every call to its tool's schema.
            parallel_tool_calls: False keeps only the first call; None leaves it to the chat template.
            **kwargs: Parameters of every call.

        Raises:
            BadRequestError: If `tool_choice` names none of the tools.
        """
        with langchain_errors:
            wire = wire_tools(tools, strict)
            integration.resolve_tool_choice(wire, tool_choice)  # imported now: it brings all that decodes replies
        bound: dict[str, Any] = {"tools": wire, **kwargs}
        if tool_choice is not None and tool_choice is not False:
            bound["tool_choice"] = tool_choice
        if parallel_tool_calls is not None:
            bound["parallel_tool_calls"] = parallel_tool_calls
        return self.bind(**bound)

    @hides_arguments
    def with_structured_output(
        self,
        schema: dict[str, Any] | type | None = None,
        *,
        method: Method = "json_schema",
        include_raw: bool = False,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """Return a runnable whose output matches a schema.

        Args:
            schema: A pydantic class, a TypedDict, a JSON schema, or a JSON schema in OpenAI's format.
            method: `json_schema` (enforced by the server's grammar), `function_calling` (a required call of one tool),
                `json_mode` (as `json_schema`; without a schema, any JSON), or `auto`: selected by server and model.
            include_raw: Return `{"raw", "parsed", "parsing_error"}` instead of raising parsing errors.
            strict: True requires every property, as OpenAI does. The server enforces the schema anyway.
            **kwargs: Parameters of every call. `schema_in_prompt=True` adds the schema to the system message: the
                grammar enforces the format, but does not show the model what fields mean. `repair_rounds` (1) is the
                number of retries of an answer that does not match.

        The chain raises `UnfitAnswerError` for an answer that does not match the schema, `TruncatedOutputError` for one
        that was cut off, and `MissingToolCallError` for a missing call. See docs/structured-output.md.
        """
        from ._structured_chain import StructuredChain

        chain = StructuredChain(
            model=self, form=schema, method=method, include_raw=include_raw, strict=strict, options=kwargs
        )
        chain.check()
        return chain

    def configurable_fields(
        self, **kwargs: AnyConfigurableField
    ) -> RunnableSerializable[LanguageModelInput, AIMessage]:
        """Make fields configurable, also under other names such as ChatOpenAI's `model_name`."""
        return super().configurable_fields(**CHAT.our_names(kwargs))

    # -- counting tokens, on the server

    def get_token_ids(self, text: str) -> list[int]:
        """Return the token IDs of a text, from the server; results are cached."""
        return token_ids(self, text)

    @hides_arguments
    def get_num_tokens_from_messages(
        self, messages: Iterable[MessageLikeRepresentation], tools: Sequence[Any] | None = None, **kwargs: Any
    ) -> int:
        """Count the prompt tokens of the messages and tools, using the server's template and tokenizer."""
        messages = convert_to_messages(list(messages))
        if self.custom_get_token_ids is not None:
            return super().get_num_tokens_from_messages(messages, tools)
        with langchain_errors:
            call = self._prepare(messages, None, {**kwargs, "tools": tools}, self._info_for(messages, kwargs))
            return client_for(self.client, call).count_tokens(call.request)

    @hides_arguments
    def fits(
        self,
        messages: LanguageModelInput,
        tools: Sequence[Any] | None = None,
        max_tokens: int | None = None,
        **kwargs: Any,
    ) -> Fit:
        """Check whether a prompt and its answer fit in the context; generates nothing.

        Args:
            messages: The conversation, in any format that `invoke` accepts.
            tools: The bound tools.
            max_tokens: Tokens reserved for the answer; None uses the model's `max_tokens`, else one token.
            **kwargs: As in `invoke`.

        Raises:
            NotSupportedError: If the server does not report its context.
        """
        own = count_arguments(tools, max_tokens, kwargs)
        with langchain_errors:
            given = self._convert_input(messages).to_messages()
            call = self._prepare(given, None, own, self._info_for(given, own))
            return client_for(self.client, call).fits(call.request)

    @hides_arguments
    async def afits(
        self,
        messages: LanguageModelInput,
        tools: Sequence[Any] | None = None,
        max_tokens: int | None = None,
        **kwargs: Any,
    ) -> Fit:
        """Async version of `fits`."""
        own = count_arguments(tools, max_tokens, kwargs)
        with langchain_errors:
            given = self._convert_input(messages).to_messages()
            call = self._prepare(given, None, own, await self._ainfo_for(given, own))
            return await async_client_for(self.async_client, call).fits(call.request)

    # -- the prompt cache

    @hides_arguments
    def prewarm(
        self,
        system: str | SystemMessage | None = None,
        tools: Sequence[ToolLike] = (),
        *,
        messages: Sequence[BaseMessage] = (),
        **kwargs: Any,
    ) -> PromptRead:
        """Load a prompt into the server's cache ahead of time, such as an agent's at program start.

        Args:
            system: The agent's system message.
            tools: The agent's tools, in its order.
            messages: A conversation to be continued.
            **kwargs: Parameters of the later calls that change their prompt, such as `thinking`.

        Returns:
            The tokens of the prompt, and how many of them came from the cache.
        """
        conversation, given = with_system_message(system, messages), {**kwargs, "tools": list(tools)}
        with langchain_errors:
            call = self._prepare(conversation, None, given, self._info_for(conversation, given))
            return self.client.with_settings(**call.settings).prewarm(call.request)

    @hides_arguments
    async def aprewarm(
        self,
        system: str | SystemMessage | None = None,
        tools: Sequence[ToolLike] = (),
        *,
        messages: Sequence[BaseMessage] = (),
        **kwargs: Any,
    ) -> PromptRead:
        """Async version of `prewarm`."""
        conversation, given = with_system_message(system, messages), {**kwargs, "tools": list(tools)}
        with langchain_errors:
            call = self._prepare(conversation, None, given, await self._ainfo_for(conversation, given))
            return await self.async_client.with_settings(**call.settings).prewarm(call.request)

    # -- what LangChain asks about a model

    @property
    def _llm_type(self) -> str:
        return PROVIDER

    @property
    def _identifying_params(self) -> dict[str, Any]:
        params: dict[str, Any] = {"model_name": self.model, "base_url": redact_url(self.base_url), **self.given()}
        for name, default in _defaults(type(self)).items():
            value = getattr(self, name)
            if value != default:
                params[name] = value
        return {**params, **cache_identity(self, self.cache_salt)}

    def _get_llm_string(self, stop: list[str] | None = None, **kwargs: Any) -> str:
        """The key of LangChain's cache: tells servers, models and parameters apart, as they are at this moment."""
        key = {**self._identifying_params, "output_version": self.output_version, "call": {**kwargs, "stop": stop}}
        return json.dumps({"_type": self._llm_type, **key}, sort_keys=True, default=repr)

    def _get_invocation_params(self, stop: list[str] | None = None, **kwargs: Any) -> dict[str, Any]:
        if type(self).dict is not ChatLlamaServer.dict:
            params = super()._get_invocation_params(stop=stop, **kwargs)  # which minds such subclasses
        else:
            params = {**self._identifying_params, "_type": self._llm_type, "stop": stop, **kwargs}
        params["model_name"] = self._name_for_traces(kwargs)
        return params

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        name = self._name_for_traces(kwargs)
        params = LangSmithParams(ls_provider=PROVIDER, ls_model_type="chat", ls_model_name=name)
        if stop := stop or self._stop_list():
            params["ls_stop"] = stop
        for temperature in (kwargs.get("temperature"), self.temperature):
            if isinstance(temperature, int | float):
                params["ls_temperature"] = temperature
                break
        for max_tokens in (kwargs.get("max_tokens"), self.max_tokens):
            if isinstance(max_tokens, int):
                params["ls_max_tokens"] = max_tokens
                break
        return params

    def _name_for_traces(self, kwargs: Mapping[str, Any]) -> str:
        model = kwargs.get("model") or kwargs.get("model_name") or self.model or self._reported_name()
        return model if isinstance(model, str) else "llama-server"

    def _stop_list(self) -> list[str] | None:
        return [self.stop] if isinstance(self.stop, str) else self.stop

    def _combine_llm_outputs(self, llm_outputs: list[dict[str, Any] | None]) -> dict[str, Any]:
        combined: dict[str, Any] = {}
        usage: dict[str, int] = {}
        for output in llm_outputs:
            if output is None:  # from the cache
                continue
            combined |= output
            for name, count in (output.get("token_usage") or {}).items():
                if isinstance(count, int):
                    usage[name] = usage.get(name, 0) + count
        if self.model_name is not None:  # a streamed answer has no output of its own
            combined.setdefault("model_name", self.model_name)
        return {**combined, "token_usage": usage} if usage else combined

    @classmethod
    def get_lc_namespace(cls) -> list[str]:
        """The namespace where `langchain_core.load` finds the class."""
        return ["langchain_llamacpp_server", "chat_models"]

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """Return True: the class can be serialized."""
        return True

    @property
    def lc_secrets(self) -> dict[str, str]:
        """Fields that are serialized as the name of an environment variable."""
        return {"api_key": "LLAMACPP_API_KEY"}

    @property
    def lc_attributes(self) -> dict[str, Any]:
        """The address without credentials; always serialized, as its default may differ elsewhere."""
        return {"base_url": redact_url(self.base_url)}


# What changes answers and is no field of the request; traces see it, and it is part of the cache's key.
_OTHERS_THAT_MATTER: Final = (
    *("thinking", "max_thinking_seconds", "model_kwargs", "extra_body", "disabled_params"),
    *("history_repair", "clean_schemas", "check_calls", "forced_round", "forced_call_within"),
    *("parse_text_calls", "loop_limit", "break_special_tokens", "convert_media"),
)


@lru_cache(maxsize=64)
def _defaults(cls: type[ChatLlamaServer]) -> dict[str, Any]:
    """The defaults of those fields, which pydantic takes long to tell."""
    return {name: cls.model_fields[name].get_default(call_default_factory=True) for name in _OTHERS_THAT_MATTER}


let_load_find(ChatLlamaServer)
