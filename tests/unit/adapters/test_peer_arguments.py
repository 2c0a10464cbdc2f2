"""Every argument of the classes that people come from is taken, or said once to have no meaning."""

import ast
import importlib
import inspect
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
from pydantic import SecretStr

from langchain_llamacpp_server import ChatLlamaServer, LlamaServerEmbeddings, LlamaServerLLM, LlamaServerReranker
from llamacpp_server import AuthenticationFailedError, BadRequestError, ContextOverflowError, ServerBusyError
from llamaindex_llamacpp_server import LlamaServer, LlamaServerEmbedding, LlamaServerRerank
from tests.langchain.behind_doors import arguments as langchain
from tests.llamaindex.behind_doors import arguments as llamaindex
from tests.rules import peers
from tests.rules.tables import OURS, field_docs

ALL = [(path, name) for path, peer in peers.read().items() for name in peer["arguments"]]
TABLES = {
    ChatLlamaServer: langchain.CHAT,
    LlamaServerEmbeddings: langchain.EMBEDDINGS,
    LlamaServerLLM: langchain.LLM,
    LlamaServerReranker: langchain.RERANKER,
    LlamaServer: llamaindex.LLM,
    LlamaServerEmbedding: llamaindex.EMBEDDING,
    LlamaServerRerank: llamaindex.RERANK,
}
PROPERTIES = {"client", "async_client", "tokenizer"}

pytestmark = pytest.mark.usefixtures("fresh_notices")
SAMPLES: dict[str, Any] = {
    **dict.fromkeys(("base_url", "api_base", "openai_api_base"), "http://host"),
    "api_url": "http://host/v1/rerank",
    **dict.fromkeys(("api_key", "openai_api_key"), SecretStr("k")),
    **dict.fromkeys(("timeout", "request_timeout"), 5.0),
    **{key: {"a": "b"} for key in ("default_headers", "headers")},
    "default_query": {"a": 1},
    **{key: {"x": 1} for key in ("model_kwargs", "extra_body", "additional_kwargs", "ollama_additional_kwargs")},
    **{key: {"headers": {"a": "b"}} for key in ("client_kwargs", "sync_client_kwargs", "async_client_kwargs")},
    **dict.fromkeys(("http_client", "http_async_client", "async_http_client"), None),
    **dict.fromkeys(("callback_manager", "output_parser", "query_wrapper_prompt", "rate_limiter"), None),
    **dict.fromkeys(("embeddings_cache", "messages_to_prompt", "completion_to_prompt"), None),
    "format": "json",
    "reasoning": True,
    "logit_bias": {"1": 1.0},
    "cache": True,
    "metadata": {"a": 1},
    "callbacks": [],
    "profile": {"name": "x"},
    "custom_get_token_ids": len,
    "disabled_params": {},
    "disable_streaming": True,
    "pydantic_program_mode": "default",
    "verbose": True,
    "validate_model_on_init": False,
    "is_chat_model": True,
    "is_function_calling_model": True,
    "thinking": True,
    **dict.fromkeys(("model", "model_name", "name", "reasoning_effort", "system_prompt", "output_version"), "v1"),
    **dict.fromkeys(("query_instruction", "text_instruction"), "v1"),
    **{key: ["x"] for key in ("tags", "stop", "stop_sequences")},
    **dict.fromkeys(("streaming", "stream_usage", "logprobs", "verbose"), True),
    **dict.fromkeys(("suffix", "reasoning_budget_message"), "v1"),
    **{key: ["x"] for key in ("dry_sequence_breakers", "response_fields", "samplers")},
    "adaptive_decay": 0.5,
    "json_schema": {},
    "lora": [{"id": 0, "scale": 1.0}],
    "reasoning_format": "none",
    "grammar": 'root ::= "a"',
    "grammar_path": __file__,
    **{key: {"x": 1} for key in ("generate_kwargs", "chat_template_kwargs")},
}


@pytest.mark.parametrize(("path", "name"), ALL)
def test_an_argument_of_another_class_is_taken_or_said_to_have_no_meaning(
    path: str, name: str, fresh_notices: set[str]
) -> None:
    ours, table = OURS[path]
    value = SAMPLES.get(name, 1)
    for _ in range(2):
        made = ours(**{name: value})
    if (meant := table.renamed.get(name, name)) in table.meaningless:
        assert len(fresh_notices) == 1 and repr(meant) in fresh_notices.pop()
    else:
        assert not fresh_notices
        assert value is None or made.model_fields_set, name


