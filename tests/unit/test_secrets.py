"""Secrets of another type, misspelt arguments and bad values: no message, no input and no frame shows a secret."""

import asyncio
import traceback
from contextlib import contextmanager, nullcontext
from dataclasses import fields

import pytest
from llama_index.core import PromptTemplate
from llama_index.core.base.llms import types as llamaindex_types
from llama_index.core.tools import FunctionTool
from pydantic import BaseModel, ValidationError

import langchain_llamacpp_server as langchain
import llamaindex_llamacpp_server as llamaindex
from llamacpp_server import (
    AsyncLlamaServerClient,
    ChatRequest,
    CompletionRequest,
    EmbedRequest,
    InfillRequest,
    LlamaServerClient,
    LocalServer,
    MessagesRequest,
    RankRequest,
    ResponsesRequest,
    ServerSettings,
    telemetry,
)

SECRET = "sk-verysecret-4711"
MODELS = [
    getattr(package, name)
    for package in (langchain, llamaindex)
    for name in package.__all__
    if "api_key" in getattr(getattr(package, name), "model_fields", {})
]
# Both of the frameworks' own frames and ours; not those of this file, which has to hold the secret.
REFUSED = {
    "misspelt": {"temperatur": 1, "api_key": SECRET},
    "misspelt beside an address": {"api_kye": SECRET, "base_url": f"http://user:{SECRET}@host"},
    "a list": {"api_key": [SECRET]},
    "a dict": {"api_key": {SECRET: SECRET}},
    "headers that are a list": {"default_headers": [SECRET]},
    "a header that is a list": {"default_headers": {"X-Mine": [SECRET]}},
    "an address that is a list": {"base_url": [f"http://user:{SECRET}@host"]},
    "a body that is text": {"extra_body": SECRET},
    "another field": {"api_key": SECRET, "max_retries": "many"},
    "all at once": {
        "default_headers": SECRET,
        "default_query": SECRET,
        "api_key": [SECRET],
        "read_timeout": {"": SECRET},
    },
}


def shown(error: BaseException) -> str:
    """All that a log, a debugger and an error tracker show of an error."""
    text = repr(error) + "".join(traceback.format_exception_only(error))
    if isinstance(error, ValidationError):
        text += str(error.errors()) + error.json()
    cause: BaseException | None = error
    while cause is not None:
        frames = traceback.StackSummary.extract(traceback.walk_tb(cause.__traceback__), capture_locals=True)
        text += str([frame.locals for frame in frames if frame.filename != __file__])
        cause = cause.__cause__ or cause.__context__
    return text


def test_every_model_class_is_tried():
    assert len(MODELS) == 11


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
@pytest.mark.parametrize("given", REFUSED)
def test_a_model_that_is_refused_shows_no_secret(model: type[BaseModel], given: str):
    with pytest.raises(ValidationError) as made:
        model(**REFUSED[given])
    with pytest.raises(ValidationError) as validated:
        model.model_validate(REFUSED[given])
    assert SECRET not in shown(made.value)
    assert SECRET not in str(validated.value) + str(validated.value.errors()) + validated.value.json()


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_the_error_names_the_argument_and_what_was_meant(model: type[BaseModel]):
    with pytest.raises(ValidationError, match=r"'max_retrys'.*did you mean 'max_retries'"):
        model(max_retrys=1, api_key=SECRET)
    with pytest.raises(ValidationError, match=r"max_retries\n.*valid integer.*'many'"):
        model(max_retries="many", api_key=SECRET)
    with pytest.raises(ValidationError, match=r"base_url[\s\S]*string"):
        model(base_url=1, api_key=SECRET)


BAD = {
    "a key with a line end": {"api_key": SECRET + "\r\nX-Admin: 1"},
    "a key that is a list": {"api_key": [SECRET]},
    "a key that is bytes": {"api_key": SECRET.encode()},
    "an address with a password": {"base_url": f"http://user:{SECRET}@no host"},
    "an address that is a list": {"base_url": [SECRET]},
    "a header with a line end": {"headers": {"X-Mine": SECRET + "\n"}},
    "a header that is bytes": {"headers": {"X-Mine": SECRET.encode()}},
    "headers that are text": {"headers": SECRET},
    "a misspelt field": {"api_kye": SECRET},
}
MAKERS = {
    "settings": lambda **given: ServerSettings(**given),
    "settings of the environment": lambda **given: ServerSettings.from_env({}, **given),
    "changed settings": lambda **given: ServerSettings().replace(**given),
    "a client": lambda **given: LlamaServerClient(**given),
    "an async client": lambda **given: AsyncLlamaServerClient(**given),
    "a client with settings": lambda **given: LlamaServerClient(settings=ServerSettings(), **given),
    "a changed client": lambda **given: LlamaServerClient().with_settings(**given),
}


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("given", BAD)
def test_settings_that_are_refused_show_no_secret(make: str, given: str):
    with pytest.raises((ValueError, TypeError)) as caught:
        MAKERS[make](**BAD[given])
    assert SECRET not in shown(caught.value)


