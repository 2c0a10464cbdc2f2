"""Convert a call's arguments to a completion request, and replies to LangChain's generations. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.outputs import Generation, GenerationChunk, LLMResult

from llamacpp_server import (
    CompletionChoice,
    CompletionDelta,
    CompletionReply,
    CompletionRequest,
    InfillRequest,
    Timings,
    Usage,
)
from llamacpp_server.integration import ModelDefaults, stop_texts

from ._arguments import LLM_CALLS
from ._calls import call_settings


@dataclass(frozen=True, slots=True)
class CompletionCall:
    """One call's arguments, read.

    Attributes:
        params: Request fields of `SamplingFields`.
        model: Name of the model.
        extra_body: Fields that are sent unchanged.
        suffix: Text behind the gap to fill; None continues the prompt.
        input_extra: Other files for filling a gap, as (file name, text).
        split_n: As in `ChatRequest`.
        settings: Fields of `ServerSettings` that differ for this call.
        loop_limit: As in `CompletionRequest`.
    """

    params: Mapping[str, Any]
    model: str | None
    extra_body: Mapping[str, Any]
    suffix: str | None
    input_extra: Sequence[tuple[str, str]]
    split_n: bool
    settings: Mapping[str, Any]
    loop_limit: int | None

    @property
    def answers(self) -> int:
        """Answers for each prompt."""
        return int(self.params.get("n") or 1)

    def complete(self, prompts: Sequence[str]) -> CompletionRequest:
        """One request for all prompts."""
        return CompletionRequest(
            prompt=prompts[0] if len(prompts) == 1 else list(prompts),
            model=self.model,
            split_n=self.split_n,
            params=self.params,
            extra_body=self.extra_body,
            loop_limit=self.loop_limit,
        )

    def infill(self, prompt: str) -> InfillRequest:
        """The request for the text between a prompt and the suffix."""
        return InfillRequest(
            prefix=prompt,
            suffix=self.suffix or "",
            extra=self.input_extra,
            model=self.model,
            split_n=self.split_n,
            params=self.params,
            extra_body=self.extra_body,
            loop_limit=self.loop_limit,
        )


def read_call(
    stop: Sequence[str] | None,
    kwargs: Mapping[str, Any],
    params: Mapping[str, Any],
    model: str | None,
    extra_body: Mapping[str, Any],
    suffix: str | None,
    loop_limit: int | None,
    split_n: bool,
) -> CompletionCall:
    """A call's arguments over the model's own.

    Args:
        stop: Wins over all other stop texts; None leaves them.
        kwargs: The call's.
        params: The model's request fields.
        model: The model's name.
        extra_body: The model's further fields.
        suffix: The model's suffix.
        loop_limit: The model's.
        split_n: The model's switch.
    """
    given = LLM_CALLS.call(kwargs)
    given.pop("stream", None)
    if stop is not None:
        given["stop"] = stop_texts(stop)
    return CompletionCall(
        suffix=given.pop("suffix", suffix),
        input_extra=given.pop("input_extra", None) or (),
        split_n=given.pop("split_n", split_n),
        settings=call_settings(given),
        loop_limit=given.pop("loop_limit", loop_limit),
        **ModelDefaults(params, model, extra_body).common(given),
    )


def result(replies: Sequence[CompletionReply], answers: int) -> LLMResult:
    """Replies of one or several requests, in the order of the prompts, with `answers` choices for each prompt."""
    generations: list[list[Generation]] = []
    for reply in replies:
        found = [Generation(text=choice.text, generation_info=_info(choice)) for choice in reply.choices]
        if len(reply.choices) == 1 and reply.timings is not None:
            found[0].generation_info = {**(found[0].generation_info or {}), "timings": reply.timings.as_dict()}
        generations += [found[at : at + answers] for at in range(0, len(found), answers)]
    output: dict[str, Any] = {"model_name": replies[0].start.model, "token_usage": _usage(replies)}
    if len(replies) == 1 and replies[0].start.id:
        output["id"] = replies[0].start.id  # where instrumentations look for it
    if replies[0].start.system_fingerprint:
        output["system_fingerprint"] = replies[0].start.system_fingerprint
    return LLMResult(generations=generations, llm_output=output)


def _info(choice: CompletionChoice) -> dict[str, Any]:
    info: dict[str, Any] = {"finish_reason": choice.finish_reason, "logprobs": choice.logprobs}
    return {**info, "tokens": list(choice.tokens)} if choice.tokens else info


def _usage(replies: Sequence[CompletionReply]) -> dict[str, int]:
    usages = [reply.usage for reply in replies if reply.usage is not None]
    return Usage(sum(u.prompt_tokens for u in usages), sum(u.completion_tokens for u in usages)).as_dict()


class ChunkConverter:
    """Convert deltas to chunks. Name, usage, timings and the end are on the last one only, so that chunks add up."""

    def __init__(self) -> None:
        self.model = self.id = ""
        self._usage: Usage | None = None
        self._timings: Timings | None = None
        self._finish_reason: str | None = None

    def add(self, delta: CompletionDelta) -> GenerationChunk | None:
        """The chunk of a delta; None where it has nothing to show."""
        if delta.start is not None:
            self.model, self.id = delta.start.model, delta.start.id
        self._usage = delta.usage or self._usage
        self._timings = delta.timings or self._timings
        self._finish_reason = delta.finish_reason or self._finish_reason
        if not delta.text and not delta.logprobs and not delta.tokens:
            return None
        info: dict[str, Any] | None = {"logprobs": delta.logprobs} if delta.logprobs else None
        if delta.tokens:
            info = {**(info or {}), "tokens": list(delta.tokens)}
        return GenerationChunk(text=delta.text, generation_info=info)

    def last(self) -> GenerationChunk:
        """The end, without text."""
        info: dict[str, Any] = {"finish_reason": self._finish_reason, "model_name": self.model}
        if self.id:
            info["id"] = self.id
        if self._usage is not None:
            info["token_usage"] = Usage(self._usage.prompt_tokens, self._usage.completion_tokens).as_dict()
        if self._timings is not None:
            info["timings"] = self._timings.as_dict()
        return GenerationChunk(text="", generation_info=info)
