"""LlamaIndex's own engines, agents and memories, and its MCP tools."""

import sys
from pathlib import Path
from typing import Any

import pytest
from llama_index.core import Document, PropertyGraphIndex, SummaryIndex, VectorStoreIndex
from llama_index.core.agent.workflow import AgentWorkflow, CodeActAgent, FunctionAgent, ReActAgent
from llama_index.core.evaluation import CorrectnessEvaluator, FaithfulnessEvaluator, RelevancyEvaluator
from llama_index.core.extractors import QuestionsAnsweredExtractor, SummaryExtractor, TitleExtractor
from llama_index.core.indices.property_graph import SchemaLLMPathExtractor, SimpleLLMPathExtractor
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.memory import Memory
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.query_engine import RouterQueryEngine, SubQuestionQueryEngine
from llama_index.core.question_gen import LLMQuestionGenerator
from llama_index.core.selectors import LLMSingleSelector, PydanticSingleSelector
from llama_index.core.tools import QueryEngineTool
from llama_index.tools.mcp import BasicMCPClient, McpToolSpec

from tests.models import tool_call

DOCUMENTS = [Document(text="Ada lives in London."), Document(text="Snow is cold.")]
WEATHER = tool_call("get_weather", '{"city": "Oslo"}')
CORE = "llama-index-core"


def get_weather(city: str) -> str:
    """Get the weather of a city."""
    return f"sunny in {city}"


@pytest.mark.uses(CORE, "an ingestion pipeline with three extractors and embeddings")
async def test_ingestion(llm: Any, embed_model: Any) -> None:
    model = llm("A title.")
    steps = [SentenceSplitter(), TitleExtractor(llm=model), SummaryExtractor(llm=model)]
    pipeline = IngestionPipeline(transformations=[*steps, QuestionsAnsweredExtractor(llm=model), embed_model])
    nodes = await pipeline.arun(documents=DOCUMENTS)
    assert len(nodes) == 2
    assert nodes[0].metadata["document_title"] == nodes[0].metadata["section_summary"] == "A title."
    assert len(nodes[0].embedding) == 64


@pytest.mark.uses(CORE, "a property graph, with and without a schema")
def test_a_property_graph(llm: Any, embed_model: Any) -> None:
    free = SimpleLLMPathExtractor(llm=llm("(Ada, lives in, London)"), num_workers=1)
    index = PropertyGraphIndex.from_documents(
        DOCUMENTS[:1], kg_extractors=[free], embed_model=embed_model, llm=llm("Ada"), use_async=False
    )
    assert [triple[1].label for triple in index.property_graph_store.get_triplets(entity_names=["Ada"])] == ["Lives in"]
    triplet = (
        '{"triplets": [{"subject": {"type": "PERSON", "name": "Ada"}, "relation": {"type": "BORN_IN"}, '
        '"object": {"type": "LOCATION", "name": "London"}}]}'
    )
    strict = SchemaLLMPathExtractor(llm=llm(triplet), num_workers=1)
    index = PropertyGraphIndex.from_documents(
        DOCUMENTS[:1], kg_extractors=[strict], embed_model=embed_model, llm=llm("Ada"), use_async=False
    )
    assert index.property_graph_store.get_triplets(entity_names=["Ada"])


@pytest.mark.parametrize("selector", [PydanticSingleSelector, LLMSingleSelector])
@pytest.mark.uses(CORE, "a router that selects a query engine")
async def test_a_router(llm: Any, embed_model: Any, selector: Any) -> None:
    index = VectorStoreIndex.from_documents(DOCUMENTS, embed_model=embed_model)
    engine = index.as_query_engine(llm=llm("In London."))
    summary = SummaryIndex.from_documents(DOCUMENTS).as_query_engine(llm=llm("All."))
    tools = [QueryEngineTool.from_defaults(summary, description="summary"), QueryEngineTool.from_defaults(engine)]
    answer = (
        '[{"choice": 2, "reason": "a place"}]' if selector is LLMSingleSelector else '{"index": 2, "reason": "a place"}'
    )
    router = RouterQueryEngine(selector.from_defaults(llm=llm(answer)), tools, llm=llm("?"))
    assert str(await router.aquery("Where is Ada?")) == "In London."


@pytest.mark.uses(CORE, "a sub-question engine")
async def test_sub_questions(llm: Any, embed_model: Any) -> None:
    engine = VectorStoreIndex.from_documents(DOCUMENTS, embed_model=embed_model).as_query_engine(llm=llm("In London."))
    tool = QueryEngineTool.from_defaults(engine, name="people", description="people")
    asks = llm('```json\n{"items": [{"sub_question": "Where is Ada?", "tool_name": "people"}]}\n```')
    sub = SubQuestionQueryEngine.from_defaults(
        [tool], llm=llm("London."), question_gen=LLMQuestionGenerator.from_defaults(llm=asks), use_async=True,
        verbose=False,
    )  # fmt: skip
    response = await sub.aquery("Where is Ada?")
    assert str(response) == "London."
    assert "In London." in response.source_nodes[0].text