@pytest.mark.parametrize("path", [path for path in peers.PEERS if path.startswith("langchain_openai")])
def test_the_list_of_arguments_is_that_of_the_installed_package(path: str) -> None:
    pytest.importorskip("langchain_openai", reason="langchain-openai is not installed")
    assert set(peers.arguments_of(path)) <= set(peers.read()[path]["arguments"])


@pytest.mark.parametrize(
    ("ours", "api"),
    [
        (ChatLlamaServer, "openai.resources.chat.completions.Completions"),
        (LlamaServerLLM, "openai.resources.completions.Completions"),
        (LlamaServerEmbeddings, "openai.resources.embeddings.Embeddings"),
    ],
    ids=lambda each: each if isinstance(each, str) else each.__name__,
)
def test_constructors_accept_each_parameter_of_openais_api(ours: Any, api: str) -> None:
    """ChatOpenAI and its kin keep arguments that they don't know, and send them with each call."""
    pytest.importorskip("openai", reason="openai is not installed")
    module, _, name = api.rpartition(".")
    parameters = inspect.signature(getattr(importlib.import_module(module), name).create).parameters
    named = parameters.keys() - {"self", "messages", "prompt", "input"}
    assert len(named) > 5
    mappings = {key: {"1": "1"} for key in ("extra_headers", "extra_query", "extra_body", "metadata", "logit_bias")}
    samples = {
        **SAMPLES,
        **mappings,
        "response_format": {"type": "text"},
        "tools": [],
        "stream_options": {"include_usage": True},
    }
    for argument in named:
        ours(**{argument: samples.get(argument, 1)})


@pytest.mark.parametrize("ours", TABLES, ids=lambda ours: ours.__name__)
def test_type_checkers_know_every_argument_that_the_table_knows(ours: Any) -> None:
    shown = {name for cls in ours.__mro__ for name in _for_checkers(cls)}
    known = TABLES[ours].names() - ours.model_fields.keys() - PROPERTIES
    known.discard("stream")  # a method: checkers refuse an argument of its name
    if "langchain" not in ours.__module__:
        known -= {name for name in known if name.startswith("openai_")} | {"model_name"}  # LangChain's alone
    # Of what only an embedder's options name, a few are enough.
    sampling = {name for name, why in TABLES[ours].meaningless.items() if "generates no text" in why}
    assert known - sampling <= shown


def _for_checkers(cls: type) -> set[str]:
    """Annotated names of the class of this name that only type checkers see."""
    if "llamacpp_server" not in cls.__module__:
        return set()
    tree = ast.parse(Path(str(importlib.import_module(cls.__module__).__file__)).read_text())
    checked = [
        node.body for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    classes = {one.name: one for body in checked for one in body if isinstance(one, ast.ClassDef)}
    own = classes.get(cls.__name__)
    return {node.target.id for node in own.body if isinstance(node, ast.AnnAssign)} if own else set()  # type: ignore[union-attr]


@pytest.mark.parametrize("ours", TABLES, ids=lambda ours: ours.__name__)
def test_every_field_of_ours_has_a_sentence_under_it(ours: Any) -> None:
    docs = field_docs(ours)
    own = {
        name
        for cls in ours.__mro__
        if "llamacpp_server" in cls.__module__
        for name in inspect.get_annotations(cls)
        if name in ours.model_fields
    }
    assert not own - docs.keys()
    assert [name for name in own if not docs[name].endswith(".")] == []


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"num_predict": 7}, {"max_tokens": 7}),
        ({"num_predict": -2}, {"max_tokens": -1}),
        ({"num_predict": 7, "max_tokens": 9}, {"max_tokens": 9}),
        ({"format": "json"}, {"json_schema": {}}),
        ({"format": {"type": "object"}}, {"json_schema": {"type": "object"}}),
        ({"format": ""}, {"json_schema": None}),
        (
            {"client_kwargs": {"headers": {"a": "b"}, "timeout": 9, "verify": False}},
            {"read_timeout": 9, "verify": False},
        ),
    ],
)
@pytest.mark.parametrize("ours", [ChatLlamaServer, LlamaServerLLM, LlamaServer], ids=lambda ours: ours.__name__)
def test_what_ollamas_arguments_become(ours: Any, given: dict[str, Any], expected: dict[str, Any]) -> None:
    made = ours(**given)
    assert {name: getattr(made, name) for name in expected} == expected


