"""Code of the guides of ChatOpenAI, ChatOllama, OpenAILike and OpenAIEmbeddings with our classes. None of it is run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import httpx
from langchain.agents import create_agent
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain.tools import tool
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage, ToolMessage, trim_messages
from langchain_core.output_parsers import JsonOutputParser, PydanticToolsParser, StrOutputParser
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables import RunnableConfig, RunnableLambda, RunnableParallel, RunnablePassthrough
from langchain_core.runnables.history import RunnableWithMessageHistory
from langchain_core.tools import BaseTool
from langchain_core.vectorstores import InMemoryVectorStore
from llama_index.core import Document as IndexDocument
from llama_index.core import Settings, SimpleDirectoryReader, SummaryIndex, VectorStoreIndex
from llama_index.core.agent.workflow import AgentStream, AgentWorkflow, FunctionAgent, ReActAgent
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.llms import LLM, ChatMessage, ImageBlock, MessageRole, TextBlock
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.program import LLMTextCompletionProgram
from llama_index.core.prompts import ChatPromptTemplate as IndexPromptTemplate
from llama_index.core.query_engine import RouterQueryEngine, SubQuestionQueryEngine
from llama_index.core.selectors import LLMSingleSelector
from llama_index.core.tools import FunctionTool, QueryEngineTool
from llama_index.core.workflow import Context, StartEvent, StopEvent, Workflow, step
from pydantic import BaseModel, Field, SecretStr

from langchain_llamacpp_server import ChatLlamaServer, LlamaServerEmbeddings, LlamaServerLLM, LlamaServerReranker
from llamacpp_server import (
    AsyncLlamaServerClient,
    ChatRequest,
    Choice,
    LlamaServerClient,
    Noul,
    Score,
    ServerSettings,
)
from llamaindex_llamacpp_server import LlamaServer, LlamaServerEmbedding, LlamaServerRerank

URL = "http://localhost:8080"


class Joke(BaseModel):
    """Joke to tell user."""

    setup: str = Field(description="The setup of the joke")
    punchline: str = Field(description="The punchline to the joke")
    rating: int | None = Field(default=None, description="How funny the joke is, from 1 to 10")


class JokeDict(TypedDict):
    """Joke to tell user."""

    setup: Annotated[str, ..., "The setup of the joke"]
    punchline: Annotated[str, ..., "The punchline of the joke"]


class GetWeather(BaseModel):
    """Get the current weather in a given location."""

    location: str = Field(..., description="The city and state, e.g. San Francisco, CA")


@tool
def validate_user(user_id: int, addresses: list[str]) -> bool:
    """Validate user using historical addresses."""
    return bool(user_id and addresses)


def what_the_environment_says() -> None:
    """The environment, a settings object and a config file give `str | None`, `dict` and `list` of their own."""
    ChatLlamaServer(base_url=os.getenv("LLM_URL"), api_key=os.getenv("LLM_KEY"), model=os.getenv("LLM_MODEL"))
    ChatLlamaServer(base_url=os.environ["LLM_URL"], api_key=os.environ.get("LLM_KEY", ""))
    LlamaServerEmbeddings(base_url=os.getenv("EMBED_URL"), api_key=os.getenv("EMBED_KEY"))
    LlamaServerLLM(base_url=os.getenv("LLM_URL"), api_key=SecretStr(os.environ["LLM_KEY"]))
    LlamaServer(api_base=os.getenv("LLM_URL"), api_key=os.getenv("LLM_KEY"))
    LlamaServer(base_url=os.getenv("LLM_URL"))
    LlamaServerEmbedding(api_base=os.getenv("EMBED_URL"), base_url=os.getenv("EMBED_URL"))
    LlamaServerRerank(base_url=os.getenv("RERANK_URL"))
    LlamaServerClient(os.getenv("LLM_URL"), api_key=os.getenv("LLM_KEY"))
    ServerSettings(api_key="k")
    ServerSettings(api_key=os.getenv("LLM_KEY"), headers={"a": "b"}, max_concurrency=4)
    settings = ServerSettings(base_url=URL, api_key=SecretStr("k"))
    if settings.api_key is not None:
        print(settings.api_key.get_secret_value())
    AsyncLlamaServerClient(settings=settings.replace(api_key="other"))


def variables_of_a_narrower_type(stops: tuple[str, ...], headers: Mapping[str, str], bias: dict[int, int]) -> None:
    roots: list[str] = ["/srv/pictures"]
    schema: Mapping[str, Any] = Joke.model_json_schema()
    scales: dict[str, float] = {"poet": 0.5}
    body: Mapping[str, Any] = {"min_p": 0.1}
    model = ChatLlamaServer(base_url=URL, stop=stops, default_headers=headers, logit_bias=bias, extra_body=body)
    ChatLlamaServer(stop=["\n"], read_files=roots, fetch_urls=tuple(roots), json_schema=schema, lora=scales)
    ChatLlamaServer(response_format={"type": "json_object"}, chat_template_kwargs={"enable_thinking": False})
    ChatLlamaServer(choices=("yes", "no"), samplers=("top_k", "min_p"), dry_sequence_breakers=stops)
    ChatLlamaServer(history_repair={"merge_system"}, default_query={"tenant": 7}, model_kwargs=body)
    ChatLlamaServer(default_headers=None, default_query=None, extra_body=None, max_retries=None, stream_usage=None)
    LlamaServerLLM(base_url=URL, logit_bias={"12": -100.0}, stop=stops, extra_body=body, default_headers=headers)
    LlamaServer(stop=stops, logit_bias=bias, extra_body=body, default_headers=None, lora={0: 1.0})
    LlamaServerEmbeddings(default_headers=headers, extra_body=body, default_query=headers)
    kept: list[str] | str | None = model.stop
    sent: dict[str, str] = model.default_headers
    address: str = model.base_url
    tries: int = model.max_retries
    print(kept, sent, address, tries, model.extra_body["min_p"], model.read_files)
    model.stop, model.default_headers, model.base_url = stops, headers, URL


def plain_dicts_are_messages(history: list[dict[str, Any]], tools: list[dict[str, Any]]) -> None:
    client = LlamaServerClient(URL)
    history.append({"role": "user", "content": "And tomorrow?"})
    client.chat(ChatRequest(messages=history, tools=tools, tool_choice="auto"))
    client.chat(ChatRequest(messages=[{"role": "system", "content": "Be brief."}, *history]))
    plain: list[dict[str, str]] = [{"role": "user", "content": "Hi"}]
    client.chat(ChatRequest(messages=plain))
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    client.chat(ChatRequest(messages=[{"role": "user", "content": [{"type": "text", "text": "What is it?"}, picture]}]))
    client.chat(
        ChatRequest(messages=[{"role": "user", "content": "Hi"}], params={"temperature": 0}, extra_body={"a": 1})
    )
    client.count_tokens(ChatRequest(messages=plain, tools=[{"type": "function", "function": {"name": "f"}}]))
    client.embed(("a", "b"))
    client.rerank("q", ("a", "b"), top_n=2)
    scales = {0: 0.5}
    client.set_lora_adapters(scales)
    client.set_lora_adapters({"poet": 1})


def questions_of_several_kinds() -> None:
    client = LlamaServerClient(URL)
    questions = {
        "urgent": Noul("Is it urgent?", true="Today", false="Any time"),
        "team": Choice("Which team?", {"billing": "Money", "shipping": None}),
        "mood": Score("How angry?", ("calm", "cross")),
    }
    client.decide("Where is my parcel?", questions, rotations=2)
    mixed = {"a": Noul("?"), "b": Choice("?", ["x", "y"])}
    found = client.decide({"text": "a"}, mixed)
    for name in [key for key in questions if key != "mood"]:
        print(name, questions[name].type, questions[name].instructions, found.answers[name])
    dynamic = {f"q{number}": Noul(f"Is it {number}?") for number in range(3)}
    client.decide("a", dynamic)


def guides_of_chat_openai() -> None:
    llm = ChatLlamaServer(
        model="gpt-4o",
        temperature=0,
        max_tokens=None,
        timeout=None,
        max_retries=2,
        api_key="...",
        base_url="...",
        organization="...",
    )
    messages = [
        ("system", "You are a helpful assistant that translates English to French. Translate the user sentence."),
        ("human", "I love programming."),
    ]
    ai_msg = llm.invoke(messages)
    print(ai_msg.content, ai_msg.response_metadata["token_usage"], ai_msg.usage_metadata, ai_msg.content_blocks)
    llm_with_tools = llm.bind_tools([GetWeather])
    print(llm_with_tools.invoke("what is the weather like in San Francisco").tool_calls)
    llm.bind_tools([GetWeather], strict=True, tool_choice="required").invoke("weather?")
    llm.bind_tools([validate_user], tool_choice={"type": "function", "function": {"name": "validate_user"}})
    structured = llm.bind_tools([GetWeather], strict=True, parallel_tool_calls=False)
    print((structured | PydanticToolsParser(tools=[GetWeather], first_tool_only=True)).invoke("a"))
    joke = llm.with_structured_output(Joke, method="function_calling", strict=True).invoke("Tell me a joke about cats")
    print(joke.punchline)
    for part in llm.with_structured_output(JokeDict).stream("Tell me a joke about cats"):
        print(part)
    both = llm.with_structured_output(Joke, include_raw=True).invoke("a")
    print(both["parsed"], both["raw"], both["parsing_error"])
    llm.with_structured_output(method="json_mode").invoke("Respond in JSON")
    json_llm = llm.bind(response_format={"type": "json_object"})
    print((json_llm | JsonOutputParser()).invoke("JSON please"))
    logprobs = llm.bind(logprobs=True).invoke(("human", "how are you today"))
    print(logprobs.response_metadata["logprobs"]["content"][:5])
    chunk: AIMessageChunk | None = None
    for new in llm.stream(messages, stream_usage=True):
        chunk = new if chunk is None else chunk + new
    print(chunk)
    llm.invoke([HumanMessage([{"type": "text", "text": "?"}, {"type": "image_url", "image_url": {"url": "u"}}])])
    llm.invoke([{"role": "user", "content": "Hello"}], reasoning={"effort": "low"}, max_completion_tokens=10)
    llm.get_num_tokens_from_messages([SystemMessage("a"), HumanMessage("b")])
    ChatLlamaServer(model="o4-mini", model_kwargs={"text": {"verbosity": "high"}}, output_version="responses/v1")
    ChatLlamaServer(http_client=httpx.Client(proxy="http://localhost:3128", timeout=5))
    fallback: BaseChatModel = llm
    print(fallback.with_fallbacks([ChatLlamaServer(base_url="http://other:8080")]))


def guides_of_chat_ollama() -> None:
    llm = ChatLlamaServer(model="llama3.1", temperature=0, num_predict=256, base_url="http://localhost:8080")
    result = llm.bind_tools([validate_user]).invoke("Could you validate user 123? They lived at 123 Fake St.")
    if isinstance(result, AIMessage) and result.tool_calls:
        print(result.tool_calls[0]["args"])
    answer = ToolMessage("ok", tool_call_id="1")
    llm.invoke([HumanMessage("a"), result, answer])
    ChatLlamaServer(model="deepseek-r1:8b", reasoning=True, validate_model_on_init=False, mirostat=1, top_k=3)
    version = 2 if llm.seed else 0
    ChatLlamaServer(mirostat=version, format=Joke.model_json_schema(), num_gpu=0, keep_alive=-1)
    ChatLlamaServer(client_kwargs={"verify": False}, async_client_kwargs={"timeout": 5}, sync_client_kwargs={})
    LlamaServerEmbeddings(model="llama3", num_thread=2, mirostat_tau=5.0, stop=["a"], tfs_z=1.0, repeat_last_n=64)
    for text in LlamaServerLLM(model="llama3").stream("The meaning of life is"):
        print(text.upper())


def pipelines(documents: list[Document], retriever: Any) -> None:
    llm = ChatLlamaServer(base_url=URL)
    embeddings: Embeddings = LlamaServerEmbeddings(model="text-embedding-3-large", dimensions=1024)
    store = InMemoryVectorStore.from_documents(documents, embedding=embeddings)
    prompt = ChatPromptTemplate.from_messages(
        [("system", "Answer from {context}"), MessagesPlaceholder("history"), ("human", "{question}")]
    )
    chain = (
        {"context": store.as_retriever(), "question": RunnablePassthrough(), "history": lambda _: []}
        | prompt
        | llm
        | StrOutputParser()
    )
    answer: str = chain.invoke("Who?")
    both = RunnableParallel(joke=prompt | llm, text=RunnableLambda(lambda x: x))
    config: RunnableConfig = {"callbacks": [], "tags": ["a"], "max_concurrency": 2}
    print(answer, both.invoke({"question": "a"}, config), itemgetter("a"))
    RunnableWithMessageHistory(prompt | llm, retriever, input_messages_key="question", history_messages_key="history")
    trim_messages([HumanMessage("a")], max_tokens=45, strategy="last", token_counter=llm, include_system=True)
    reranker = LlamaServerReranker(base_url=URL, top_n=2)
    found: Sequence[Document] = reranker.compress_documents(documents, "q")
    print([one.metadata["relevance_score"] for one in found])


def agents() -> None:
    llm = ChatLlamaServer(base_url=URL, api_key="k", temperature=0.1, max_tokens=1000, timeout=30)
    tools: list[BaseTool] = [validate_user]
    agent = create_agent(llm, tools=tools, system_prompt="You are a helpful assistant")
    agent.invoke({"messages": [{"role": "user", "content": "what is the weather in sf"}]})
    create_agent(model=llm, tools=[validate_user], response_format=Joke)
    create_agent(model=llm, tools=[], response_format=ToolStrategy(Joke))
    create_agent(model=llm, tools=[], response_format=ProviderStrategy(Joke))
    llm.bind_tools(tools)
    llm.bind_tools([tool.args_schema for tool in tools if isinstance(tool.args_schema, type)])


def guides_of_open_ai_like() -> None:
    llm = LlamaServer(
        model="my model",
        api_base="https://hostname.com/v1",
        api_key="fake",
        context_window=128000,
        is_chat_model=True,
        is_function_calling_model=False,
    )
    print(str(llm.complete("Hello World!")), llm.model, llm.temperature, llm.context_window)
    llm.stream_complete("Paul Graham is ")
    reply = llm.chat(
        [
            ChatMessage(role="system", content="You are a pirate with a colorful personality"),
            ChatMessage(role=MessageRole.USER, content="What is your name"),
        ]
    )
    print(reply.message.content, reply.raw, reply.message.blocks)
    for delta in llm.stream_chat([ChatMessage(role="user", content="a")]):
        print(delta.delta, end="")
    LlamaServer(model="llama3.1:latest", request_timeout=120.0, context_window=8000, json_mode=True, thinking=False)
    sllm = llm.as_structured_llm(output_cls=Joke)
    print(sllm.chat([ChatMessage(role="user", content="a")]).raw)
    LlamaServer(model="gpt-4o-mini", additional_kwargs={"user": "u"}, default_headers={"h": "v"}, tokenizer=None)
    seen = ChatMessage(blocks=[ImageBlock(path=Path("a.png")), TextBlock(text="What is it?")])
    llm.chat([seen], temperature=0.3)
    tool_of = FunctionTool.from_defaults(fn=lambda x: x)
    llm.chat_with_tools([tool_of], user_msg="a", allow_parallel_tool_calls=True)
    Settings.llm = llm
    Settings.embed_model = LlamaServerEmbedding(model_name="BAAI/bge-small-en-v1.5", embed_batch_size=100)
    other: LLM = llm
    embedder: BaseEmbedding = LlamaServerEmbedding(api_key="k", api_base=URL, additional_kwargs={"a": 1})
    print(other, embedder.get_text_embedding("a"), embedder.similarity([1.0], [1.0]))


def engines() -> None:
    llm = LlamaServer(base_url=URL)
    documents = SimpleDirectoryReader("./data").load_data()
    index = VectorStoreIndex.from_documents(documents, transformations=[SentenceSplitter(chunk_size=512)])
    summary = SummaryIndex.from_documents([IndexDocument(text="a")])
    tools = [
        QueryEngineTool.from_defaults(index.as_query_engine(llm=llm), description="Facts"),
        QueryEngineTool.from_defaults(summary.as_query_engine(llm=llm), description="Summaries"),
    ]
    RouterQueryEngine(selector=LLMSingleSelector.from_defaults(llm=llm), query_engine_tools=tools).query("a")
    SubQuestionQueryEngine.from_defaults(query_engine_tools=tools, llm=llm, use_async=False).query("a")
    index.as_chat_engine(llm=llm, memory=ChatMemoryBuffer.from_defaults(token_limit=3900))
    index.as_query_engine(similarity_top_k=10, node_postprocessors=[LlamaServerRerank(top_n=2)], streaming=True)
    LLMTextCompletionProgram.from_defaults(output_cls=Joke, prompt_template_str="Joke about {topic}", llm=llm)
    llm.predict(IndexPromptTemplate([ChatMessage("Hi {name}")]), name="Ann")


@dataclass
class Deps:
    """What a program hands round."""

    llm: LlamaServer
    mode: Literal["fast", "slow"] = "fast"


class JokeFlow(Workflow):
    """A workflow of LlamaIndex's guide."""

    llm = LlamaServer(base_url=URL, temperature=0.7)

    @step
    async def generate_joke(self, ev: StartEvent) -> StopEvent:
        response = await self.llm.acomplete(f"Write a joke about {ev.topic}.")
        return StopEvent(result=str(response))


async def index_agents(deps: Deps) -> None:
    def multiply(a: float, b: float) -> float:
        """Multiply two numbers."""
        return a * b

    agent = FunctionAgent(tools=[multiply], llm=deps.llm, system_prompt="You can multiply.")
    context = Context(agent)
    print(str(await agent.run("What is 7 * 9?", ctx=context)))
    handler = ReActAgent(tools=[multiply], llm=deps.llm).run(user_msg="a")
    async for event in handler.stream_events():
        if isinstance(event, AgentStream):
            print(event.delta, end="")
    flow = AgentWorkflow(agents=[agent], root_agent=agent.name)
    print(await flow.run(user_msg="a"), await JokeFlow(timeout=60).run(topic="pirates"))
