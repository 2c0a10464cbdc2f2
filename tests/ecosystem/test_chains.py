"""Vector stores, SQL, data frames, graphs, evaluation and tracing with LangChain's classes."""

import gzip
import json
import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import faiss
import httpx
import pandas as pd
import pytest
from langchain_chroma import Chroma
from langchain_community.agent_toolkits import create_sql_agent
from langchain_community.docstore.in_memory import InMemoryDocstore
from langchain_community.utilities import SQLDatabase
from langchain_community.vectorstores import FAISS, LanceDB
from langchain_core.documents import Document
from langchain_experimental.agents import create_pandas_dataframe_agent
from langchain_experimental.graph_transformers import LLMGraphTransformer
from langchain_qdrant import QdrantVectorStore

from tests.models import tool_call

TEXTS = ["The cat sleeps.", "Rust is a language.", "Snow is cold."]


class _Collector(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.received.append((self.path, body))  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def collector() -> Iterator[Any]:
    """A place on loopback that takes traces."""
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), _Collector)
    server.received = []
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def _stores(embeddings: Any, directory: Path) -> Any:
    yield "langchain-chroma", lambda: Chroma.from_texts(TEXTS, embeddings)
    yield "faiss-cpu", lambda: FAISS.from_texts(TEXTS, embeddings)
    yield "langchain-qdrant", lambda: QdrantVectorStore.from_texts(TEXTS, embeddings, location=":memory:")
    yield "lancedb", lambda: LanceDB.from_texts(TEXTS, embeddings, uri=str(directory))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.uses(name, "stores and finds texts"))
        for name in ("langchain-chroma", "faiss-cpu", "langchain-qdrant", "lancedb")
    ],
)
def test_a_text_is_found_by_itself(embeddings: Any, tmp_path: Path, name: str) -> None:
    store = dict(_stores(embeddings, tmp_path))[name]()
    for text in TEXTS:
        assert store.similarity_search(text, k=1)[0].page_content == text


@pytest.mark.uses("faiss-cpu", "stores and finds texts, async")
async def test_an_index_that_is_filled_on_a_loop(embeddings: Any) -> None:
    width = len(await embeddings.aembed_query("a"))
    store = FAISS(embeddings, faiss.IndexFlatL2(width), InMemoryDocstore(), {})
    await store.aadd_texts(TEXTS)
    assert (await store.asimilarity_search(TEXTS[2], k=1))[0].page_content == TEXTS[2]


@pytest.mark.uses("langchain-community", "an agent queries an SQL database")
def test_an_agent_for_sql(chat: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE cities (name TEXT)")
        database.execute("INSERT INTO cities VALUES ('Oslo')")
    # Its prompt ends in an answer, after which the repair `own_turn` says whose turn it is.
    rules = {"your turn": tool_call("sql_db_query", '{"query": "SELECT name FROM cities"}'), "Oslo": "It is Oslo."}
    agent = create_sql_agent(
        chat({**rules, "user": "?"}), db=SQLDatabase.from_uri(f"sqlite:///{path}"), agent_type="tool-calling"
    )
    assert agent.invoke({"input": "Which city?"})["output"] == "It is Oslo."


@pytest.mark.uses("langchain-experimental", "an agent queries a pandas data frame")
def test_an_agent_for_data_frames(chat: Any) -> None:
    rules = {"Which": tool_call("python_repl_ast", '{"query": "df.name[0]"}'), "Oslo": "It is Oslo.", "user": "?"}
    agent = create_pandas_dataframe_agent(
        chat(rules), pd.DataFrame({"name": ["Oslo"]}), agent_type="tool-calling", allow_dangerous_code=True
    )
    assert agent.invoke({"input": "Which city?"})["output"] == "It is Oslo."


@pytest.mark.uses("langchain-experimental", "extracts a graph from a text")
async def test_a_graph_of_a_text(chat: Any) -> None:
    edge = {"source_node_id": "Ada", "source_node_type": "Person", "type": "LIVES_IN"}
    edge |= {"target_node_id": "London", "target_node_type": "City"}
    order = ("source_node_id", "source_node_type", "target_node_id", "target_node_type", "type")
    nodes = [{"id": "Ada", "type": "Person"}, {"id": "London", "type": "City"}]
    graph = json.dumps({"nodes": nodes, "relationships": [{name: edge[name] for name in order}]})
    transformer = LLMGraphTransformer(llm=chat(graph))
    found = (await transformer.aconvert_to_graph_documents([Document("Ada lives in London.")]))[0]
    assert {node.id for node in found.nodes} == {"Ada", "London"}
    assert [edge.type for edge in found.relationships] == ["LIVES_IN"]


@pytest.mark.uses("ragas", "a metric that the model judges")
async def test_ragas(chat: Any) -> None:
    from ragas import SingleTurnSample
    from ragas.llms import LangchainLLMWrapper
    from ragas.metrics import AspectCritic

    metric = AspectCritic(
        name="polite", definition="Is it polite?", llm=LangchainLLMWrapper(chat('{"reason": "it is", "verdict": 1}'))
    )
    assert await metric.single_turn_ascore(SingleTurnSample(user_input="Hi", response="Good morning!")) == 1


@pytest.mark.uses("deepeval", "a metric that the model judges")
async def test_deepeval(chat: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DEEPEVAL_TELEMETRY_OPT_OUT", "YES")
    monkeypatch.chdir(tmp_path)
    from deepeval.metrics import GEval
    from deepeval.models import DeepEvalBaseLLM
    from deepeval.test_case import LLMTestCase, SingleTurnParams

    model = chat('{"reason": "fine", "score": 8}')

    class Judge(DeepEvalBaseLLM):
        def load_model(self) -> Any:
            return model

        def generate(self, prompt: str, schema: Any = None) -> Any:
            return model.with_structured_output(schema).invoke(prompt) if schema else model.invoke(prompt).text

        async def a_generate(self, prompt: str, schema: Any = None) -> Any:
            if schema:
                return await model.with_structured_output(schema).ainvoke(prompt)
            return (await model.ainvoke(prompt)).text

        def get_model_name(self) -> str:
            return "llama-server"

    metric = GEval(
        name="polite", evaluation_steps=["Is it polite?"], model=Judge(),
        evaluation_params=[SingleTurnParams.ACTUAL_OUTPUT],
    )  # fmt: skip
    score = await metric.a_measure(LLMTestCase(input="Hi", actual_output="Good morning!"), _show_indicator=False)
    assert score == pytest.approx(0.8)


@pytest.mark.uses("langfuse", "sends a trace to a local server")
def test_langfuse(chat: Any, collector: Any) -> None:
    from langfuse import Langfuse
    from langfuse.langchain import CallbackHandler

    host = f"http://127.0.0.1:{collector.server_address[1]}"
    client = Langfuse(public_key="pk", secret_key="sk", host=host)
    chat("It is sunny.").invoke("How is the weather?", config={"callbacks": [CallbackHandler(public_key="pk")]})
    client.flush()
    traces = b"".join(body for path, body in collector.received if "traces" in path)
    assert b"ChatLlamaServer" in traces and b"It is sunny." in traces
    client.shutdown()


@pytest.mark.uses("opentelemetry-exporter-otlp-proto-http", "sends spans to a local collector")
def test_opentelemetry(chat: Any, collector: Any) -> None:
    from openinference.instrumentation.langchain import LangChainInstrumentor
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    provider = TracerProvider()
    address = f"http://127.0.0.1:{collector.server_address[1]}/v1/traces"
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(address)))
    instrumentor = LangChainInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    try:
        chat("It is sunny.").invoke("How is the weather?")
    finally:
        instrumentor.uninstrument()
    spans = b"".join(body for _, body in collector.received)
    assert b"ChatLlamaServer" in spans and b"It is sunny." in spans


