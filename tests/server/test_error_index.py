"""Each entry of docs/errors.md: the message is raised where it says so, and kept from happening where it says that."""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from langchain_llamacpp_server import ChatLlamaServer
from llamacpp_server import (
    AuthenticationFailedError,
    BadRequestError,
    ChatRequest,
    ConnectionFailedError,
    ContextOverflowError,
    EmbedRequest,
    InfillRequest,
    LlamaServerClient,
    LlamaServerError,
    LocalServer,
    MalformedReplyError,
    NotFoundError,
    NotSupportedError,
    ServerFaultError,
    ServerLoadingError,
)
from llamaindex_llamacpp_server import LlamaServer
from tests.server.test_templates import OURS
from tests.wire.scripted_server import LOADING, ScriptedServer, error, reply, stream

DOCS = Path(__file__).parents[2] / "docs" / "errors.md"
HI = [{"role": "user", "content": "hi"}]
TESTS: dict[str, Callable[..., Any]] = {}


def shows(title: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The entry that a test is about, by the beginning of its title."""

    def note(test: Callable[..., Any]) -> Callable[..., Any]:
        TESTS[title] = test
        return test

    return note


def test_every_entry_has_a_test_and_every_test_an_entry() -> None:
    titles = re.findall(r"^### `([^`]+)`", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(titles) == sorted(TESTS)


COMPLETE_CHAT = (
    b'data: {"id":"1","choices":[{"index":0,"delta":{"content":"Hello"},"finish_reason":null}]}\n\n',
    b'data: {"id":"1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n',
    b"data: [DONE]\n\n",
)


def asked(**params: Any) -> ChatRequest:
    return ChatRequest(messages=HI, params={"max_tokens": 2, "temperature": 0, **params})


def refused(kind: type[LlamaServerError], words: str, call: Callable[[], Any]) -> LlamaServerError:
    """The error of a call: its class, and the server's words in it."""
    with pytest.raises(kind) as caught:
        call()
    assert words.lower() in str(caught.value).lower()
    return caught.value


def raw(server: LocalServer, **body: Any) -> str:
    """What the server itself says to a request that is sent as it is."""
    response = httpx.post(f"{server.base_url}/v1/chat/completions", json={"max_tokens": 2, **body}, timeout=30)
    assert response.status_code >= 400, "the server takes it"
    return response.text


# -- reaching the server


@shows("Context size has been exceeded.")
def test_shared_context() -> None:
    busy = error(500, "Context size has been exceeded.", "server_error")
    with ScriptedServer(busy) as server:
        client = LlamaServerClient(server.url, max_retries=0)
        failed = refused(LlamaServerError, "Context size has been exceeded", lambda: client.chat(asked()))
    assert "it does not fit even alone" in str(failed)


@shows("Connection error.")
def test_refused() -> None:
    client = LlamaServerClient("http://127.0.0.1:9", max_retries=0)
    failed = refused(ConnectionFailedError, "connection refused", lambda: client.chat(asked()))
    assert "start it with: llama-server -m model.gguf --port" in str(failed)


@shows("Loading model")
def test_loading() -> None:
    with ScriptedServer(LOADING) as server:
        client = LlamaServerClient(server.url, wait_while_loading=False)
        refused(ServerLoadingError, "Loading model", lambda: client.chat(asked()))


@shows("'str' object has no attribute 'model_dump'")
def test_web_page() -> None:
    with ScriptedServer(reply(b"<!doctype html><title>llama.cpp</title>", kind="text/html")) as server:
        refused(MalformedReplyError, "HTML page", lambda: LlamaServerClient(server.url).chat(asked()))


@shows("Invalid API Key")
def test_key(serve: Any) -> None:
    server = serve("plain.gguf", api_key="right")
    client = LlamaServerClient(server.base_url, api_key="wrong")
    failed = refused(AuthenticationFailedError, "Invalid API Key", lambda: client.chat(asked()))
    assert "LLAMACPP_API_KEY" in str(failed)
    assert "wrong" not in str(failed)


@shows("OPENAI_API_KEY must be set")
def test_no_key(chat_server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "of another company")
    llm = ChatLlamaServer(base_url=chat_server.base_url, max_tokens=2)
    assert llm.api_key is None
    assert llm.invoke("hi").usage_metadata


@shows("Event loop is closed")
def test_two_loops(chat_server: LocalServer) -> None:
    llm = ChatLlamaServer(base_url=chat_server.base_url, max_tokens=2, max_retries=0)
    counts = [asyncio.run(llm.ainvoke("hi")).usage_metadata for _ in range(3)]
    assert all(counts)


@shows("File Not Found")
def test_no_endpoint(chat_server: LocalServer) -> None:
    client = LlamaServerClient(chat_server.base_url + "/nowhere")
    refused(NotFoundError, "File Not Found", client.props)


# -- what the server was not started with


@shows("tools param requires --jinja flag")
def test_jinja() -> None:
    with ScriptedServer(error(500, "tools param requires --jinja flag")) as server:
        failed = refused(NotSupportedError, "--jinja", lambda: LlamaServerClient(server.url).chat(asked()))
    assert failed.remedy
    assert "--jinja" in failed.remedy


PICTURE = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}]


