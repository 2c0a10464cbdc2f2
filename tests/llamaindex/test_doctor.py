"""What LlamaIndex's `CacheReport(recording=...)` writes for `llamacpp-server doctor`."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.instrumentation.dispatcher import instrument_tags  # type: ignore[attr-defined]
from llama_index.core.llms import ChatMessage

from llamacpp_server import ContextOverflowError
from llamacpp_server.diagnostics import diagnose, read_recording
from llamaindex_llamacpp_server import CacheReport, LlamaServer
from tests.models import Script

SCRIPTS = {"Think": Script(thinks="Well, let me see. " * 20, says="Yes."), "user": Script(says="On the third shelf.")}


@pytest.fixture(scope="module")
def llm(scripted_server: Any) -> LlamaServer:
    server = scripted_server(SCRIPTS, ctx_size=4096, parallel=1, kv_unified=False)
    return LlamaServer(base_url=server.base_url, max_tokens=300)


@pytest.mark.parametrize("streamed", [True, False])
def test_thinking_that_nobody_reads_is_found(llm: LlamaServer, tmp_path: Path, streamed: bool) -> None:
    path = tmp_path / "calls.jsonl"
    with CacheReport(llm, recording=path), instrument_tags({"session": "reader"}):
        for turn in range(4):
            messages = [ChatMessage(role="user", content=f"Think: is it {turn}?")]
            reply = list(llm.stream_chat(messages))[-1] if streamed else llm.chat(messages)
            assert reply.message.content == "Yes."
    server, calls = read_recording(path)
    assert (server["slots"], [call.session for call in calls]) == (1, ["reader"] * 4)
    first = diagnose(server, calls)[0]
    assert first.kind == "thinking"
    assert first.seconds > 0


def test_prompts_that_do_not_fit_are_found(llm: LlamaServer, tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    long = [ChatMessage(role="user", content="Where? " * 3000)]
    with CacheReport(llm, recording=path) as report:
        with pytest.raises(ContextOverflowError):
            llm.chat(long)
        with pytest.raises(ContextOverflowError):
            list(llm.stream_chat(long))
        with pytest.raises(ContextOverflowError):
            asyncio.run(llm.achat(long))
    assert not report._running, "what failed is not kept"
    first = diagnose(*read_recording(path))[0]
    assert (first.kind, first.failed) == ("context", 3)
    assert first.options["ctx_size"] > 4096
