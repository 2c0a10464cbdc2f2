"""Programs of LlamaIndex's guides with our classes: response modes, query engines, workflows, agents with an output."""

from collections.abc import Callable
from typing import Any

import pytest
from llama_index.core import Document, DocumentSummaryIndex, Settings, VectorStoreIndex
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.indices.query.query_transform import HyDEQueryTransform
from llama_index.core.indices.query.query_transform.base import StepDecomposeQueryTransform
from llama_index.core.query_engine import CitationQueryEngine, MultiStepQueryEngine, TransformQueryEngine
from llama_index.core.retrievers import QueryFusionRetriever
from llama_index.core.workflow import Context, Event, StartEvent, StopEvent, Workflow, step
from pydantic import BaseModel

from llamacpp_server import LocalServer
from llamaindex_llamacpp_server import LlamaServer, LlamaServerEmbedding

DOCUMENTS = [Document(text="Ada lives in London."), Document(text="Snow is cold.")]
Answers = Callable[[Any], LocalServer]
# LlamaIndex leaves the event loops of its blocking methods open, and reads fields as pydantic 1 had them.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecationWarning"),
]


class Joke(BaseModel):
    """A joke."""

    setup: str
    punchline: str


JOKE = Joke(setup="Why?", punchline="Because.")


@pytest.fixture
def llm(scripted_server: Answers) -> LlamaServer:
    return LlamaServer(base_url=scripted_server("A fine answer.").base_url)


@pytest.fixture
def joker(scripted_server: Answers) -> LlamaServer:
    return LlamaServer(base_url=scripted_server(JOKE.model_dump_json()).base_url)


@pytest.fixture
def index(embedding_server: LocalServer) -> VectorStoreIndex:
    embed_model = LlamaServerEmbedding(base_url=embedding_server.base_url, preset="none")
    return VectorStoreIndex.from_documents(DOCUMENTS, embed_model=embed_model)


@pytest.mark.parametrize("mode", ["refine", "compact", "tree_summarize", "simple_summarize", "accumulate"])
def test_every_response_mode_gives_the_answer(index: VectorStoreIndex, llm: LlamaServer, mode: Any) -> None:
    assert "A fine answer." in str(index.as_query_engine(llm=llm, response_mode=mode).query("Where?"))


def test_a_query_is_answered_as_a_stream(index: VectorStoreIndex, llm: LlamaServer) -> None:
    found: Any = index.as_query_engine(llm=llm, streaming=True).query("Where?")
    assert "".join(found.response_gen) == "A fine answer."


def test_a_query_is_answered_with_an_object_of_a_class(index: VectorStoreIndex, joker: LlamaServer) -> None:
    engine = index.as_query_engine(llm=joker, output_cls=Joke, response_mode="tree_summarize")  # type: ignore[arg-type]
    found: Any = engine.query("A joke?")
    assert found.response == JOKE


def test_query_engines_that_ask_several_times_give_the_answer(
    index: VectorStoreIndex, llm: LlamaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Settings, "_llm", llm)  # some of their parts take no other
    engine = index.as_query_engine(llm=llm)
    steps = MultiStepQueryEngine(engine, StepDecomposeQueryTransform(llm=llm), index_summary="Facts")
    engines = (
        TransformQueryEngine(engine, HyDEQueryTransform(llm=llm, include_original=True)),
        CitationQueryEngine.from_args(index, llm=llm),
        steps,
    )
    assert {str(each.query("Where?")) for each in engines} == {"A fine answer."}
    fused = QueryFusionRetriever([index.as_retriever()], llm=llm, num_queries=3, use_async=False)
    assert len(fused.retrieve("Where?")) == len(DOCUMENTS)


def test_an_index_holds_a_summary_of_each_document(llm: LlamaServer, embedding_server: LocalServer) -> None:
    embed_model = LlamaServerEmbedding(base_url=embedding_server.base_url, preset="none")
    index = DocumentSummaryIndex.from_documents(DOCUMENTS, llm=llm, embed_model=embed_model)
    assert index.get_document_summary(DOCUMENTS[0].id_) == "A fine answer."


async def test_an_agent_with_an_output_class_gives_an_object(joker: LlamaServer) -> None:
    found: Any = await FunctionAgent(tools=[], llm=joker, output_cls=Joke).run("A joke?")
    assert found.get_pydantic_model(Joke) == JOKE


class Said(Event):
    """A piece of text."""

    text: str


class JokeFlow(Workflow):
    """A joke and its review, which is streamed."""

    def __init__(self, llm: LlamaServer) -> None:
        super().__init__(timeout=60)
        self.llm = llm

    @step
    async def write(self, ev: StartEvent) -> Said:
        return Said(text=str(await self.llm.acomplete(f"A joke about {ev.topic}")))

    @step
    async def review(self, ctx: Context, ev: Said) -> StopEvent:
        async for part in await self.llm.astream_complete(f"Review: {ev.text}"):
            ctx.write_event_to_stream(Said(text=part.delta or ""))
        return StopEvent(result=ev.text)


async def test_a_workflow_streams_what_the_model_says(llm: LlamaServer) -> None:
    handler = JokeFlow(llm).run(topic="pirates")
    parts = [event.text async for event in handler.stream_events() if isinstance(event, Said)]
    assert "".join(parts) == await handler == "A fine answer."
