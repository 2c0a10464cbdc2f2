"""Decisions for LlamaIndex on a real server: routers, passages and evaluators."""

from typing import Any

import pytest
from llama_index.core.base.response.schema import Response
from llama_index.core.evaluation import FaithfulnessEvaluator, RelevancyEvaluator
from llama_index.core.query_engine import CustomQueryEngine, RouterQueryEngine
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.core.tools import QueryEngineTool

from llamacpp_server import LocalServer
from llamaindex_llamacpp_server import (
    LlamaServer,
    LlamaServerDecisionRerank,
    LlamaServerSelector,
    LlamaServerYesNo,
)
from tests.models import build_table

FIRST = {"A": 0.2, "B": 0.5, "C": 0.1, "y": 0.06, "n": 0.02}
CHOICES = ["about money", "about parcels", "about anything else"]


@pytest.fixture(scope="module")
def server(serve: Any, tmp_path_factory: pytest.TempPathFactory) -> LocalServer:
    path = build_table(tmp_path_factory.mktemp("decisions") / "table.gguf", {"\n": FIRST})
    started: LocalServer = serve(path, parallel=1, ctx_size=8192)
    return started


async def test_a_selector_takes_the_most_probable_choice(server: LocalServer) -> None:
    selector = LlamaServerSelector(base_url=server.base_url)
    for result in (selector.select(CHOICES, "Where is it?"), await selector.aselect(CHOICES, "Where is it?")):
        assert result.ind == 1
        assert result.selections[0].score == pytest.approx(5 / 8, abs=1e-3)  # type: ignore[attr-defined]
        assert result.reason == "probability 0.625"


def test_a_multi_selector_takes_every_choice_that_is_of_use(server: LocalServer) -> None:
    def indices(least: float) -> list[int]:
        chosen = LlamaServerSelector(base_url=server.base_url, multi=True, min_probability=least)
        return sorted(chosen.select(CHOICES, "Where is it?").inds)

    assert indices(0.7) == [0, 1, 2]  # yes is three times as likely as no, whatever is asked
    assert len(indices(0.8)) == 1


async def test_a_router_runs_the_chosen_engine(server: LocalServer) -> None:
    class Fixed(CustomQueryEngine):
        text: str

        def custom_query(self, query_str: str) -> str:
            return self.text

    tools = [QueryEngineTool.from_defaults(Fixed(text=text), name=f"tool{at}", description=text)
             for at, text in enumerate(CHOICES)]  # fmt: skip
    selector = LlamaServerSelector(base_url=server.base_url)
    router = RouterQueryEngine(selector=selector, query_engine_tools=tools, llm=LlamaServer(base_url=server.base_url))
    assert str(router.query("Where is it?")) == "about parcels"
    assert str(await router.aquery("Where is it?")) == "about parcels"


async def test_passages_are_scored_by_the_probability_of_yes(server: LocalServer, chat_server: LocalServer) -> None:
    nodes = [NodeWithScore(node=TextNode(text=text), score=0.1) for text in ("one", "two", "three")]
    rerank = LlamaServerDecisionRerank(base_url=server.base_url)
    for found in (
        rerank.postprocess_nodes(nodes, query_str="q"),
        await rerank.apostprocess_nodes(nodes, query_str="q"),
    ):
        assert [one.node.text for one in found] == ["one", "two"]  # type: ignore[attr-defined]
        assert [one.score for one in found] == pytest.approx([0.75] * 2, abs=1e-3)
    # A random model says something else of each passage.
    ranked = LlamaServerDecisionRerank(base_url=chat_server.base_url, top_n=None).postprocess_nodes(
        nodes, query_str="q"
    )
    scores = [one.score or 0.0 for one in ranked]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == 3
    least = LlamaServerDecisionRerank(base_url=chat_server.base_url, top_n=None, min_score=scores[1])
    assert len(least.postprocess_nodes(nodes, query_str="q")) == 2
    assert rerank.postprocess_nodes([], query_str="q") == []


@pytest.mark.parametrize("kind", [FaithfulnessEvaluator, RelevancyEvaluator])
@pytest.mark.parametrize(("no", "passes"), [(0.02, True), (0.2, False)])
async def test_an_evaluator_of_the_core_asks_yes_or_no(tmp_path: Any, no: float, passes: bool, kind: Any) -> None:
    path = build_table(tmp_path / "table.gguf", {"\n": {**FIRST, "n": no}})
    with LocalServer(path, ctx_size=8192, parallel=1, threads=1, warmup=False) as server:
        judge = LlamaServerYesNo(base_url=server.base_url)
        found = await kind(llm=judge).aevaluate_response(
            query="q", response=Response("It is late.", source_nodes=[NodeWithScore(node=TextNode(text="It is late."))])
        )
        await judge.aclose()
    assert found.passing is passes


def test_misspelt_arguments_are_errors() -> None:
    for made in (LlamaServerSelector, LlamaServerDecisionRerank, LlamaServerYesNo):
        with pytest.raises(ValueError, match="did you mean"):
            made(rotation=2)  # type: ignore[call-arg]
