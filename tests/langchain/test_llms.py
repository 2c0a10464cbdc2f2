"""LlamaServerLLM on real models: what is sent, what comes back, and what LangChain does with it."""

import asyncio
import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core import exceptions as core
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.load import dumps, load
from langchain_core.outputs import GenerationChunk

import llamacpp_server
from langchain_llamacpp_server import LlamaServerLLM
from llamacpp_server import LocalServer
from tests.models import Script
from tests.waiting import wait_until_busy
from tests.wiretap import Wiretap

PATH = "/v1/completions"


@pytest.fixture
def make(chat_server: LocalServer, wire: Wiretap) -> Callable[..., LlamaServerLLM]:
    def made(**fields: Any) -> LlamaServerLLM:
        fields = {"max_tokens": 8, "seed": 1, "temperature": 0.0, **fields}
        return LlamaServerLLM(base_url=chat_server.base_url, **wire.clients, **fields)

    return made


@pytest.fixture
def infiller(serve: Any, wire: Wiretap) -> LlamaServerLLM:
    server = serve("fim.gguf", parallel=2, ctx_size=4096)
    return LlamaServerLLM(base_url=server.base_url, max_tokens=8, seed=1, temperature=0.0, **wire.clients)


class TestRequests:
    def test_only_what_was_given_is_sent(self, make: Any, wire: Wiretap) -> None:
        make(seed=None, temperature=None).invoke("once")
        assert wire.bodies(PATH) == [{"prompt": "once", "max_tokens": 8, "stream": True}]

    def test_call_wins_over_field_and_none_takes_it_back(self, make: Any, wire: Wiretap) -> None:
        make(top_k=5, stop=["x"]).invoke("once", top_k=7, seed=None, stop=["y"], min_p=0)
        body = wire.bodies(PATH)[0]
        assert (body["top_k"], body["stop"], body["min_p"]) == (7, ["y"], 0) and "seed" not in body

    def test_prompts_of_a_batch_are_one_request(self, make: Any, wire: Wiretap) -> None:
        texts = make().batch(["once", "upon", "a time"])
        assert [body["prompt"] for body in wire.bodies(PATH)] == [["once", "upon", "a time"]]
        assert texts == [make().invoke(prompt) for prompt in ("once", "upon", "a time")]

    def test_names_of_others_and_timeout(self, make: Any, wire: Wiretap) -> None:
        make().invoke("once", max_completion_tokens=3, timeout=60, user="me", extra_body={"new": 1})
        body = wire.bodies(PATH)[0]
        assert body["max_tokens"] == 3 and body["new"] == 1 and "user" not in body and "timeout" not in body

    def test_settings_of_one_call_are_not_sent(self, make: Any, wire: Wiretap) -> None:
        of_the_call: dict[str, Any] = {"first_token_timeout": 60, "total_timeout": 60, "priority": "background"}
        of_the_call |= {"extra_headers": {"X-Call": "1"}, "extra_query": {"of": "call"}}
        make().invoke("once", max_tokens=3, **of_the_call)
        assert not wire.bodies(PATH)[0].keys() & of_the_call.keys()

    def test_misspelt_parameter_is_an_error(self, make: Any) -> None:
        with pytest.raises(core.ModelInvalidRequestError, match="did you mean 'temperature'"):
            make().invoke("once", temprature=1)
        with pytest.raises(ValueError, match="did you mean 'temperature'"):
            LlamaServerLLM(temprature=1)  # type: ignore[call-arg]


class TestAnswers:
    def test_generation_has_its_finish_reason_and_timings(self, make: Any) -> None:
        made = make().generate(["once"])
        info = made.generations[0][0].generation_info
        assert info["finish_reason"] == "length" and info["timings"]["predicted_n"] == 8
        usage = made.llm_output["token_usage"]
        assert usage == {"prompt_tokens": 4, "completion_tokens": 8, "total_tokens": 12}
        assert made.llm_output["model_name"] == "random"

    def test_usage_counts_every_prompt(self, make: Any) -> None:
        usage = make().generate(["once", "once", "once"]).llm_output["token_usage"]
        assert (usage["prompt_tokens"], usage["completion_tokens"]) == (12, 24)

    def test_several_answers_for_each_of_several_prompts(self, make: Any) -> None:
        made = make(temperature=2.0).generate(["once", "upon"], n=2)
        assert [len(answers) for answers in made.generations] == [2, 2]

    def test_logprobs(self, make: Any) -> None:
        made = make().generate(["once"], logprobs=2)
        content = made.generations[0][0].generation_info["logprobs"]["content"]
        assert content and len(content[0]["top_logprobs"]) == 2 and content[0]["logprob"] <= 0

    async def test_awaited_is_the_same(self, make: Any) -> None:
        assert await make().ainvoke("once") == make().invoke("once")
        awaited = await make().agenerate(["once", "upon"])
        assert [g[0].text for g in awaited.generations] == make().batch(["once", "upon"])

    def test_stop(self, scripted_server: Any) -> None:
        server = scripted_server(Script(says=["one two three"]))
        assert LlamaServerLLM(base_url=server.base_url).invoke("x", stop=["two"]) == "one "

    def test_constrained_by_a_grammar(self, make: Any) -> None:
        assert make().invoke("x", grammar='root ::= "yes" | "no"') in ("yes", "no")


