"""Errors are the server's and LangChain's at once, and say truthfully whether to try again."""

import asyncio
import copy
import pickle
from collections.abc import Iterator

import langchain_core.exceptions as core
import pytest
from langchain_core.messages import HumanMessage

import llamacpp_server as server
from langchain_llamacpp_server import ChatLlamaServer, ContextOverflowError
from tests.langchain.behind_doors import as_langchain, langchain_errors
from tests.langchain.conftest import get_weather

PAIRS = [
    (server.ConnectionFailedError, core.ModelConnectionError),
    (server.RequestTimeoutError, core.ModelTimeoutError),
    (server.ServerLoadingError, core.ModelAPIError),
    (server.ServerBusyError, core.ModelRateLimitError),
    (server.AuthenticationFailedError, core.ModelAuthenticationError),
    (server.BadRequestError, core.ModelInvalidRequestError),
    (server.ContextOverflowError, core.ContextOverflowError),
    (server.NotFoundError, core.ModelNotFoundError),
    (server.NotSupportedError, core.ModelInvalidRequestError),
    (server.ServerFaultError, core.ModelAPIError),
    (server.StreamCutOffError, core.ModelConnectionError),
    (server.MalformedReplyError, core.ModelAPIError),
    (server.LlamaServerError, core.ModelError),
]


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_each_error_is_both(ours: type[server.LlamaServerError], theirs: type[core.ModelError]) -> None:
    error = ours("went wrong", url="http://host", remedy="do this")
    both = as_langchain(error)
    assert isinstance(both, ours)
    assert isinstance(both, theirs)
    assert both.is_retryable is ours.retryable
    assert str(both) == str(error)
    assert as_langchain(both) is both
    for copied in (copy.copy(both), pickle.loads(pickle.dumps(both))):
        assert type(copied) is type(both)
        assert copied.__dict__ == both.__dict__


def test_every_class_of_the_server_has_a_pair() -> None:
    for name in server.__all__:
        cls = getattr(server, name)
        # A server that does not start is no failure of a model.
        if name.endswith("Error") and cls is not server.LocalServerError:
            assert isinstance(as_langchain(cls("x")), cls), name
            assert isinstance(as_langchain(cls("x")), core.ModelError), name


def test_a_forbidden_key_is_distinguished_from_an_unknown_one() -> None:
    assert isinstance(as_langchain(server.AuthenticationFailedError(status=403)), core.ModelPermissionDeniedError)
    assert isinstance(as_langchain(server.AuthenticationFailedError(status=401)), core.ModelAuthenticationError)


def test_the_cause_and_all_that_is_known_are_kept() -> None:
    cause = OSError("socket")
    with pytest.raises(ContextOverflowError) as caught, langchain_errors:
        raise server.ContextOverflowError("too long", n_prompt_tokens=9, n_ctx=4) from cause
    assert (caught.value.n_prompt_tokens, caught.value.n_ctx) == (9, 4)
    assert caught.value.__cause__ is cause


def test_other_errors_pass() -> None:
    def generate() -> Iterator[int]:
        with langchain_errors:
            yield 1
            raise KeyError("x")

    with pytest.raises(KeyError):
        list(generate())


async def test_an_overflow_in_all_ways(nonsense: ChatLlamaServer) -> None:
    text = "word " * 3000
    for way in (nonsense.invoke, lambda t: list(nonsense.stream(t)), nonsense.get_num_tokens):
        if way == nonsense.get_num_tokens:
            assert nonsense.get_num_tokens(text) > 2048
            continue
        with pytest.raises(core.ContextOverflowError) as caught:
            way(text)
        assert isinstance(caught.value, server.ContextOverflowError)
        assert caught.value.n_ctx == 2048
        assert caught.value.n_prompt_tokens > 3000
        assert not caught.value.is_retryable
    with pytest.raises(core.ContextOverflowError):
        await nonsense.ainvoke(text)
    with pytest.raises(core.ContextOverflowError):
        [chunk async for chunk in nonsense.astream(text)]


async def test_nobody_listens() -> None:
    llm = ChatLlamaServer(base_url="http://127.0.0.1:9", max_retries=0)
    with pytest.raises(core.ModelConnectionError, match=r"http://127\.0\.0\.1:9.*llama-server") as caught:
        llm.invoke("Hi")
    assert isinstance(caught.value, ConnectionError)
    assert caught.value.is_retryable
    with pytest.raises(core.ModelConnectionError):
        await llm.ainvoke("Hi")
    assert await asyncio.to_thread(getattr, llm, "profile") is None


def test_with_fallbacks_and_retries(nonsense: ChatLlamaServer) -> None:
    dead = ChatLlamaServer(base_url="http://127.0.0.1:9", max_retries=0)
    assert dead.with_fallbacks([nonsense]).invoke("Hi").response_metadata["model_name"] == "random"
    retried = dead.with_retry(
        retry_if_exception_type=(core.ModelConnectionError,), stop_after_attempt=2, wait_exponential_jitter=False
    )
    with pytest.raises(core.ModelConnectionError):
        retried.invoke("Hi")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"temprature": 1}, "did you mean 'temperature'"),
        ({"temperature": "hot"}, "temperature"),
        ({"grammar": "root ::= ["}, "grammar"),
        ({"grammar": 'root ::= "a"', "tools": [get_weather]}, "not both"),
        ({"tools": [{"type": "web_search"}]}, "web_search"),
        ({"tools": [get_weather], "tool_choice": "get_wether"}, "did you mean 'get_weather'"),
    ],
)
def test_wrong_requests(nonsense: ChatLlamaServer, wrong: dict[str, object], words: str) -> None:
    with pytest.raises(core.ModelInvalidRequestError, match=words):
        nonsense.invoke("Hi", **wrong)


def test_a_picture_for_a_blind_model(nonsense: ChatLlamaServer) -> None:
    picture = {"type": "image", "base64": "iVBORw0KGgo=", "mime_type": "image/png"}
    with pytest.raises(core.ModelInvalidRequestError, match="mmproj") as caught:
        nonsense.invoke([HumanMessage([picture])])
    assert isinstance(caught.value, server.NotSupportedError)
