"""What a model is to LangChain: copies, dumps, cache keys, tracing, configuration."""

import asyncio
import copy
import importlib
import json
import pickle
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.load import dumpd, dumps, load
from langchain_core.runnables import ConfigurableField

from langchain_llamacpp_server import ChatLlamaServer, LlamaServerEmbeddings, LlamaServerLLM, register
from llamacpp_server import LocalServer
from tests.langchain.conftest import get_weather

SECRET = "very-secret"
FULL: dict[str, Any] = {
    "base_url": f"http://user:{SECRET}@host:1/v1",
    "api_key": SECRET,
    "default_headers": {"X-Token": SECRET},
    "temperature": 0,
    "extra_body": {"x": 1},
}


def test_no_dump_holds_a_secret() -> None:
    llm = ChatLlamaServer(**FULL)
    shown = [repr(llm), str(llm), llm.model_dump_json(), dumps(llm), json.dumps(llm.asdict(), default=str)]
    shown += [llm._get_llm_string(), str(llm._get_invocation_params()), str(llm._get_ls_params())]
    for text in shown:
        assert SECRET not in text


@pytest.mark.filterwarnings("ignore:The function `load` is in beta")
def test_a_dump_makes_the_model_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMACPP_API_KEY", SECRET)
    llm = ChatLlamaServer(
        base_url="http://host:1", model="m", temperature=0, stop=["a"], thinking=False, streaming=True
    )
    for allowed in ("all", [ChatLlamaServer]):
        again = load(
            dumpd(llm),
            allowed_objects=allowed,  # type: ignore[arg-type]
            valid_namespaces=["langchain_llamacpp_server"],
            secrets_from_env=True,
        )
        assert isinstance(again, ChatLlamaServer)
        assert again.asdict() == llm.asdict()
        assert again.streaming
        assert again.api_key is not None
        assert again.api_key.get_secret_value() == SECRET


def test_the_dump_of_a_model_by_default_names_its_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMACPP_BASE_URL", "http://gpu:1")
    assert dumpd(ChatLlamaServer())["kwargs"]["base_url"] == "http://gpu:1"


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m)), lambda m: m.model_copy()]
)
def test_copies_work(llm: ChatLlamaServer, copied: Any) -> None:
    llm.invoke("Hi", max_tokens=1)
    other = copied(llm)
    assert other == llm or other.model_dump() == llm.model_dump()
    assert other.invoke("Hi").text == "Hello there, friend!"
    assert asyncio.run(other.ainvoke("Hi")).text == "Hello there, friend!"


def test_a_cache_distinguishes_servers_and_parameters(llm: ChatLlamaServer, chat_server: LocalServer) -> None:
    cache = InMemoryCache()
    cached = llm.model_copy(update={"cache": cache})
    other = ChatLlamaServer(base_url=chat_server.base_url, cache=cache, max_tokens=4)
    ids = set()
    for one, kwargs in [
        (cached, {}),
        (cached, {"seed": 1}),
        (cached, {"stop": ["there"]}),
        (other, {}),
        (other, {"seed": 1}),
    ]:
        first, second = one.invoke("Hi", **kwargs), one.invoke("Hi", **kwargs)
        assert first.response_metadata["id"] == second.response_metadata["id"]
        ids.add(first.response_metadata["id"])
    assert len(ids) == 5
    cached.temperature = 0.5
    assert cached.invoke("Hi").response_metadata["id"] not in ids


@pytest.mark.parametrize(
    "change",
    [
        {"thinking": False},
        {"max_thinking_seconds": 1},
        {"history_repair": False},
        {"clean_schemas": False},
        {"forced_round": False},
        {"parse_text_calls": True},
        {"cache_salt": "anna"},
        {"default_headers": {"X-Model": SECRET}},
        {"default_query": {"model": SECRET}},
        {"model_kwargs": {"top_k": 3}},
        {"extra_body": {"new": 1}},
        {"output_version": "v1"},
    ],
)
def test_whatever_changes_answers_is_in_the_key_of_the_cache(change: dict[str, Any]) -> None:
    key = ChatLlamaServer(base_url="http://host:1", **change)._get_llm_string()
    assert key != ChatLlamaServer(base_url="http://host:1")._get_llm_string()
    assert SECRET not in key
    assert key == ChatLlamaServer(base_url="http://host:1", **change)._get_llm_string()


# What says how a server is reached, who may come first, or what is shown of an answer: answers are the same.
SAME_ANSWERS = {
    *("name", "cache", "verbose", "callbacks", "tags", "metadata", "custom_get_token_ids", "rate_limiter", "profile"),
    *("disable_streaming", "streaming", "stream_usage", "api_key", "connect_timeout", "read_timeout", "priority"),
    *("first_token_timeout", "total_timeout", "max_retries", "retry_read_timeout", "load_timeout", "verify", "on_wait"),
    *("wait_while_loading", "wait_while_refused", "max_concurrency", "on_progress", "http_client", "http_async_client"),
    *("validate_model_on_init", "read_files", "fetch_urls", "split_n"),
}


