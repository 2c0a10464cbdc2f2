"""Batch files: a line for each answer, whatever happens to the process, the server or the network in between."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llamacpp_server import (
    AsyncLlamaServerClient,
    BadRequestError,
    ConnectionFailedError,
    LlamaServerClient,
    LocalServer,
)
from llamacpp_server._batch import Journal
from llamacpp_server.cli import main
from tests.batch_files import held_after, read_answers, write_lines, written
from tests.models import Script, build_scripted
from tests.rules.packages import ROOT
from tests.waiting import LONG, wait_until, wait_until_busy

_LONG = 65536
_ENDLESS = 10**8
SCRIPTS = {"Slow": Script(says=["Well, ", "so "], endless=True), "user": Script(says="Yes.")}


@pytest.fixture(scope="module")
def server(serve: Any, tmp_path_factory: pytest.TempPathFactory) -> LocalServer:
    # Its slow answers do not end, however long a busy machine takes until it interrupts them.
    path = tmp_path_factory.mktemp("batch") / "scripted.gguf"
    build_scripted(path, SCRIPTS, context_length=_LONG)
    found: LocalServer = serve(path, parallel=2, ctx_size=2 * _LONG, context_shift=True)
    return found


def chat(name: str, text: str = "Hi", **fields: Any) -> dict[str, Any]:
    return {"id": name, "messages": [{"role": "user", "content": text}], "max_tokens": 8, **fields}


def content(line: Any) -> str:
    found: str = line["response"]["body"]["choices"][0]["message"]["content"]
    return found


@pytest.mark.parametrize("awaited", [False, True])
def test_each_line_has_an_answer(server: LocalServer, source: Path, output: Path, awaited: bool) -> None:
    openai = {
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": "any", "messages": chat("")["messages"]},
    }
    write_lines(
        source, [chat("a"), {"custom_id": "b", **openai}, {"prompt": "Once", "max_tokens": 3}, chat("c", stream=True)]
    )
    steps = list[Any]()

    async def run() -> Any:
        async with AsyncLlamaServerClient(server.base_url) as client:
            return await client.batch_file(source, output, on_progress=steps.append)

    if awaited:
        summary = asyncio.run(run())
    else:
        with LlamaServerClient(server.base_url) as client:
            summary = client.batch_file(source, output, on_progress=steps.append)
    answers = read_answers(output)
    assert sorted(answers) == ["3", "a", "b", "c"]
    assert [content(answers[name]) for name in "abc"] == ["Yes."] * 3
    assert answers["3"]["response"]["body"]["choices"][0]["text"]
    assert answers["a"]["response"]["body"]["usage"]["completion_tokens"] > 0
    assert (summary.total, summary.answered, summary.resumed, summary.errors) == (4, 4, 0, 0)
    assert sorted(step.done for step in steps) == [1, 2, 3, 4]


def test_embeddings_are_answered_too(embedding_server: LocalServer, source: Path, output: Path) -> None:
    write_lines(source, [{"id": "a", "input": "Hello"}, {"id": "b", "input": ["Hello", "World"]}])
    with embedding_server.client() as client:
        client.batch_file(source, output)
    answers = read_answers(output)
    (vector,) = answers["a"]["response"]["body"]["data"]
    assert len(answers["b"]["response"]["body"]["data"]) == 2
    assert answers["b"]["response"]["body"]["data"][0]["embedding"] == pytest.approx(vector["embedding"], abs=1e-3)


def test_a_request_that_fails_has_a_line_that_says_why_and_can_be_repeated(
    server: LocalServer, source: Path, output: Path
) -> None:
    write_lines(source, [chat("good"), chat("long", "x" * 2 * _LONG)])
    with server.client() as client:
        assert client.batch_file(source, output).errors == 1
        error = read_answers(output)["long"]["error"]
        assert (error["type"], error["retryable"]) == ("ContextOverflowError", False)
        assert client.batch_file(source, output).answered == 0
        write_lines(source, [chat("good"), chat("long", "shorter now")])
        summary = client.batch_file(source, output, retry_errors=True)
    assert (summary.answered, summary.resumed, summary.errors) == (1, 1, 0)
    assert content(read_answers(output)["long"]) == "Yes."


def test_a_line_that_was_cut_is_asked_for_again(server: LocalServer, source: Path, output: Path) -> None:
    write_lines(source, [chat("a"), chat("b")])
    with server.client() as client:
        client.batch_file(source, output)
        finished = output.read_bytes()
        for cut in (len(finished) - 1, len(finished) - 20, finished.index(b"\n") + 2, 5):
            output.write_bytes(finished[:cut])
            client.batch_file(source, output)
            assert sorted(read_answers(output)) == ["a", "b"]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "not JSON"),
        ("[]", "not an object"),
        ('{"id": "x"}', "no messages, prompt or input"),
        ('{"custom_id": "x", "url": "/v1/files", "body": {}}', "url must be one of"),
        ('{"custom_id": "x", "url": "/v1/chat/completions", "body": {}}', "no messages"),
        ('{"custom_id": "x", "url": "/v1/chat/completions", "body": 1}', "body must be an object"),
        ('{"id": [1], "prompt": "x"}', "the id must be a string"),
        (json.dumps(chat("a")), "occurs twice"),
    ],
)
def test_a_file_with_a_bad_line_is_refused_before_anything_is_sent(
    server: LocalServer, source: Path, output: Path, line: str, why: str
) -> None:
    source.write_text(json.dumps(chat("a")) + "\n\n" + line + "\n")
    with server.client() as client, pytest.raises(BadRequestError, match=why) as caught:
        client.batch_file(source, output)
    assert "line 3" in str(caught.value)
    assert output.read_bytes() == b""


NOT_OURS = ["notes\n", "notes without an end", "one\ntwo", '{"precious": 1}', '{"custom_id": 1, "error": null}\n']


@pytest.mark.parametrize("text", [*NOT_OURS, '{"custom_id": "z", "error": null}\n'])
def test_an_output_of_something_else_is_not_touched(server: LocalServer, source: Path, output: Path, text: str) -> None:
    write_lines(source, [chat("a")])
    output.write_text(text)
    why = "not the output of a batch job" if text in NOT_OURS else "another batch file"
    with server.client() as client, pytest.raises(BadRequestError, match=why):
        client.batch_file(source, output)
    assert output.read_text() == text


def test_the_input_is_never_the_output(server: LocalServer, source: Path) -> None:
    write_lines(source, [chat("a")])
    with server.client() as client, pytest.raises(BadRequestError, match="must not be its input file"):
        client.batch_file(source, source)


def test_a_request_that_was_changed_under_its_id_is_an_error(server: LocalServer, source: Path, output: Path) -> None:
    write_lines(source, [chat("a"), chat("b")])
    with server.client() as client:
        client.batch_file(source, output)
        write_lines(source, [chat("a"), chat("b", "Something else")])
        with pytest.raises(BadRequestError, match=r"line 2 .* another request with the id 'b'"):
            client.batch_file(source, output)


def test_a_line_that_is_not_utf_8_is_an_error_and_a_byte_order_mark_is_not(
    server: LocalServer, source: Path, output: Path
) -> None:
    line = json.dumps(chat("a")).encode()
    source.write_bytes(b"\xef\xbb\xbf" + line + b"\n")
    with server.client() as client:
        assert client.batch_file(source, output).answered == 1
        source.write_bytes(line + b"\n" + line.replace(b"Hi", b"\xff") + b"\n")
        with pytest.raises(BadRequestError, match=r"line 2 .* not UTF-8"):
            client.batch_file(source, output)


def test_a_full_disk_leaves_complete_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal(tmp_path / "out.jsonl") as journal:
        journal.write({"custom_id": "a", "error": None})
        write_some = os.write

        def full(file: int, data: bytes) -> int:
            if len(data) > 10:
                return write_some(file, data[:10])
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space"):
            journal.write({"custom_id": "b", "error": None, "response": "x" * 21})
        monkeypatch.undo()
    assert list(read_answers(tmp_path / "out.jsonl")) == ["a"]


def test_a_job_that_waited_for_a_rewritten_file_has_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text('{"custom_id": "a", "error": {"type": "x"}}\n{"custom_id": "b", "error": null}\n')
    first = Journal(path, retry_errors=True)
    with pytest.raises(BadRequestError, match="another batch job"):
        Journal(path)
    first.write({"custom_id": "a", "error": None})
    first.close()
    with Journal(path) as second:
        assert sorted(second.done) == ["a", "b"]


def test_two_jobs_never_write_one_file(server: LocalServer, source: Path, output: Path) -> None:
    write_lines(source, [chat("a")])
    with Journal(output), server.client() as client, pytest.raises(BadRequestError, match="another batch job"):
        client.batch_file(source, output)


@pytest.mark.parametrize("awaited", [False, True])
def test_a_server_that_is_gone_ends_the_job_and_writes_no_errors(source: Path, output: Path, awaited: bool) -> None:
    write_lines(source, [chat("a"), chat("b")])
    gone: dict[str, Any] = {"base_url": "http://127.0.0.1:9", "max_retries": 0, "max_concurrency": 2}

    async def run() -> None:
        async with AsyncLlamaServerClient(**gone) as client:
            await client.batch_file(source, output)

    with pytest.raises(ConnectionFailedError):
        if awaited:
            asyncio.run(run())
        else:
            with LlamaServerClient(**gone) as client:
                client.batch_file(source, output)
    assert output.read_bytes() == b""


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts the command on its own; what still runs after the test is killed, since it would keep the server busy."""
    with contextlib.ExitStack() as running:

        def started(base_url: str, source: Path, output: Path) -> subprocess.Popen[str]:
            command = [sys.executable, "-m", "llamacpp_server.cli", "batch", str(source), str(output)]
            environment = {**os.environ, "LLAMACPP_BASE_URL": base_url}
            pipe = subprocess.PIPE
            job = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=pipe, stdout=pipe, text=True)
            running.enter_context(job)
            running.callback(job.kill)
            return job

        yield started


