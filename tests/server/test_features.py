"""One question a feature: does this build have it? The newest must have all; `tests/builds.py` asks those of a year.

Each function asks through the clients as a user would, and fails with an AssertionError or an error of ours where the
build lacks the feature. Nothing else may come out of it.
"""

import json
import os
import re
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llamacpp_server import (
    AuthenticationFailedError,
    ChatRequest,
    ContextOverflowError,
    InfillRequest,
    LlamaServerError,
    LocalServer,
    PromptProgress,
    ServerFaultError,
)
from tests.media import picture, sound
from tests.models import Script, tool_call
from tests.waiting import wait_until

Get = Callable[[str], Any]
BINARY = os.environ.get("TEST_BACKEND") == "binary"
SCRIPTS = {
    "two": Script(says=tool_call("f", '{"x": 1}') + "\n" + tool_call("f", '{"x": 2}'), thinks="Both."),
    "one": tool_call("f", '{"x": 1}'),
    "user": Script(says="The answer is 42.", thinks="Let me see."),
}
SCHEMA = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
TOOL: Any = {"type": "function", "function": {"name": "f", "description": "", "parameters": SCHEMA}}


def ask(content: Any, *tools: Any, thinking: bool = False, choice: str | None = None, **params: Any) -> ChatRequest:
    kwargs = {"chat_template_kwargs": {"enable_thinking": thinking}, "temperature": 0, **params}
    return ChatRequest(messages=[{"role": "user", "content": content}], tools=tools, tool_choice=choice, params=kwargs)


def talker(get: Get) -> Any:
    return get("scripted_server")(SCRIPTS).client()


# What a model of random weights says may end within a character, which builds of spring and summer 2026 answer with an
# error; where the text does not matter, it is made of letters.
LETTERS = {"grammar": 'root ::= "x"+'}


def plain(get: Get) -> Any:
    return get("chat_server").client()


def chat(get: Get) -> None:
    deltas = list(talker(get).stream_chat(ask("hi")))
    assert "".join(delta.content for delta in deltas) == "The answer is 42."
    assert [delta.finish_reason for delta in deltas if delta.finish_reason] == ["stop"]


def usage_of_streams(get: Get) -> None:
    usage = talker(get).chat(ask("hi")).usage
    assert usage and usage.prompt_tokens and usage.completion_tokens


def cached_tokens(get: Get) -> None:
    client = talker(get)
    client.chat(ask("the same words", id_slot=0))
    assert client.chat(ask("the same words", id_slot=0)).usage.cached_tokens


def thinking_apart(get: Get) -> None:
    reply = talker(get).chat(ask("hi", thinking=True))
    assert (reply.reasoning_content.strip(), reply.content) == ("Let me see.", "The answer is 42.")


def thinking_with_a_budget(get: Get) -> None:
    reply = talker(get).chat(ask("hi", thinking=True, reasoning_budget_tokens=1))
    assert reply.reasoning_content.strip() != "Let me see."


def a_tool_call(get: Get) -> None:
    assert [call.arguments for call in talker(get).chat(ask("one", TOOL)).tool_calls] in (['{"x":1}'], ['{"x": 1}'])


def two_calls_after_a_thought(get: Get) -> None:
    reply = talker(get).chat(replace(ask("two", TOOL, thinking=True), parallel_tool_calls=True))
    assert [json.loads(call.arguments) for call in reply.tool_calls] == [{"x": 1}, {"x": 2}]
    assert len({call.id for call in reply.tool_calls}) == 2


def a_forced_tool(get: Get) -> None:
    # The model wants to call `f`, and only the server's grammar makes it call `g`.
    other: Any = {"type": "function", "function": {"name": "g", "parameters": {"type": "object", "properties": {}}}}
    reply = talker(get).chat(ask("one", TOOL, other, choice="g", max_tokens=100))
    assert {call.name for call in reply.tool_calls} == {"g"}


def a_json_schema(get: Get) -> None:
    schema = SCHEMA | {"properties": {"x": {"enum": [1, 2]}}, "additionalProperties": False}
    form = {"type": "json_schema", "json_schema": {"schema": schema}}
    text = plain(get).chat(ask("hi", max_tokens=400, response_format=form)).content
    # Nonsense may go on with white space to the last token, as older grammars allow any amount.
    assert re.match(r'\{\s*"x"\s*:\s*[12]\s*(\}|$)', text), text


def a_grammar(get: Get) -> None:
    assert plain(get).chat(ask("hi", grammar='root ::= "yes" | "no"')).content in ("yes", "no")


def log_probabilities(get: Get) -> None:
    reply = plain(get).chat(ask("hi", max_tokens=3, **LETTERS, logprobs=True, top_logprobs=2))
    assert len(reply.logprobs["content"][0]["top_logprobs"]) == 2


