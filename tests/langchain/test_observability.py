"""What tracers and callbacks see of a call: real instrumentations, LangChain's own hooks, and no secrets."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest
from langchain_core import exceptions as core
from langchain_core.callbacks import BaseCallbackHandler
from openinference.instrumentation.langchain import LangChainInstrumentor as OpenInference
from opentelemetry.instrumentation.langchain import LangchainInstrumentor as GenAI

from langchain_llamacpp_server import ChatLlamaServer, LlamaServerLLM, RequestTimeoutError
from llamacpp_server import LocalServer
from tests.spans import taken, traced

SECRET = "sk-very-secret"


@pytest.fixture
def llm(chat_server: LocalServer) -> ChatLlamaServer:
    return ChatLlamaServer(
        base_url=chat_server.base_url.replace("//", "//user:sk-very-secret@"),
        api_key=SECRET,
        model="mine",
        default_headers={"X-Key": SECRET},
        temperature=0.25,
        max_tokens=4,
        ignore_eos=True,
        thinking=False,
    )


def metadata_of(message: Any) -> Any:
    return message.response_metadata


def test_the_attributes_of_genai_are_those_of_the_call(llm: ChatLlamaServer) -> None:
    with traced(GenAI()) as exporter:
        for ask in (llm.invoke, lambda text: list(llm.stream(text))):
            ask("Hello")
            span = taken(exporter)
            seen = dict(span.attributes or {})
            assert seen["gen_ai.operation.name"] == "chat"
            assert seen["gen_ai.request.model"] == "mine"
            assert seen["gen_ai.response.model"]
            assert seen["gen_ai.request.temperature"] == 0.25
            assert seen["gen_ai.request.max_tokens"] == 4
            assert seen["gen_ai.usage.output_tokens"] == 4
            assert seen["gen_ai.usage.input_tokens"] == seen["gen_ai.usage.total_tokens"] - 4 > 0
            assert seen["gen_ai.response.finish_reasons"] == ("length",)
            assert SECRET not in span.to_json()
        assert seen["gen_ai.usage.cache_read.input_tokens"] > 0


async def test_the_attributes_of_openinference_are_those_of_the_call(llm: ChatLlamaServer) -> None:
    with traced(OpenInference()) as exporter:
        usage = llm.invoke("Hello").usage_metadata
        assert usage is not None
        spans = [taken(exporter)]
        await llm.ainvoke("Hello")
        spans.append(taken(exporter))
        list(llm.stream("Hello"))
        spans.append(taken(exporter))
        for span in spans:
            seen = dict(span.attributes or {})
            assert seen["llm.provider"] == "llamacpp-server"
            assert seen["llm.model_name"]
            assert '"temperature": 0.25' in str(seen["llm.invocation_parameters"])
            assert seen["llm.token_count.prompt"] == usage["input_tokens"]
            assert seen["llm.token_count.completion"] == 4
            assert seen["llm.finish_reason"] == "length"
            assert SECRET not in span.to_json()
        plain = LlamaServerLLM(base_url=llm.base_url, api_key=SECRET, temperature=0.25, max_tokens=4, ignore_eos=True)
        plain.invoke("Hello")
        span = taken(exporter)
        seen = dict(span.attributes or {})
        assert (seen["llm.token_count.completion"], seen["llm.finish_reason"]) == (4, "length")
        assert SECRET not in span.to_json()
    await llm.aclose()


class Recorder(BaseCallbackHandler):
    """What LangChain's callbacks are given."""

    def __init__(self) -> None:
        self.started: list[dict[str, Any]] = []
        self.ended: list[Any] = []

    def on_chat_model_start(self, serialized: Any, messages: Any, **kwargs: Any) -> None:
        self.started.append({"serialized": serialized, **kwargs})

    def on_llm_end(self, response: Any, **kwargs: Any) -> None:
        self.ended.append(response)