@pytest.mark.parametrize("lines", [120, pytest.param(2000, marks=[pytest.mark.long, pytest.mark.timeout(600)])])
def test_a_killed_job_is_resumed_without_a_line_lost_or_doubled(
    server: LocalServer, source: Path, output: Path, start: Any, lines: int
) -> None:
    write_lines(source, [chat(str(number), f"Question {number}") for number in range(lines)])
    for part in (lines // 4, lines // 2):
        with held_after(server, part - written(output) + 10) as base_url:
            job = start(base_url, source, output)
            wait_until(lambda part=part: written(output) >= part, f"{part} answers", 100)  # type: ignore[misc]
            job.kill()
            job.communicate()
        assert part <= written(output) < lines
    job = start(server.base_url, source, output)
    out, err = job.communicate(timeout=400)
    assert job.returncode == 0, err
    assert f"{lines} lines" in out
    answers = read_answers(output)
    assert sorted(answers, key=int) == [str(number) for number in range(lines)]
    assert {content(line) for line in answers.values()} == {"Yes."}


def test_an_interrupt_ends_the_job_at_once_and_frees_the_slots(
    server: LocalServer, source: Path, output: Path, start: Any, idle: Any
) -> None:
    write_lines(source, [chat("a"), chat("b", "Slow", max_tokens=_ENDLESS), chat("c", "Slow", max_tokens=_ENDLESS)])
    job = start(server.base_url, source, output)
    wait_until_busy(server, 2)
    job.send_signal(signal.SIGINT)
    job.communicate(timeout=LONG)
    assert job.returncode == 130
    idle(server)


def test_the_command_reports_errors_in_its_exit_code(
    server: LocalServer, source: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_lines(source, [chat("a"), chat("long", "x" * 2 * _LONG)])
    assert main(["batch", str(source), str(output), "--base-url", server.base_url, "--concurrency", "1"]) == 1
    out = capsys.readouterr().out
    assert "2 lines: 2 answered now, 0 before, 1 with an error" in out


def test_lines_with_the_same_beginning_are_sent_one_after_another(
    server: LocalServer, source: Path, output: Path
) -> None:
    rules = {"a": "Be brief. " * 40, "b": "Be polite. " * 40}
    lines = [
        {
            "id": f"{n}{kind}",
            "max_tokens": 4,
            "messages": [{"role": "system", "content": text}, *chat("", f"{n}")["messages"]],
        }
        for n in range(8)
        for kind, text in rules.items()
    ]
    write_lines(source, lines)
    with server.client() as client:
        client.batch_file(source, output, concurrency=1)
    kinds = "".join(json.loads(line)["custom_id"][-1] for line in output.read_text().splitlines())
    assert kinds in ("a" * 8 + "b" * 8, "b" * 8 + "a" * 8)