@shows("image input is not supported")
def test_picture(chat_server: LocalServer) -> None:
    assert "image input is not supported" in raw(chat_server, messages=PICTURE)
    llm = ChatLlamaServer(base_url=chat_server.base_url)
    refused(NotSupportedError, "--mmproj", lambda: llm.invoke(PICTURE))


@shows("This server does not support embeddings")
def test_embeddings(chat_server: LocalServer) -> None:
    refused(NotSupportedError, "start the server with --embeddings", lambda: chat_server.client().embed(["hi"]))


@shows("Pooling type 'none' is not OAI compatible")
def test_pooling(serve: Any) -> None:
    client = serve("plain.gguf", embeddings=True).client()
    refused(NotSupportedError, "--pooling mean", lambda: client.embed(["hi"]))


@shows("This server does not support reranking")
def test_reranking(chat_server: LocalServer) -> None:
    refused(NotSupportedError, "--reranking", lambda: chat_server.client().rerank("q", ["a"]))


@shows("Infill is not supported by this model")
def test_infill(chat_server: LocalServer) -> None:
    request = InfillRequest(prefix="a", suffix="b")
    refused(NotSupportedError, "fill-in-the-middle", lambda: chat_server.client().infill(request))


# -- length


@shows("exceeds the available context size")
def test_overflow(chat_server: LocalServer) -> None:
    long = ChatRequest(messages=[{"role": "user", "content": "word " * 5000}], params={"max_tokens": 1})
    failed = refused(
        ContextOverflowError, "exceeds the available context size", lambda: chat_server.client().chat(long)
    )
    assert isinstance(failed, ContextOverflowError)
    assert (failed.n_prompt_tokens or 0) > (failed.n_ctx or 0) > 0


@shows("input is too large to process. increase the physical batch size")
def test_long_text(embedding_server: LocalServer) -> None:
    client = embedding_server.client()
    request = EmbedRequest(inputs=["short", "word " * 3000])
    failed = refused(ContextOverflowError, "batch size", lambda: client.embed_texts(request))
    assert isinstance(failed, ContextOverflowError)
    assert failed.index == 1


# -- tools and schemas


def with_schema(schema: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"schema": schema}}


def cleaned_and_raw(server: LocalServer, schema: Any) -> str:
    """The server's refusal of a schema as it is, which is taken when it is cleaned."""
    form = with_schema(schema)
    words = raw(server, messages=HI, response_format=form)
    request = asked(response_format=form)
    assert server.client().chat(request).usage
    unclean = ChatRequest(messages=HI, params=request.params, clean_schemas=False)
    failed = refused(BadRequestError, "llama-server says", lambda: server.client().chat(unclean))
    assert failed.server_message
    assert failed.server_message in words.replace('\\"', '"')
    return words


@shows("Pattern must start with '^' and end with '$'")
def test_pattern() -> None:
    """The newest builds take any pattern and hold no answer to it; those before them refuse the request."""
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": "b+"}}, "required": ["a"]}
    params = {"response_format": with_schema(schema)}
    words = "JSON schema conversion failed: Pattern must start with '^' and end with '$'"
    with ScriptedServer(error(400, words, "invalid_request_error")) as server:
        client = LlamaServerClient(server.url)
        request = ChatRequest(messages=HI, params=params, clean_schemas=False)
        failed = refused(BadRequestError, "Pattern must start with", lambda: client.chat(request))
        assert "JSON schema" in (failed.remedy or "")
        with pytest.raises(BadRequestError):
            client.chat(ChatRequest(messages=HI, params=params))
        sent = server.requests[-1].json["response_format"]["json_schema"]["schema"]["properties"]["a"]
    assert sent["pattern"][0] + sent["pattern"][-1] == "^$"


@shows("Unrecognized schema")
def test_schema(chat_server: LocalServer) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "wat"}}, "required": ["a"]}
    assert re.search("JSON schema error|Unrecognized schema", cleaned_and_raw(chat_server, schema))


@shows("failed to parse grammar")
def test_grammar(chat_server: LocalServer) -> None:
    refused(BadRequestError, "failed to parse grammar", lambda: chat_server.client().chat(asked(grammar="root ::= (")))


CALL = {"id": "123456789", "type": "function", "function": {"name": "f", "arguments": '{"a": '}}
BROKEN: list[Any] = [
    *HI,
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "123456789", "content": "1"},
]


