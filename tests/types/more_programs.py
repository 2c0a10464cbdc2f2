"""More of what people write: calls of the clients, subclasses, chains, async code, copies. Nothing here is run."""

from __future__ import annotations

import copy
import pickle
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TypedDict

import httpx
import httpx2
from langchain.agents import create_agent
from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatResult
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.rate_limiters import InMemoryRateLimiter
from langchain_core.runnables import ConfigurableField, Runnable, RunnablePassthrough
from langchain_core.tools import tool
from llama_index.core import Document as IndexDocument
from llama_index.core import Settings, VectorStoreIndex
from llama_index.core.agent import FunctionAgent
from llama_index.core.llms import LLM, ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool, ToolMetadata
from pydantic import BaseModel, Field, SecretStr

import langchain_llamacpp_server as lc
import llamaindex_llamacpp_server as li
from langchain_llamacpp_server import (
    ChatLlamaServer,
    LlamaServerDecisions,
    LlamaServerEmbeddings,
    LlamaServerLLM,
    LlamaServerReranker,
)
from langchain_llamacpp_server.middleware import LlamaServerMiddleware
from llamacpp_server import (
    AsyncLlamaServerClient,
    BatchProgress,
    BatchSummary,
    CacheReport,
    Calibration,
    ChatDelta,
    ChatReply,
    ChatRequest,
    Choice,
    CompletionRequest,
    EmbedRequest,
    Example,
    Fit,
    InfillRequest,
    LlamaServerClient,
    LlamaServerTokenizer,
    LocalServer,
    MediaPolicy,
    MessagesRequest,
    Noul,
    Progress,
    RankRequest,
    ResponsesRequest,
    Score,
    ServerSettings,
    WaitState,
    find_models,
    fold_chat,
    fold_completion,
    late_interaction,
)
from llamacpp_server.decisions import Question
from llamacpp_server.testing import Script, ScriptedServer, tool_call
from llamacpp_server.wire import MessageDict
from llamaindex_llamacpp_server import (
    ContextBudget,
    LlamaServer,
    LlamaServerDecisionRerank,
    LlamaServerEmbedding,
    LlamaServerRerank,
    LlamaServerSelector,
    LlamaServerYesNo,
)

URL = "http://localhost:8080"
HI: list[MessageDict] = [{"role": "user", "content": "hi"}]


class Person(BaseModel):
    """Somebody."""

    name: str = Field(description="The first name")
    age: int


class Place(TypedDict):
    """Somewhere."""

    city: str


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def show(progress: Progress) -> None:
    print(progress)


def waits(state: WaitState) -> None:
    print(state)


def counts(progress: BatchProgress) -> None:
    print(progress.done, progress.total)


def generation(client: LlamaServerClient) -> None:
    request = ChatRequest(messages=HI, tools=[], tool_choice="auto", params={"temperature": 0}, media=MediaPolicy())
    reply: ChatReply = client.chat(request)
    deltas: Iterator[ChatDelta] = client.stream_chat(request)
    print(fold_chat(deltas).usage, reply.timings, reply.start.repairs, reply.choices[0].tool_calls)
    print(client.complete(CompletionRequest(prompt="a")).choices[0].text)
    print(fold_completion(client.stream_complete(CompletionRequest(prompt=["a", "b"]))))
    print(client.infill(InfillRequest(prefix="a", suffix="b")).choices, client.prewarm(request).tokens)
    print(client.create_response(ResponsesRequest(input="hi", max_output_tokens=3)))
    print(client.create_message(MessagesRequest(messages=[{"role": "user", "content": "hi"}], max_tokens=3)))
    for event in client.stream_message(MessagesRequest(messages=HI)):
        print(event)
    print(client.transcribe(Path("a.wav"), language="en").text, client.transcribe(b"RIFF"))
    for delta in client.stream_resumable_chat(request, "id"):
        print(delta.content)
    client.stop_stream("id")
    print([one.name for one in client.server_tools()], client.call_server_tool("read_file", {"path": "a"}))


