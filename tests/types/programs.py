"""What people write with each class, for type checkers (`test_checkers.py`). Nothing here is run."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from llama_index.core.llms import ChatMessage
from llama_index.core.schema import NodeWithScore, TextNode
from pydantic import BaseModel, SecretStr

import langchain_llamacpp_server as lc
import llamaindex_llamacpp_server as li
from langchain_llamacpp_server import ChatLlamaServer, LlamaServerEmbeddings, LlamaServerLLM, LlamaServerReranker
from llamacpp_server import (
    AsyncLlamaServerClient,
    ChatRequest,
    CompletionRequest,
    ContextOverflowError,
    EmbedRequest,
    LlamaServerClient,
    LlamaServerError,
    LocalServer,
    ProgressBar,
    RankRequest,
    ThinkingControl,
)
from llamaindex_llamacpp_server import LlamaServer, LlamaServerEmbedding, LlamaServerRerank

URL = "http://localhost:8080"


class Person(BaseModel):
    """Somebody."""

    name: str
    age: int


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def the_client() -> None:
    with LlamaServerClient(URL, api_key="k", read_timeout=5, max_concurrency=None, headers={"a": "b"}) as client:
        reply = client.chat(ChatRequest(messages=[{"role": "user", "content": "hi"}], params={"top_k": 3}))
        text: str = reply.choices[0].content
        for delta in client.stream_chat(ChatRequest(messages=[{"role": "user", "content": text}])):
            print(delta)
        client.complete(CompletionRequest(prompt="a", params={"max_tokens": 3}))
        vectors: list[list[float]] = client.embed_texts(EmbedRequest(inputs=["a"], prefix="")).vectors
        client.rank(RankRequest(query="a", documents=["b"], top_n=1))
        ids: list[int] = client.tokenize("a")
        print(vectors, ids, client.info().n_ctx)
    control = ThinkingControl()
    client.chat(ChatRequest(messages=[{"role": "user", "content": "hi"}], thinking_control=control))


async def the_async_client() -> None:
    async with AsyncLlamaServerClient(URL, api_key=SecretStr("k")) as client:
        reply = await client.chat(ChatRequest(messages=[{"role": "user", "content": "hi"}]))
        print(reply.choices[0].reasoning_content)
        async for delta in client.stream_chat(ChatRequest(messages=[{"role": "user", "content": "hi"}])):
            print(delta)


def a_server_of_ones_own(model: Path) -> None:
    with LocalServer(model, ctx_size=8192, n_gpu_layers=99, embeddings=True) as server:
        print(server.base_url)


def chat() -> None:
    llm = ChatLlamaServer(base_url=URL, temperature=0)
    ChatLlamaServer()
    ChatLlamaServer(base_url=f"{URL}/v1", api_key="none", model="any", temperature=0, max_tokens=400, thinking=False)
    ChatLlamaServer(thinking=200, cache_prompt=True, n_cache_reuse=256, lora={"poet": 0.5}, on_progress=ProgressBar())
    ChatLlamaServer(read_files=["~/pictures"], fetch_urls=["example.org"], max_concurrency="slots")
    ChatLlamaServer(stop=["a"], grammar="root ::= 'a'", choices=["a", "b"], logit_bias={1: 2.0, "a": False})
    ChatLlamaServer(http_client=httpx.Client(), http_async_client=httpx.AsyncClient(), verify=False)
    text: str = llm.invoke("Hello").text
    llm.invoke([SystemMessage("Be brief."), HumanMessage(text)], top_k=3, thinking=None)
    for chunk in llm.stream("Hello"):
        print(chunk.text, chunk.usage_metadata)
    message: AIMessage = llm.bind_tools([add], tool_choice="add", parallel_tool_calls=False).invoke("1 + 1")
    print(message.tool_calls)
    llm.with_structured_output(Person, include_raw=True, method="json_schema").invoke("Ann is 7.")
    print(llm.fits("Hello", max_tokens=3), llm.get_num_tokens("a"), llm.model_name, llm.profile)
    print(llm.prewarm("Be brief.", [add]).tokens, llm.client.info().n_ctx, llm.tokenizer("a"), llm.server_info())
    if llm.api_key is not None:
        print(llm.api_key.get_secret_value())
    llm.temperature, llm.model_name, llm.api_key, llm.request_timeout = 0.5, "m", "other", 7
    print(llm.openai_api_base, llm.openai_api_key, llm.openai_organization)
    lc.register()
    llm.invoke("a", config={"callbacks": [lc.CacheReport()]})


async def chat_awaited() -> None:
    llm = ChatLlamaServer(base_url=URL)
    print((await llm.ainvoke("Hello")).text, await llm.aserver_info(), await llm.afits("Hello"))
    async for chunk in llm.astream("Hello"):
        print(chunk.text)
    await llm.aclose()


def chat_as_chat_openai() -> None:
    ChatLlamaServer(
        model_name="m",
        openai_api_key="k",
        openai_api_base=URL,
        request_timeout=5,
        max_completion_tokens=5,
        stop_sequences=["a"],
        openai_organization="o",
    )
    ChatLlamaServer(
        api_key=SecretStr("k"),
        timeout=(1.0, 5.0),
        organization="o",
        n=1,
        seed=1,
        top_p=0.5,
        logprobs=True,
        top_logprobs=2,
        presence_penalty=0.5,
        frequency_penalty=0.5,
        streaming=True,
        stream_usage=True,
        max_retries=3,
        model_kwargs={"a": 1},
        extra_body={"a": 1},
        default_headers={"a": "b"},
        default_query={"a": "b"},
        disabled_params={"parallel_tool_calls": None},
        reasoning={"effort": "low"},
        reasoning_effort="low",
        use_responses_api=True,
        service_tier="auto",
        store=False,
        verbosity="low",
        tiktoken_model_name="m",
        output_version="v1",
        verbose=True,
        cache=False,
        tags=["a"],
        metadata={"a": 1},
        name="n",
        validate_model_on_init=False,
    )
    ChatLlamaServer(timeout=httpx.Timeout(5), api_key=lambda: "k", stream_chunk_timeout=9.0, openai_proxy="http://p")


def chat_as_chat_ollama() -> None:
    ChatLlamaServer(
        model="qwen3",
        num_predict=256,
        num_ctx=8192,
        num_thread=4,
        num_gpu=1,
        keep_alive="5m",
        format="json",
        reasoning=False,
        client_kwargs={"headers": {"a": "b"}},
        async_client_kwargs={"headers": {"a": "b"}},
        mirostat=0,
        repeat_last_n=64,
        repeat_penalty=1.1,
        tfs_z=1.0,
        validate_model_on_init=True,
    )
    ChatLlamaServer(format={"type": "object"}, reasoning="low")


def the_others_of_langchain(documents: Sequence[Document]) -> None:
    embeddings = LlamaServerEmbeddings(base_url=URL, preset="nomic", dimensions=256)
    LlamaServerEmbeddings(
        model="m",
        api_key="k",
        openai_api_base=URL,
        chunk_size=7,
        check_embedding_ctx_length=False,
        tiktoken_enabled=False,
        model_kwargs={"a": 1},
        show_progress_bar=True,
        request_timeout=7,
        max_retries=2,
        num_ctx=1,
    )
    vector: list[float] = embeddings.embed_query("a")
    print(vector, embeddings.embed_documents(["a"]))
    llm = LlamaServerLLM(base_url=URL, max_tokens=64, model_name="m", api_key="k", best_of=1, batch_size=20)
    LlamaServerLLM(num_predict=7, format="json", model_kwargs={"a": 1}, timeout=7, suffix="b", streaming=True)
    text: str = llm.invoke("Once upon a time", suffix="!")
    reranker = LlamaServerReranker(base_url=URL, top_n=3, api_key="k", timeout=5)
    LlamaServerReranker(top_n=None, min_score=0.5, normalize="none")
    found: Sequence[Document] = reranker.compress_documents(documents, text)
    print(found, reranker.rerank(["a"], "b"))


def llamaindex() -> None:
    llm = LlamaServer(base_url=URL, temperature=0.2, thinking=True, context_window=8192, is_chat_model=True)
    LlamaServer()
    LlamaServer(
        model="m",
        api_base=f"{URL}/v1",
        api_key="k",
        timeout=60.0,
        max_retries=3,
        max_tokens=5,
        additional_kwargs={"top_k": 3},
        reuse_client=False,
        strict=True,
        should_use_structured_outputs=True,
        async_http_client=httpx.AsyncClient(),
        http_client=httpx.Client(),
        is_function_calling_model=True,
        default_headers={"a": "b"},
        api_version="1",
        reasoning_effort="low",
        system_prompt="Be brief.",
        logprobs=True,
        top_logprobs=1,
        modalities=["text"],
        audio_config={},
    )
    LlamaServer(request_timeout=60.0, json_mode=True, headers={"a": "b"}, keep_alive="5m", prompt_key="prompt")
    print(llm.complete("a").text, llm.metadata.context_window, llm.tokenize("a"), llm.client.info())
    print(llm.chat([ChatMessage(role="user", content="a")], top_k=3).message.content)
    for part in llm.stream_chat([ChatMessage(role="user", content="a")]):
        print(part.delta)
    print(llm.as_structured_llm(Person).complete("Ann is 7.").raw, llm.fits([ChatMessage(content="a")]))
    embed_model = LlamaServerEmbedding(base_url=URL, preset="nomic", embed_batch_size=10)
    LlamaServerEmbedding(
        model_name="m",
        api_base=URL,
        api_key="k",
        timeout=7.0,
        dimensions=4,
        reuse_client=True,
        additional_kwargs={"a": 1},
        num_workers=2,
        mode="text_search",
        ollama_additional_kwargs={"mirostat": 0},
        query_instruction="q: ",
    )
    print(embed_model.get_query_embedding("a"), embed_model.get_text_embedding_batch(["a"]))
    rerank = LlamaServerRerank(base_url=URL, top_n=3, model="m", api_key="k", keep_retrieval_score=True)
    LlamaServerRerank(api_url=f"{URL}/v1/rerank", timeout=7, max_retries=1, top_n=None)
    nodes: list[NodeWithScore] = rerank.postprocess_nodes([NodeWithScore(node=TextNode(text="a"))], query_str="a")
    print(nodes, li.CacheReport(llm))


async def llamaindex_awaited() -> None:
    llm = LlamaServer(base_url=URL)
    print((await llm.acomplete("a")).text)
    async for part in await llm.astream_chat([ChatMessage(role="user", content="a")]):
        print(part.delta)
    await llm.aclose()


def from_a_configuration(options: Mapping[str, Any]) -> None:
    """Options of a file are of any type."""
    ChatLlamaServer(**options)
    LlamaServer(**options)
    LlamaServerEmbeddings(**options)


def errors(llm: ChatLlamaServer) -> None:
    try:
        llm.invoke("a")
    except ContextOverflowError as error:
        print(error.n_prompt_tokens, error.n_ctx, error.url)
    except LlamaServerError as error:
        print(error.remedy, error.status, error.retryable)


if __name__ == "__main__":
    asyncio.run(the_async_client())