@shows("Failed to parse tool call arguments as JSON")
def test_arguments(chat_server: LocalServer) -> None:
    assert "Failed to parse tool call arguments as JSON" in raw(chat_server, messages=BROKEN)
    reply = chat_server.client().chat(ChatRequest(messages=BROKEN, params={"max_tokens": 1}))
    assert [repair.name for repair in reply.start.repairs] == ["invalid_arguments"]


@shows("Failed to parse input at pos")
def test_parser() -> None:
    with ScriptedServer(error(500, "Failed to parse input at pos 5: <|x|>")) as server:
        client = LlamaServerClient(server.url)
        failed = refused(ServerFaultError, "at pos 5: <|x|>", lambda: client.chat(asked()))
        assert len(server.requests) == 1, "what repeats itself is not asked again"
    assert not failed.retryable


@shows("Model name X does not support function calling API")
def test_function_calling(chat_server: LocalServer) -> None:
    assert LlamaServer(base_url=chat_server.base_url, model="X").metadata.is_function_calling_model


# -- conversations


@shows("Conversation roles must alternate")
def test_alternation(serve: Any) -> None:
    server = serve("random.gguf", chat_template=OURS["alternate"] + "{{ messages[0].content }}")
    twice: list[Any] = [*HI, *HI]
    assert "must alternate" in raw(server, messages=twice)
    reply = server.client().chat(ChatRequest(messages=twice, params={"max_tokens": 1}))
    assert "same_role" in [repair.name for repair in reply.start.repairs]


@shows("Tool call IDs should be alphanumeric strings with length 9")
def test_ids(serve: Any) -> None:
    words = "Tool call IDs should be alphanumeric strings with length 9!"
    rule = f"{{%- if message.tool_call_id | length != 9 -%}}{{{{ raise_exception('{words}') }}}}{{%- endif -%}}"
    only = f"{{%- if message.role == 'tool' -%}}{rule}{{%- endif -%}}"
    server = serve("random.gguf", chat_template=f"{{%- for message in messages -%}}{only}{{%- endfor -%}}hi")
    call = {**CALL, "id": "call_1", "function": {"name": "f", "arguments": "{}"}}
    messages: list[Any] = [*HI, {**BROKEN[1], "tool_calls": [call]}, {**BROKEN[2], "tool_call_id": "call_1"}]
    assert words in raw(server, messages=messages)
    reply = server.client().chat(ChatRequest(messages=messages, params={"max_tokens": 1}))
    assert [repair.name for repair in reply.start.repairs] == ["call_ids"]


@shows("Assistant response prefill is incompatible with enable_thinking")
def test_prefill() -> None:
    """Builds of 2025 refuse it; today's continue the answer."""
    prefilled: list[Any] = [*HI, {"role": "assistant", "content": "Well"}]
    refusal = error(400, "Assistant response prefill is incompatible with enable_thinking.", "invalid_request_error")
    answer = stream(*COMPLETE_CHAT)
    rendered = reply({"prompt": "hi"})
    with ScriptedServer(refusal, answer, lacks=(), routes={"/apply-template": [refusal, rendered, refusal]}) as server:
        params = {"max_tokens": 1, "continue_final_message": True}
        said = LlamaServerClient(server.url).chat(ChatRequest(messages=prefilled, params=params))
        assert [message["role"] for message in server.requests[-1].json["messages"]] == ["user", "assistant", "user"]
    assert [repair.name for repair in said.start.repairs] == ["trailing_assistant"]


@shows("Prompt contains invalid tokens")
def test_tokens(embedding_server: LocalServer) -> None:
    client = embedding_server.client()
    refused(BadRequestError, "Prompt contains invalid tokens", lambda: client.embed([[999999]]))


@shows("Failed to load image or audio file")
def test_broken_picture(vision_server: LocalServer) -> None:
    request = ChatRequest(messages=PICTURE, params={"max_tokens": 1})
    refused(BadRequestError, "", lambda: vision_server.client().chat(request))
    assert "Failed to load image or audio file" in raw(vision_server, messages=PICTURE)


# -- frameworks


@shows("Model profile information is required to use fractional token limits")
def test_fractions(chat_server: LocalServer) -> None:
    from langchain.agents.middleware import SummarizationMiddleware
    from langchain_openai import ChatOpenAI

    with pytest.raises(ValueError, match="Model profile information is required"):
        SummarizationMiddleware(ChatOpenAI(model="x", api_key="x", base_url="http://x"), trigger=("fraction", 0.8))
    llm = ChatLlamaServer(base_url=chat_server.base_url)
    assert SummarizationMiddleware(llm, trigger=("fraction", 0.8)).model is llm


@shows("get_num_tokens_from_messages() is not presently implemented")
def test_counts(chat_server: LocalServer) -> None:
    from langchain_core.messages import HumanMessage

    llm = ChatLlamaServer(base_url=chat_server.base_url)
    assert llm.get_num_tokens_from_messages([HumanMessage("hi")]) == chat_server.client().count_tokens(asked())
