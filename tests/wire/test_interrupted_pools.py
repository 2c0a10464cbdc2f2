"""An interrupt at any line of httpcore leaves no connection behind: later requests get a new pool."""

import gc
import sys
import threading
import weakref
from linecache import getline
from pathlib import Path

import httpcore
import httpx
import pytest

from llamacpp_server import ChatRequest, LlamaServerClient, LlamaServerError
from tests.wire.scripted_server import Answer, ScriptedServer, chunk, head, reply, stream

HEALTHY = reply({"status": "ok"})
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
INTERRUPTED = tuple(str(Path(library.__file__).parent) for library in (httpcore, httpx))


class Interrupt(BaseException):
    """What a signal handler raises."""


def interrupted_at(number, function):
    """Runs a function with an interrupt at its nth line in httpcore or httpx; whether it came."""
    left = number

    def trace(frame, event, arg):
        nonlocal left
        if not frame.f_code.co_filename.startswith(INTERRUPTED):
            return trace
        # Signals are handled within and behind calls: not where a `with` ends, before its lock is released.
        if event == "line" and not getline(frame.f_code.co_filename, frame.f_lineno).lstrip().startswith("with "):
            left -= 1
            if left == 0:
                raise Interrupt
        return trace

    sys.settrace(trace)
    try:
        function()
    except Interrupt:
        pass
    finally:
        sys.settrace(None)
    return left <= 0


def pools_of(transport):
    return [client._transport._pool for client in transport._clients.values()]


# Python prints what is raised in a finaliser, and drops it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_no_connection_is_left_by_an_interrupt_at_any_line_of_a_request():
    kept = set[tuple[int, int]]()
    gc.collect()
    before = {id(one) for one in gc.get_objects() if isinstance(one, httpcore.ConnectionPool)}
    with ScriptedServer(*[HEALTHY] * 3000) as server, LlamaServerClient(server.url, max_retries=0) as client:
        client.health()
        number, came = 0, True
        while came:
            number += 3
            came = interrupted_at(number, client.health)
            if number % 30 == 0:
                assert client.health().ready
                kept |= {(len(pool._requests), len(pool._connections)) for pool in pools_of(client.transport)}
        assert number > 200
        assert kept == {(0, 1)}
        gc.collect()
        made = [one for one in gc.get_objects() if isinstance(one, httpcore.ConnectionPool) and id(one) not in before]
        assert len(made) <= 2, made
        assert client.transport._retired.pools() == []


def test_a_reply_that_another_caller_reads_ends_undisturbed_by_an_interrupt():
    others_are_done = threading.Event()
    events = stream(EVENT, others_are_done, EVENT, b"data: [DONE]\n\n")
    with ScriptedServer(events, HEALTHY, HEALTHY) as server, LlamaServerClient(server.url, max_retries=0) as client:
        deltas = client.stream_chat(ChatRequest(messages=[{"role": "user", "content": "hi"}], model="m"))
        assert next(deltas).content == "a"
        [pool] = map(weakref.ref, pools_of(client.transport))
        assert interrupted_at(40, client.health)
        assert pool() is not None
        assert client.health().ready
        others_are_done.set()
        assert "".join(delta.content for delta in deltas) == "a"
        gc.collect()
        assert pool() is None


def test_the_end_of_a_client_ends_what_is_read_from_a_pool_that_was_let_go():
    endless = Answer((head(), chunk(EVENT)), "hang")
    with ScriptedServer(endless, HEALTHY) as server, LlamaServerClient(server.url, max_retries=0) as client:
        deltas = client.stream_chat(ChatRequest(messages=[{"role": "user", "content": "hi"}], model="m"))
        assert next(deltas).content == "a"
        assert interrupted_at(40, client.health)
        client.close()
        with pytest.raises(LlamaServerError):
            list(deltas)