def test_a_key_in_the_environment_with_a_line_end_is_not_shown(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LLAMACPP_API_KEY", SECRET + "\n")
    with pytest.raises(ValueError, match="Authorization") as caught:
        LlamaServerClient()
    assert SECRET not in shown(caught.value)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
@pytest.mark.parametrize("given", [{"api_key": SECRET + "\n"}, {"base_url": f"http://user:{SECRET}@no host"},
                                   {"default_headers": {"X-Mine": SECRET + "\n"}}], ids=str)  # fmt: skip
def test_a_model_whose_secret_can_not_be_sent_shows_it_nowhere(model: type[BaseModel], given: dict[str, str]):
    with pytest.raises(ValueError, match=r"base_url|header") as caught:
        _ = model(**given).client  # type: ignore[attr-defined]  # all models have it
    assert SECRET not in shown(caught.value)


@pytest.mark.parametrize("given", [{"api_key": [SECRET]}, {"api_kye": SECRET}], ids=["a list", "misspelt"])
def test_a_local_server_that_is_refused_shows_no_secret(given: dict[str, object]):
    with pytest.raises((ValueError, TypeError)) as caught:
        LocalServer("model.gguf", **given)  # type: ignore[arg-type]  # that is the fault
    assert SECRET not in shown(caught.value)


# -- arguments of one call

CALLS_REFUSED = {
    "misspelt": {"temperatur": 1, "api_key": SECRET},
    "a key that is a list": {"api_key": [SECRET]},
    "a header with a line end": {"extra_headers": {"Authorization": SECRET + "\n"}},
    "an address with a password": {"base_url": f"http://user:{SECRET}@no host"},
    "a query that is a list": {"extra_query": [SECRET]},
    "a body that JSON can't hold": {"extra_body": {"token": SECRET, "a": {1, 2}}},
    "a parameter that is a text": {"temperature": SECRET},
    "a variable of the template": {"chat_template_kwargs": [SECRET]},
    # Nothing is wrong with these; the server can't be reached.
    "a header": {"extra_headers": {"Authorization": SECRET}},
    "a body": {"extra_body": {"token": SECRET}},
}
FRAMEWORKS = ("langchain_core", "llama_index", "pydantic", "llama_index_instrumentation", "tenacity")


class Answer(BaseModel):
    """An answer."""

    word: str


def tool(word: str) -> str:
    """A tool."""
    return word


def drained(items):
    return list(items)


async def adrained(items):
    return [item async for item in items]


async def awaited(coroutine):
    return await adrained(await coroutine)


def chat_of_langchain():
    return langchain.ChatLlamaServer(base_url=NOWHERE, max_retries=0)


def llm_of_llamaindex():
    return llamaindex.LlamaServer(base_url=NOWHERE, max_retries=0)


NOWHERE = "http://127.0.0.1:9"
CHATTED = [llamaindex_types.ChatMessage(role="user", content="hi")]
PROMPT = PromptTemplate("hi")
ENTRIES = {
    "langchain invoke": lambda **given: chat_of_langchain().invoke("hi", **given),
    "langchain ainvoke": lambda **given: chat_of_langchain().ainvoke("hi", **given),
    "langchain stream": lambda **given: drained(chat_of_langchain().stream("hi", **given)),
    "langchain astream": lambda **given: adrained(chat_of_langchain().astream("hi", **given)),
    "langchain generate": lambda **given: chat_of_langchain().generate([[("user", "hi")]], **given),
    "langchain batch": lambda **given: chat_of_langchain().batch(["hi", "you"], **given),
    "langchain abatch": lambda **given: chat_of_langchain().abatch(["hi", "you"], **given),
    "langchain bind": lambda **given: chat_of_langchain().bind(**given).invoke("hi"),
    "langchain bind_tools": lambda **given: chat_of_langchain().bind_tools([tool], **given).invoke("hi"),
    "langchain structured": lambda **given: chat_of_langchain().with_structured_output(Answer, **given).invoke("hi"),
    "langchain structured call": lambda **given: (
        chat_of_langchain().with_structured_output(Answer).invoke("hi", **given)
    ),
    "langchain structured ainvoke": lambda **given: (
        chat_of_langchain().with_structured_output(Answer).ainvoke("hi", **given)
    ),
    "langchain structured stream": lambda **given: drained(
        chat_of_langchain().with_structured_output(Answer).stream("hi", **given)
    ),
    "langchain structured astream": lambda **given: adrained(
        chat_of_langchain().with_structured_output(Answer).astream("hi", **given)
    ),
    "langchain count": lambda **given: chat_of_langchain().get_num_tokens_from_messages([("user", "hi")], **given),
    "langchain fits": lambda **given: chat_of_langchain().fits("hi", **given),
    "langchain afits": lambda **given: chat_of_langchain().afits("hi", **given),
    "langchain prewarm": lambda **given: chat_of_langchain().prewarm("hi", **given),
    "langchain aprewarm": lambda **given: chat_of_langchain().aprewarm("hi", **given),
    "langchain llm invoke": lambda **given: langchain.LlamaServerLLM(base_url=NOWHERE, max_retries=0).invoke(
        "hi", **given
    ),
    "langchain llm ainvoke": lambda **given: langchain.LlamaServerLLM(base_url=NOWHERE, max_retries=0).ainvoke(
        "hi", **given
    ),
    "langchain llm streaming": lambda **given: langchain.LlamaServerLLM(
        base_url=NOWHERE, max_retries=0, streaming=True
    ).invoke("hi", **given),
    "langchain llm stream": lambda **given: drained(
        langchain.LlamaServerLLM(base_url=NOWHERE, max_retries=0).stream("hi", **given)
    ),
    "langchain llm astream": lambda **given: adrained(
        langchain.LlamaServerLLM(base_url=NOWHERE, max_retries=0).astream("hi", **given)
    ),
    "langchain embed_query": lambda **given: langchain.LlamaServerEmbeddings(
        base_url=NOWHERE, max_retries=0
    ).embed_query("hi", **given),
    "langchain embed_documents": lambda **given: langchain.LlamaServerEmbeddings(
        base_url=NOWHERE, max_retries=0
    ).embed_documents(["hi"], **given),
    "langchain aembed_query": lambda **given: langchain.LlamaServerEmbeddings(
        base_url=NOWHERE, max_retries=0
    ).aembed_query("hi", **given),
    "langchain aembed_documents": lambda **given: langchain.LlamaServerEmbeddings(
        base_url=NOWHERE, max_retries=0
    ).aembed_documents(["hi"], **given),
    "llamaindex chat": lambda **given: llm_of_llamaindex().chat(CHATTED, **given),
    "llamaindex achat": lambda **given: llm_of_llamaindex().achat(CHATTED, **given),
    "llamaindex stream_chat": lambda **given: drained(llm_of_llamaindex().stream_chat(CHATTED, **given)),
    "llamaindex astream_chat": lambda **given: awaited(llm_of_llamaindex().astream_chat(CHATTED, **given)),
    "llamaindex complete": lambda **given: llm_of_llamaindex().complete("hi", **given),
    "llamaindex complete formatted": lambda **given: llm_of_llamaindex().complete("hi", formatted=True, **given),
    "llamaindex acomplete formatted": lambda **given: llm_of_llamaindex().acomplete("hi", formatted=True, **given),
    "llamaindex stream_complete": lambda **given: drained(llm_of_llamaindex().stream_complete("hi", **given)),
    "llamaindex astream_complete": lambda **given: awaited(
        llm_of_llamaindex().astream_complete("hi", formatted=True, **given)
    ),
    "llamaindex infill": lambda **given: llm_of_llamaindex().infill("a", "b", **given),
    "llamaindex ainfill": lambda **given: llm_of_llamaindex().ainfill("a", "b", **given),
    "llamaindex count": lambda **given: llm_of_llamaindex().count_tokens(CHATTED, **given),
    "llamaindex acount": lambda **given: llm_of_llamaindex().acount_tokens(CHATTED, **given),
    "llamaindex fits": lambda **given: llm_of_llamaindex().fits(CHATTED, **given),
    "llamaindex prewarm": lambda **given: llm_of_llamaindex().prewarm("hi", **given),
    "llamaindex aprewarm": lambda **given: llm_of_llamaindex().aprewarm("hi", **given),
    "llamaindex chat_with_tools": lambda **given: llm_of_llamaindex().chat_with_tools(
        [FunctionTool.from_defaults(tool)], "hi", **given
    ),
    "llamaindex structured_predict": lambda **given: llm_of_llamaindex().structured_predict(
        Answer, PROMPT, llm_kwargs=given
    ),
    "llamaindex astructured_predict": lambda **given: llm_of_llamaindex().astructured_predict(
        Answer, PROMPT, llm_kwargs=given
    ),
    "llamaindex stream_structured_predict": lambda **given: drained(
        llm_of_llamaindex().stream_structured_predict(Answer, PROMPT, llm_kwargs=given)
    ),
    "llamaindex structured llm": lambda **given: llm_of_llamaindex().as_structured_llm(Answer).chat(CHATTED, **given),
    "llamaindex structured llm stream": lambda **given: drained(
        llm_of_llamaindex().as_structured_llm(Answer).stream_chat(CHATTED, **given)
    ),
}
REQUESTS = {
    "chat": lambda given: ChatRequest(messages=[{"role": "user", "content": "hi"}], **given),
    "stream_chat": lambda given: ChatRequest(messages=[{"role": "user", "content": "hi"}], **given),
    "count_tokens": lambda given: ChatRequest(messages=[{"role": "user", "content": "hi"}], **given),
    "complete": lambda given: CompletionRequest(prompt="hi", **given),
    "infill": lambda given: InfillRequest(prefix="a", suffix="b", **given),
    "create_response": lambda given: ResponsesRequest(input="hi", **given),
    "embed_texts": lambda given: EmbedRequest(inputs=["hi"], extra_body=given),
    "rank": lambda given: RankRequest(query="hi", documents=["you"], extra_body=given),
    "create_message": lambda given: MessagesRequest(messages=[{"role": "user", "content": "hi"}], extra_body=given),
}
OF_THE_CLIENT = {
    "decide": lambda client, given: client.decide("hi", {}, **given),
    "transcribe": lambda client, given: client.transcribe(b"x", **given),
    "embed": lambda client, given: client.embed(["hi"], extra_body=given),
    "rerank": lambda client, given: client.rerank("hi", ["you"], extra_body=given),
    "call_server_tool": lambda client, given: client.call_server_tool("x", given),
    "batch_file": lambda client, given: client.batch_file("none.jsonl", "none.out", **given),
}


async def wait(coroutine):
    return await coroutine


@contextmanager
def instrumented():
    """Spans of the client's calls, which nobody collects."""
    telemetry.instrument()
    try:
        yield
    finally:
        telemetry.uninstrument()


def finished(result):
    """A stream read to its end, and anything else as it is."""
    if hasattr(result, "__anext__"):
        return adrained(result)
    return drained(result) if hasattr(result, "__next__") else result


def shown_by_ours(error: BaseException) -> str:
    """The message, and the variables of our own frames; a framework's frames are its own."""
    seen, linked, text = set[int](), [error], repr(error) + str(error)
    while linked:
        one = linked.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        linked += [other for other in (one.__cause__, one.__context__) if other is not None]
        for frame, _ in traceback.walk_tb(one.__traceback__):
            module = str(frame.f_globals.get("__name__"))
            if module != __name__ and not module.startswith(FRAMEWORKS):
                text += "".join(walked(value) for value in frame.f_locals.values())
    return text


def walked(value: object, depth: int = 0) -> str:
    """What an error tracker shows of a variable: lists and dicts entry by entry, the rest by its `repr`."""
    if depth < 6 and isinstance(value, dict):
        return "".join(f"{key}{walked(entry, depth + 1)}" for key, entry in value.items())
    if depth < 6 and isinstance(value, list | tuple | set):
        return "".join(walked(entry, depth + 1) for entry in value)
    return repr(value)


@pytest.mark.parametrize("given", CALLS_REFUSED)
@pytest.mark.parametrize("entry", ENTRIES)
def test_a_call_that_fails_shows_none_of_its_secrets_in_our_frames(entry: str, given: str):
    with pytest.raises(Exception) as caught:  # whatever it raises
        asyncio.run(wait(ENTRIES[entry](**CALLS_REFUSED[given])))
    assert SECRET not in shown_by_ours(caught.value)


@pytest.mark.parametrize("client", [LlamaServerClient, AsyncLlamaServerClient])
@pytest.mark.parametrize("given", [{"api_kye": SECRET}, {"temperature": [SECRET]}, {"seed": {1}, "token": SECRET}])
@pytest.mark.parametrize("method", [*REQUESTS, *OF_THE_CLIENT])
@pytest.mark.parametrize("traced", [False, True])
def test_a_method_of_the_client_that_fails_shows_none_of_its_secrets(method, given, client, traced):
    made = client(NOWHERE, max_retries=0)
    with instrumented() if traced else nullcontext(), pytest.raises(Exception) as caught:  # whatever it raises
        if method in OF_THE_CLIENT:
            asyncio.run(wait(OF_THE_CLIENT[method](made, given)))
        else:
            makes_params = "params" in {field.name for field in fields(REQUESTS[method]({}))}
            request = REQUESTS[method]({"params": given} if makes_params else given)
            asyncio.run(wait(finished(getattr(made, method)(request))))
    assert SECRET not in shown_by_ours(caught.value)
