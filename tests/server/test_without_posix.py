"""On a Python that lacks what Windows lacks, everything imports but what runs a server, and the clients work."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from llamacpp_server import LocalServer

# Python's own modules and the frameworks' are loaded before, as on Linux these need what is removed here.
LIKE_WINDOWS = """
import asyncio, concurrent.futures, logging, multiprocessing, os, random, signal, subprocess, sys, tempfile
import anyio.from_thread, httpx, langchain_core.language_models, langchain_core.embeddings, llama_index.core, trio
lacking = "fork register_at_fork getuid geteuid getpgid killpg setsid pread pwrite fchmod chown mkfifo wait4"
for name in (lacking + " O_NONBLOCK O_NOCTTY O_CLOEXEC O_DIRECTORY O_NOFOLLOW sched_getaffinity").split():
    delattr(os, name)
for name in "SIGKILL SIGHUP SIGCHLD SIGUSR1 SIGUSR2 SIGPIPE SIGALRM pthread_sigmask pthread_kill sigwait alarm".split():
    delattr(signal, name)
for name in "fcntl resource termios tty pty pwd grp readline syslog".split():
    sys.modules[name] = None
"""
IMPORTS = """
import importlib, pkgutil
for package in ("llamacpp_server", "langchain_llamacpp_server", "llamaindex_llamacpp_server"):
    for found in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
        if found.name != "llamacpp_server.local.child" and not found.name.endswith("__main__"):
            importlib.import_module(found.name)
"""
USES = """
import asyncio, json, sys
from llamacpp_server import AsyncLlamaServerClient, ChatRequest, LlamaServerClient
from langchain_llamacpp_server import ChatLlamaServer
from llamaindex_llamacpp_server import LlamaServer
url, given, written, recorded = sys.argv[1:]
request = ChatRequest(messages=[{"role": "user", "content": "Hello"}], params={"max_tokens": 4})
os.environ["LLAMACPP_RECORD"] = recorded
with LlamaServerClient(url) as client:
    assert client.chat(request).content is not None
    assert list(client.stream_chat(request))
    client.batch_file(given, written)
async def awaited():
    async with AsyncLlamaServerClient(url) as client:
        assert (await client.chat(request)).content is not None
asyncio.run(awaited())
assert ChatLlamaServer(base_url=url, max_tokens=4).invoke("Hello").text is not None
assert LlamaServer(base_url=url, max_tokens=4).complete("Hello").text is not None
"""


def run(code: str, *arguments: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", LIKE_WINDOWS + code, *arguments], capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 0, ran.stderr


@pytest.mark.long
def test_all_but_what_runs_a_server_can_be_imported() -> None:
    run(IMPORTS)


def test_the_clients_and_both_frameworks_work(chat_server: LocalServer, tmp_path: Path) -> None:
    given, written, recorded = (tmp_path / name for name in ("in.jsonl", "out.jsonl", "calls.jsonl"))
    body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
    lines = [{"custom_id": str(n), "method": "POST", "url": "/v1/chat/completions", "body": body} for n in range(3)]
    given.write_text("".join(json.dumps(line) + "\n" for line in lines))
    run(USES, chat_server.base_url, str(given), str(written), str(recorded))
    assert {json.loads(line)["custom_id"] for line in written.read_text().splitlines()} == {"0", "1", "2"}
    assert recorded.read_text()