@pytest.mark.uses("vcrpy", "records a conversation and replays it without the server")
async def test_cassettes(chat: Any, tmp_path: Path) -> None:
    import vcr

    cassette = str(tmp_path / "cassette.yaml")
    llm = chat("It is sunny.")
    recorder = vcr.VCR(record_mode="none", match_on=["method", "path"])

    def read() -> list[str]:
        return [llm.invoke("Hi").text, "".join(chunk.text for chunk in llm.stream("Hi"))]

    async def aread() -> list[str]:
        return [(await llm.ainvoke("Hi")).text, "".join([chunk.text async for chunk in llm.astream("Hi")])]

    with recorder.use_cassette(cassette, record_mode="once"):
        first = [*read(), *await aread()]
    llm.base_url = "http://127.0.0.1:9"
    with recorder.use_cassette(cassette) as played:
        assert [*read(), *await aread()] == first == ["It is sunny."] * 4
        assert played.play_count == 4


@pytest.mark.uses("langgraph-cli", "`langgraph dev` serves an agent with `response_format`")
def test_langgraph_dev(chat: Any, tmp_path: Path) -> None:
    """It raises for any call that blocks its event loop."""
    url = chat('{"city": "Oslo"}').base_url
    (tmp_path / "agent.py").write_text(
        "from langchain.agents import create_agent\nfrom pydantic import BaseModel\n"
        "from langchain_llamacpp_server import ChatLlamaServer\n"
        "class Weather(BaseModel):\n    city: str\n"
        f"graph = create_agent(ChatLlamaServer(base_url={url!r}), [], response_format=Weather)\n"
    )
    (tmp_path / "langgraph.json").write_text('{"dependencies": ["."], "graphs": {"agent": "./agent.py:graph"}}')
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = [
        str(Path(sys.executable).parent / "langgraph"),
        "dev",
        "--no-browser",
        "--no-reload",
        "--port",
        str(port),
    ]
    root = str(Path(__file__).parents[2])
    quiet = {"LANGSMITH_TRACING": "false", "LANGGRAPH_CLI_NO_ANALYTICS": "1", "PYTHONPATH": root}
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log, env={**os.environ, **quiet})
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client:
            deadline = time.monotonic() + 60
            while True:
                try:
                    client.get("/ok").raise_for_status()
                    break
                except httpx.HTTPError:
                    assert server.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()[-2000:]
                    time.sleep(0.2)
            asked = {"assistant_id": "agent", "input": {"messages": [{"role": "user", "content": "Oslo?"}]}}
            reply = client.post("/runs/wait", json=asked)
    finally:
        server.terminate()
        server.wait(20)
    assert reply.json().get("structured_response") == {"city": "Oslo"}, (tmp_path / "log").read_text()[-3000:]
