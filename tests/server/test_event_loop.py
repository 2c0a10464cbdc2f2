"""Nothing blocks an event loop: the whole awaited surface, and agents of both frameworks, under blockbuster.

It raises where code on a loop reads a socket or file, sleeps, or waits for a lock, as `langgraph dev` does.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

import langchain_openai  # noqa: F401  # create_agent imports it while it runs
import pytest
from blockbuster import BlockBuster, BlockingError, blockbuster_ctx
from langchain.agents import create_agent
from langchain.agents.middleware import SummarizationMiddleware
from langchain_core.documents import Document
from langchain_core.messages import HumanMessage
from llama_index.core.agent.workflow import FunctionAgent, ReActAgent
from llama_index.core.llms import ChatMessage
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.prompts import PromptTemplate
from llama_index.core.schema import NodeWithScore, TextNode
from pydantic import BaseModel

from langchain_llamacpp_server import ChatLlamaServer, LlamaServerEmbeddings, LlamaServerLLM, LlamaServerReranker
from llamacpp_server import (
    AsyncLlamaServerClient,
    ChatRequest,
    CompletionRequest,
    EmbedRequest,
    LocalServer,
    MessagesRequest,
    RankRequest,
    ResponsesRequest,
)
from llamaindex_llamacpp_server import LlamaServer, LlamaServerEmbedding, LlamaServerRerank
from tests.langchain.behind_doors import profile
from tests.llamaindex.behind_doors import structured
from tests.media import picture as image
from tests.models import tool_call

pytestmark = [
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20"),
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince211"),
    pytest.mark.filterwarnings("ignore:is_running called from within a step:DeprecationWarning"),
]
HI: Any = [{"role": "user", "content": "hi"}]
WEATHER = tool_call("weather", '{"city": "Oslo"}')


class Weather(BaseModel):
    """The weather of a city."""

    city: str


def weather(city: str) -> str:
    """Get the weather of a city."""
    return f"sunny in {city}"


@pytest.fixture
def strict() -> Iterator[BlockBuster]:
    with blockbuster_ctx() as blockbuster:
        yield blockbuster


@pytest.fixture
def caller(scripted_server: Any) -> LocalServer:
    """Calls a tool, and says more when it has the result."""
    return cast(LocalServer, scripted_server({"user": WEATHER, "tool": "It is sunny."}))


@pytest.fixture
def reporter(scripted_server: Any) -> LocalServer:
    """Answers with an object."""
    return cast(LocalServer, scripted_server({"user": '{"city": "Oslo"}'}))


@pytest.fixture
def reasoner(scripted_server: Any) -> LocalServer:
    """Answers as ReAct wants it."""
    return cast(LocalServer, scripted_server({"user": "Thought: I can answer.\nAnswer: It is sunny."}))


async def test_a_blocking_call_would_be_noticed(strict: BlockBuster) -> None:
    with pytest.raises(BlockingError):
        time.sleep(0.01)  # noqa: ASYNC251


async def test_the_client(chat_server: LocalServer, strict: BlockBuster) -> None:
    async with AsyncLlamaServerClient(chat_server.base_url) as client:
        request = ChatRequest(messages=HI, params={"max_tokens": 3})
        await client.wait_until_ready()
        await client.chat(request)
        async with aclosing(cast(Any, client.stream_chat(request))) as deltas:
            async for _ in deltas:
                break
        await client.complete(CompletionRequest(prompt="a", params={"max_tokens": 2}))
        async for _ in client.stream_complete(CompletionRequest(prompt="a", params={"max_tokens": 2})):
            pass
        await client.create_response(ResponsesRequest(input="hi", max_output_tokens=3))
        await client.create_message(MessagesRequest(messages=HI, max_tokens=3))
        await client.count_message_tokens(MessagesRequest(messages=HI, max_tokens=3))
        for ask in (client.health, client.models, client.model_name, client.props, client.info, client.slots):
            await ask()
        await client.detokenize(await client.tokenize("a b"))
        await client.tokenize_pieces("a b")
        await client.apply_template(request)
        await client.count_tokens(request)
        await client.fits(request)
        await client.prewarm(request)


async def test_vectors_and_scores(
    embedding_server: LocalServer, rerank_server: LocalServer, strict: BlockBuster
) -> None:
    async with AsyncLlamaServerClient(embedding_server.base_url) as client:
        await client.embed_texts(EmbedRequest(inputs=["a"] * 3, prefix=""))
        await client.embed(["a"])
    async with AsyncLlamaServerClient(rerank_server.base_url) as client:
        await client.rank(RankRequest(query="a", documents=["b", "c"]))
        await client.rerank("a", ["b"])
    embeddings = LlamaServerEmbeddings(base_url=embedding_server.base_url, query_prefix="", document_prefix="")
    await embeddings.aembed_documents(["a"])
    await embeddings.aembed_query("a")
    await embeddings.aclose()
    reranker = LlamaServerReranker(base_url=rerank_server.base_url)
    await reranker.acompress_documents([Document("a"), Document("b")], "a")
    await reranker.aclose()
    embed_model = LlamaServerEmbedding(
        base_url=embedding_server.base_url, query_instruction="", text_instruction="", num_workers=1
    )
    await embed_model.aget_query_embedding("a")
    await embed_model.aget_text_embedding_batch(["a", "b"])
    await embed_model.aclose()
    rerank = LlamaServerRerank(base_url=rerank_server.base_url)
    await rerank.apostprocess_nodes([NodeWithScore(node=TextNode(text="a"))], query_str="a")
    await rerank.aclose()


async def test_langchains_models(chat_server: LocalServer, strict: BlockBuster) -> None:
    llm = ChatLlamaServer(base_url=chat_server.base_url, max_tokens=8, thinking=False)
    await llm.ainvoke("hi")
    async for _ in llm.astream("hi"):
        pass
    async with aclosing(cast(Any, llm.astream("hi"))) as chunks:
        async for _ in chunks:
            break
    await llm.abatch(["a", "b"])
    await llm.agenerate([[HumanMessage("hi")]])
    await llm.afits("hi")
    await llm.aprewarm("Be brief.")
    async for _ in llm.astream_events("hi"):
        pass
    text = LlamaServerLLM(base_url=chat_server.base_url, max_tokens=4)
    await text.ainvoke("a")
    async for _ in text.astream("a"):
        pass
    await text.aclose()
    await llm.aclose()


async def test_langchains_structured_output(reporter: LocalServer, strict: BlockBuster) -> None:
    llm = ChatLlamaServer(base_url=reporter.base_url, max_tokens=200)
    chain = llm.with_structured_output(Weather, include_raw=True)
    assert (await chain.ainvoke("Oslo?"))["parsed"] == Weather(city="Oslo")
    async for _ in chain.astream("Oslo?"):
        pass
    await llm.aclose()


async def test_an_agent_of_langgraph_that_is_made_on_the_loop(caller: LocalServer, strict: BlockBuster) -> None:
    llm = ChatLlamaServer(base_url=caller.base_url, max_tokens=100)
    state = await create_agent(llm, [weather]).ainvoke({"messages": [HumanMessage("How is the weather?")]})
    assert "sunny in Oslo" in [message.content for message in state["messages"]]
    await llm.aclose()


async def test_an_agent_with_a_form_for_its_answer_that_is_made_on_the_loop(
    reporter: LocalServer, strict: BlockBuster
) -> None:
    llm = ChatLlamaServer(base_url=reporter.base_url, max_tokens=100)
    agent: Any = create_agent(llm, [], response_format=Weather)
    state = await agent.ainvoke({"messages": [HumanMessage("Oslo?")]})
    assert state["structured_response"] == Weather(city="Oslo")
    await llm.aclose()


async def one_awaited(llm: ChatLlamaServer) -> None:
    await llm.ainvoke("Oslo?")


async def one_streamed(llm: ChatLlamaServer) -> None:
    async for _ in llm.astream("Oslo?"):
        pass


async def one_left_early(llm: ChatLlamaServer) -> None:
    async with aclosing(cast(Any, llm.astream("Oslo?"))) as chunks:
        async for _ in chunks:
            break


async def several_awaited(llm: ChatLlamaServer) -> None:
    await llm.abatch(["Oslo?", "Rome?"])


async def one_with_events(llm: ChatLlamaServer) -> None:
    async for _ in llm.astream_events("Oslo?"):
        pass


async def one_with_tools(llm: ChatLlamaServer) -> None:
    await llm.bind_tools([weather]).with_config(tags=["a"]).ainvoke("Oslo?")


async def one_object(llm: ChatLlamaServer) -> None:
    assert await llm.with_structured_output(Weather).ainvoke("Oslo?") == Weather(city="Oslo")


async def objects_as_they_grow(llm: ChatLlamaServer) -> None:
    async for _ in llm.with_structured_output(Weather).astream("Oslo?"):
        pass


async def an_agent(llm: ChatLlamaServer) -> None:
    await create_agent(cast(Any, llm), [weather]).ainvoke({"messages": [HumanMessage("Oslo?")]})


async def an_agent_that_streams(llm: ChatLlamaServer) -> None:
    agent: Any = create_agent(cast(Any, llm), [], response_format=Weather)
    async for _ in agent.astream({"messages": [HumanMessage("Oslo?")]}, stream_mode="messages"):
        pass


@pytest.mark.parametrize(
    "call",
    [
        *(one_awaited, one_streamed, one_left_early, several_awaited, one_with_events),
        *(one_with_tools, one_object, objects_as_they_grow, an_agent, an_agent_that_streams),
    ],
)
async def test_the_profile_is_complete_after_any_awaited_call(
    reporter: LocalServer,
    strict: BlockBuster,
    caplog: pytest.LogCaptureFixture,
    fresh_notices: set[str],
    call: Any,
) -> None:
    llm = ChatLlamaServer(base_url=reporter.base_url, max_tokens=100)
    await call(llm)
    assert llm.profile == profile(await llm.aserver_info(), urls=False)
    if "agent" not in call.__name__:  # create_agent reads the profile before the first call
        assert "profile was read" not in caplog.text
    await llm.aclose()


async def test_a_profile_on_the_loop_is_what_is_known_and_the_next_call_finds_out_the_rest(
    chat_server: LocalServer, strict: BlockBuster, caplog: pytest.LogCaptureFixture, fresh_notices: set[str]
) -> None:
    llm = ChatLlamaServer(base_url=chat_server.base_url, max_tokens=3)
    with caplog.at_level(logging.WARNING, "llamacpp_server"):
        static = llm.profile
        assert llm.profile is not None
    assert static is not None and static["structured_output"] is True and "max_input_tokens" not in static
    assert caplog.text.count("aserver_info") == 1
    await llm.ainvoke("hi")
    profile = llm.profile
    assert profile is not None
    assert profile["max_input_tokens"] == (await llm.aserver_info()).n_ctx
    await llm.aclose()


async def test_a_blocking_call_on_a_loop_completes_the_profile(chat_server: LocalServer) -> None:
    """As in a notebook, whose cells run on a loop."""
    asked = ChatLlamaServer(base_url=chat_server.base_url, max_tokens=3)
    early = asked.profile
    assert early is not None and "max_input_tokens" not in early
    for llm in (asked, ChatLlamaServer(base_url=chat_server.base_url, max_tokens=3)):
        llm.invoke("hi")
        profile = llm.profile
        assert profile is not None and profile["max_input_tokens"] == 2048
        llm.close()
    streaming = ChatLlamaServer(base_url=chat_server.base_url, max_tokens=3)
    next(streaming.stream("hi"))
    assert streaming.profile is not None and streaming.profile["max_input_tokens"] == 2048
    streaming.close()


async def test_a_blocking_call_on_a_loop_to_a_server_that_is_gone_raises_its_own_error() -> None:
    llm = ChatLlamaServer(base_url="http://127.0.0.1:9", max_retries=0)
    with pytest.raises(ConnectionError):
        llm.invoke("hi")
    assert llm.profile is not None and "max_input_tokens" not in llm.profile


@pytest.mark.parametrize("formatted", [False, True])
async def test_any_call_on_a_loop_completes_llamaindexs_metadata(chat_server: LocalServer, formatted: bool) -> None:
    def made() -> LlamaServer:
        llm = LlamaServer(base_url=chat_server.base_url, max_tokens=3)
        assert llm.metadata.model_name == "unknown"
        return llm

    llms = [made() for _ in range(4)]
    llms[0].complete("hi", formatted=formatted)
    next(llms[1].stream_complete("hi", formatted=formatted))
    await llms[2].acomplete("hi", formatted=formatted)
    async for _ in await llms[3].astream_complete("hi", formatted=formatted):
        pass
    for llm in llms:
        assert (llm.metadata.context_window, llm.metadata.model_name) == (2048, "random")
        await llm.aclose()


async def test_any_call_of_a_model_without_chat_completes_llamaindexs_metadata(chat_server: LocalServer) -> None:
    def made() -> LlamaServer:
        llm = LlamaServer(base_url=chat_server.base_url, max_tokens=3, is_chat_model=False)
        assert llm.metadata.model_name == "unknown"
        return llm

    llms, messages = [made() for _ in range(4)], [ChatMessage(content="hi")]
    llms[0].chat(messages)
    next(llms[1].stream_chat(messages))
    await llms[2].achat(messages)
    async for _ in await llms[3].astream_chat(messages):
        pass
    for llm in llms:
        assert (llm.metadata.context_window, llm.metadata.model_name) == (2048, "random")
        await llm.aclose()


async def test_metadata_is_complete_before_llamaindex_decides_how_an_object_is_requested(
    reporter: LocalServer, strict: BlockBuster, monkeypatch: pytest.MonkeyPatch
) -> None:
    decided: list[str] = []
    made = structured._attempts

    def noting(llm: LlamaServer, *rest: Any) -> Any:
        decided.append(llm.metadata.model_name)
        return made(llm, *rest)

    monkeypatch.setattr(structured, "_attempts", noting)
    for streamed in (False, True):
        llm = LlamaServer(base_url=reporter.base_url, max_tokens=100)
        if streamed:
            async for _ in await llm.astream_structured_predict(Weather, PromptTemplate("{city}?"), city="Oslo"):
                pass
        else:
            await llm.astructured_predict(Weather, PromptTemplate("{city}?"), city="Oslo")
        await llm.aclose()
    assert len(decided) == 2 and "unknown" not in decided


async def test_a_profile_of_a_server_that_is_gone_costs_the_call_nothing_more_than_its_error(
    strict: BlockBuster,
) -> None:
    llm = ChatLlamaServer(base_url="http://127.0.0.1:9", max_retries=0)
    assert llm.profile is not None
    with pytest.raises(ConnectionError):
        await llm.ainvoke("hi")


async def test_summaries_by_a_fraction_of_the_context_work_when_the_server_was_asked(
    caller: LocalServer, strict: BlockBuster
) -> None:
    llm = ChatLlamaServer(base_url=caller.base_url, max_tokens=100)
    await llm.aserver_info()
    summaries: Any = SummarizationMiddleware(llm, trigger=("fraction", 0.8), keep=("messages", 2))
    agent = create_agent(llm, [weather], middleware=[summaries])
    await agent.ainvoke({"messages": [HumanMessage("How is the weather?")]})
    await llm.aclose()


async def test_llamaindexs_model(chat_server: LocalServer, strict: BlockBuster) -> None:
    llm = LlamaServer(base_url=chat_server.base_url, max_tokens=8, thinking=False)
    assert llm.metadata.model_name == "unknown"
    await llm.acomplete("hi")
    assert llm.metadata.context_window == (await llm.aserver_info()).n_ctx
    await llm.achat([ChatMessage(content="hi")])
    async for _ in await llm.astream_chat([ChatMessage(content="hi")]):
        pass
    async for _ in await llm.astream_complete("hi"):
        pass
    await llm.atokenize("a")
    await llm.acount_tokens([ChatMessage(content="hi")])
    await llm.afits([ChatMessage(content="hi")])
    await llm.aprewarm("Be brief.")
    await llm.aclose()


async def test_agents_of_llamaindex_that_are_made_on_the_loop(
    caller: LocalServer, reasoner: LocalServer, strict: BlockBuster
) -> None:
    for agent, server in ((FunctionAgent, caller), (ReActAgent, reasoner)):
        llm = LlamaServer(base_url=server.base_url, max_tokens=100)
        # The core's own tokenizer reads files.
        memory = ChatMemoryBuffer.from_defaults(token_limit=4000, tokenizer_fn=str.split)
        output = await agent(tools=[weather], llm=llm).run("How is the weather?", memory=memory)
        assert "It is sunny" in str(output)
        await llm.aclose()


async def test_llamaindexs_structured_output(reporter: LocalServer, strict: BlockBuster) -> None:
    llm = LlamaServer(base_url=reporter.base_url, max_tokens=100)
    found = await llm.astructured_predict(Weather, PromptTemplate("{city}?"), city="Oslo")
    assert found == Weather(city="Oslo")
    async for _ in await llm.astream_structured_predict(Weather, PromptTemplate("{city}?"), city="Oslo"):
        pass
    assert (await llm.as_structured_llm(Weather).acomplete("Oslo?")).raw == Weather(city="Oslo")
    await llm.aclose()


async def test_a_file_of_a_message_is_read_off_the_event_loop(
    vision_server: LocalServer, tmp_path: Path, strict: BlockBuster
) -> None:
    picture = tmp_path / "a.png"
    strict.deactivate()
    picture.write_bytes(image())
    strict.activate()
    llm = ChatLlamaServer(base_url=vision_server.base_url, max_tokens=3, read_files=[tmp_path])
    await llm.ainvoke([HumanMessage([{"type": "image_url", "image_url": {"url": f"file://{picture}"}}])])
    await llm.aclose()
