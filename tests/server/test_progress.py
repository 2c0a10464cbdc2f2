"""Progress that is told while a prompt is read and while a server loads, and the bars that show it."""

import io
import sys
from typing import Any

import pytest

from llamacpp_server import (
    ChatRequest,
    CompletionRequest,
    LlamaServerClient,
    LocalServer,
    NotSupportedError,
    Progress,
    ProgressBar,
    PromptProgress,
)
from tests.unit.events import DONE, chunk
from tests.wire.scripted_server import LOADING, ScriptedServer, stream

LONG: Any = [{"role": "user", "content": "word " * 300}]


def test_the_reading_of_a_prompt(connect: Any, chat_server: LocalServer) -> None:
    steps: list[Progress] = []
    client = connect(chat_server.base_url, on_progress=steps.append)
    params = {"max_tokens": 2, "cache_prompt": False}
    deltas = client.read("stream_chat", ChatRequest(messages=LONG, params=params))
    usage = next(delta.usage for delta in deltas if delta.usage)
    assert {step.stage for step in steps} == {"reading"}
    assert steps[0].done < usage.prompt_tokens  # more than one batch
    assert (steps[-1].done, steps[-1].total, steps[-1].fraction) == (usage.prompt_tokens, usage.prompt_tokens, 1.0)
    assert [step.done for step in steps] == sorted(step.done for step in steps)
    assert not any(delta.progress for delta in deltas)
    steps.clear()
    assert client.chat(ChatRequest(messages=LONG, params={"max_tokens": 2})).usage == usage or steps
    assert steps[-1].fraction == 1.0


def test_who_asks_for_it_in_the_request_gets_it_there_too(connect: Any, chat_server: LocalServer) -> None:
    steps: list[Progress] = []
    client = connect(chat_server.base_url, on_progress=steps.append)
    params = {"max_tokens": 2, "cache_prompt": False, "return_progress": True}
    deltas = client.read("stream_chat", ChatRequest(messages=LONG, params=params))
    assert [Progress.of_prompt(delta.progress) for delta in deltas if delta.progress] == steps


def test_completions_report_it_too(connect: Any, chat_server: LocalServer) -> None:
    steps: list[Progress] = []
    client = connect(chat_server.base_url, on_progress=steps.append)
    params = {"max_tokens": 2, "cache_prompt": False}
    reply = client.complete(CompletionRequest(prompt="word " * 300, params=params))
    assert steps[-1].done == reply.usage.prompt_tokens


def test_a_loading_server_is_reported(connect: Any) -> None:
    steps: list[Progress] = []
    with ScriptedServer(LOADING, LOADING, stream(chunk({"content": "Yes"}), DONE)) as server:
        client = connect(server.url, on_progress=steps.append)
        assert client.chat(ChatRequest(messages=LONG)).content == "Yes"
        assert server.requests[-1].json["return_progress"] is True
    assert [(step.stage, step.unit, step.total, step.fraction) for step in steps] == [
        ("loading", "seconds", 600, None)
    ] * 2


def test_nothing_is_asked_for_where_nobody_listens(connect: Any) -> None:
    with ScriptedServer(stream(chunk({"content": "Yes"}), DONE)) as server:
        connect(server.url).chat(ChatRequest(messages=LONG))
        assert "return_progress" not in server.requests[0].json


def test_a_listener_that_fails_ends_the_request(chat_server: LocalServer, idle: Any) -> None:
    def fail(progress: Progress) -> None:
        raise RuntimeError("enough")

    with (
        LlamaServerClient(chat_server.base_url, on_progress=fail) as client,
        pytest.raises(RuntimeError, match="enough"),
    ):
        client.chat(ChatRequest(messages=LONG, params={"cache_prompt": False}))
    idle(chat_server)


@pytest.mark.parametrize("library", ["tqdm", "rich"])
def test_bars(library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("FORCE_COLOR", "1")
    bar = ProgressBar(library)
    bar(Progress("loading", 0.5, 1.0, "part", model="qwen"))
    bar(Progress.of_prompt(PromptProgress(200, 0, 150, 10.0)))
    bar(Progress.of_prompt(PromptProgress(200, 0, 200, 12.0)))
    bar(Progress("waiting", 3.0, 600.0, "seconds"))
    bar.close()
    bar.close()
    shown = screen.getvalue()
    assert "loading qwen" in shown
    assert "reading" in shown
    assert "waiting" in shown


def test_a_progress_bar_needs_tqdm_or_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    ProgressBar()  # the other one
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    with pytest.raises(NotSupportedError, match="neither"):
        ProgressBar()
    with pytest.raises(NotSupportedError, match="tqdm is not installed"):
        ProgressBar("tqdm")