def inputs(client: LlamaServerClient) -> None:
    vectors: list[list[float]] = client.embed(["a", "b"], model="m").vectors
    client.embed_texts(EmbedRequest(inputs=["a"], dimensions=4, on_oversize="truncate"))
    tokens: list[list[list[float]]] = client.embed_tokens(["a"])
    print(vectors, late_interaction(tokens[0], tokens[0]))
    best: float = client.rerank("a", ["b", "c"], top_n=1)[0].score
    print(best, [one.index for one in client.rank(RankRequest(query="a", documents=["b"], min_score=0.5))])
    ids: list[int] = client.tokenize("a", add_special=True)
    text: str = client.detokenize(ids)
    fit: Fit = client.fits(ChatRequest(messages=HI))
    print(
        text, fit.fits, client.count_tokens(ChatRequest(messages=HI)), client.apply_template(ChatRequest(messages=HI))
    )
    tokenizer = LlamaServerTokenizer(client)
    print(tokenizer("a"), tokenizer.count("a"))


def decisions(client: LlamaServerClient) -> None:
    questions: dict[str, Question] = {
        "urgent": Noul("Is it urgent?"),
        "team": Choice("Which team?", ["billing", "shipping"]),
        "mood": Score("How angry?", ["calm", "cross", "furious"]),
    }
    found = client.decide("Where is my parcel?", questions)
    print(found.nouls["urgent"].noul, found.choices["team"].choice, found.scores["mood"])
    report = client.calibrate(questions, [Example("a", {"urgent": True, "team": "billing"})])
    report.calibration.save("calibration.json")
    client.decide(
        {"text": "a"}, {"urgent": {"type": "noul", "instructions": "?"}}, calibration=Calibration.load("c.json")
    )
    summary: BatchSummary = client.batch_file("in.jsonl", Path("out.jsonl"), concurrency=4, on_progress=counts)
    print(summary.answered, client.choice_probabilities(ChatRequest(messages=HI)))


def management(client: LlamaServerClient) -> None:
    print(client.health().ready, client.wait_until_ready(5), [card.id for card in client.models(reload=True)])
    print(client.props().raw, client.info().n_ctx, client.slots(), client.metrics("m"), client.model_name())
    client.set_lora_adapters({0: 1.0})
    client.save_slot(0, "a.bin")
    client.save_prompt(ChatRequest(messages=HI), "a.bin", id_slot=0)
    client.load_model("m", timeout=5)
    client.unload_model("m")
    for event in client.watch_models():
        print(event)
    quick: LlamaServerClient = client.with_settings(read_timeout=5, priority="background")
    pickle.loads(pickle.dumps(copy.copy(quick)))
    LlamaServerClient(settings=ServerSettings(base_url=URL, api_key=SecretStr("k")), http_client=httpx.Client())


async def awaited(client: AsyncLlamaServerClient) -> None:
    reply: ChatReply = await client.chat(ChatRequest(messages=HI))
    deltas: AsyncIterator[ChatDelta] = client.stream_chat(ChatRequest(messages=HI))
    async for delta in deltas:
        print(delta.content, delta.tool_calls)
    print(reply, (await client.embed(["a"])).vectors, (await client.rerank("a", ["b"]))[0].score)
    print(await client.decide("a", {"urgent": Noul("?")}), await client.tokenize("a"), (await client.info()).n_ctx)
    summary: BatchSummary = await client.batch_file("in.jsonl", "out.jsonl", on_progress=counts)
    print(summary.seconds, await client.create_message(MessagesRequest(messages=HI)))
    async for event in client.watch_models():
        print(event)
    await client.with_settings(total_timeout=5.0).aclose()


def servers() -> None:
    with LocalServer("org/repo:Q8_0", reuse=True, on_wait=waits, on_progress=show, seed=1) as server:
        print(server.client(read_timeout=5).health(), server.async_client(), server.log_tail(), server.pid)
    LocalServer.from_directory("models", "qwen", ctx_size=4096).stop()
    print([model.path for model in find_models("models")])
    with ScriptedServer({"weather": tool_call("add", {"a": 1}), "": Script(["Hi."])}, fail_with="loading") as scripted:
        scripted.fail("overflow", times=2)
        print(scripted.base_url, scripted.calls)
        scripted.assert_used_up()


