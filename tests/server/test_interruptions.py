"""Programs that are interrupted where it hurts: by the collector, Ctrl-C, a signal handler or the end of a loop."""

import os
import subprocess
import sys

import pytest

from llamacpp_server import LocalServer

START = """
import asyncio, gc, os, random, signal, socket, sys, threading, time
from llamacpp_server import AsyncLlamaServerClient, ChatRequest, LlamaServerClient
from llamacpp_server.transport import gate_for
url, number = sys.argv[1], int(sys.argv[2])
endless = ChatRequest(messages=[{"role": "user", "content": "Hi"}])
short = ChatRequest(messages=[{"role": "user", "content": "Hi"}], params={"max_tokens": 3})
client = LlamaServerClient(url, max_concurrency=1)
watcher = LlamaServerClient(url)

def is_busy():
    return any(slot.is_processing for slot in watcher.slots())
"""

COLLECTED = """
import httpcore
gc.disable()
free = LlamaServerClient(url, max_concurrency=None)
stream = free.stream_chat(endless)
next(stream)
cycle = [stream]; cycle.append(cycle); del cycle, stream
real = httpcore.ConnectionPool._assign_requests_to_connections
httpcore.ConnectionPool._assign_requests_to_connections = lambda pool: (gc.collect(), real(pool))[1]
assert free.chat(short).choices
"""

STOPPED_LOOP = """
from langchain_llamacpp_server import ChatLlamaServer
model = ChatLlamaServer(base_url=url, max_concurrency=1)
loop = asyncio.new_event_loop()
async def begin():
    task = asyncio.create_task(model.ainvoke("Hi"))
    while not await asyncio.to_thread(is_busy):
        await asyncio.sleep(0.01)
    return task
task = loop.run_until_complete(begin())
assert model.bind(max_tokens=3).invoke("Hi").text
os._exit(0)
"""

SIGNAL_HANDLER = """
def ask(*_):
    assert client.chat(short).choices
    os._exit(0)
signal.signal(signal.SIGUSR1, ask)
def send():
    while not is_busy():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGUSR1)
threading.Thread(target=send).start()
client.chat(endless)
"""

EMBEDDING = """
from langchain_llamacpp_server import LlamaServerEmbeddings
signal.signal(signal.SIGINT, signal.default_int_handler)
silent, embedding = socket.create_server(("127.0.0.1", 0)), threading.Event()
open_ones = []
def serve():
    while True:
        one = silent.accept()[0]
        path = one.recv(65536).split(b" ")[1]
        if b"embed" in path:
            open_ones.append(one)
            embedding.set()
        else:
            one.sendall(b"HTTP/1.1 404 Not Found\\r\\nContent-Length: 2\\r\\nConnection: close\\r\\n\\r\\n{}")
            one.close()
def interrupt():
    embedding.wait()
    time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGINT)
for target in (serve, interrupt):
    threading.Thread(target=target, daemon=True).start()
model = LlamaServerEmbeddings(
    base_url=f"http://127.0.0.1:{silent.getsockname()[1]}", batch_size=2, max_concurrency=2, max_retries=0
)
try:
    model.embed_documents([f"text {n}" for n in range(20)])
except KeyboardInterrupt:
    for one in open_ones:
        one.settimeout(30)
        while one.recv(65536):
            pass
    os._exit(0)
os._exit(1)
"""

LOOPS_AND_FORKS = """
several = AsyncLlamaServerClient(url)
async def both():
    await asyncio.gather(several.health(), several.chat(short))
def tables():
    gc.collect()
    return len(several.transport._keepers), len(several.transport._loops), len(client.transport._clients)
client.chat(short)
asyncio.run(both())
before = tables()
every = 2 if number < 100 else 10  # a fork costs as much as ten loops: its child opens its own connection
for n in range(number):
    if n % every:
        asyncio.run(both())
        continue
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        os._exit(0 if client.chat(short).choices else 1)
    assert os.waitpid(pid, 0)[1] == 0, f"fork {n}"
assert tables() == before == (0, 0, 1), (before, tables())
assert not gate_for(url).state().held
"""

INTERRUPTS = """
class Interrupt(BaseException):
    pass
armed, came = False, 0
def interrupt(*_):
    if armed:
        raise Interrupt
client.chat(short)  # pydantic builds its validators now: interrupted there, it raises an error of its own
signal.signal(signal.SIGALRM, interrupt)
while came < number:
    try:
        try:
            armed = True
            signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0001, 0.02))
            client.chat(endless)
        finally:
            armed = False
    except Interrupt:
        came += 1
assert client.chat(short).choices
import httpcore
gc.collect()
pools = [one for one in gc.get_objects() if isinstance(one, httpcore.ConnectionPool)]
kept = [len(pool._requests) + len(pool._connections) for pool in pools]
assert len(kept) <= 3 and sum(kept) <= 6, kept
sockets = [one for one in gc.get_objects() if isinstance(one, socket.socket) and one.fileno() >= 0]
assert len(sockets) <= 4, sockets
from llamacpp_server.transport import leaving
deadline = time.monotonic() + 30
while is_busy() or gate_for(url).running() or leaving._OPEN or leaving._LEFT:
    assert time.monotonic() < deadline, (is_busy(), gate_for(url).running(), len(leaving._OPEN))
    time.sleep(0.02)
"""

PROGRAMS = {
    "a dropped stream is collected while httpcore's lock is held": COLLECTED,
    "a blocking call after an event loop that stopped with a call pending": STOPPED_LOOP,
    "a signal handler asks in the middle of a call": SIGNAL_HANDLER,
    "Ctrl-C ends embed_documents and its connections": EMBEDDING,
    "event loops and forks leave nothing in the tables": LOOPS_AND_FORKS,
    "interrupts at random times": INTERRUPTS,
}


def run(server: LocalServer, program: str, number: int, seconds: float) -> None:
    command = [sys.executable, "-W", "ignore", "-c", START + program, server.base_url, str(number)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, done.stderr


DAILY = (SIGNAL_HANDLER, EMBEDDING, INTERRUPTS)


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(program, id=name, marks=() if program in DAILY else pytest.mark.long)
        for name, program in PROGRAMS.items()
    ],
)
def test_an_interrupted_program_goes_on(slow_server: LocalServer, program: str) -> None:
    run(slow_server, program, 20, 100)


# Ten times as many with LONG_RUN_SCALE=10, which takes most of an hour.
_SCALE = int(os.environ.get("LONG_RUN_SCALE", "1"))


@pytest.mark.long
@pytest.mark.timeout(600 * _SCALE)
@pytest.mark.parametrize(("program", "number"), [(INTERRUPTS, 10_000), (LOOPS_AND_FORKS, 3_000)])
def test_interrupts_forks_and_loops_leave_nothing_behind(slow_server: LocalServer, program: str, number: int) -> None:
    run(slow_server, program, number * _SCALE, 550 * _SCALE)
