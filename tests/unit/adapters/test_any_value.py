"""Any value where a program's input belongs, through the classes of both frameworks: it is sent, or refused by name.

A refusal is an error of ours, a ValueError, or what the framework itself raises before our code sees the value.
"""

import traceback

import httpx
import pytest
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from llama_index.core.base.llms.types import ChatMessage, TextBlock
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.core.tools import FunctionTool

from langchain_llamacpp_server import ChatLlamaServer, LlamaServerEmbeddings, LlamaServerLLM, LlamaServerReranker
from llamacpp_server import LlamaServerClient, LlamaServerError
from llamaindex_llamacpp_server import LlamaServer, LlamaServerEmbedding, LlamaServerRerank
from tests.unit.every_call import COMPLETION, DELTAS, PROPS, RANKS, VECTORS, Events, text_of
from tests.unit.test_any_input import DEEP, ODD

OURS = ("/llamacpp_server/", "/langchain_llamacpp_server/", "/llamaindex_llamacpp_server/")
THEIRS = ("/langchain_core/", "/llama_index/", "/pydantic/")
REPLIES = {
    "/v1/chat/completions": Events(DELTAS), "/v1/completions": Events([COMPLETION]), "/v1/embeddings": VECTORS,
    "/v1/rerank": RANKS, "/props": PROPS, "/tokenize": {"tokens": [1]}, "/apply-template": {"prompt": "x"},
}  # fmt: skip
SCHEMA = {"title": "Answer", "type": "object", "properties": {"a": {"type": "string"}}}


def answer(request):
    """What the server answers."""
    if request.url.path not in REPLIES:
        return httpx.Response(404, json={"error": {"code": 404, "message": "File Not Found"}})
    text, kind = text_of(REPLIES[request.url.path])
    return httpx.Response(200, content=text.encode(), headers={"Content-Type": kind})


@pytest.fixture(scope="module")
def made():
    """One object of each class."""
    given = httpx.Client(transport=httpx.MockTransport(answer))
    shared = {"base_url": "http://127.0.0.1:1", "http_client": given, "max_retries": 0, "model": "m"}
    return {
        "chat": ChatLlamaServer(**shared), "llm": LlamaServerLLM(**shared),
        "embeddings": LlamaServerEmbeddings(**shared), "reranker": LlamaServerReranker(**shared),
        "index": LlamaServer(**shared), "vectors": LlamaServerEmbedding(**shared), "rank": LlamaServerRerank(**shared),
        "client": LlamaServerClient("http://127.0.0.1:1", http_client=given, max_retries=0, model="m"),
    }  # fmt: skip


def double(number: int) -> int:
    """Twice the number."""
    return 2 * number


TOOL = FunctionTool.from_defaults(double)
CALL = {"name": "f", "args": {}, "id": "c"}
NODE = NodeWithScore(node=TextNode(text="x"), score=0.5)


def answered(**fields):
    return [HumanMessage("x"), AIMessage("", tool_calls=[CALL]), ToolMessage(tool_call_id="c", **fields)]


