"""`LlamaServerLLM`: text completion for LangChain. Only hooks; conversions are in `_completions`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing, closing
from typing import Any, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models.base import LangSmithParams
from langchain_core.language_models.llms import BaseLLM
from langchain_core.outputs import GenerationChunk, LLMResult
from pydantic import ConfigDict, Field, PrivateAttr, model_validator

import llamacpp_server
from llamacpp_server import SamplingFields
from llamacpp_server.integration import ReadAs, default_value, hides_arguments
from llamacpp_server.requests import LOOP_LIMIT
from llamacpp_server.settings import redact_url

from ._argument_names import LLMNames
from ._arguments import LLM
from ._clients import async_client_for, client_for
from ._completions import ChunkConverter, CompletionCall, read_call, result
from ._errors import langchain_errors
from ._registration import let_load_find
from ._server_model import ServerModel, cache_identity, token_ids

__all__ = ["LlamaServerLLM"]

_PROVIDER = "llamacpp-server"
_OF_THE_RUN = frozenset({"tags", "metadata", "run_name", "run_id"})


class LlamaServerLLM(LLMNames, SamplingFields, ServerModel, BaseLLM):
    """Text completion model backed by a llama-server; applies no chat template.

    Examples:
        >>> from langchain_llamacpp_server import LlamaServerLLM
        >>> llm = LlamaServerLLM(base_url="http://localhost:8080", max_tokens=64)
        >>> llm.invoke("Once upon a time")  # doctest: +SKIP

    Each field of `SamplingFields` is a field of this class and a keyword of each call; the call's value overrides the
    field, and None in a call uses the server default. Several prompts (`batch`, `generate`) are one request. With
    `suffix`, the gap between prompt and suffix is filled, which requires a model with fill-in-the-middle tokens;
    `input_extra` adds other files, as pairs of file name and text.

    Every request streams internally, so cancelling a call releases the server's slot. `generation_info` has the finish
    reason, log probabilities and the server's timings, `llm_output` the usage.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, protected_namespaces=(), defer_build=False)

    suffix: str | None = None
    """Text after the gap to be filled."""
    split_n: bool = True
    """Whether to split an `n` above the number of slots, which the server rejects, into several requests."""
    streaming: bool = False
    """Whether `invoke` reports tokens to callbacks."""
    extra_body: ReadAs[dict[str, Any], Mapping[str, Any] | None] = Field(default_factory=default_value(dict))
    """Request fields that are sent unchanged and override all others."""
    loop_limit: int | None = Field(default=LOOP_LIMIT, ge=64)
    """Stops constrained output without `max_tokens` that repeats itself for this many tokens; None sets no limit."""

    @model_validator(mode="before")
    @classmethod
    def _take_other_names(cls, values: Any) -> Any:
        return LLM.constructor(values, cls) if isinstance(values, Mapping) else values

    _call = cast("Mapping[str, Any] | None", PrivateAttr(default=None))
    # Address -> the model's name in a reply. One dict for a model and its copies, one of which answers each call.
    _served = cast("dict[str, str]", PrivateAttr(default_factory=dict))

    def _reported_name(self) -> str | None:
        return self._served.get(self.base_url)

    def _with_metadata(self, found: LLMResult) -> LLMResult:
        self._note((found.llm_output or {}).get("model_name"))
        return found

    def _note(self, name: str | None) -> None:
        if name:
            self._served[self.base_url] = name

    # -- LangChain's cache and traces, which see the model's parameters and not the call's

    @hides_arguments
    def generate(
        self, prompts: list[str], stop: list[str] | None = None, callbacks: Any = None, **kwargs: Any
    ) -> LLMResult:
        """Generate text, as in `BaseLLM`; calls with different parameters have different cache entries."""
        return BaseLLM.generate(self._with_call(kwargs), prompts, stop, callbacks, **kwargs)

    @hides_arguments
    async def agenerate(
        self, prompts: list[str], stop: list[str] | None = None, callbacks: Any = None, **kwargs: Any
    ) -> LLMResult:
        """Async version of `generate`."""
        return await BaseLLM.agenerate(self._with_call(kwargs), prompts, stop, callbacks, **kwargs)

    def _with_call(self, kwargs: Mapping[str, Any]) -> LlamaServerLLM:
        call = {name: value for name, value in kwargs.items() if name not in _OF_THE_RUN}
        if not call:
            return self
        self.client, self.async_client  # noqa: B018 (opened here, the copy shares their connections)
        other = self.model_copy()
        other._call = call
        return other

    # -- generating

    @hides_arguments
    def _generate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        with langchain_errors:
            call = self._read(stop, kwargs)
        if self.streaming and len(prompts) == call.answers == 1:
            return _folded(list(self._stream(prompts[0], stop, run_manager, **kwargs)))
        with langchain_errors:
            client = client_for(self.client, call, run_manager)
            if call.suffix is not None:
                return self._with_metadata(
                    result([client.infill(call.infill(prompt)) for prompt in prompts], call.answers)
                )
            return self._with_metadata(result([client.complete(call.complete(prompts))], call.answers))

    @hides_arguments
    async def _agenerate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        with langchain_errors:
            call = self._read(stop, kwargs)
        if self.streaming and len(prompts) == call.answers == 1:
            return _folded([chunk async for chunk in self._astream(prompts[0], stop, run_manager, **kwargs)])
        with langchain_errors:
            client = async_client_for(self.async_client, call, run_manager)
            if call.suffix is not None:
                return self._with_metadata(
                    result([await client.infill(call.infill(prompt)) for prompt in prompts], call.answers)
                )
            return self._with_metadata(result([await client.complete(call.complete(prompts))], call.answers))

    @hides_arguments
    def _stream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[GenerationChunk]:
        with langchain_errors:
            call = self._read(stop, {**kwargs, "n": None})
            client, converter = client_for(self.client, call, run_manager), ChunkConverter()
            asked = (
                client.stream_complete(call.complete([prompt]))
                if call.suffix is None
                else client.stream_infill(call.infill(prompt))
            )
            with closing(cast(Any, asked)) as deltas:
                for delta in deltas:
                    chunk = converter.add(delta)
                    if chunk is not None:
                        if run_manager is not None:
                            run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                        yield chunk
            self._note(converter.model)
            yield converter.last()

    @hides_arguments
    async def _astream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[GenerationChunk]:
        with langchain_errors:
            call = self._read(stop, {**kwargs, "n": None})
            client, converter = async_client_for(self.async_client, call, run_manager), ChunkConverter()
            asked = (
                client.stream_complete(call.complete([prompt]))
                if call.suffix is None
                else client.stream_infill(call.infill(prompt))
            )
            async with aclosing(cast(Any, asked)) as deltas:
                async for delta in deltas:
                    chunk = converter.add(delta)
                    if chunk is not None:
                        if run_manager is not None:
                            await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                        yield chunk
            self._note(converter.model)
            yield converter.last()

    def _read(self, stop: list[str] | None, kwargs: Mapping[str, Any]) -> CompletionCall:
        fields = (self.model, self.extra_body, self.suffix, self.loop_limit, self.split_n)
        return read_call(stop, kwargs, self.given(), *fields)

    # -- what LangChain asks about a model

    def get_token_ids(self, text: str) -> list[int]:
        """Return the token IDs of a text, from the server; results are cached."""
        return token_ids(self, text)

    @property
    def _llm_type(self) -> str:
        return _PROVIDER

    @property
    def _identifying_params(self) -> dict[str, Any]:
        params: dict[str, Any] = {"model_name": self.model, "base_url": redact_url(self.base_url), **self.given()}
        if self.suffix is not None:
            params["suffix"] = self.suffix
        if self.extra_body:
            params["extra_body"] = self.extra_body
        if self.loop_limit != type(self).model_fields["loop_limit"].default:
            params["loop_limit"] = self.loop_limit
        params |= cache_identity(self)
        return params if self._call is None else {**params, "call": dict(self._call)}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        own = [self.stop] if isinstance(self.stop, str) else self.stop
        params = super()._get_ls_params(stop=stop or own, **kwargs)
        params["ls_provider"] = _PROVIDER
        params["ls_model_name"] = str(kwargs.get("model") or self.model_name or "llama-server")
        return params

    @model_validator(mode="after")
    def _set_llamacpp_server_version(self) -> LlamaServerLLM:
        # LangChain records versions in its `model_post_init`; pydantic replaces it by that of our private attributes.
        BaseLLM.model_post_init(self, None)
        self._add_version("llamacpp-server", llamacpp_server.__version__)
        return self

    @classmethod
    def get_lc_namespace(cls) -> list[str]:
        """The namespace where `langchain_core.load` finds the class."""
        return ["langchain_llamacpp_server", "llms"]

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


def _folded(chunks: list[GenerationChunk]) -> LLMResult:
    full = chunks[0]
    for chunk in chunks[1:]:
        full += chunk
    info = dict(full.generation_info or {})
    output = {"model_name": info.pop("model_name"), "token_usage": info.pop("token_usage", {})}
    if reply_id := info.pop("id", None):
        output["id"] = reply_id
    return LLMResult(generations=[[GenerationChunk(text=full.text, generation_info=info)]], llm_output=output)


let_load_find(LlamaServerLLM)