def several_answers(get: Get) -> None:
    assert len(plain(get).chat(ask("hi", max_tokens=3, **LETTERS, n=2)).choices) == 2


def progress_of_the_prompt(get: Get) -> None:
    deltas = list(plain(get).stream_chat(ask("hi " * 300, max_tokens=1, **LETTERS, return_progress=True)))
    assert isinstance(next(delta.progress for delta in deltas if delta.progress), PromptProgress)


def ending_a_thought(get: Get) -> None:
    long = {"user": Script(says="Done.", thinks=" ".join(f"hm{n}" for n in range(1200)))}
    client, thoughts = get("scripted_server")(long).client(), 0
    for delta in client.stream_chat(ask("hi", thinking=True, reasoning_control=True)):
        if delta.start and delta.start.id:
            client.end_reasoning(delta.start.id)
        thoughts += bool(delta.reasoning_content)
    assert thoughts < 1200


def the_prompt_as_written(get: Get) -> None:
    assert "hello there" in plain(get).apply_template(ask("hello there"))


def exact_token_counts(get: Get) -> None:
    client, request = talker(get), ask("hello there", TOOL)
    assert client.count_tokens(request) == client.chat(request).usage.prompt_tokens


def tokens(get: Get) -> None:
    client = plain(get)
    assert client.detokenize(client.tokenize("some text")) == "some text"


def filling_in(get: Get) -> None:
    client = get("serve")("fim.gguf", parallel=1, ctx_size=2048).client()
    for seed in range(20):
        request = InfillRequest(prefix="def f(", suffix="):", params={"max_tokens": 1, "seed": seed})
        with suppress(ServerFaultError):  # half a character
            assert client.infill(request).usage.completion_tokens == 1
            return
    raise AssertionError("none of 20 was taken")


def embeddings(get: Get) -> None:
    assert [len(vector) for vector in get("embedding_server").client().embed(["one", "two"]).vectors] == [64, 64]


def reranking(get: Get) -> None:
    assert {one.index for one in get("rerank_server").client().rerank("one", ["one", "two"])} == {0, 1}


