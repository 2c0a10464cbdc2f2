"""Five llama-server integrations in other languages: all that each does, works here.

One class for each system, one test for each thing it does; on the real server where a server does it, and on a
scripted socket where none does it on demand.
"""

import asyncio
import json
import time
from pathlib import Path

import pytest

from llamacpp_server import (
    DEFAULT_BASE_URL,
    AsyncLlamaServerClient,
    BadRequestError,
    ChatRequest,
    CompletionRequest,
    ConnectionFailedError,
    LlamaServerClient,
    LlamaServerError,
    MalformedReplyError,
    NotSupportedError,
    RequestTimeoutError,
    ServerFaultError,
    ServerSettings,
    StreamCutOffError,
    Usage,
)
from llamacpp_server.cli import main
from llamacpp_server.integration import (
    ConnectionFields,
)
from llamacpp_server.local import (
    find_models,
)
from tests.models import Script, tool_call
from tests.unit.events import DONE, call, chunk, event, role, text, usage
from tests.wire.scripted_server import LOADING, Answer, ScriptedServer, error, head, refusing_port, reply, stream
from tests.wire.scripted_server import chunk as piece

HELLO = [{"role": "user", "content": "Hello"}]
CHAT = ChatRequest(messages=HELLO)
SAYS_HELLO = stream(role(), text("Hel"), text("lo"), chunk(finish="stop"), usage(5, 2), DONE)
WEATHER = {"type": "function", "function": {"name": "get_weather", "description": "Now", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}  # fmt: skip


@pytest.fixture(scope="module")
def scripted(scripted_server):
    return scripted_server({
        "weather": Script(says=tool_call("get_weather", '{"city": "Ulm"}'), thinks="I need the weather."),
        "user": Script(says="The answer is 42.", thinks="Let me think."),
    })  # fmt: skip


class TestGoBackendWrapper:
    def test_its_default_address_and_no_key(self, monkeypatch):
        for name in ("LLAMACPP_BASE_URL", "LLAMACPP_API_KEY", "LLAMACPP_MODEL"):
            monkeypatch.delenv(name, raising=False)
        settings = LlamaServerClient().settings
        assert (settings.base_url, settings.request_headers()) == ("http://localhost:8080", {})
        assert DEFAULT_BASE_URL == "http://localhost:8080"

    def test_its_timeout_of_a_minute(self, connect, chat_server):
        client = connect(chat_server, total_timeout=60, read_timeout=60)
        assert client.chat(ChatRequest(messages=HELLO, params={"max_tokens": 1})).usage.completion_tokens == 1

    def test_a_cold_start_is_waited_for_within_a_budget(self, connect):
        began = time.monotonic()
        client = connect(f"http://127.0.0.1:{refusing_port()}", wait_while_refused=True, load_timeout=0.1)
        with pytest.raises(ConnectionFailedError):
            client.chat(CHAT)
        assert 0.1 <= time.monotonic() - began < 15

    def test_a_cold_start_that_ends_is_answered(self, connect):
        with ScriptedServer(LOADING, SAYS_HELLO) as server:
            assert connect(server.url, wait_while_refused=True).chat(CHAT).content == "Hello"

    def test_any_other_failure_comes_back_at_once(self, connect):
        with ScriptedServer(error(500, "boom")) as server:
            with pytest.raises(ServerFaultError, match="boom"):
                connect(server.url, wait_while_refused=True, max_retries=9).chat(CHAT)
            assert len(server.requests) == 1

    def test_its_ping_and_its_completion_are_these_requests(self, connect):
        with ScriptedServer(reply({"data": [{"id": "m"}]}), SAYS_HELLO) as server:
            client = connect(server.url)
            assert client.models()[0].id == "m"
            assert client.chat(CHAT).content == "Hello"
            assert [(r.method, r.path) for r in server.requests] == [
                ("GET", "/v1/models"), ("POST", "/v1/chat/completions")
            ]  # fmt: skip

    def test_both_on_the_real_server(self, connect, scripted):
        client = connect(scripted)
        assert client.models()
        assert client.chat(CHAT).content == "The answer is 42."


class TestTypeScriptProvider:
    def test_its_base_with_v1(self, connect, scripted):
        assert connect(f"{scripted.base_url}/v1").chat(CHAT).content == "The answer is 42."

    def test_its_environment_variables(self, connect, monkeypatch):
        with ScriptedServer(SAYS_HELLO) as server:
            monkeypatch.setenv("LLAMACPP_BASE_URL", f"{server.url}/v1")
            monkeypatch.setenv("LLAMACPP_API_KEY", "sk-mine")
            monkeypatch.setenv("LLAMACPP_MODEL", "qwen")
            assert connect(None).chat(CHAT).content == "Hello"
            assert server.requests[0].headers["authorization"] == "Bearer sk-mine"
            assert server.requests[0].json["model"] == "qwen"

    @pytest.mark.parametrize("placeholder", ["no-key", "not-needed", "none", "sk-no-key-required"])
    def test_a_placeholder_is_never_sent_as_a_key(self, connect, placeholder):
        with ScriptedServer(SAYS_HELLO) as proxy:
            connect(proxy.url, api_key=placeholder).chat(CHAT)
            assert "authorization" not in proxy.requests[0].headers

    def test_an_explicit_model_wins(self, connect, scripted):
        client = connect(scripted, model="mine")
        assert client.model_name() == "mine"
        assert client.chat(CHAT).content == "The answer is 42."

    def test_else_the_first_that_is_listed(self, connect, scripted):
        client = connect(scripted)
        assert client.model_name() == client.models()[0].id

    def test_a_discovery_is_remembered_only_when_it_succeeded_and_nothing_waits_for_it(self):
        listed, without_props = reply({"data": [{"id": "found"}]}), error(404, "File Not Found")
        with ScriptedServer(error(500, "boom"), SAYS_HELLO, listed, without_props, SAYS_HELLO) as server:
            model = ConnectionFields(base_url=server.url)
            with pytest.raises(ServerFaultError):
                model.server_info()
            assert model.client.chat(CHAT).content == "Hello"
            assert "model" not in server.requests[1].json
            assert [model.server_info().model for _ in range(3)] == ["found"] * 3
            assert [r.path for r in server.requests[2:]] == ["/v1/models", "/props"]
            model.close()

    def test_health_and_where_a_build_lacks_it_the_models(self, connect, scripted):
        assert connect(scripted).health().ready
        with ScriptedServer(error(404, "File Not Found"), reply({"data": [{"id": "m"}]})) as server:
            assert connect(server.url).health().ready
            assert [r.path for r in server.requests] == ["/health", "/v1/models"]

    def test_refused_says_how_to_start_a_server(self, connect):
        url = f"http://127.0.0.1:{refusing_port()}"
        with pytest.raises(ConnectionFailedError) as caught:
            connect(url).chat(CHAT)
        start = f"llama-server -m model.gguf --port {url.rpartition(':')[2]}"
        for words in ("llama-server is not reachable", url, start, "port 9931"):
            assert words in str(caught.value)

    def test_tools_without_jinja_name_the_flag(self, connect):
        answer = error(500, "tools param requires --jinja flag")
        with ScriptedServer(answer) as server, pytest.raises(NotSupportedError, match="start the server with --jinja"):
            connect(server.url).chat(ChatRequest(messages=HELLO, tools=[WEATHER]))

    def test_images_without_a_projector_name_the_flag(self, connect, scripted):
        image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
        with pytest.raises(NotSupportedError, match="--mmproj"):
            connect(scripted).chat(ChatRequest(messages=[{"role": "user", "content": [image]}]))

    def test_a_timeout_is_named_as_such(self, connect, slow_server, idle):
        with pytest.raises(RequestTimeoutError, match="total_timeout"):
            connect(slow_server, total_timeout=0.1).chat(CHAT)
        idle(slow_server)

    def test_key_and_address_can_be_given_for_one_call(self, connect, scripted):
        with ScriptedServer(SAYS_HELLO) as server:
            client = connect(scripted)
            usual = client.client
            client.client = usual.with_settings(base_url=server.url, api_key="sk-other")
            assert client.chat(CHAT).content == "Hello"
            assert server.requests[0].headers["authorization"] == "Bearer sk-other"
            client.client = usual
            assert client.chat(CHAT).content == "The answer is 42."

    async def test_an_abort_and_a_timeout_compose(self, slow_server, idle):
        async with AsyncLlamaServerClient(slow_server.base_url, total_timeout=30) as client:
            task = asyncio.create_task(client.chat(CHAT))
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await asyncio.shield(task)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            with pytest.raises(RequestTimeoutError):
                await client.with_settings(total_timeout=0.1).chat(CHAT)
        await asyncio.to_thread(idle, slow_server)

    def test_the_samplers_it_left_to_later_are_typed(self, connect, chat_server):
        client = connect(chat_server)
        params = {"mirostat": 2, "repeat_penalty": 1.1, "top_k": 5, "n_predict": 2}
        assert client.chat(ChatRequest(messages=HELLO, params=params)).usage.completion_tokens == 2
        with pytest.raises(BadRequestError, match="mirostat"):
            client.chat(ChatRequest(messages=HELLO, params={"mirostat": "two"}))

    def test_one_server_has_one_model_whatever_name_is_asked_for(self, connect, scripted):
        client = connect(scripted)
        names = {client.chat(ChatRequest(messages=HELLO, model=name)).start.model for name in ("a", "b")}
        assert len(names) == 1


class TestPythonMiddlewareGuide:
    def test_one_setting_switches_the_server(self, connect, scripted):
        with ScriptedServer(SAYS_HELLO) as cloud:
            for url, said in ((cloud.url, "Hello"), (scripted.base_url, "The answer is 42.")):
                assert connect(url).chat(CHAT).content == said

    def test_its_fields(self, connect):
        request = ChatRequest(
            messages=HELLO, tools=[WEATHER], tool_choice="auto", parallel_tool_calls=True, model="m",
            params={"temperature": 0.5, "max_tokens": 9, "top_p": 0.9},
        )  # fmt: skip
        with ScriptedServer(SAYS_HELLO) as server:
            connect(server.url).chat(request)
            assert server.requests[-1].json == {
                "model": "m", "messages": HELLO, "stream": True, "stream_options": {"include_usage": True},
                "temperature": 0.5, "max_tokens": 9, "top_p": 0.9, "tools": [WEATHER], "tool_choice": "auto",
                "parallel_tool_calls": True,
            }  # fmt: skip

    def test_its_events(self, connect, scripted):
        deltas = connect(scripted).read("stream_chat", CHAT)
        assert [bool(delta.start) for delta in deltas] == [True] + [False] * (len(deltas) - 1)
        finished = [number for number, delta in enumerate(deltas) if delta.finish_reason]
        assert len(finished) == 1
        assert not any(delta.content for delta in deltas[finished[0] :])
        assert deltas[-1].usage is not None

    @pytest.mark.parametrize("body", [{"object": "list", "data": [{"id": "m"}]}, [{"id": "m"}]])
    def test_models_wrapped_or_bare(self, connect, body):
        with ScriptedServer(reply(body)) as server:
            assert connect(server.url).model_name() == "m"

    def test_thinking_in_its_own_field(self, connect, scripted):
        answer = connect(scripted).chat(CHAT)
        assert (answer.reasoning_content.strip(), answer.content) == ("Let me think.", "The answer is 42.")

    def test_thinking_in_the_text_is_detected(self, connect):
        tagged = stream(text("<think>"), text("Hm"), text("</think>\n\n"), text("Hi"), chunk(finish="stop"), DONE)
        with ScriptedServer(tagged) as server:
            answer = connect(server.url).chat(CHAT)
            assert (answer.reasoning_content, answer.content) == ("Hm", "Hi")

    @pytest.mark.parametrize("cached", [None, 3])
    def test_usage_with_and_without_cached_tokens(self, connect, cached):
        with ScriptedServer(stream(text("x"), chunk(finish="stop"), usage(5, 1, cached), DONE)) as server:
            assert connect(server.url).chat(CHAT).usage == Usage(5, 1, cached)

    def test_the_word_no_key_is_tolerated_as_a_key(self, connect, scripted):
        assert connect(scripted, api_key="no-key").chat(CHAT).content == "The answer is 42."

    def test_wish_models_in_a_folder(self, models_dir):
        found = {model.name: Path(model.path) for model in find_models(models_dir)}
        assert found["random"] == models_dir / "random.gguf"
        assert not [name for name in found if name.startswith("mmproj")]

    def test_wish_the_kv_cache_saved_and_loaded(self, connect, chat_server):
        client = connect(chat_server)
        client.chat(ChatRequest(messages=HELLO, params={"max_tokens": 1, "id_slot": 0}))
        saved = client.save_slot(0, f"origin-{client.kind}.bin")
        client.erase_slot(0)
        assert client.restore_slot(0, f"origin-{client.kind}.bin").n_tokens == saved.n_tokens > 0

    def test_wish_several_models_by_name(self, connect):
        with ScriptedServer(SAYS_HELLO) as router:
            client = connect(router.url)
            for name in ("a", "b"):
                client.chat(ChatRequest(messages=HELLO, model=name))
            assert [r.json["model"] for r in router.requests] == ["a", "b"]

    def test_wish_speculative_decoding(self, connect, serve, models_dir):
        server = serve("random.gguf", parallel=1, ctx_size=1024, draft_model=models_dir / "random.gguf")
        params = {"max_tokens": 24, "temperature": 0, "ignore_eos": True}
        timings = connect(server).chat(ChatRequest(messages=HELLO, params=params)).timings
        assert timings.draft_n
        assert timings.draft_n_accepted

    def test_wish_grammars(self, connect, chat_server):
        params = {"grammar": 'root ::= "yes" | "no"', "max_tokens": 50, "reasoning_format": "none"}
        params["chat_template_kwargs"] = {"enable_thinking": False}
        assert connect(chat_server).chat(ChatRequest(messages=HELLO, params=params)).content in ("yes", "no")


class TestGoMigrationPlan:
    def test_separate_timeouts_for_the_connection_and_the_request(self, connect):
        assert ServerSettings().connect_timeout == 5.0
        with ScriptedServer(Answer(then="hang")) as server, pytest.raises(RequestTimeoutError):
            connect(server.url, connect_timeout=30, read_timeout=0.1).chat(CHAT)

    def test_no_key_is_needed(self, connect, scripted):
        assert connect(scripted, api_key=None).chat(CHAT).content == "The answer is 42."

    def test_the_openai_endpoint_first_and_the_native_one_where_it_is_missing(self, connect, chat_server):
        assert connect(chat_server).complete(CompletionRequest(prompt="x", params={"max_tokens": 1})).start.id
        native = stream(event({"content": "Hi", "stop": False}), event({"content": "", "stop": True}))
        with ScriptedServer(error(404, "File Not Found"), native) as server:
            assert connect(server.url).complete(CompletionRequest(prompt="x")).text == "Hi"
            assert [r.path for r in server.requests] == ["/v1/completions", "/completion"]

    def test_the_two_kinds_of_stream_end_differently(self, connect):
        openai = event({"choices": [{"text": "Hi", "index": 0, "finish_reason": "stop"}]})
        native = event({"content": "Hi", "stop": True})
        with ScriptedServer(stream(openai), stream(native)) as server:
            client = connect(server.url)
            with pytest.raises(StreamCutOffError):
                client.complete(CompletionRequest(prompt="x"))
            assert client.complete(CompletionRequest(prompt="x")).text == "Hi"

    def test_its_sampling_fields(self, connect, chat_server):
        params = {"top_k": 3, "repeat_penalty": 1.2, "seed": 7, "stop": ["END"], "max_tokens": 2, "id_slot": 1}
        client = connect(chat_server)
        client.chat(ChatRequest(messages=HELLO, params=params))
        understood = client.slots()[1].raw["params"]
        assert (understood["top_k"], understood["seed"]) == (3, 7)
        assert understood["repeat_penalty"] == pytest.approx(1.2)

    def test_cancelling_closes_the_body(self, connect):
        with ScriptedServer(Answer((head(), piece(text("one"))), "hang")) as server:
            client = connect(server.url)
            opened = client.start("stream_chat", CHAT)
            assert client.next(opened).content == "one"
            client.leave(opened)
            assert server.wait_until_left()

    def test_a_timeout_is_the_languages_own_error(self, connect):
        with ScriptedServer(Answer(then="hang")) as server, pytest.raises(TimeoutError):
            connect(server.url, read_timeout=0.1).chat(CHAT)

    def test_the_words_of_an_error_are_shown(self, connect):
        answer = error(400, "Field 'n': too many", "invalid_request_error")
        with ScriptedServer(answer) as server, pytest.raises(BadRequestError, match="Field 'n': too many") as caught:
            connect(server.url).chat(CHAT)
        assert (caught.value.server_type, caught.value.status) == ("invalid_request_error", 400)

    def test_its_preflight(self, scripted, capsys):
        assert main(["check", "--base-url", scripted.base_url, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        status = {check["name"]: check["status"] for check in found["checks"]}
        assert [status[name] for name in ("reachable", "ready", "model", "chat")] == ["ok"] * 4
        assert (
            main(["check", "--base-url", f"http://127.0.0.1:{refusing_port()}", "--json", "--load-timeout", "0"]) == 1
        )
        (failed,) = [check for check in json.loads(capsys.readouterr().out)["checks"] if check["status"] == "failed"]
        assert "not reachable" in failed["detail"]

    def test_missing_usage_is_none(self, connect):
        with ScriptedServer(stream(text("x"), chunk(finish="stop"), DONE)) as server:
            assert connect(server.url).chat(CHAT).usage is None

    @pytest.mark.parametrize("bad", [b"data: {half\n\n", b"data: [1, 2\n\n", b"data: \xff\n\n"])
    def test_malformed_events_are_errors(self, connect, bad):
        answer = stream(text("x"), bad, chunk(finish="stop"), DONE)
        with ScriptedServer(answer) as server, pytest.raises(MalformedReplyError):
            connect(server.url).chat(CHAT)

    def test_the_environment_variables_are_in_the_docs(self):
        readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
        for name in ("LLAMACPP_BASE_URL", "LLAMACPP_API_KEY", "LLAMACPP_MODEL"):
            assert name in readme


class TestTypeScriptClient:
    def test_a_chat_and_a_stream_of_typed_events(self, connect, scripted):
        client = connect(scripted)
        assert client.chat(CHAT).content == "The answer is 42."
        deltas = client.read("stream_chat", CHAT)
        assert "".join(delta.content for delta in deltas) == "The answer is 42."
        assert deltas[-1].usage.completion_tokens > 0

    def test_calls_are_events_too(self, connect, scripted):
        request = ChatRequest(messages=[{"role": "user", "content": "weather"}], tools=[WEATHER])
        fragments = [f for delta in connect(scripted).read("stream_chat", request) for f in delta.tool_calls]
        assert "".join(fragment.name for fragment in fragments) == "get_weather"

    def test_the_system_prompt_comes_first(self, connect, scripted):
        messages = [{"role": "system", "content": "Be brief."}, *HELLO]
        prompt = connect(scripted).apply_template(ChatRequest(messages=messages))
        assert prompt.index("Be brief.") < prompt.index("Hello")

    def test_max_tokens_is_left_to_the_server(self, connect):
        with ScriptedServer(SAYS_HELLO) as server:
            connect(server.url).chat(CHAT)
            assert not {"max_tokens", "n_predict", "max_completion_tokens"} & set(server.requests[0].json)

    def test_a_server_that_does_not_run_is_named_with_its_address(self, connect):
        url = f"http://127.0.0.1:{refusing_port()}"
        with pytest.raises(ConnectionFailedError, match=url):
            connect(url).chat(CHAT)

    @pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503])
    def test_an_http_error_has_its_status_and_text(self, connect, status):
        with ScriptedServer(error(status, "the text")) as server, pytest.raises(LlamaServerError) as caught:
            connect(server.url, max_retries=0).chat(CHAT)
        assert caught.value.status == status
        assert f"HTTP {status}" in str(caught.value)
        assert "the text" in str(caught.value)

    def test_its_token_is_optional(self, connect):
        with ScriptedServer(SAYS_HELLO) as server:
            for key in ("sk-token", None):
                connect(server.url, api_key=key).chat(CHAT)
            assert [r.headers.get("authorization") for r in server.requests] == ["Bearer sk-token", None]

    def test_one_bad_event_does_not_end_a_stream_in_silence(self, connect):
        answer = stream(text("so far"), event(b"oops"), call(0, "{}"), DONE)
        with ScriptedServer(answer) as server, pytest.raises(MalformedReplyError, match="oops") as caught:
            connect(server.url).chat(CHAT)
        assert caught.value.partial.choices[0].content == "so far"