class Polite(ChatLlamaServer):
    """A subclass with a field and a hook of its own."""

    greeting: str = "Please: "

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return super()._generate([HumanMessage(self.greeting), *messages], stop, run_manager, **kwargs)


class Known(LlamaServer):
    """A subclass with a field of its own."""

    known: bool = True


class Checked(LlamaServerEmbeddings):
    """A subclass that overrides a method."""

    def embed_query(self, text: str, **kwargs: Any) -> list[float]:
        return super().embed_query(text.strip(), **kwargs)

    def embed_documents(self, texts: list[str], chunk_size: int | None = None, **kwargs: Any) -> list[list[float]]:
        return super().embed_documents([text.strip() for text in texts], chunk_size, **kwargs)


def given_clients(path: Path) -> None:
    ChatLlamaServer(http_client=httpx2.Client(), http_async_client=httpx2.AsyncClient(), grammar=path)
    LlamaServer(http_client=httpx2.Client(), async_http_client=httpx2.AsyncClient())
    ChatLlamaServer(http_client=httpx.Client(), http_async_client=httpx.AsyncClient())


def chains() -> None:
    llm = Polite(base_url=URL, greeting="Hello: ", temperature=0)
    prompt = ChatPromptTemplate.from_messages([("user", "{question}")])
    text: str = (prompt | llm | StrOutputParser()).invoke({"question": "a"})
    chain: Runnable[Any, Any] = {"question": RunnablePassthrough()} | prompt | llm.with_structured_output(Person)
    print(text, chain.invoke("a"), chain.batch(["a", "b"]))
    tools: Runnable[Any, AIMessage] = prompt | llm.bind_tools([add, Person, {"type": "function", "function": {}}])
    print(tools.invoke({"question": "a"}).tool_calls)
    for schema in (Person, Place, Person.model_json_schema()):
        llm.with_structured_output(schema, method="function_calling", include_raw=True)
    other = ChatLlamaServer(base_url="http://other:8080", rate_limiter=InMemoryRateLimiter(requests_per_second=1))
    llm.with_fallbacks([other]).with_retry(stop_after_attempt=2).invoke("a")
    llm.with_fallbacks([other], exceptions_to_handle=(lc.ServerBusyError, lc.ConnectionFailedError)).invoke("a")
    llm.with_config(tags=["a"]).invoke("a")
    llm.configurable_fields(model_name=ConfigurableField(id="m")).with_config(configurable={"m": "a"}).invoke("a")
    llm.configurable_alternatives(ConfigurableField(id="llm"), default_key="a", b=other).invoke("a")
    llm.bind(stop=["a"]).stream("a")
    llm.invoke("a", response_format=Person, functions=[], extra_body={"a": 1}, timeout=5, reasoning_effort="low")
    copies = [llm.model_copy(update={"temperature": 0.5}), copy.deepcopy(llm), pickle.loads(pickle.dumps(llm))]
    print(copies, llm.model_dump(), llm.get_num_tokens_from_messages([HumanMessage("a")], tools=[add]))
    agent = create_agent(llm, [add], middleware=[LlamaServerMiddleware(limit=0.8, keep_tool_results=1)])
    print(agent.invoke({"messages": [HumanMessage("a")]}))
    lc.server_tools(llm.client, ["read_file"], async_client=llm.async_client)


def decide_with_langchain(llm: ChatLlamaServer, documents: Sequence[Document]) -> None:
    judge = LlamaServerDecisions(base_url=URL, api_key="k", timeout=5)
    lc.route_by(judge, "Which team?", {"billing": "Money.", "shipping": "Parcels."}, otherwise="billing")
    reranker = LlamaServerReranker(model_name="m", openai_api_base=URL, request_timeout=5.0, headers={"a": "b"})
    print(reranker.compress_documents(documents, "a"), judge, lc.CacheReport(llm).turns)
    Checked(base_url=URL, deployment="a", dimensions=4).embed_query("a", dimensions=2)
    LlamaServerEmbeddings(model="m", base_url=URL, num_ctx=1, keep_alive=5, mirostat=0, temperature=0.5)
    LlamaServerEmbeddings(document_prefix="d: ", query_prefix="q: ", normalize=True, on_oversize="truncate")
    LlamaServerLLM(model="m", num_predict=5, num_ctx=1, keep_alive="5m", mirostat=0, format="json", reasoning=False)
    LlamaServerLLM(stop=["a"], temperature=0, seed=1, logit_bias={1: 2.0}, cache=False).batch(["a", "b"])


