"""`LLAMACPP_RECORD=calls.jsonl` records the calls of any program without a change to it, and the doctor reads them."""

import asyncio
import base64
import json
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from llamacpp_server import (
    AsyncLlamaServerClient,
    ChatRequest,
    CompletionRequest,
    ContextOverflowError,
    LlamaServerClient,
    LocalServer,
    RequestTimeoutError,
)
from llamacpp_server.cli import main
from llamacpp_server.diagnostics import Cost, Recorded, diagnose, read_recording, replay
from llamacpp_server.transport import append_line
from tests import behind_doors
from tests.media import picture
from tests.models import Script

ROOT = Path(__file__).parents[2]
RULES = "You are the keeper of an archive and answer in whole sentences. " * 30
SCRIPTS = {
    "Think": Script(thinks="Well, let me see. " * 20, says="Yes."),
    "user": Script(says="It stands on the third shelf."),
}

# Programs that know nothing of recordings. Their first argument is the address of the server.
EVERY_CALL = """
import asyncio, sys
from llamacpp_server import AsyncLlamaServerClient, ChatRequest, CompletionRequest, LlamaServerClient
url = sys.argv[1]
ask = ChatRequest(messages=[{"role": "user", "content": "Where is the book?"}], params={"max_tokens": 5})
talk = ChatRequest(messages=ask.messages, params={"max_tokens": 200})
with LlamaServerClient(url, api_key="sk-SECRET", headers={"X-Token": "SECRET"}) as client:
    client.chat(ask)
    list(client.stream_chat(ask))
    next(client.stream_chat(talk))
    client.complete(CompletionRequest(prompt="Once", params={"max_tokens": 3}))
async def main():
    async with AsyncLlamaServerClient(url) as client:
        await client.chat(ask)
        async for _ in client.stream_chat(talk):
            break
asyncio.run(main())
"""
CLOCK_IN_LANGCHAIN = """
import sys
from langchain_llamacpp_server import ChatLlamaServer
llm, history = ChatLlamaServer(base_url=sys.argv[1], max_tokens=40), []
for turn in range(6):
    history.append(("human", f"Where is book {turn}?"))
    history.append(llm.invoke([("system", f"It is 10:0{turn}. " + sys.argv[2]), *history]))
"""
THINKING_IN_LLAMAINDEX = """
import sys
from llama_index.core.llms import ChatMessage
from llamaindex_llamacpp_server import LlamaServer
llm = LlamaServer(base_url=sys.argv[1], max_tokens=300)
for turn in range(4):
    print(llm.chat([ChatMessage(role="user", content=f"Think: is it {turn}?")]).message.content)
"""
FORKS = """
import os, sys
from llamacpp_server import ChatRequest, LlamaServerClient
client = LlamaServerClient(sys.argv[1])
def ask(who):
    for turn in range(5):
        client.chat(ChatRequest(messages=[{"role": "user", "content": f"{who}, {turn}"}], params={"max_tokens": 2}))
ask("parent")
children = []
for number in range(3):
    if (child := os.fork()) == 0:
        ask(f"child {number}")
        os._exit(0)
    children.append(child)
ask("parent")
for child in children:
    assert os.waitpid(child, 0)[1] == 0
"""


@pytest.fixture(scope="module")
def server(scripted_server: Any) -> LocalServer:
    found: LocalServer = scripted_server(SCRIPTS, ctx_size=8192, parallel=1, kv_unified=False)
    return found


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "calls.jsonl"
    monkeypatch.setenv("LLAMACPP_RECORD", str(file))
    return file


def run(program: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, **environment},
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    return out + err


def calls_of(path: Path) -> list[Recorded]:
    return read_recording(path)[1]


def causes(path: Path) -> list[Cost]:
    return diagnose(*read_recording(path))


def chat(text: str, **params: Any) -> ChatRequest:
    return ChatRequest(messages=[{"role": "user", "content": text}], params={"max_tokens": 5, **params})