@pytest.mark.parametrize("kind", [ChatLlamaServer, LlamaServerLLM])
def test_every_field_that_may_change_an_answer_is_in_the_key_of_the_cache(kind: Any) -> None:
    def key(**changed: str) -> str:
        llm = kind(base_url="http://host:1").model_copy(update=changed)
        return llm._get_llm_string() if kind is ChatLlamaServer else repr(llm._identifying_params)

    fields = set(kind.model_fields) - SAME_ANSWERS
    assert [name for name in sorted(fields) if key(**{name: "other"}) == key()] == []


def test_fields_can_be_configured_per_call(talker: LocalServer, chat_server: LocalServer) -> None:
    llm = ChatLlamaServer(base_url=chat_server.base_url, max_tokens=5).configurable_fields(
        base_url=ConfigurableField(id="server"), api_key=ConfigurableField(id="key")
    )
    assert llm.invoke("Hi").response_metadata["model_name"] == "random"
    there = llm.with_config(configurable={"server": talker.base_url, "key": "k"})
    assert there.invoke("Hi").response_metadata["model_name"] != "random"


class Seen(BaseCallbackHandler):
    def __init__(self) -> None:
        self.params: dict[str, Any] = {}
        self.metadata: dict[str, Any] = {}

    def on_chat_model_start(self, serialized: Any, messages: Any, *, metadata: Any = None, **kwargs: Any) -> None:
        self.params, self.metadata = kwargs["invocation_params"], metadata


def test_tracing_knows_what_ran(llm: ChatLlamaServer) -> None:
    seen = Seen()
    model = llm.model_copy(update={"temperature": 0.5, "max_tokens": 9, "stop": "x"})
    model.invoke("Hi", config={"callbacks": [seen]})
    assert seen.metadata["ls_provider"] == "llamacpp-server"
    assert seen.metadata["ls_model_type"] == "chat"
    assert (seen.metadata["ls_temperature"], seen.metadata["ls_max_tokens"], seen.metadata["ls_stop"]) == (
        0.5,
        9,
        ["x"],
    )
    assert seen.params["base_url"] == llm.base_url
    model.invoke("Hi", config={"callbacks": [seen]})
    assert seen.metadata["ls_model_name"] == model.model_name
    model.bind(model="other").invoke("Hi", config={"callbacks": [seen]})
    assert seen.metadata["ls_model_name"] == "other"


def test_versions_are_reported() -> None:
    versions = (ChatLlamaServer(metadata={"mine": 1}).metadata or {})["lc_versions"]
    assert "llamacpp-server" in versions


def test_init_chat_model_and_embeddings(
    talker: LocalServer, embedding_server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = pytest.importorskip("langchain.chat_models.base")
    for name in ("langchain.chat_models.base", "langchain.embeddings.base"):
        table = importlib.import_module(name)._BUILTIN_PROVIDERS
        monkeypatch.setattr(f"{name}._BUILTIN_PROVIDERS", dict(table))
    register()
    for how in ({"model": "llamacpp:any"}, {"model": "any", "model_provider": "llamacpp_server"}):
        llm = base.init_chat_model(**how, base_url=talker.base_url)
        assert isinstance(llm, ChatLlamaServer)
        assert llm.model == "any"
        assert llm.invoke("Hi").text == "Hello there, friend!"
    embeddings = importlib.import_module("langchain.embeddings.base")
    made = embeddings.init_embeddings("llamacpp:any", base_url=embedding_server.base_url)
    assert isinstance(made, LlamaServerEmbeddings)
    assert len(made.embed_query("Hi")) == 64
    chosen = base.init_chat_model(configurable_fields=("model", "model_provider"), base_url=talker.base_url)
    assert chosen.invoke("Hi", config={"configurable": {"model": "llamacpp:any"}}).text == "Hello there, friend!"


def test_register_says_when_it_can_not(monkeypatch: pytest.MonkeyPatch) -> None:
    base = pytest.importorskip("langchain.chat_models.base")
    monkeypatch.delattr(base, "_BUILTIN_PROVIDERS")
    with pytest.raises(RuntimeError, match="use ChatLlamaServer directly"):
        register()


def test_what_is_bound_stays_bound(llm: ChatLlamaServer) -> None:
    bound = llm.bind_tools([get_weather], parallel_tool_calls=True, strict=True, temperature=0)
    kwargs = bound.kwargs  # type: ignore[attr-defined]
    assert kwargs.keys() == {"tools", "parallel_tool_calls", "temperature"}
    assert kwargs["tools"][0]["function"]["strict"] is True