class TestStreams:
    def test_chunks_add_up_to_the_answer(self, make: Any) -> None:
        assert "".join(make().stream("once")) == make().invoke("once")

    def test_a_stream_is_one_answer(self, make: Any, wire: Wiretap) -> None:
        assert "".join(make(n=2).stream("once")) == make().invoke("once")
        assert "".join(make().stream("once", n=2)) == make().invoke("once")
        assert all("n" not in body for body in wire.bodies(PATH))

    async def test_awaited_chunks_add_up(self, make: Any) -> None:
        assert "".join([text async for text in make().astream("once")]) == make().invoke("once")

    def test_last_chunk_has_usage_timings_and_finish_reason_once(self, make: Any) -> None:
        chunks = list(make(logprobs=1)._stream("once"))
        full = sum(chunks[1:], chunks[0])
        info = full.generation_info
        assert (info["finish_reason"], info["model_name"]) == ("length", "random")
        assert info["token_usage"]["total_tokens"] == 12 and info["timings"]["predicted_n"] == 8
        # Of half a character the server says nothing, so that nonsense has fewer entries than tokens.
        assert sum(len(entry["bytes"]) for entry in info["logprobs"]["content"]) >= 7
        assert not any("finish_reason" in (chunk.generation_info or {}) for chunk in chunks[:-1])

    def test_tokens_reach_callbacks(self, make: Any) -> None:
        seen: list[str] = []

        class Tokens(BaseCallbackHandler):
            def on_llm_new_token(self, token: str, *, chunk: Any = None, **kwargs: Any) -> None:
                assert isinstance(chunk, GenerationChunk)
                seen.append(token)

        text = make(streaming=True).invoke("once", config={"callbacks": [Tokens()]})
        assert len(seen) > 1 and "".join(seen) == text == make().invoke("once")

    async def test_tokens_reach_awaited_callbacks(self, make: Any) -> None:
        seen: list[str] = []

        class Tokens(AsyncCallbackHandler):
            async def on_llm_new_token(self, token: str, **kwargs: Any) -> None:
                seen.append(token)

        llm = make(streaming=True)
        made = await llm.agenerate(["once"], callbacks=[Tokens()])
        assert "".join(seen) == made.generations[0][0].text
        assert made.llm_output["token_usage"]["completion_tokens"] == 8


class TestLeavingEarly:
    def test_closing_a_stream_frees_the_slot(self, slow_server: LocalServer, idle: Any) -> None:
        stream = LlamaServerLLM(base_url=slow_server.base_url).stream("go")
        assert next(stream)
        stream.close()  # type: ignore[attr-defined]  # it is a generator
        idle(slow_server)

    async def test_cancelling_frees_the_slot(self, slow_server: LocalServer, idle: Any) -> None:
        llm = LlamaServerLLM(base_url=slow_server.base_url)
        task = asyncio.create_task(llm.ainvoke("go"))
        await asyncio.to_thread(wait_until_busy, slow_server)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        idle(slow_server)


class TestInfill:
    def test_suffix_fills_the_gap(self, infiller: LlamaServerLLM, wire: Wiretap) -> None:
        made = infiller.generate(["def add(a, b):\n"], suffix="\n\nadd(1, 2)", input_extra=[("a.py", "x = 1")])
        body = wire.bodies("/infill")[0]
        assert (body["input_prefix"], body["input_suffix"]) == ("def add(a, b):\n", "\n\nadd(1, 2)")
        assert body["input_extra"] == [{"filename": "a.py", "text": "x = 1"}] and body["max_tokens"] == 8
        info = made.generations[0][0].generation_info
        assert info is not None and info["finish_reason"] == "length"
        assert made.llm_output is not None and made.llm_output["token_usage"]["completion_tokens"] == 8

    async def test_streamed_awaited_and_several(self, infiller: LlamaServerLLM, wire: Wiretap) -> None:
        llm = infiller.model_copy(update={"suffix": "end"})
        text = llm.invoke("begin")
        assert "".join(llm.stream("begin")) == text == await llm.ainvoke("begin")
        assert "".join([part async for part in llm.astream("begin")]) == text
        assert llm.batch(["begin", "other"])[0] == text
        assert not wire.bodies(PATH)

    def test_model_without_the_tokens(self, make: Any) -> None:
        with pytest.raises(llamacpp_server.NotSupportedError, match="fill-in-the-middle") as caught:
            make().invoke("a", suffix="b")
        assert isinstance(caught.value, core.ModelError)


