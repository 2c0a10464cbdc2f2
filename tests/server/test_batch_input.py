"""Batch files of texts to embed, many in one request; and odd inputs and outputs of a batch job."""

import asyncio
import fcntl
import io
import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llamacpp_server import AsyncLlamaServerClient, BadRequestError, LocalServer, RequestTimeoutError
from llamacpp_server._batch import Journal
from llamacpp_server.cli import main
from llamacpp_server.diagnostics import read_recording
from tests import behind_doors
from tests.batch_files import held_after, read_answers, write_lines, written
from tests.models import Script
from tests.rules.packages import ROOT
from tests.waiting import wait_until

TOO_LONG = "word " * 300  # 512 tokens fit into a slot of the embedding server


@pytest.fixture(scope="module")
def server(scripted_server: Any) -> LocalServer:
    found: LocalServer = scripted_server({"user": Script(says="Yes.")}, parallel=2)
    return found


@pytest.fixture
def requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Texts of each embedding request so far."""
    path = tmp_path / "calls.jsonl"
    monkeypatch.setenv("LLAMACPP_RECORD", str(path))
    return lambda: [call.texts for call in read_recording(path)[1] if call.kind == "embeddings"]


def vectors(line: Any) -> list[list[float]]:
    return [entry["embedding"] for entry in line["response"]["body"]["data"]]


def job(server: LocalServer, source: Path, output: Path, awaited: bool = False, **options: Any) -> Any:
    async def run() -> Any:
        async with AsyncLlamaServerClient(server.base_url) as client:
            return await client.batch_file(source, output, **options)

    if awaited:
        return asyncio.run(run())
    with server.client() as client:
        return client.batch_file(source, output, **options)


def chat(name: str) -> dict[str, Any]:
    return {"id": name, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}


@pytest.mark.parametrize("awaited", [False, True])
def test_many_texts_go_in_few_requests_and_each_line_has_its_own_vectors(
    embedding_server: LocalServer, source: Path, output: Path, requests: Any, awaited: bool
) -> None:
    write_lines(source, [{"id": f"{n}", "input": f"This is text {n}."} for n in range(100)])
    summary = job(embedding_server, source, output, awaited)
    assert (summary.answered, summary.errors) == (100, 0)
    sent = requests()
    assert sum(sent) == 100
    assert len(sent) <= 5
    answers = read_answers(output)
    with embedding_server.client() as client:
        for number in (0, 31, 32, 99):
            (alone,) = client.embed([f"This is text {number}."]).vectors
            assert vectors(answers[str(number)]) == [pytest.approx(alone, abs=1e-3)]


@pytest.mark.parametrize("awaited", [False, True])
def test_a_text_that_is_refused_is_an_error_of_its_own_line_only(
    embedding_server: LocalServer, source: Path, output: Path, awaited: bool
) -> None:
    lines: list[dict[str, Any]] = [{"id": f"{n}", "input": f"This is text {n}."} for n in range(40)]
    lines[7]["input"] = TOO_LONG
    lines[11]["input"] = ["Fine.", TOO_LONG]
    lines[23]["input"] = ""
    lines[30]["input"] = [1, 2, 3]
    lines[31]["input"] = 5
    write_lines(source, lines)
    summary = job(embedding_server, source, output, awaited)
    answers = read_answers(output)
    failed = {name for name, line in answers.items() if line["error"] is not None}
    assert {"7", "11", "30", "31"} <= failed <= {"7", "11", "23", "30", "31"}
    assert (len(answers), summary.errors) == (40, len(failed))
    assert answers["7"]["error"]["type"] == "ContextOverflowError"
    assert len({tuple(vectors(line)[0]) for name, line in answers.items() if name not in failed}) == 40 - len(failed)


def test_lines_that_are_embedded_in_different_ways_are_not_mixed(
    embedding_server: LocalServer, source: Path, output: Path, requests: Any
) -> None:
    lines: list[dict[str, Any]] = [{"id": f"{n}", "input": f"This is text {n}."} for n in range(24)]
    for n, line in enumerate(lines):
        line |= {0: {}, 1: {"dimensions": 8}, 2: {"embd_normalize": -1}}[n % 3]
    lines.insert(0, {"id": "two", "input": ["One.", "Two."]})
    write_lines(source, lines)
    job(embedding_server, source, output, concurrency=1)
    assert sorted(requests()) == [8, 8, 10]
    answers = read_answers(output)
    widths = [len(vectors(answers[str(n)])[0]) for n in range(24)]
    assert set(widths[1::3]) == {8}
    assert min(widths[0::3]) > 8
    assert [sum(x * x for x in vectors(answers[str(n)])[0]) for n in (0, 3)] == pytest.approx([1, 1], abs=1e-2)
    assert sum(x * x for x in vectors(answers["2"])[0]) != pytest.approx(1, abs=1e-2)
    with embedding_server.client() as client:
        for name, texts in (("two", ["One.", "Two."]), ("0", ["This is text 0."]), ("3", ["This is text 3."])):
            alone = client.embed(texts).vectors
            assert vectors(answers[name]) == [pytest.approx(vector, abs=1e-3) for vector in alone]


def test_few_texts_are_shared_among_the_slots(
    embedding_server: LocalServer, source: Path, output: Path, requests: Any
) -> None:
    write_lines(source, [{"id": f"{n}", "input": f"This is text {n}."} for n in range(8)])
    job(embedding_server, source, output, concurrency=2)
    assert sorted(requests()) == [4, 4]


def test_long_texts_do_not_make_one_endless_request(
    embedding_server: LocalServer, source: Path, output: Path, requests: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(behind_doors.MOST_CHARACTERS_OF_A_BATCH, 250)
    write_lines(source, [{"id": f"{n}", "input": "x" * 100} for n in range(6)] + [{"id": "long", "input": "x" * 300}])
    job(embedding_server, source, output, concurrency=1)
    assert sorted(requests()) == [1, 2, 2, 2]


def test_a_request_that_ran_out_of_time_is_not_sent_again_for_each_line(
    embedding_server: LocalServer, source: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_lines(source, [{"id": f"{n}", "input": f"{n}"} for n in range(4)])
    sent = list[Any]()
    with embedding_server.client() as client:

        def late(self: object, request: Any) -> None:
            sent.append(request.inputs)
            raise RequestTimeoutError("too late")

        monkeypatch.setattr(type(client), "embed_texts", late)
        assert client.batch_file(source, output, concurrency=1).errors == 4
    assert len(sent) == 1


@pytest.mark.long
def test_a_killed_job_of_embeddings_is_resumed_without_a_line_lost_or_doubled(
    embedding_server: LocalServer, source: Path, output: Path
) -> None:
    count = 3000
    write_lines(source, [{"id": f"{n}", "input": f"This is text {n}."} for n in range(count)])
    command = [sys.executable, "-m", "llamacpp_server.cli", "batch", str(source), str(output)]
    with held_after(embedding_server, count // 5) as base_url:
        environment = {**os.environ, "LLAMACPP_BASE_URL": base_url}
        killed = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        wait_until(lambda: written(output) >= count // 10, "a tenth of the vectors", 100)
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
    done = written(output)
    assert count // 10 <= done < count
    summary = job(embedding_server, source, output)
    assert (summary.resumed, summary.answered, summary.errors) == (done, count - done, 0)
    assert len(read_answers(output)) == count


def test_a_file_from_windows_with_blank_lines_and_a_byte_order_mark(
    server: LocalServer, source: Path, output: Path
) -> None:
    lines = [json.dumps(chat("a")), "", "   ", json.dumps(chat("b")), ""]
    source.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    assert job(server, source, output).answered == 2
    assert sorted(read_answers(output)) == ["a", "b"]


def test_a_line_of_ten_megabytes_is_a_request_like_any_other(server: LocalServer, source: Path, output: Path) -> None:
    write_lines(source, [chat("a"), {**chat("long"), "note": "x" * 10_000_000}, chat("b")])
    summary = job(server, source, output)
    assert (summary.answered, len(read_answers(output))) == (3, 3)


def test_ids_that_are_numbers_and_texts_are_the_same_id(server: LocalServer, source: Path, output: Path) -> None:
    write_lines(source, [{**chat(""), "id": 7}, chat("7")])
    with pytest.raises(BadRequestError, match=r"line 2 .* '7' occurs twice"):
        job(server, source, output)
    write_lines(source, [{**chat(""), "id": True}])
    with pytest.raises(BadRequestError, match=r"line 1 .* id must be a string"):
        job(server, source, output)


def test_an_input_that_changes_meanwhile_is_an_error_and_no_answer_to_another_line(
    server: LocalServer, source: Path, output: Path
) -> None:
    more = {"note": "x" * 20_000}  # than a file's buffer holds
    write_lines(source, [{**chat(name), **more} for name in "abc"])

    def change(progress: object) -> None:
        write_lines(source, [{**chat(name), **more} for name in "xyz"])

    with pytest.raises(BadRequestError, match="was changed while the job ran"):
        job(server, source, output, concurrency=1, on_progress=change)
    assert set(read_answers(output)) <= {"a", "b"}


@pytest.mark.parametrize("awaited", [False, True])
def test_a_pipe_is_neither_an_input_nor_an_output(
    server: LocalServer, tmp_path: Path, source: Path, output: Path, awaited: bool
) -> None:
    write_lines(source, [chat("a")])
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadRequestError, match="pipe is not a file: the input"):
        job(server, tmp_path / "pipe", output, awaited)
    with pytest.raises((BadRequestError, OSError)):
        job(server, source, tmp_path / "pipe", awaited)
    with pytest.raises(BadRequestError, match="null is not a regular file"):
        job(server, source, Path("/dev/null"), awaited)


def test_the_command_reads_standard_input(
    server: LocalServer, output: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = "".join(json.dumps(chat(name)) + "\n" for name in "abc")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
    assert main(["batch", "-", str(output), "--base-url", server.base_url]) == 0
    assert "3 lines: 3 answered now" in capsys.readouterr().out
    assert sorted(read_answers(output)) == ["a", "b", "c"]


def test_a_file_system_without_locks_is_reported_and_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(file: int, how: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with caplog.at_level(logging.WARNING, "llamacpp_server"), Journal(tmp_path / "out.jsonl") as journal:
        journal.write({"custom_id": "a", "error": None})
    assert "run only one batch job with it" in caplog.text
    assert list(read_answers(tmp_path / "out.jsonl")) == ["a"]


def test_an_interrupted_job_leaves_no_open_files(server: LocalServer, source: Path, output: Path) -> None:
    write_lines(source, [chat(str(n)) for n in range(20)])

    def stop(progress: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        job(server, source, output, on_progress=stop)
    with Journal(output) as journal:  # its lock is free
        assert len(journal.done) >= 1
    opened = {os.path.realpath(f"/dev/fd/{name}") for name in os.listdir("/dev/fd")}
    assert not opened & {str(source), str(output)}


@pytest.mark.parametrize("url", [[], {}, 5, True])
def test_a_url_of_another_type_is_named_with_its_line(
    server: LocalServer, source: Path, output: Path, url: Any
) -> None:
    write_lines(source, [{"id": "a", "url": url, "body": {}}])
    with pytest.raises(BadRequestError, match="line 1 of the batch file: url must be one of"):
        job(server, source, output)


def test_links_in_a_circle_are_files_that_can_not_be_read(server: LocalServer, source: Path, output: Path) -> None:
    write_lines(source, [chat("a")])
    circle = source.with_name("circle")
    circle.symlink_to(circle)
    for paths in ((circle, output), (source, circle)):
        with pytest.raises(OSError, match="symbolic links"):
            job(server, *paths)


@pytest.mark.parametrize("awaited", [False, True])
def test_a_concurrency_beyond_all_threads_is_that_of_the_lines(
    server: LocalServer, source: Path, output: Path, awaited: bool
) -> None:
    write_lines(source, [chat("a"), chat("b")])
    assert job(server, source, output, awaited, concurrency=10**9).answered == 2


@pytest.mark.parametrize("concurrency", ["4", 0.5, True, [1]])
def test_a_concurrency_of_another_type_is_named(
    server: LocalServer, source: Path, output: Path, concurrency: Any
) -> None:
    write_lines(source, [chat("a")])
    with pytest.raises(BadRequestError, match="concurrency must be an int or None"):
        job(server, source, output, concurrency=concurrency)