def test_callbacks_see_speed_cache_first_token_and_build(llm: ChatLlamaServer) -> None:
    recorder = Recorder()
    config: Any = {"callbacks": [recorder]}
    llm.invoke("Hello", config)
    list(llm.stream("Hello", config))
    for response in recorder.ended:
        metadata = response.generations[0][0].message.response_metadata
        timings = metadata["timings"]
        assert timings["first_token_ms"] > 0
        assert timings["predicted_per_second"] > 0
        assert metadata["finish_reason"] == "length"
        assert metadata["system_fingerprint"]
    assert recorder.ended[1].generations[0][0].message.usage_metadata["input_token_details"]["cache_read"] > 0
    assert timings["cache_n"] > 0
    for start in recorder.started:
        assert start["metadata"]["ls_provider"] == "llamacpp-server"
        assert start["metadata"]["ls_model_name"] == "mine"
        assert start["metadata"]["ls_temperature"] == 0.25
        assert start["metadata"]["ls_max_tokens"] == 4
        assert start["invocation_params"]["model_name"] == "mine"
        assert SECRET not in str(start)


def test_the_model_is_named_once_the_server_has_named_it(chat_server: LocalServer) -> None:
    llm, recorder = ChatLlamaServer(base_url=chat_server.base_url, max_tokens=1, thinking=False), Recorder()
    for _ in range(2):
        llm.invoke("Hello", {"callbacks": [recorder]})
    named = [start["invocation_params"]["model_name"] for start in recorder.started]
    assert named[1] == "random"


def test_the_first_token_counts_from_the_request(slow_server: LocalServer) -> None:
    """A request that waits for a place is late, and only its caller can know."""
    llm = ChatLlamaServer(base_url=slow_server.base_url, max_tokens=200, max_concurrency=1)
    first = llm.stream("Hello")
    next(first)
    late = llm.model_copy()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(late.invoke, "Hello", max_tokens=3)
        for _ in first:
            pass
        timings = metadata_of(waiting.result())["timings"]
    assert timings["first_token_ms"] > timings["prompt_ms"]


def test_a_first_token_that_is_late_is_an_error_of_its_own(slow_server: LocalServer) -> None:
    """Both slots are taken and nothing limits this process, so the server itself queues the third request."""
    llm = ChatLlamaServer(base_url=slow_server.base_url, max_concurrency=None)
    running = [llm.stream("Hello"), llm.stream("Hello")]
    for stream in running:
        next(stream)
    with pytest.raises(core.ModelTimeoutError, match="no token came within first_token_timeout") as caught:
        llm.invoke("Hello", first_token_timeout=0.2)
    assert isinstance(caught.value, RequestTimeoutError)
    assert caught.value.limit == "first_token_timeout"
    for stream in running:
        assert next(stream).text
        cast(Any, stream).close()


def test_a_reply_is_named_by_its_id(llm: ChatLlamaServer) -> None:
    plain = LlamaServerLLM(base_url=llm.base_url, api_key=SECRET, max_tokens=2)
    with traced(GenAI()) as exporter:
        answer = llm.invoke("Hello")
        assert dict(taken(exporter).attributes or {})["gen_ai.response.id"] == answer.response_metadata["id"]
        for model in (plain, plain.model_copy(update={"streaming": True})):
            output = model.generate(["Hello"]).llm_output
            assert output is not None
            assert dict(taken(exporter).attributes or {})["gen_ai.response.id"] == output["id"] != ""


def test_completions_are_traced_by_the_name_that_the_server_gave(chat_server: LocalServer) -> None:
    def ask(llm: LlamaServerLLM) -> None:
        llm.invoke("Hello", seed=1)

    def stream(llm: LlamaServerLLM) -> None:
        list(llm.stream("Hello"))

    for call in (ask, stream):
        llm = LlamaServerLLM(base_url=chat_server.base_url, max_tokens=1)
        assert llm._get_ls_params()["ls_model_name"] == "llama-server"
        call(llm)
        assert llm._get_ls_params()["ls_model_name"] == "random"
        assert llm.model_name == "random"
