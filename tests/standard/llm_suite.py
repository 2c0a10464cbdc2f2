"""What every LangChain text LLM should do; langchain-tests has no suite for them.

Subclass `LLMTests`, say which class with which parameters, and pytest finds the tests.
"""

import asyncio
import copy
import pickle
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.language_models.llms import BaseLLM
from langchain_core.load import dumpd, load
from langchain_core.outputs import LLMResult
from langchain_core.prompts import ChatPromptTemplate, PromptTemplate
from langchain_core.runnables import RunnableLambda
from pydantic import SecretStr


class Recorder(BaseCallbackHandler):
    """Counts starts, tokens and ends of blocking calls."""

    def __init__(self) -> None:
        self.starts, self.tokens, self.results, self.errors = 0, list[str](), list[LLMResult](), 0

    def on_llm_start(self, *args: Any, **kwargs: Any) -> None:
        self.starts += 1

    def on_llm_new_token(self, token: str, **kwargs: Any) -> None:
        self.tokens.append(token)

    def on_llm_end(self, response: LLMResult, **kwargs: Any) -> None:
        self.results.append(response)

    def on_llm_error(self, *args: Any, **kwargs: Any) -> None:
        self.errors += 1


class AsyncRecorder(AsyncCallbackHandler):
    """The same for awaited calls."""

    def __init__(self) -> None:
        self.tokens, self.results = list[str](), list[LLMResult]()

    async def on_llm_new_token(self, token: str, **kwargs: Any) -> None:
        self.tokens.append(token)

    async def on_llm_end(self, response: LLMResult, **kwargs: Any) -> None:
        self.results.append(response)