async def langchain_awaited(llm: ChatLlamaServer, documents: Sequence[Document]) -> None:
    person = await llm.with_structured_output(Person).ainvoke("a")
    message: AIMessage = await llm.bind_tools([add]).ainvoke("a")
    async for event in llm.astream_events("a", version="v2"):
        print(event["event"])
    print(person, message.tool_calls, await llm.abatch(["a", "b"]), (await llm.aprewarm("Be brief.")).tokens)
    vector: list[float] = await LlamaServerEmbeddings(base_url=URL).aembed_query("a")
    print(vector, await LlamaServerReranker(base_url=URL).acompress_documents(documents, "a"))
    print(await LlamaServerLLM(base_url=URL).ainvoke("a"))


def multiply(a: Annotated[int, "A number"], b: int) -> int:
    """Multiply two numbers."""
    return a * b


def llamaindex_in_settings() -> None:
    llm = Known(base_url=URL, known=False, context_budget=ContextBudget())
    Settings.llm = llm
    Settings.embed_model = LlamaServerEmbedding(base_url=URL)
    Settings.tokenizer = llm.tokenizer
    any_llm: LLM = LlamaServer(model="m", api_base=URL, api_key="k", is_chat_model=True, context_window=4096)
    index = VectorStoreIndex.from_documents([IndexDocument(text="a")], embed_model=LlamaServerEmbedding(base_url=URL))
    engine = index.as_query_engine(llm=any_llm, node_postprocessors=[LlamaServerRerank(base_url=URL, top_n=2)])
    print(engine.query("a"), index.as_chat_engine(llm=llm).chat("a"))
    numbers = FunctionTool.from_defaults(multiply)
    print(
        llm.predict_and_call([numbers], "2 * 3").response, llm.chat_with_tools([numbers], "2 * 3", tool_required=True)
    )
    person: Person = llm.structured_predict(Person, PromptTemplate("{text}"), text="Ann is 7.")
    print(person.age, llm.count_tokens([ChatMessage("a")], [numbers]), llm.fits([ChatMessage("a")], max_tokens=5).fits)
    print(FunctionAgent(tools=[numbers], llm=llm), li.server_tools(llm.client, ["read_file"]))
    for text in llm.stream_complete("a"):
        print(text.delta)
    print(llm.infill("a", "b").text, llm.model_copy(update={"temperature": 0.5}), copy.deepcopy(llm))


def llamaindex_with_decisions() -> None:
    selector = LlamaServerSelector(base_url=URL, multi=True, min_probability=0.3)
    print(selector.select([ToolMetadata(name="a", description="A")], query="a").selections)
    judge = LlamaServerYesNo(base_url=URL, api_key="k", timeout=5.0, context_window=4096)
    LlamaServerDecisionRerank(base_url=URL, top_n=2, min_score=0.5, instructions="Does it help?")
    LlamaServerRerank(model="jina-reranker", api_key="k", base_url=URL, keep_retrieval_score=True)
    LlamaServerEmbedding(model_name="m", base_url=URL, request_timeout=5.0, keep_alive="5m", text_instruction="d: ")
    print(judge.complete("a").text, CacheReport().turns)


async def llamaindex_awaited() -> None:
    llm = LlamaServer(model="m", request_timeout=60.0, thinking=True, num_ctx=1)
    numbers = FunctionTool.from_defaults(multiply)
    print((await llm.achat([ChatMessage("a")])).message.content, (await llm.apredict_and_call([numbers], "a")).response)
    async for part in await llm.astream_complete("a"):
        print(part.delta)
    person: Person = await llm.astructured_predict(Person, PromptTemplate("{text}"), text="Ann is 7.")
    print(person, await LlamaServerEmbedding(base_url=URL).aget_query_embedding("a"), await llm.atokenize("a"))
    print(await FunctionAgent(tools=[numbers], llm=llm).run("2 * 3"))
