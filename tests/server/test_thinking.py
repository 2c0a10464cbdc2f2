"""Thinking that is bounded, ended from outside, and ended by the clock, on the real server."""

import logging
import threading
import time
from typing import Any

import pytest

from llamacpp_server import (
    ChatRequest,
    CompletionRequest,
    LlamaServerClient,
    LocalServer,
    ServerInfo,
    ThinkingControl,
    fold_chat,
)
from llamacpp_server.integration import (
    thinking_params,
)
from tests.models import Script
from tests.unit.events import DONE, chunk
from tests.wire.scripted_server import MISSING, ScriptedServer, stream

ANSWER = "The answer is 42."


@pytest.fixture(scope="module")
def counting(scripted_server: Any) -> LocalServer:
    """Thinks thirty words, and answers."""
    return scripted_server(Script(thinks=[f"w{n} " for n in range(30)], says=ANSWER))


def ask(**fields: Any) -> ChatRequest:
    return ChatRequest(messages=[{"role": "user", "content": "Hi"}], **fields)


@pytest.mark.parametrize("budget", [1, 2, 6, 20])
def test_a_budget_ends_the_thinking(counting: LocalServer, budget: int) -> None:
    with counting.client() as client:
        reply = client.chat(ask(params=thinking_params(budget, client.info(), {})))
        # The line's end that the template writes behind the tag is counted too.
        assert reply.reasoning_content.split() == [f"w{n}" for n in range(budget - 1)]
        assert reply.content == ANSWER


def test_reasoning_can_be_turned_off_if_the_template_always_opens_it(counting: LocalServer) -> None:
    """As the templates of DeepSeek R1 do; a budget of 0 is no limit to this server."""
    with counting.client() as client:
        assert client.chat(ask(params={"reasoning_budget_tokens": 0})).reasoning_content.startswith("w0 w1")
        reply = client.chat(ask(params=thinking_params(False, ServerInfo(thinking="always"), {})))
        assert (reply.reasoning_content, reply.content) == ("", ANSWER)


def test_a_message_before_the_forced_end(counting: LocalServer) -> None:
    with counting.client() as client:
        params = {"reasoning_budget_tokens": 3, "reasoning_budget_message": "Enough."}
        assert client.chat(ask(params=params)).reasoning_content == "w0 w1 Enough."


def test_a_budget_on_the_trained_model(serve: Any) -> None:
    server = serve("/".join([*__file__.split("/")[:-3], "models", "tiny-chat.gguf"]), parallel=2)
    with server.client() as client:
        params = {"temperature": 0, "max_tokens": 40}
        full, cut = (client.chat(ask(params={**params, **more})) for more in ({}, {"reasoning_budget_tokens": 3}))
        assert len(full.reasoning_content.split()) == 4
        assert full.reasoning_content.startswith(cut.reasoning_content)
        assert len(cut.reasoning_content) < len(full.reasoning_content)


def test_the_clock_ends_the_thinking(connect: Any, pondering_server: LocalServer) -> None:
    shell = connect(pondering_server.base_url)
    began = time.monotonic()
    reply = fold_chat(shell.read("stream_chat", ask(max_thinking_seconds=0.2)))
    assert reply.reasoning_content.startswith("Hmm ... ...")
    assert reply.content == ANSWER
    assert reply.finish_reason == "stop"
    assert time.monotonic() - began > 0.2
    assert shell.chat(ask(max_thinking_seconds=0.0)).content == ANSWER


def test_a_control_ends_the_thinking(connect: Any, pondering_server: LocalServer) -> None:
    shell, control = connect(pondering_server.base_url), ThinkingControl()
    running = shell.start("stream_chat", ask(thinking_control=control))
    deltas = [shell.next(running) for _ in range(20)]
    assert not any(delta.content for delta in deltas)
    assert not control.over
    control.end()
    while (delta := shell.next(running)) is not None:
        deltas.append(delta)
    assert fold_chat(deltas).content == ANSWER
    assert control.over


def test_a_control_can_be_used_from_another_thread(pondering_server: LocalServer) -> None:
    control = ThinkingControl()
    threading.Timer(0.2, control.end).start()
    with pondering_server.client() as client:
        assert client.chat(ask(thinking_control=control)).content == ANSWER


def test_reasoning_that_ends_in_time_is_not_stopped(counting: LocalServer) -> None:
    control = ThinkingControl()
    with counting.client() as client:
        reply = client.chat(ask(max_thinking_seconds=60, thinking_control=control))
    assert reply.reasoning_content.split()[-1] == "w29"
    assert control.over


def test_a_server_that_cannot_end_it_goes_on(connect: Any, caplog: pytest.LogCaptureFixture) -> None:
    thoughts = [chunk({"reasoning_content": f"{n} "}) for n in range(3)]
    answer = stream(*thoughts, 0.05, chunk({"reasoning_content": "3"}), chunk({"content": "Yes"}), DONE)
    with ScriptedServer(answer, MISSING) as server, caplog.at_level(logging.WARNING, "llamacpp_server"):
        reply = fold_chat(connect(server.url).read("stream_chat", ask(max_thinking_seconds=0.01)))
        assert (reply.reasoning_content, reply.content) == ("0 1 2 3", "Yes")
        assert [request.path for request in server.requests] == [
            "/v1/chat/completions",
            "/v1/chat/completions/control",
        ]
        assert server.requests[0].json["reasoning_control"] is True


def test_nothing_is_armed_unasked(counting: LocalServer) -> None:
    with ScriptedServer(stream(chunk({"content": "Yes"}), DONE)) as server:
        with LlamaServerClient(server.url) as client:
            client.chat(ask())
        assert "reasoning_control" not in server.requests[0].json


def test_the_thinking_of_a_completion_ends_at_its_budget(chat_server: LocalServer) -> None:
    budget = {
        "reasoning_budget_tokens": 2,
        "reasoning_budget_start_tag": "<think>",
        "reasoning_budget_end_tags": ["</think>"],
        "reasoning_budget_message": "",
    }
    always = {"max_tokens": 8, "logit_bias": {"<think>": 1000.0}}
    with chat_server.client() as client:
        free = client.complete(CompletionRequest(prompt="Hi", params=always))
        held = client.complete(CompletionRequest(prompt="Hi", params={**always, **budget}))
    assert "</think>" not in free.text
    assert "</think>" in held.text