@pytest.mark.parametrize("ours", [ChatLlamaServer, LlamaServer], ids=lambda ours: ours.__name__)
@pytest.mark.parametrize("value", [True, False, "low"])
def test_reasoning_is_thinking(ours: Any, value: Any) -> None:
    assert ours(reasoning=value).thinking == value
    assert ours(reasoning=value).thinking is not None


@pytest.mark.parametrize(
    ("ours", "given", "expected"),
    [
        (
            LlamaServer,
            {"api_base": "http://gpu:1/v1", "timeout": 60},
            {"base_url": "http://gpu:1/v1", "read_timeout": 60},
        ),
        (
            LlamaServer,
            {"request_timeout": 60, "headers": {"a": "b"}},
            {"read_timeout": 60, "default_headers": {"a": "b"}},
        ),
        (LlamaServer, {"json_mode": True}, {"json_schema": {}}),
        (LlamaServer, {"json_mode": False}, {"json_schema": None}),
        (
            LlamaServer,
            {"additional_kwargs": {"top_k": 3, "num_predict": 5, "new": 1, "extra_body": {"x": 2}}},
            {"top_k": 3, "max_tokens": 5, "extra_body": {"new": 1, "x": 2}},
        ),
        (
            LlamaServer,
            {"additional_kwargs": {"top_k": 3, "extra_headers": {"a": "b"}}, "top_k": 4, "extra_body": {"x": 1}},
            {"top_k": 4, "default_headers": {"a": "b"}, "extra_body": {"x": 1}},
        ),
        (LlamaServer, {"default_headers": None, "max_retries": None}, {"default_headers": {}, "max_retries": 2}),
        (LlamaServer, {"max_concurrency": None, "read_timeout": None}, {"max_concurrency": None, "read_timeout": None}),
        (ChatLlamaServer, {"max_concurrency": None, "forced_call_within": None}, {"max_concurrency": None}),
        (
            ChatLlamaServer,
            {"extra_headers": {"a": "b"}, "default_headers": {"c": "d"}, "stream_options": {"include_usage": False}},
            {"default_headers": {"a": "b", "c": "d"}, "stream_usage": False},
        ),
        (ChatLlamaServer, {"extra_query": {"a": 1}, "stream": True}, {"default_query": {"a": "1"}, "streaming": True}),
        (
            ChatLlamaServer,
            {"tools": [], "tool_choice": "auto", "parallel_tool_calls": False, "model_kwargs": {"tool_choice": "none"}},
            {"model_kwargs": {"tools": [], "tool_choice": "none", "parallel_tool_calls": False}},
        ),
        (LlamaServerLLM, {"last_n_tokens_size": 9, "max_new_tokens": 8}, {"repeat_last_n": 9, "max_tokens": 8}),
        (LlamaServer, {"generate_kwargs": {"top_k": 3, "x": 1}}, {"top_k": 3, "extra_body": {"x": 1}}),
        (LlamaServerEmbedding, {"model_name": "m"}, {"model": "m", "model_name": "m"}),
        (LlamaServerEmbedding, {"ollama_additional_kwargs": {"dimensions": 4, "x": 1}}, {"dimensions": 4}),
        (LlamaServerRerank, {"api_url": "http://gpu:1/v1/rerank", "api_key": "k"}, {"base_url": "http://gpu:1/v1"}),
        (LlamaServerRerank, {"top_n": None}, {"top_n": None}),
    ],
)
def test_what_arguments_become(ours: Any, given: dict[str, Any], expected: dict[str, Any]) -> None:
    made = ours(**given)
    assert {name: getattr(made, name) for name in expected} == expected