class TestModel:
    def test_tokens_are_the_servers(self, make: Any, chat_server: LocalServer) -> None:
        ids = chat_server.client().tokenize("héllo <think>")
        assert make().get_token_ids("héllo <think>") == ids and make().get_num_tokens("héllo <think>") == len(ids)
        assert make(custom_get_token_ids=lambda text: [1, 2]).get_num_tokens("x") == 2

    def test_what_traces_see(self, make: Any) -> None:
        params = make(model="m", stop=["a"])._get_ls_params()
        assert params == {
            "ls_provider": "llamacpp-server", "ls_model_type": "llm", "ls_model_name": "m", "ls_temperature": 0.0,
            "ls_max_tokens": 8, "ls_stop": ["a"],
        }  # fmt: skip
        assert make()._get_ls_params(model="other")["ls_model_name"] == "other"
        assert make().metadata["lc_versions"]["llamacpp-server"] == llamacpp_server.__version__

    @pytest.mark.filterwarnings("ignore:The function .load. is in beta")
    def test_serialized_without_secrets(self, monkeypatch: pytest.MonkeyPatch) -> None:
        llm = LlamaServerLLM(base_url="http://me:pa55@host", api_key="s3cr3t", top_k=3, default_headers={"a": "hidden"})
        text = dumps(llm)
        assert not any(word in text + repr(llm) + str(llm) for word in ("s3cr3t", "pa55", "hidden"))
        monkeypatch.setenv("LLAMACPP_API_KEY", "s3cr3t")
        name = "langchain_llamacpp_server"
        for allowed in ("all", [LlamaServerLLM]):
            other = load(json.loads(text), valid_namespaces=[name], allowed_objects=allowed, secrets_from_env=True)
            assert other.top_k == 3 and other.api_key.get_secret_value() == "s3cr3t"

    def test_pickle_and_copies_work_after_use(self, chat_server: LocalServer) -> None:
        llm = LlamaServerLLM(base_url=chat_server.base_url, max_tokens=4, temperature=0.0)
        text = llm.invoke("once")
        assert pickle.loads(pickle.dumps(llm)).invoke("once") == text == llm.model_copy(deep=True).invoke("once")

    def test_cache_distinguishes_parameters_and_servers(self, make: Any, wire: Wiretap) -> None:
        cache = InMemoryCache()
        llm = make(cache=cache)
        assert llm.invoke("once") == llm.invoke("once") == llm.generate(["once"]).generations[0][0].text
        assert len(wire.bodies(PATH)) == 1
        llm.invoke("once", top_k=1)
        llm.invoke("once", top_k=1, config={"tags": ["other run"]})
        make(cache=cache, top_k=2).invoke("once")
        make(cache=cache, default_headers={"X-Model": "other"}).invoke("once")
        assert len(wire.bodies(PATH)) == 4

    def test_errors_are_langchains(self, make: Any) -> None:
        with pytest.raises(core.ContextOverflowError):
            make().invoke("a " * 5000)
        with pytest.raises(core.ModelConnectionError):
            list(LlamaServerLLM(base_url="http://127.0.0.1:9", max_retries=0).stream("a"))

    def test_with_fallbacks_and_configurable_fields(self, make: Any, chat_server: LocalServer) -> None:
        from langchain_core.runnables import ConfigurableField

        greedy = {"temperature": 0.0, "ignore_eos": True}  # else it may end before it says anything
        down = LlamaServerLLM(base_url="http://127.0.0.1:9", max_retries=0, **greedy)
        assert down.with_fallbacks([make()]).invoke("once") == make().invoke("once")
        moved = down.configurable_fields(base_url=ConfigurableField(id="base_url"))
        assert moved.with_config(configurable={"base_url": chat_server.base_url}).invoke("once", max_tokens=2)


def test_choices_of_a_field_and_of_a_call(chat_server):
    llm = LlamaServerLLM(base_url=chat_server.base_url, choices=["yes"])
    assert llm.invoke("Is it?") == "yes"
    assert llm.invoke("Is it?", regex="[ab]{2}") in ("aa", "ab", "ba", "bb")