CALLS = {
    "invoke": lambda m, odd: m["chat"].invoke(odd),
    "invoke a list": lambda m, odd: m["chat"].invoke([odd]),
    "invoke a pair": lambda m, odd: m["chat"].invoke([("user", odd)]),
    "invoke a dict": lambda m, odd: m["chat"].invoke([{"role": "user", "content": odd}]),
    "stream": lambda m, odd: list(m["chat"].stream([HumanMessage("x")], stop=odd)),
    "batch": lambda m, odd: m["chat"].batch([odd, "x"]),
    "generate": lambda m, odd: m["chat"].generate([[HumanMessage("x")]], n=odd),
    "content": lambda m, odd: m["chat"].invoke([HumanMessage(odd)]),
    "a part": lambda m, odd: m["chat"].invoke([HumanMessage([odd])]),
    "a part's type": lambda m, odd: m["chat"].invoke([HumanMessage([{"type": odd, "text": "x"}])]),
    "a text": lambda m, odd: m["chat"].invoke([HumanMessage([{"type": "text", "text": odd}])]),
    "a picture": lambda m, odd: m["chat"].invoke([HumanMessage([{"type": "image_url", "image_url": odd}])]),
    "a picture's address": lambda m, odd: m["chat"].invoke(
        [HumanMessage([{"type": "image_url", "image_url": {"url": odd}}])]
    ),
    "a block's bytes": lambda m, odd: m["chat"].invoke(
        [HumanMessage([{"type": "image", "base64": odd, "mime_type": odd}])]
    ),
    "system": lambda m, odd: m["chat"].invoke([SystemMessage(odd), HumanMessage("x")]),
    "an answer": lambda m, odd: m["chat"].invoke([HumanMessage("x"), AIMessage(odd), HumanMessage("x")]),
    "an answer's kwargs": lambda m, odd: m["chat"].invoke(
        [HumanMessage("x"), AIMessage("x", additional_kwargs={"reasoning_content": odd, "tool_calls": odd})]
    ),
    "an answer's metadata": lambda m, odd: m["chat"].invoke(
        [HumanMessage("x"), AIMessage("x", response_metadata={"llamacpp": odd}), HumanMessage("x")]
    ),
    "arguments": lambda m, odd: m["chat"].invoke(
        [HumanMessage("x"), AIMessage("", tool_calls=[{**CALL, "args": {"a": odd}}]), *answered(content="x")[2:]]
    ),
    "a result": lambda m, odd: m["chat"].invoke(answered(content=odd)),
    "a result's part": lambda m, odd: m["chat"].invoke(answered(content=[{"type": "json", "data": odd}])),
    "a result's artifact": lambda m, odd: m["chat"].invoke(answered(content="x", artifact=odd)),
    "bind_tools": lambda m, odd: m["chat"].bind_tools(odd).invoke("x"),
    "a tool": lambda m, odd: m["chat"].bind_tools([odd]).invoke("x"),
    "a tool's schema": lambda m, odd: m["chat"].bind_tools(
        [{"type": "function", "function": {"name": "f", "description": "d", "parameters": odd}}]
    ).invoke("x"),
    "a property": lambda m, odd: m["chat"].bind_tools(
        [{"title": "f", "description": "d", "type": "object", "properties": {"a": odd}}]
    ).invoke("x"),
    "tool_choice": lambda m, odd: m["chat"].bind_tools([double], tool_choice=odd).invoke("x"),
    "with_structured_output": lambda m, odd: m["chat"].with_structured_output(odd).invoke("x"),
    "its method": lambda m, odd: m["chat"].with_structured_output(SCHEMA, method=odd).invoke("x"),
    "its property": lambda m, odd: m["chat"].with_structured_output({**SCHEMA, "properties": {"a": odd}}).invoke("x"),
    "num tokens": lambda m, odd: m["chat"].get_num_tokens(odd),
    "num tokens of messages": lambda m, odd: m["chat"].get_num_tokens_from_messages([HumanMessage("x")], tools=odd),
    "llm": lambda m, odd: m["llm"].invoke(odd),
    "llm stream": lambda m, odd: list(m["llm"].stream(odd)),
    "llm batch": lambda m, odd: m["llm"].batch([odd]),
    "llm generate": lambda m, odd: m["llm"].generate(odd),
    "embed_documents": lambda m, odd: m["embeddings"].embed_documents(odd),
    "embed a document": lambda m, odd: m["embeddings"].embed_documents(["x", odd]),
    "embed_query": lambda m, odd: m["embeddings"].embed_query(odd),
    "compress": lambda m, odd: m["reranker"].compress_documents([Document("x")], odd),
    "compress what": lambda m, odd: m["reranker"].compress_documents(odd, "q"),
    "rerank": lambda m, odd: m["reranker"].rerank(odd, "q"),
    "rerank one": lambda m, odd: m["reranker"].rerank(["x", odd], "q"),
    "top_n": lambda m, odd: m["reranker"].rerank(["x"], "q", top_n=odd),
    "index chat": lambda m, odd: m["index"].chat(odd),
    "index message": lambda m, odd: m["index"].chat([odd]),
    "index content": lambda m, odd: m["index"].chat([ChatMessage(role="user", content=odd)]),
    "index block": lambda m, odd: m["index"].chat([ChatMessage(role="user", blocks=[TextBlock(text="x"), odd])]),
    "index kwargs": lambda m, odd: m["index"].chat(
        [ChatMessage(role="user", content="x"),
         ChatMessage(role="assistant", content="x", additional_kwargs={"tool_calls": odd, "reasoning_content": odd}),
         ChatMessage(role="tool", content="x", additional_kwargs={"tool_call_id": odd})]
    ),
    "index stream": lambda m, odd: list(m["index"].stream_chat([ChatMessage(role="user", content="x")], stop=odd)),
    "index complete": lambda m, odd: m["index"].complete(odd),
    "index stream complete": lambda m, odd: list(m["index"].stream_complete(odd)),
    "index tools": lambda m, odd: m["index"].chat_with_tools(odd, user_msg="x"),
    "index user_msg": lambda m, odd: m["index"].chat_with_tools([TOOL], user_msg=odd),
    "index history": lambda m, odd: m["index"].chat_with_tools([TOOL], chat_history=odd),
    "index tool_choice": lambda m, odd: m["index"].chat_with_tools([TOOL], user_msg="x", tool_choice=odd),
    "index structured": lambda m, odd: m["index"].as_structured_llm(odd).complete("x"),
    "text embedding": lambda m, odd: m["vectors"].get_text_embedding(odd),
    "query embedding": lambda m, odd: m["vectors"].get_query_embedding(odd),
    "text embeddings": lambda m, odd: m["vectors"].get_text_embedding_batch(odd),
    "one of the texts": lambda m, odd: m["vectors"].get_text_embedding_batch(["x", odd]),
    "rank query": lambda m, odd: m["rank"].postprocess_nodes([NODE], query_str=odd),
    "rank nodes": lambda m, odd: m["rank"].postprocess_nodes(odd, query_str="q"),
    "batch lines": lambda m, odd: m["client"].batch_file(odd, odd),
}  # fmt: skip
FIELDS = (
    "temperature", "max_tokens", "seed", "logit_bias", "chat_template_kwargs", "extra_body", "response_format", "stop",
    "thinking", "reasoning_effort", "grammar", "regex", "choices", "json_schema", "lora", "model", "logprobs", "tools",
    "tool_choice", "parallel_tool_calls", "history_repair", "read_files", "cache_salt", "max_thinking_seconds",
)  # fmt: skip