@pytest.mark.uses(CORE, "FunctionAgent, ReActAgent, CodeActAgent and AgentWorkflow")
async def test_agents(llm: Any) -> None:
    model = llm({"user": WEATHER, "tool": "It is sunny."})
    assert "It is sunny." in str(await FunctionAgent(tools=[get_weather], llm=model).run("Weather?"))
    act = 'Thought: look.\nAction: get_weather\nAction Input: {"city": "Oslo"}\n'
    reasons = llm({"Observation": "Thought: I can answer.\nAnswer: It is sunny.", "user": act})
    assert "It is sunny." in str(await ReActAgent(tools=[get_weather], llm=reasons).run("Weather?"))
    code = llm({"Result": "It is three.", "user": "<execute>\nprint(1 + 2)\n</execute>"})
    acts = CodeActAgent(code_execute_fn=lambda code: "Result: 3", llm=code)
    assert "It is three." in str(await acts.run("What is 1 + 2?"))
    expert = FunctionAgent(name="expert", description="knows", tools=[get_weather], llm=llm("It is sunny."))
    over = {"tool": "?", "user": tool_call("handoff", '{"to_agent": "expert", "reason": "knows"}')}
    first = FunctionAgent(name="first", description="asks", llm=llm(over), can_handoff_to=["expert"])
    assert "It is sunny." in str(await AgentWorkflow([first, expert], root_agent="first").run("Weather?"))


@pytest.mark.uses(CORE, "memory with a token limit")
async def test_memory(llm: Any) -> None:
    model = llm("It is sunny, as I said at some length before.")
    memory = Memory.from_defaults(token_limit=300, token_flush_size=60, tokenizer_fn=model.tokenizer)
    agent = FunctionAgent(tools=[get_weather], llm=model)
    for number in range(6):
        await agent.run(f"Question {number}?", memory=memory)
    kept = [message.content for message in await memory.aget()]
    assert "Question 5?" in kept and "Question 0?" not in kept


@pytest.mark.parametrize("mode", ["simple", "context", "condense_question", "condense_plus_context", "best"])
@pytest.mark.uses(CORE, "every chat mode, complete and streamed")
async def test_chat_modes(llm: Any, embed_model: Any, mode: str) -> None:
    index = VectorStoreIndex.from_documents(DOCUMENTS, embed_model=embed_model)
    engine: Any = index.as_chat_engine(chat_mode=mode, llm=llm("In London."))
    assert str(engine.chat("Where is Ada?")) == "In London."
    assert "".join(engine.stream_chat("And now?").response_gen) == "In London."
    assert str(await engine.achat("And then?")) == "In London."


@pytest.mark.uses(CORE, "evaluators for faithfulness, relevancy and correctness")
async def test_evaluators(llm: Any) -> None:
    judge = llm("YES")
    asked: Any = {"query": "Where?", "response": "London.", "contexts": ["Ada lives in London."]}
    assert (await FaithfulnessEvaluator(llm=judge).aevaluate(**asked)).passing
    assert (await RelevancyEvaluator(llm=judge).aevaluate(**asked)).passing
    correct = await CorrectnessEvaluator(llm=llm("4.5\nGood.")).aevaluate(**asked, reference="London.")
    assert correct.score == 4.5


@pytest.mark.uses("llama-index-tools-mcp", "tools of two MCP servers (time and SQLite)")
async def test_mcp(llm: Any, tmp_path: Path) -> None:
    sqlite = "import sys, asyncio; from mcp_server_sqlite import server; asyncio.run(server.main(sys.argv[1]))"
    clock = BasicMCPClient(sys.executable, args=["-m", "mcp_server_time"])
    store = BasicMCPClient(sys.executable, args=["-c", sqlite, str(tmp_path / "a.db")])
    tools: Any = [tool for client in (clock, store) for tool in await McpToolSpec(client).to_tool_list_async()]
    create = tool_call("create_table", '{"query": "CREATE TABLE cities (name TEXT)"}')
    rules = {
        "created": "Done.",
        "Oslo": create,
        "user": tool_call("get_current_time", '{"timezone": "Europe/Oslo"}'),
    }
    output = await FunctionAgent(tools=tools, llm=llm(rules)).run("What time?")
    assert str(output) == "Done."
    assert [call.tool_name for call in output.tool_calls] == ["get_current_time", "create_table"]  # type: ignore[attr-defined]
