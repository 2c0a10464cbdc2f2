"""A process that forks while another of its threads asks the server: the child asks, too."""

import subprocess
import sys

import pytest

from llamacpp_server import LocalServer
from tests import behind_doors

# The child must end by itself; its alarm ends it where it hangs.
CHILD = """
import os, signal, sys, threading, time
from langchain_llamacpp_server import ChatLlamaServer
llm = ChatLlamaServer(base_url=sys.argv[1], max_tokens=3)
inside = threading.Event()
{before}
thread = threading.Thread(target={asks})
thread.start()
assert inside.wait(20), "the thread never came there"
pid = os.fork()
if pid == 0:
    signal.alarm(20)
    os._exit(0 if llm.server_info().n_ctx and llm.invoke("Hi").text else 1)
status = os.waitpid(pid, 0)[1]
os._exit(0 if status == 0 else 1)
"""
# Held in the middle of an import, if there is one; the model was used by nobody before.
IMPORTING = """
class Slow:
    def find_spec(self, name, path, target=None):
        if name == {module!r}:
            inside.set()
            time.sleep(0.5)
sys.meta_path.insert(0, Slow())
def ask():
    llm.server_info()
    inside.set()
"""
READING = """
def read():
    for _ in llm.bind(max_tokens=None).stream("Hi"):
        inside.set()
"""


def run(server: LocalServer, before: str, asks: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CHILD.format(before=before, asks=asks), server.base_url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "module",
    [
        "httpcore",
        *(
            pytest.param(name, marks=pytest.mark.long)
            for name in ("llamacpp_server._endpoints", behind_doors.SHELLS, "h11")
        ),
    ],
)
def test_a_child_answers_though_its_parent_was_importing(slow_server: LocalServer, module: str) -> None:
    run(slow_server, IMPORTING.format(module=module), "ask")


def test_a_child_answers_though_its_parent_was_reading_a_stream(slow_server: LocalServer) -> None:
    run(slow_server, READING, "read")
