"""`llamacpp-server doctor` on recordings of sick programs, made here on the real server: the cause comes first."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from langchain_core.messages import HumanMessage, SystemMessage

from langchain_llamacpp_server import CacheReport, ChatLlamaServer
from llamacpp_server import BadRequestError, ChatRequest, ContextOverflowError, Timings, Usage
from llamacpp_server.cli import main
from llamacpp_server.diagnostics import Cost, Recording, diagnose, read_recording, replay
from tests.models import Script, build_scripted

SCRIPTS = {
    "Think": Script(thinks="Well, let me see. " * 20, says="Yes."),
    "user": Script(says="It stands on the third shelf."),
}
RULES = "You are the assistant of a library and answer in whole sentences. " * 30


@pytest.fixture(scope="module")
def server(scripted_server: Any) -> Any:
    return scripted_server(SCRIPTS, ctx_size=8192, parallel=1, kv_unified=False)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "calls.jsonl"


def causes(path: Path) -> list[Cost]:
    return diagnose(*read_recording(path))


def talk(server: Any, path: Path, system: str, turns: int = 6, **fields: Any) -> None:
    llm = ChatLlamaServer(base_url=server.base_url, max_tokens=40, **fields)
    report, history = CacheReport(llm, recording=path), list[Any]()
    for turn in range(turns):
        history.append(HumanMessage(f"Where is book {turn}?"))
        head = SystemMessage(system.format(turn=turn))
        history.append(llm.invoke([head, *history], {"callbacks": [report], "metadata": {"session": "1"}}))


def test_a_clock_in_the_system_prompt_is_found(server: Any, path: Path) -> None:
    talk(server, path, "It is 10:0{turn}. " + RULES)
    first = causes(path)[0]
    assert first.kind == "clock"
    assert "newest message" in first.remedy
    assert first.tokens > 5000
    assert first.seconds > 0


def test_too_few_slots_are_found_with_the_flag_that_helps(server: Any, path: Path) -> None:
    llm = ChatLlamaServer(base_url=server.base_url, max_tokens=40)
    report = CacheReport(llm, recording=path)

    async def ask(session: int) -> None:
        for turn in range(3):
            config: Any = {"callbacks": [report], "metadata": {"session": str(session)}}
            async for _ in llm.astream([SystemMessage(RULES * 3), HumanMessage(f"{session}, {turn}?")], config):
                pass

    async def crowd() -> None:
        await asyncio.gather(*(ask(session) for session in range(6)))

    asyncio.run(crowd())
    first = causes(path)[0]
    assert first.kind == "waiting"
    slots = first.options["parallel"]
    assert slots == 6
    assert f"-np {slots}" in first.remedy
    assert first.options["ctx_size"] == slots * 8192


def test_a_divided_context_is_found(scripted_server: Any, path: Path) -> None:
    divided = scripted_server(SCRIPTS, ctx_size=8192, parallel=4, kv_unified=False)
    llm = ChatLlamaServer(base_url=divided.base_url, max_tokens=10)
    report = CacheReport(llm, recording=path)
    for text in ("Hello", "x" * 3000, "x" * 2900):
        try:
            llm.invoke([HumanMessage(text)], {"callbacks": [report]})
        except ContextOverflowError:
            continue
    first = causes(path)[0]
    assert (first.kind, first.failed) == ("context", 2)
    assert "4 slots divide a context of 8192" in first.what
    assert first.options["ctx_size"] >= 4 * 3000


def test_thinking_that_nobody_needs_is_found(server: Any, path: Path) -> None:
    recording = Recording(path)
    for _ in range(4):
        timings = Timings(prompt_n=10, prompt_ms=5, predicted_n=100, predicted_ms=900)
        request = ChatRequest(messages=[{"role": "user", "content": "Think"}])
        recording.chat(request, Usage(10, 100, reasoning_tokens=90), timings, None)
    (first,) = causes(path)
    assert first.kind == "thinking"
    assert first.seconds == pytest.approx(4 * 0.81)


def test_thinking_is_counted_where_the_server_does_not_count_it(server: Any, path: Path) -> None:
    llm = ChatLlamaServer(base_url=server.base_url, max_tokens=300)
    report = CacheReport(llm, recording=path)
    for turn in range(4):
        reply = llm.invoke(f"Think: is it {turn}?", {"callbacks": [report]})
        assert reply.text == "Yes."
    first = causes(path)[0]
    assert first.kind == "thinking"
    assert first.seconds > 0


def test_embeddings_one_by_one_are_found(path: Path) -> None:
    recording = Recording(path)
    for _ in range(40):
        recording.embeddings(1, 12, 0.05)
    recording.error(ContextOverflowError("x", n_prompt_tokens=700, n_ctx=512), "embeddings")
    oversize, single = causes(path)
    assert (oversize.kind, single.kind) == ("ubatch", "batch_size")
    assert "-ub 1024" in oversize.remedy
    assert single.seconds == pytest.approx(0.05 * 38 / 2)


def test_models_that_are_swapped_are_found(path: Path) -> None:
    lines: list[Any] = [{"server": {"is_router": True, "slots": 1}}]
    for turn in range(8):
        timings = {"prompt_n": 10, "prompt_ms": 5, "predicted_n": 10, "predicted_ms": 50}
        timings["first_token_ms"] = 4000 if turn % 2 == 0 else 40
        request = {"messages": [{"role": "user", "content": f"{turn}"}], "model": "aabb"[turn % 4]}
        lines.append({"kind": "chat", "ended": 10 * turn, "seconds": 4, "request": request, "timings": timings})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (first,) = causes(path)
    assert first.kind == "swapped_models"
    assert first.seconds == pytest.approx(3 * 3.96)


def test_a_healthy_program_has_nothing_to_mend(server: Any, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    talk(server, path, RULES)
    assert main(["doctor", str(path)]) == 0
    assert capsys.readouterr().out.strip() == "6 calls; no expensive cause was found"


def test_a_recording_without_calls_and_one_of_one_call_are_named_as_such(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path.write_text('{"server": {"slots": 1}}\n')
    assert main(["doctor", str(path)]) == 0
    assert capsys.readouterr().out == "the recording has no calls yet\n"
    path.write_text('{"kind": "embeddings", "ended": 1, "texts": 1, "tokens": 12, "seconds": 0.01}\n')
    assert main(["doctor", str(path)]) == 0
    assert capsys.readouterr().out.startswith("1 call; ")


def test_the_flags_that_help_are_tried_and_the_page_shows_it(
    server: Any, path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    talk(server, path, "It is 10:0{turn}. <b>" + RULES, turns=4)
    model, page = build_scripted(tmp_path / "model.gguf", SCRIPTS), tmp_path / "page.html"
    assert main(["doctor", str(path), "--html", str(page), "--apply", str(model)]) == 0
    out, err = capsys.readouterr()
    assert "no flag of the server helps" in err
    assert re.search(r"^1\. about .* s: \d+ tokens were reprocessed", out, re.MULTILINE)
    assert re.search(r"without flags: \d+ tokens read .*, 0 failed\nwith flags: \d+ tokens read .*, 0 failed", out)
    html = page.read_text()
    assert "<script" not in html
    assert "&lt;b&gt;" in html or "<b>You" not in html
    assert html.count("<svg") == 2
    assert "<h2>Replay" in html
    assert re.search(r"<td>\d+\.\d</td>", html), "seconds have one digit after the point"


def test_a_replay_reads_what_the_program_read(server: Any, path: Path) -> None:
    talk(server, path, "It is 10:0{turn}. " + RULES, turns=4)
    _, calls = read_recording(path)
    recorded = sum(call.timings.prompt_n for call in calls if call.timings)
    with server.client() as client:
        found = replay(client, calls)
    assert (found.calls, found.failed) == (4, 0)
    assert found.tokens_read >= 0.7 * recorded


def test_a_recording_holds_no_key_and_no_address(server: Any, path: Path) -> None:
    talk(server, path, RULES, turns=1, api_key="sk-SECRET", default_headers={"X-Token": "SECRET"})
    text = path.read_text()
    assert "SECRET" not in text
    assert "127.0.0.1" not in text
    assert path.stat().st_mode & 0o077 == 0
    assert json.loads(text.splitlines()[0])["server"]["slots"] == 1


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"kind": "other", "ended": 1}', '{"kind": "chat", "request": {}}', "\x00"]
)
def test_a_line_that_is_not_a_recording_is_named(path: Path, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    path.write_text(json.dumps({"server": {}}) + "\n" + line + "\n")
    with pytest.raises(BadRequestError, match="line 2"):
        read_recording(path)
    assert main(["doctor", str(path)]) == 1
    assert "line 2" in capsys.readouterr().err


def test_a_file_that_is_not_there_is_an_error(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(path)]) == 1
    assert "calls.jsonl" in capsys.readouterr().err


def test_answers_of_others_are_not_recorded(path: Path) -> None:
    report = CacheReport(recording=path)
    report.on_llm_error(ValueError("not ours"), run_id=uuid4())
    assert not path.exists()