@pytest.mark.parametrize("ours", TABLES, ids=lambda ours: ours.__name__)
@pytest.mark.parametrize("library", [httpx, httpx2], ids=lambda library: library.__name__)
def test_models_accept_clients_of_either_library(ours: Any, library: Any) -> None:
    own, awaited = library.Client(verify=False), library.AsyncClient(verify=False)  # no certificates to read
    model = ours(http_client=own, http_async_client=awaited)
    assert (model.http_client, model.http_async_client) == (own, awaited)
    assert (model.client.transport.uses(own), model.async_client.transport.uses(awaited)) == (True, True)


@pytest.mark.parametrize("ours", TABLES, ids=lambda ours: ours.__name__)
def test_another_kind_of_client_is_an_error_that_names_the_right_one(ours: Any) -> None:
    with pytest.raises(ValueError, match=r"must be an httpx.Client or httpx2.Client, not AsyncClient"):
        ours(http_client=httpx.AsyncClient(verify=False))
    with pytest.raises(ValueError, match=r"must be an httpx.AsyncClient or httpx2.AsyncClient, not str"):
        ours(http_async_client="client")


def test_your_own_awaited_connections_come_by_either_name() -> None:
    own = httpx.AsyncClient(verify=False)
    assert LlamaServer(async_http_client=own).http_async_client is own
    assert ChatLlamaServer(http_async_client=own).http_async_client is own


@pytest.mark.parametrize("ours", TABLES, ids=lambda ours: ours.__name__)
def test_what_can_not_be_passed_on_to_a_client_is_an_error_with_the_way_to_do_it(ours: Any) -> None:
    with pytest.raises(ValueError, match=r"'auth' is not supported.*http_client=httpx\.Client\(auth="):
        ours(client_kwargs={"auth": ("a", "b")})


@pytest.mark.parametrize("ours", TABLES, ids=lambda ours: ours.__name__)
def test_a_misspelt_argument_is_an_error_that_names_the_right_one(ours: Any) -> None:
    with pytest.raises(ValueError, match="unknown argument 'num_ctxx': did you mean 'num_ctx'"):
        ours(num_ctxx=1)


def test_arguments_of_a_call_to_ollama_work_as_well(fresh_notices: set[str]) -> None:
    params = langchain.CHAT_CALLS.call({"num_predict": 3, "format": "json", "reasoning": False, "num_ctx": 9})
    assert params == {"max_tokens": 3, "json_schema": {}, "thinking": False}
    assert len(fresh_notices) == 1
    with pytest.raises(BadRequestError, match="format must be"):
        langchain.CHAT_CALLS.call({"format": 3})


class TestSurface:
    """What programs read and set of ChatOpenAI."""

    @pytest.mark.parametrize("ours", [ChatLlamaServer, LlamaServerLLM, LlamaServerEmbeddings])
    def test_names_can_be_read_and_set(self, ours: Any) -> None:
        llm = ours(model="a", base_url="http://one", api_key="k", timeout=7)
        assert (llm.model_name, llm.openai_api_base, llm.request_timeout) == ("a", "http://one", 7)
        assert llm.openai_api_key.get_secret_value() == "k"
        assert llm.openai_organization is None
        llm.model_name, llm.openai_api_base, llm.request_timeout = "b", "http://two", 9
        assert (llm.model, llm.base_url, llm.read_timeout) == ("b", "http://two", 9)

    @pytest.mark.parametrize("name", ["root_client", "root_async_client"])
    def test_the_client_of_the_openai_package_is_a_clear_error(self, name: str) -> None:
        with pytest.raises(AttributeError, match="openai client is not used"):
            getattr(ChatLlamaServer(), name)

    def test_errors_have_the_code_and_the_type_that_programs_look_for(self) -> None:
        error = ContextOverflowError("too long", server_type="exceed_context_size_error")
        assert (error.code, error.type) == ("context_length_exceeded", "exceed_context_size_error")
        assert (AuthenticationFailedError().code, ServerBusyError().code) == ("invalid_api_key", "rate_limit_exceeded")
        assert BadRequestError().code is None

    def test_a_status_has_the_name_that_programs_look_for_and_is_missing_without_a_response(self) -> None:
        assert ServerBusyError("busy", status=503).status_code == 503
        assert not hasattr(ServerBusyError("busy"), "status_code")