def images(get: Get) -> None:
    _sees(get, {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{_text(picture())}"}})


def sounds(get: Get) -> None:
    _sees(get, {"type": "input_audio", "input_audio": {"data": _text(sound()), "format": "wav"}})


def _sees(get: Get, part: dict[str, Any]) -> None:
    client = get("vision_server").client()
    with_it = client.chat(ask([{"type": "text", "text": "hi"}, part], max_tokens=1, **LETTERS)).usage.prompt_tokens
    assert with_it > client.chat(ask("hi", max_tokens=1, **LETTERS)).usage.prompt_tokens + 5


def _text(data: bytes) -> str:
    return b64encode(data).decode()


def context_of_a_slot(get: Get) -> None:
    assert plain(get).info().n_ctx == 2048


def templates_abilities(get: Get) -> None:
    assert plain(get).info().tools is True


def an_overflow_with_its_numbers(get: Get) -> None:
    with pytest.raises(ContextOverflowError) as caught:
        plain(get).chat(ask("hi " * 3000, max_tokens=1))
    assert caught.value.n_ctx == 2048


def a_refused_key(get: Get) -> None:
    server = get("serve")("random.gguf", api_key="right", parallel=1, ctx_size=1024)
    with pytest.raises(AuthenticationFailedError):
        server.client(api_key="wrong").chat(ask("hi", max_tokens=1, **LETTERS))


def leaving_frees_the_slot(get: Get) -> None:
    server = get("slow_server")
    stream = server.client().stream_chat(ask("hi"))
    next(stream)
    stream.close()
    get("idle")(server)


def slots_and_metrics(get: Get) -> None:
    assert [slot.id for slot in plain(get).slots()] == [0, 1]
    assert plain(get).metrics()["prompt_tokens_total"] >= 0


def a_saved_slot(get: Get) -> None:
    client = plain(get)
    client.chat(ask("hi", max_tokens=1, id_slot=0, **LETTERS))
    assert client.save_slot(0, "feature.bin").n_tokens == client.restore_slot(0, "feature.bin").n_tokens > 0


def sleeping(get: Get) -> None:
    server = get("serve")("random.gguf", sleep_idle_seconds=1, parallel=1, ctx_size=1024)
    wait_until(lambda: server.client().props().is_sleeping, "a server that sleeps")
    assert server.client().chat(ask("hi", max_tokens=2, **LETTERS)).content in ("x", "xx")


def signs_of_life(get: Get) -> None:
    server = get("serve")("random.gguf", sse_ping_interval=1, parallel=1, ctx_size=1024)
    assert server.client().chat(ask("hi", max_tokens=2, **LETTERS)).content in ("x", "xx")


def odd_schemas(get: Get) -> None:
    node = {"type": "object", "properties": {"a": {"$ref": "#/$defs/n"}, "b": {"pattern": "x"}, "c": {"not": {}}}}
    tools = [{"type": "function", "function": {"name": "f", "parameters": node | {"$defs": {"n": node}}}}]
    try:
        plain(get).chat(ask("hi", *tools, max_tokens=2))
    except ServerFaultError as error:  # half a call, which is no fault of the schema
        assert any(words in str(error) for words in ("does not match the expected", "Failed to parse input at pos"))


def a_router(get: Get) -> None:
    models: Path = get("models_dir")
    with LocalServer(models_dir=models, models_max=1, threads=1) as server:
        client = server.client()
        assert {"random", "plain"} <= {card.id for card in client.models()}
        request = ChatRequest(
            messages=[{"role": "user", "content": "hi"}], model="plain", params={"max_tokens": 2, **LETTERS}
        )
        assert client.chat(request).content in ("x", "xx")


FEATURES: dict[str, tuple[Callable[[Get], None], str]] = {
    "chat, streamed and unstreamed": (chat, ""),
    "token counts in streams": (usage_of_streams, "no `usage`"),
    "cached tokens in the counts": (cached_tokens, "`cached_tokens` is None"),
    "reasoning separate from the text": (
        thinking_apart,
        "extracted by the client; stays in the text up to `</think>` if the build drops `<think>`",
    ),
    "reasoning budget": (thinking_with_a_budget, "the server ignores the field and the model keeps reasoning"),
    "ending reasoning while it runs": (ending_a_thought, "NotFoundError"),
    "tool call": (a_tool_call, ""),
    "two tool calls in one reply": (two_calls_after_a_thought, "the server's parser returns only the first one"),
    "required tool call": (a_forced_tool, "only that tool is sent, with `required`"),
    "unusual tool schemas, cleaned": (odd_schemas, "cleaned for the strictest build"),
    "JSON schema": (a_json_schema, "the client validates the reply"),
    "grammar": (a_grammar, "BadRequestError"),
    "log probabilities": (log_probabilities, "none in the reply"),
    "several answers (`n`)": (several_answers, "one answer"),
    "prompt processing progress": (progress_of_the_prompt, "no progress events"),
    "rendered prompt (`apply_template`)": (the_prompt_as_written, "NotFoundError"),
    "exact token counts": (exact_token_counts, "counted by template and tokenizer, in two requests"),
    "tokenize and detokenize": (tokens, ""),
    "fill-in-the-middle": (filling_in, "NotSupportedError"),
    "embeddings": (embeddings, "as numbers if base64 is not supported"),
    "reranking": (reranking, "NotSupportedError"),
    "images": (images, "NotSupportedError before anything is sent"),
    "audio": (sounds, "NotSupportedError before anything is sent"),
    "context size of a slot": (context_of_a_slot, "read from `/props`"),
    "capabilities of the chat template": (
        templates_abilities,
        "None: everything is tried, and the server's error is raised",
    ),
    "context overflow with token counts": (an_overflow_with_its_numbers, "ContextOverflowError without numbers"),
    "error for a wrong API key": (a_refused_key, ""),
    "closing a stream releases its slot": (leaving_frees_the_slot, ""),
    "slots and metrics": (slots_and_metrics, "NotSupportedError with the flag"),
    "saving and restoring a slot": (a_saved_slot, "NotSupportedError with the flag"),
    "sleeping while idle": (sleeping, "LocalServerError that names the option"),
    "keep-alive events on silent streams": (signs_of_life, "LocalServerError that names the option"),
    "router": (a_router, "not in the embedded server"),
}
"""By name: the check, and what happens on a build that lacks the feature."""


@pytest.mark.parametrize("name", FEATURES)
def test_this_build_has(name: str, request: pytest.FixtureRequest, record_property: Callable[[str, object], None]):
    feature, _ = FEATURES[name]
    if feature is a_router and not BINARY:
        pytest.skip("the wheel's server routes nothing (2026.10.11549); TEST_BACKEND=binary asks the binary")
    others = bool(os.environ.get("TEST_BUILD"))
    try:
        feature(request.getfixturevalue)
    except (LlamaServerError, AssertionError, pytest.fail.Exception) as error:
        record_property("feature", name)
        record_property("lacks", f"{type(error).__name__}: {error}"[:300])
        if not others:
            raise
    else:
        record_property("feature", name)
        record_property("lacks", "")