def fault(call):
    """What a call raised that it must not; None for nothing."""
    try:
        call()
    except (LlamaServerError, ValueError):
        return None
    except Exception as error:
        frames = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
        last = [name for name in frames if any(part in name for part in (*OURS, *THEIRS))]
        if last and any(part in last[-1] for part in THEIRS):
            return None
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {error!s:.80} ({where.filename[-40:]}:{where.lineno})"
    return None


@pytest.mark.parametrize("name", CALLS)
def test_any_value_is_sent_or_refused_by_name(made, name):
    faults = {f"{odd!r:.60}": found for odd in ODD if (found := fault(lambda odd=odd: CALLS[name](made, odd)))}
    assert not faults


@pytest.mark.parametrize("name", FIELDS)
def test_any_value_of_an_argument_of_a_call_is_sent_or_refused_by_name(made, name):
    faults = {}
    for odd in (*ODD, DEEP):
        calls = {
            "invoke": lambda odd=odd: made["chat"].invoke("x", **{name: odd}),
            "llm": lambda odd=odd: made["llm"].invoke("x", **{name: odd}),
            "index": lambda odd=odd: made["index"].chat([ChatMessage(role="user", content="x")], **{name: odd}),
            "complete": lambda odd=odd: made["index"].complete("x", **{name: odd}),
        }
        faults.update({f"{where} {odd!r:.60}": found for where, call in calls.items() if (found := fault(call))})
    assert not faults
