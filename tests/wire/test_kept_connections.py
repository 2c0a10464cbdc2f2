"""No kept connection is closed while a thread waits for its reply, whatever httpcore's pool saw a moment before."""

import gc
import select
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module

import httpcore
import httpx
import httpx2
import pytest

from llamacpp_server.transport import bound, guard
from tests.waiting import LONG
from tests.wire.scripted_server import Answer, ScriptedServer, reply

LIBRARIES = [(httpx, "httpcore"), (httpx2, "httpcore2")]
ANSWER = reply({"fine": True})


@pytest.fixture(params=LIBRARIES, ids=lambda both: both[1])
def library(request):
    return request.param


class Reporting(ScriptedServer):
    """Tells when the second request has come."""

    def __init__(self, *answers):
        self.asked_again = threading.Event()
        super().__init__(*answers)

    def _receive(self, connection, data, number):
        found = super()._receive(connection, data, number)
        if len(self.requests) > 1:
            self.asked_again.set()
        return found


class Kept:
    """The one kept connection of a client, and the ways in which httpcore's pool uses it."""

    def __init__(self, client, url, core):
        assert client.get(url).status_code == 200
        self.core, self.url, self.pool = import_module(core), url, client._transport._pool
        [self.connection] = self.pool.connections
        self.stream = self.connection._connection._network_stream

    def request(self):
        return self.core.Request("GET", self.url, headers={"Host": "x"})

    def ask(self):
        """What a thread does to which the pool has assigned the connection; None if it has to take another one."""
        try:
            found = self.connection.handle_request(self.request())
        except self.core.ConnectionNotAvailable:
            return None
        body = b"".join(found.stream)
        found.stream.close()
        return body


def test_a_request_that_begins_while_the_pool_looks_whether_the_connection_has_expired(library):
    module, core = library
    with ScriptedServer(ANSWER) as server, module.Client() as client, ThreadPoolExecutor(1) as threads:
        bound(client)
        kept = Kept(client, server.url, core)
        looked, asked = kept.stream.get_extra_info, []

        def look(name):
            if name == "is_readable" and not asked:
                asked.append(threads.submit(kept.ask))
                # The reply is there at once if the request may begin now; if it has to wait, so do we, in vain.
                select.select([looked("socket")], [], [], 0.1)
            return looked(name)

        kept.stream.get_extra_info = look
        expired = kept.connection.has_expired()
        if expired:
            kept.connection.close()
        assert asked[0].result(LONG) == (None if expired else b'{"fine": true}')
        assert not expired


def test_a_connection_that_the_pool_finds_one_too_many_when_a_request_has_begun_on_it_goes_back_to_the_pool(library):
    module, core = library
    may_answer = threading.Event()
    slow = Answer((may_answer, *ANSWER.parts))
    with Reporting(ANSWER, slow) as server, module.Client() as client, ThreadPoolExecutor(1) as threads:
        bound(client)
        kept = Kept(client, server.url, core)
        asked = threads.submit(kept.ask)
        assert server.asked_again.wait(LONG)
        kept.pool._connections.remove(kept.connection)  # as the pool does before it closes one
        kept.connection.close()
        may_answer.set()
        assert asked.result(LONG) == b'{"fine": true}'
        assert kept.pool.connections == [kept.connection]
        assert client.get(server.url).status_code == 200
        assert server.connections == 1


def test_the_end_of_a_client_ends_the_requests_of_other_threads(library):
    module, core = library
    with (
        Reporting(ANSWER, Answer((2 * LONG,))) as server,
        module.Client(timeout=60) as client,
        ThreadPoolExecutor(1) as threads,
    ):
        bound(client)
        kept = Kept(client, server.url, core)
        asked = threads.submit(kept.ask)
        assert server.asked_again.wait(LONG)
        kept.pool.close()
        assert isinstance(asked.exception(LONG), kept.core.ReadError | kept.core.RemoteProtocolError)
        assert kept.connection.is_closed()


def test_a_connection_that_becomes_idle_after_the_end_of_its_client_is_closed(library):
    module, core = library
    with ScriptedServer(ANSWER) as server, module.Client() as client:
        bound(client)
        kept = Kept(client, server.url, core)
        found = kept.pool.handle_request(kept.request())
        assert b"".join(found.stream)
        kept.pool.close()
        assert not kept.connection.is_closed()
        found.close()
        assert kept.connection.is_closed()
        assert kept.pool.connections == []


def test_a_connection_that_has_expired_gets_no_further_request(library):
    module, core = library
    with ScriptedServer(ANSWER) as server, module.Client() as client:
        bound(client)
        kept = Kept(client, server.url, core)
        kept.connection._connection._expire_at = 0.0
        assert kept.connection.has_expired()
        assert not kept.connection.is_available()
        assert kept.ask() is None
        assert client.get(server.url).status_code == 200
        assert server.connections == 2


def test_a_connection_that_is_not_kept_gets_one_request(library):
    module, core = library
    limits = module.Limits(max_keepalive_connections=0)
    with ScriptedServer(ANSWER) as server, module.Client(limits=limits) as client:
        bound(client)
        request = import_module(core).Request("GET", server.url, headers={"Host": "x"})
        connection = client._transport._pool.create_connection(request.url.origin)
        stream = connection.handle_request(request).stream
        assert b"".join(stream)
        stream.close()
        # Idle until the pool closes it; another thread's request may come first.
        assert connection.is_idle()
        assert not connection.is_available()
        connection.close()


def test_a_pool_that_nobody_refers_to_is_freed_without_the_garbage_collector():
    gc.disable()
    try:
        with ScriptedServer(ANSWER) as server:
            pool = httpcore.ConnectionPool()
            guard(pool)
            assert pool.request("GET", server.url).status == 200
            freed, [connection] = weakref.ref(pool), pool.connections
            del pool
            assert freed() is None
            connection.close()
    finally:
        gc.enable()
