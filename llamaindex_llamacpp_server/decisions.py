"""Decisions for LlamaIndex: a selector for routers, a reranker and a yes/no LLM for evaluators, with any chat model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llama_index.core.base.base_selector import BaseSelector, SelectorResult, SingleSelection
from llama_index.core.base.llms.types import CompletionResponse, CompletionResponseGen, LLMMetadata
from llama_index.core.llms import CustomLLM
from llama_index.core.prompts.mixin import PromptDictType
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle
from llama_index.core.tools.types import ToolMetadata
from pydantic import Field, model_validator

from llamacpp_server import Choice, Decisions, Noul
from llamacpp_server.integration import (
    DecisionFields,
)

from ._arguments import RERANK, RerankNames, constructor_arguments
from .postprocessors import RerankRuns

__all__ = ["LlamaServerDecisionRerank", "LlamaServerSelector", "LlamaServerYesNo", "ScoredSelection"]

_CHOOSE = "Which of these is the best source for an answer?"
_HELPS = "Does this passage help to answer the question?"
_YES_OR_NO = "Is the answer to the request above YES?"


class ScoredSelection(SingleSelection):
    """A selection with its probability."""

    score: float
    """Probability of the choice; in a multi-selection, the probability that it is useful."""


class LlamaServerSelector(RerankNames, DecisionFields, BaseSelector):
    """Selector of a router: chooses by the probabilities of a chat model, without generating or parsing text.

    Examples:
        >>> selector = LlamaServerSelector(base_url="http://localhost:8080")
        >>> engine = RouterQueryEngine(selector=selector, query_engine_tools=tools)  # doctest: +SKIP

    Selections are `ScoredSelection`s. With `multi=True`, each choice is judged separately.
    """

    multi: bool = False
    """Whether to select all useful choices, best first, instead of the best one."""
    min_probability: float = Field(default=0.5, ge=0, le=1)
    """Minimum probability with `multi`; the best choice is always selected."""
    instructions: str = _CHOOSE
    """The question about the query."""

    @model_validator(mode="before")
    @classmethod
    def _take_other_names(cls, values: Any) -> Any:
        return constructor_arguments(RERANK, values, cls)

    def _select(self, choices: Sequence[ToolMetadata], query: QueryBundle) -> SelectorResult:
        found = self.client.decide(query.query_str, self._questions(choices), **self._options())
        return self._result(choices, found)

    async def _aselect(self, choices: Sequence[ToolMetadata], query: QueryBundle) -> SelectorResult:
        found = await self.async_client.decide(query.query_str, self._questions(choices), **self._options())
        return self._result(choices, found)

    def _options(self) -> dict[str, Any]:
        # The choices are descriptions, which are no labels.
        options = self.decision_options()
        return {**options, "model": self.model, "labels": "letters" if self.labels == "auto" else self.labels}

    def _questions(self, choices: Sequence[ToolMetadata]) -> dict[str, Any]:
        if self.multi:
            return {
                str(at): Noul(f"Is this source of use for an answer? {_described(one)}")
                for at, one in enumerate(choices)
            }
        return {"choice": Choice(self.instructions, {str(at): _described(one) for at, one in enumerate(choices)})}

    def _result(self, choices: Sequence[ToolMetadata], found: Decisions) -> SelectorResult:
        if self.multi:
            shares = [found.nouls[str(at)].noul for at in range(len(choices))]
        else:
            shares = [found.choices["choice"].probabilities[str(at)] for at in range(len(choices))]
        order = sorted(range(len(shares)), key=lambda at: -shares[at])
        kept = [at for at in order[1:] if self.multi and shares[at] >= self.min_probability]
        chosen: list[SingleSelection] = [
            ScoredSelection(index=at, reason=f"probability {shares[at]:.3f}", score=shares[at])
            for at in [order[0], *kept]
        ]
        return SelectorResult(selections=chosen)

    def _get_prompts(self) -> PromptDictType:
        return {}

    def _update_prompts(self, prompts_dict: PromptDictType) -> None:
        """There are none: the question is `instructions`."""


class LlamaServerDecisionRerank(RerankNames, DecisionFields, RerankRuns):
    """Reranker without a reranking model: scores a passage by a chat model's probability of "yes".

    Examples:
        >>> rerank = LlamaServerDecisionRerank(base_url="http://localhost:8080", top_n=3)
        >>> engine = index.as_query_engine(similarity_top_k=10, node_postprocessors=[rerank])  # doctest: +SKIP

    Each passage is a request, so it is slower than a reranking model (`LlamaServerRerank`).
    """

    top_n: int | None = Field(default=2, ge=1)
    """Number of nodes to return; None returns all."""
    min_score: float | None = None
    """Minimum probability; nodes below it are dropped."""
    instructions: str = _HELPS
    """The question about the query and a passage."""

    @model_validator(mode="before")
    @classmethod
    def _take_other_names(cls, values: Any) -> Any:
        return constructor_arguments(RERANK, values, cls)

    @classmethod
    def class_name(cls) -> str:
        """The name used in serialized form."""
        return "LlamaServerDecisionRerank"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        with self._announced(nodes, query_bundle) as run:
            if nodes:
                client, options = self.client, self._options()
                found = [client.decide(_state(run.query, one), self._question(), **options) for one in nodes]
                run.end(self._best(nodes, found))
        return run.found

    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        with self._announced(nodes, query_bundle) as run:
            if nodes:
                client, options = self.async_client, self._options()
                found = [await client.decide(_state(run.query, one), self._question(), **options) for one in nodes]
                run.end(self._best(nodes, found))
        return run.found

    def _options(self) -> dict[str, Any]:
        return {**self.decision_options(), "model": self.model}

    def _question(self) -> dict[str, Any]:
        return {"helps": Noul(self.instructions)}

    def _best(self, nodes: Sequence[NodeWithScore], found: Sequence[Decisions]) -> list[NodeWithScore]:
        scores = [one.nouls["helps"].noul for one in found]
        order = sorted(range(len(nodes)), key=lambda at: (-scores[at], at))
        kept = [at for at in order if self.min_score is None or scores[at] >= self.min_score]
        return [self._scored(nodes[at], scores[at]) for at in kept[: self.top_n]]


class LlamaServerYesNo(RerankNames, DecisionFields, CustomLLM):
    """LLM that answers YES or NO, whichever is more probable, for evaluators that need nothing else.

    Examples:
        >>> judge = LlamaServerYesNo(base_url="http://localhost:8080")
        >>> FaithfulnessEvaluator(llm=judge).evaluate(response=..., contexts=[...])  # doctest: +SKIP

    `raw["yes"]` of a response is the probability.
    """

    context_window: int = Field(default=3900, ge=1)
    """Context in tokens; LlamaIndex's evaluators cut their contexts to it."""

    @model_validator(mode="before")
    @classmethod
    def _take_other_names(cls, values: Any) -> Any:
        return constructor_arguments(RERANK, values, cls)

    @classmethod
    def class_name(cls) -> str:
        """The name used in serialized form."""
        return "LlamaServerYesNo"

    @property
    def metadata(self) -> LLMMetadata:
        """LlamaIndex's description of the LLM."""
        return LLMMetadata(context_window=self.context_window, num_output=1, model_name=self.model or "llama-server")

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answer YES or NO."""
        return _yes_or_no(self.client.decide(prompt, {"yes": Noul(_YES_OR_NO)}, **self._options()))

    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Async version of `complete`."""
        return _yes_or_no(await self.async_client.decide(prompt, {"yes": Noul(_YES_OR_NO)}, **self._options()))

    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        """Answer YES or NO, in one piece."""
        yield self.complete(prompt, formatted, **kwargs)

    def _options(self) -> dict[str, Any]:
        return {**self.decision_options(), "model": self.model}


def _yes_or_no(found: Decisions) -> CompletionResponse:
    yes = found.nouls["yes"].noul
    text = "YES" if yes >= 0.5 else "NO"
    return CompletionResponse(text=text, delta=text, raw={"yes": yes})


def _described(choice: ToolMetadata) -> str:
    return f"{choice.name}: {choice.description}" if choice.name else str(choice.description)


def _state(query: str, one: NodeWithScore) -> str:
    return f"Question: {query}\n\nPassage: {one.node.get_content(metadata_mode=MetadataMode.EMBED)}"