def test_a_program_is_recorded_as_it_is(server: LocalServer, path: Path) -> None:
    finish(run(EVERY_CALL, server.base_url))
    calls = calls_of(path)
    assert sorted(call.kind for call in calls) == ["chat"] * 5 + ["completion"]
    answered = [call for call in calls if call.timings is not None]
    assert len(answered) == 4, "two streams were left after their first token"
    assert all(call.usage is not None and call.usage.completion_tokens for call in answered)
    assert all(call.timings is not None and call.timings.first_token_ms for call in answered)
    assert all(call.seconds > 0 for call in calls)
    assert {(call.server["slots"], call.server["n_ctx"], call.server["is_router"]) for call in calls} == {
        (1, 8192, False)
    }
    text = path.read_text()
    assert "Where is the book?" in text
    assert "SECRET" not in text
    assert "127.0.0.1" not in text
    assert "localhost" not in text
    assert path.stat().st_mode & 0o077 == 0


def test_the_clock_of_a_langchain_program_is_found(
    server: LocalServer, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finish(run(CLOCK_IN_LANGCHAIN, server.base_url, RULES))
    first = causes(path)[0]
    assert (first.kind, first.tokens > 5000) == ("clock", True)
    assert main(["doctor", str(path)]) == 0
    assert "1. about" in capsys.readouterr().out


@pytest.mark.long
def test_thinking_of_a_llamaindex_program_is_found(server: LocalServer, path: Path) -> None:
    out = finish(run(THINKING_IN_LLAMAINDEX, server.base_url))
    assert out.split() == ["Yes."] * 4, "the program shows nothing of what was thought"
    first = causes(path)[0]
    assert first.kind == "thinking"
    assert "thinking=False" in first.remedy
    calls = calls_of(path)
    written = sum(call.usage.completion_tokens for call in calls if call.usage is not None)
    assert 0.7 * written < int(first.what.split()[0]) < written
    spent = sum(call.timings.predicted_ms for call in calls if call.timings is not None) / 1000
    assert 0.7 * spent < first.seconds < spent


def test_texts_that_are_embedded_one_by_one_are_found(embedding_server: LocalServer, path: Path) -> None:
    with embedding_server.client() as client:
        for number in range(30):
            client.embed([f"This is text {number}."])
        client.embed([f"This is text {number}." for number in range(30)])
    (first,) = causes(path)
    assert first.kind == "batch_size"
    assert first.what.startswith("30 texts")
    single = [call for call in calls_of(path) if call.texts == 1]
    assert 0 < first.seconds < sum(call.seconds for call in single)
    assert all(call.tokens > 3 for call in single)


def test_documents_that_are_ranked_one_by_one_are_found(rerank_server: LocalServer, path: Path) -> None:
    with rerank_server.client() as client:
        for number in range(12):
            client.rerank("Where is it?", [f"This is text {number}."])
    (first,) = causes(path)
    assert (first.kind, first.what[:8]) == ("batch_size", "12 texts")


def test_texts_above_the_batch_are_found(serve: Any, path: Path) -> None:
    small = serve(
        "encoder.gguf", embeddings=True, pooling="mean", parallel=1, ctx_size=512, ubatch_size=64, batch_size=64
    )
    with small.client() as client:
        client.embed(["A short text."])
        for number in (20, 30):
            with pytest.raises(ContextOverflowError):
                client.embed(["word " * number])
    first = causes(path)[0]
    assert (first.kind, first.failed) == ("ubatch", 2)
    assert "a batch of 64" in first.what
    assert first.options["ubatch_size"] >= 150
    helped = serve("encoder.gguf", embeddings=True, pooling="mean", parallel=1, **{"ctx_size": 512, **first.options})
    with helped.client() as client:
        assert len(client.embed(["word " * 30]).vectors) == 1


def test_texts_above_the_context_are_not_helped_by_a_larger_batch_alone(
    embedding_server: LocalServer, path: Path
) -> None:
    with embedding_server.client() as client, pytest.raises(ContextOverflowError):
        client.embed(["word " * 300])
    first = causes(path)[0]
    assert (first.kind, first.failed) == ("context", 1)
    assert first.options["ctx_size"] >= 2 * 1500, "two slots divide it"
    assert first.options["ubatch_size"] >= 1500


@pytest.mark.binary
def test_models_that_a_router_swaps_are_found(tmp_path: Path, models_dir: Path, path: Path) -> None:
    preset = tmp_path / "models.ini"
    preset.write_text("".join(f"[{name}]\nmodel = {models_dir / 'random.gguf'}\n\n" for name in ("one", "two")))
    with (
        LocalServer(models_preset=preset, models_max=1, ctx_size=512, parallel=1, threads=1) as router,
        router.client() as client,
    ):
        for turn in range(3):
            for name in ("one", "two"):
                for part in range(2):
                    client.chat(ChatRequest(messages=[{"role": "user", "content": f"{turn} {part}"}], model=name,
                                            params={"max_tokens": 3}))  # fmt: skip
    first = causes(path)[0]
    assert first.kind == "swapped_models"
    assert "swapped 5 times between 2 models" in first.what
    assert first.options == {"models_max": 2}
    calls = calls_of(path)
    swaps, others = [calls[n].seconds for n in range(2, 12, 2)], [calls[n].seconds for n in range(1, 12, 2)]
    assert 0.5 * (sum(swaps) - 5 * max(others)) < first.seconds < sum(swaps)


def test_two_servers_in_one_recording_are_judged_apart(
    server: LocalServer, embedding_server: LocalServer, path: Path
) -> None:
    with server.client() as client, embedding_server.client() as vectors:
        for number in range(10):
            client.chat(chat(f"{number}"))
            vectors.embed([f"This is text {number}."])
    assert {call.server["id"]: call.server["slots"] for call in calls_of(path)}.__len__() == 2
    assert [cost.kind for cost in causes(path)] == ["batch_size"]


@pytest.mark.long
def test_forks_and_programs_share_one_file(server: LocalServer, path: Path) -> None:
    for process in [run(FORKS, server.base_url), run(FORKS, server.base_url)]:
        finish(process)
    asked = [str(call.request.messages[0]["content"]) for call in calls_of(path) if call.request is not None]
    assert len(asked) == 2 * (5 + 3 * 5 + 5)
    assert sorted(asked)[:2] == ["child 0, 0"] * 2


def test_calls_of_one_session_stay_apart_when_they_are_sent_again(server: LocalServer, path: Path) -> None:
    async def talk(client: AsyncLlamaServerClient, who: str) -> None:
        for turn in range(3):
            await client.chat(chat(f"{who} {turn}"))

    async def crowd() -> None:
        async with AsyncLlamaServerClient(server.base_url) as client:
            await asyncio.gather(*(talk(client, who) for who in ("Ann", "Bob", "Eve")))

    asyncio.run(crowd())
    calls = calls_of(path)
    os.environ.pop("LLAMACPP_RECORD")
    with server.client() as client:
        found = replay(client, calls)
    assert (found.calls, found.failed) == (9, 0)


def test_nothing_is_recorded_without_the_variable(server: LocalServer, tmp_path: Path) -> None:
    with server.client() as client:
        client.chat(chat("Hello"))
    assert list(tmp_path.iterdir()) == []


def test_a_recording_that_cannot_be_written_disturbs_no_call(
    server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("LLAMACPP_RECORD", str(tmp_path / "missing" / "unwritable.jsonl"))
    with caplog.at_level(logging.WARNING, "llamacpp_server"), server.client() as client:
        client.chat(chat("Hello"))
        client.chat(chat("Hello"))
    (record,) = [record for record in caplog.records if "unwritable" in record.message]
    assert "calls are not recorded in unwritable.jsonl" in record.message


def test_a_recording_stops_at_its_size(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    line = b"x" * 99 + b"\n"
    with caplog.at_level(logging.WARNING, "llamacpp_server"):
        written = [append_line(path, line, most_bytes=1000) for _ in range(20)]
    assert written == [True] * 10 + [False] * 10
    assert path.stat().st_size == 1000
    assert len([record for record in caplog.records if "calls.jsonl has reached" in record.message]) == 1


def test_writing_does_not_hold_up_an_event_loop(
    server: LocalServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_write, writes_in = threading.Event(), list[threading.Thread]()

    async def ask() -> None:
        writes, loop = asyncio.Event(), asyncio.get_running_loop()

        def slow(*arguments: Any) -> bool:
            writes_in.append(threading.current_thread())
            loop.call_soon_threadsafe(writes.set)
            assert may_write.wait(30)
            return True

        monkeypatch.setattr(behind_doors.WRITE_RECORD, slow)
        async with AsyncLlamaServerClient(server.base_url) as client:
            asked = asyncio.create_task(client.chat(chat("Hello")))
            await writes.wait()  # the loop runs while it is written
            assert not asked.done()
            may_write.set()
            await asked

    asyncio.run(ask())
    assert writes_in[0] is not threading.main_thread()


def test_a_call_that_ran_out_of_time_ends_in_its_own_error(slow_server: LocalServer, path: Path) -> None:
    with slow_server.client(total_timeout=0.3) as client, pytest.raises(RequestTimeoutError):
        client.chat(chat("Hello", max_tokens=60000))
    with slow_server.client() as client:
        client.chat(chat("Hello"))
    assert len(calls_of(path)) == 2


def test_images_and_keys_of_a_body_are_left_out(vision_server: LocalServer, path: Path) -> None:
    url = "data:image/png;base64," + base64.b64encode(picture()).decode()
    content: Any = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": url}}]
    request = ChatRequest(
        messages=[{"role": "user", "content": content}], params={"max_tokens": 2}, extra_body={"api_key": "SECRET"}
    )
    with vision_server.client() as client:
        client.chat(request)
    (call,) = calls_of(path)
    assert call.request is not None
    parts: Any = call.request.messages[0]["content"]
    text, image = parts
    assert text == {"type": "text", "text": "What is it?"}
    assert "characters left out" in str(image)
    assert "SECRET" not in path.read_text()
    os.environ.pop("LLAMACPP_RECORD")
    with vision_server.client() as client:
        assert replay(client, [call]).calls == 0, "an image can't be sent again"


def test_a_request_is_recorded_as_it_was_sent(server: LocalServer, path: Path) -> None:
    messages: Any = [{"role": "user", "content": "Hello"}]
    with server.client() as client:
        for _ in client.stream_chat(ChatRequest(messages=messages, params={"max_tokens": 3})):
            messages[0]["content"] = "changed"
            messages.append({"role": "assistant", "content": "later"})
    (call,) = calls_of(path)
    assert call.request is not None
    assert list(call.request.messages) == [{"role": "user", "content": "Hello"}]


def test_a_relative_path_stays_where_it_was(
    server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLAMACPP_RECORD", "stays-here.jsonl")
    with server.client() as client:
        client.chat(chat("Hello"))
        monkeypatch.chdir(tmp_path / "elsewhere")
        client.chat(chat("Hello"))
    assert len(calls_of(tmp_path / "stays-here.jsonl")) == 2


def test_a_stream_that_was_dropped_is_recorded_by_the_next_call(server: LocalServer, path: Path) -> None:
    with server.client() as client:
        stream = client.stream_chat(chat("dropped", max_tokens=200))
        next(stream)
        del stream
        client.complete(CompletionRequest(prompt="Once", params={"max_tokens": 2}))
    deadline = time.monotonic() + 20
    while len(kinds := [call.kind for call in calls_of(path)]) < 2:
        assert time.monotonic() < deadline
        with server.client() as client:
            client.complete(CompletionRequest(prompt="Once", params={"max_tokens": 2}))
    assert kinds[:1] == ["chat"]


def test_a_chat_with_two_recorders_has_one_line(server: LocalServer, path: Path) -> None:
    from langchain_llamacpp_server import CacheReport, ChatLlamaServer

    llm = ChatLlamaServer(base_url=server.base_url, max_tokens=3)
    llm.invoke("Hello", {"callbacks": [CacheReport(llm, recording=path)]})
    assert len(calls_of(path)) == 1


def test_a_line_that_is_being_written_is_not_an_error(server: LocalServer, path: Path) -> None:
    with server.client() as client:
        client.chat(chat("Hello"))
    complete = path.read_bytes()
    path.write_bytes(complete + json.dumps({"kind": "chat", "ended": 1.0}).encode()[:9])
    assert len(calls_of(path)) == 1


def test_a_client_without_a_server_is_recorded_as_a_failure(path: Path) -> None:
    with LlamaServerClient("http://127.0.0.1:9", max_retries=0) as client, pytest.raises(Exception, match="9"):
        client.chat(chat("Hello"))
    assert [call.error for call in calls_of(path)] == ["ConnectionFailedError"]