class LLMTests:
    """Standard tests of a text LLM. The model must be deterministic and must know `stop`."""

    @property
    def llm_class(self) -> type[BaseLLM]:
        raise NotImplementedError

    @property
    def llm_params(self) -> dict[str, Any]:
        return {}

    @property
    def supports_model_name(self) -> bool:
        return True

    @property
    def init_from_env_params(self) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        """Environment, arguments, and the attributes that they make; secrets in clear."""
        return {}, {}, {}

    @pytest.fixture
    def llm(self) -> BaseLLM:
        return self.llm_class(**self.llm_params)

    def test_invoke(self, llm: BaseLLM) -> None:
        text = llm.invoke("Hello")
        assert isinstance(text, str) and text

    async def test_ainvoke(self, llm: BaseLLM) -> None:
        text = await llm.ainvoke("Hello")
        assert isinstance(text, str) and text

    def test_prompts_of_each_kind(self, llm: BaseLLM) -> None:
        string = PromptTemplate.from_template("{word}").invoke({"word": "Hello"})
        chat = ChatPromptTemplate.from_messages([("human", "{word}")]).invoke({"word": "Hello"})
        assert llm.invoke(string) == llm.invoke("Hello")
        assert llm.invoke(chat) == llm.invoke("Human: Hello")

    def test_stream(self, llm: BaseLLM) -> None:
        parts = list(llm.stream("Hello"))
        assert len(parts) > 1 and all(isinstance(part, str) for part in parts)
        assert "".join(parts) == llm.invoke("Hello")

    async def test_astream(self, llm: BaseLLM) -> None:
        parts = [part async for part in llm.astream("Hello")]
        assert len(parts) > 1 and "".join(parts) == await llm.ainvoke("Hello")

    async def test_astream_events(self, llm: BaseLLM) -> None:
        events = [event async for event in llm.astream_events("Hello", version="v2")]
        kinds = [event["event"] for event in events]
        assert kinds[0] == "on_llm_start" and kinds[-1] == "on_llm_end"
        assert kinds.count("on_llm_stream") > 1

    def test_batch(self, llm: BaseLLM) -> None:
        prompts = ["Hello", "World", "Hello"]
        assert llm.batch(prompts) == [llm.invoke(prompt) for prompt in prompts]
        assert llm.batch(prompts, config={"max_concurrency": 2}) == llm.batch(prompts)

    async def test_agenerate(self, llm: BaseLLM) -> None:
        made, awaited = llm.generate(["Hello", "World"]), await llm.agenerate(["Hello", "World"])
        assert [g[0].text for g in awaited.generations] == [g[0].text for g in made.generations]
        assert (awaited.llm_output or {})["token_usage"] == (made.llm_output or {})["token_usage"]

    async def test_abatch(self, llm: BaseLLM) -> None:
        prompts = ["Hello", "World", "Hello"]
        assert await llm.abatch(prompts) == [await llm.ainvoke(prompt) for prompt in prompts]

    def test_batch_returns_exceptions(self, llm: BaseLLM) -> None:
        found = llm.batch(["Hello"], return_exceptions=True, no_such_parameter=1)
        assert len(found) == 1 and isinstance(found[0], Exception)

    def test_stop_sequence(self, llm: BaseLLM) -> None:
        text = llm.invoke("Hello")
        stop = text[len(text) // 2]
        assert llm.invoke("Hello", stop=[stop]) == text[: text.index(stop)]
        assert llm.bind(stop=[stop]).invoke("Hello") == text[: text.index(stop)]

    def test_generate_reports_usage_and_model(self, llm: BaseLLM) -> None:
        made = llm.generate(["Hello", "World"])
        assert len(made.generations) == 2 and made.llm_output is not None
        usage = made.llm_output["token_usage"]
        assert usage["prompt_tokens"] > 0 and usage["completion_tokens"] > 0
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
        if self.supports_model_name:
            assert made.llm_output["model_name"]

    def test_generation_has_its_finish_reason(self, llm: BaseLLM) -> None:
        info = llm.generate(["Hello"]).generations[0][0].generation_info
        assert info is not None and info["finish_reason"] in ("stop", "length")

    def test_callbacks(self, llm: BaseLLM) -> None:
        recorder = Recorder()
        text = llm.invoke("Hello", config={"callbacks": [recorder]})
        assert recorder.starts == 1 and recorder.results[0].generations[0][0].text == text

    def test_callbacks_of_a_stream(self, llm: BaseLLM) -> None:
        recorder = Recorder()
        parts = list(llm.stream("Hello", config={"callbacks": [recorder]}))
        assert [token for token in recorder.tokens if token] == [part for part in parts if part]
        assert len(recorder.results) == 1 and recorder.results[0].generations[0][0].text == "".join(parts)

    async def test_callbacks_of_an_awaited_stream(self, llm: BaseLLM) -> None:
        recorder = AsyncRecorder()
        parts = [part async for part in llm.astream("Hello", config={"callbacks": [recorder]})]
        assert "".join(recorder.tokens) == "".join(parts) and len(recorder.results) == 1

    def test_failure_is_reported_to_callbacks(self, llm: BaseLLM) -> None:
        recorder = Recorder()
        with pytest.raises(Exception, match="no_such_parameter"):
            llm.invoke("Hello", config={"callbacks": [recorder]}, no_such_parameter=1)
        assert (recorder.starts, recorder.errors) == (1, 1)

    def test_cache(self, llm: BaseLLM) -> None:
        recorder, cached = Recorder(), llm.model_copy(update={"cache": InMemoryCache()})
        texts = {cached.invoke("Hello", config={"callbacks": [recorder]}) for _ in range(3)}
        assert len(texts) == 1 and recorder.starts == 1

    async def test_cache_of_awaited_calls(self, llm: BaseLLM) -> None:
        cached = llm.model_copy(update={"cache": InMemoryCache()})
        recorder = AsyncRecorder()
        texts = {await cached.ainvoke("Hello", config={"callbacks": [recorder]}) for _ in range(3)}
        assert texts == {cached.invoke("Hello")} and len(recorder.results) == 1

    def test_fallbacks(self, llm: BaseLLM) -> None:
        broken = llm.bind(no_such_parameter=1)
        assert broken.with_fallbacks([llm]).invoke("Hello") == llm.invoke("Hello")

    def test_counts_tokens(self, llm: BaseLLM) -> None:
        ids = llm.get_token_ids("Hello, world")
        assert ids and all(isinstance(number, int) for number in ids)
        assert llm.get_num_tokens("Hello, world") == len(ids)
        assert llm.get_num_tokens("Hello, world. " * 10) > len(ids)

    def test_in_a_chain(self, llm: BaseLLM) -> None:
        chain = PromptTemplate.from_template("Say {word}") | llm | RunnableLambda(len)
        assert chain.invoke({"word": "Hello"}) == len(llm.invoke("Say Hello"))

    def test_standard_params(self, llm: BaseLLM) -> None:
        params = llm._get_ls_params()
        assert params["ls_model_type"] == "llm" and params["ls_provider"]

    def test_standard_params_of_a_call(self, llm: BaseLLM) -> None:
        assert llm._get_ls_params(stop=["x"])["ls_stop"] == ["x"]
        if self.supports_model_name:
            assert llm._get_ls_params(model="other")["ls_model_name"] == "other"

    def test_init_from_env(self, monkeypatch: pytest.MonkeyPatch) -> None:
        environment, arguments, expected = self.init_from_env_params
        if not environment:
            pytest.skip("init_from_env_params not specified.")
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        made = self.llm_class(**arguments)
        for name, value in expected.items():
            found = getattr(made, name)
            assert (found.get_secret_value() if isinstance(found, SecretStr) else found) == value

    @pytest.mark.filterwarnings("ignore:The function `load` is in beta")
    def test_serdes(self, llm: BaseLLM) -> None:
        namespace = self.llm_class.get_lc_namespace()[0]
        again = load(dumpd(llm), allowed_objects=[self.llm_class], valid_namespaces=[namespace])
        assert again.asdict() == llm.asdict()
        assert again.invoke("Hello") == llm.invoke("Hello")

    def test_serializable(self, llm: BaseLLM) -> None:
        dumped = dumpd(llm)
        assert dumped["type"] == "constructor" and dumped["id"][-1] == self.llm_class.__name__

    def test_copies(self, llm: BaseLLM) -> None:
        text = llm.invoke("Hello")
        assert copy.deepcopy(llm).invoke("Hello") == text
        assert llm.model_copy().invoke("Hello") == text
        assert pickle.loads(pickle.dumps(llm)).invoke("Hello") == text

    def test_event_loop_after_event_loop(self, llm: BaseLLM) -> None:
        assert len({asyncio.run(llm.ainvoke("Hello")) for _ in range(3)}) == 1
