"""The ways to a server: unix sockets, TLS with certificates of one's own, proxies. In front of the real one."""

import asyncio
import contextlib
import gc
import pickle
import shutil
import socket
import ssl
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest
import trio
import trustme
from langchain_core.messages import HumanMessage
from llama_index.core.llms import ChatMessage

from langchain_llamacpp_server import ChatLlamaServer, LlamaServerEmbeddings
from llamacpp_server import (
    AsyncLlamaServerClient,
    BadRequestError,
    ChatRequest,
    ConnectionFailedError,
    LlamaServerClient,
    LocalServer,
    MediaPolicy,
)
from llamaindex_llamacpp_server import LlamaServer
from tests import behind_doors
from tests.media import web_server
from tests.waiting import TIMEOUTS
from tests.wire.scripted_server import ScriptedServer, reply

CHAT = ChatRequest(messages=[{"role": "user", "content": "Hello"}], params={"max_tokens": 3, "ignore_eos": True})


def asked(base_url: str, way: str, **fields: Any) -> int | None:
    """Tokens of an answer of the server at an address."""

    async def awaited() -> int | None:
        async with AsyncLlamaServerClient(base_url, **fields) as client:
            return (await client.chat(CHAT)).usage.completion_tokens

    if way == "blocking":
        with LlamaServerClient(base_url, **fields) as client:
            return client.chat(CHAT).usage.completion_tokens
    return asyncio.run(awaited()) if way == "asyncio" else trio.run(awaited)


ways = pytest.mark.parametrize("way", ["blocking", "asyncio", "trio"])


# -- unix sockets


@pytest.fixture(scope="module")
def socket_path(models_dir: Path) -> Iterator[Path]:
    """A server that listens on a unix socket only."""
    directory = Path(tempfile.mkdtemp())  # pytest's own are longer than the name of a socket may be
    path = directory / "llama server.sock"
    with LocalServer(models_dir / "random.gguf", host=str(path), threads=1, warmup=False, ctx_size=2048, parallel=2):
        yield path
    shutil.rmtree(directory)


@ways
@pytest.mark.parametrize("spelling", ["unix://{path}", "unix:{path}/v1", "http+unix://{quoted}/v1"])
def test_a_unix_socket(socket_path: Path, way: str, spelling: str) -> None:
    base_url = spelling.format(path=socket_path, quoted=quote(str(socket_path), safe=""))
    assert asked(base_url, way) == 3


def test_a_unix_socket_in_both_frameworks(socket_path: Path) -> None:
    llm = ChatLlamaServer(base_url=f"unix://{socket_path}", max_tokens=3)
    assert llm.invoke([HumanMessage("Hello")]).usage_metadata["output_tokens"] <= 3
    assert asyncio.run(llm.ainvoke("Hello")).response_metadata
    llm.close()
    index = LlamaServer(base_url=f"unix://{socket_path}", max_tokens=3)
    assert index.chat([ChatMessage("Hello")]).raw is not None
    index.close()


def test_the_server_names_its_socket_and_we_take_the_name(models_dir: Path) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/x.sock"
        with LocalServer(models_dir / "random.gguf", host=path, threads=1, warmup=False, ctx_size=512) as server:
            assert f"listening on unix://{path}" in server.log_tail(200)
            with server.client() as client:
                assert client.health().ready


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # httpcore 1.0 drops a socket that fails
@ways
def test_a_socket_where_nothing_listens_is_refused_and_can_be_waited_for(way: str) -> None:
    with pytest.raises(ConnectionFailedError, match="no such unix socket") as caught:
        asked("unix:///nowhere/x.sock", way)
    assert caught.value.reason == "refused"
    assert "%2Fnowhere%2Fx.sock" in str(caught.value.url)
    reasons: list[str] = []
    for seconds in TIMEOUTS:
        fields = {"load_timeout": seconds, "on_wait": lambda state: reasons.append(state.reason)}
        with pytest.raises(ConnectionFailedError):
            asked("unix:///nowhere/x.sock", way, wait_while_refused=True, **fields)
        if reasons:
            break
    assert set(reasons) == {"refused"}
    del caught
    gc.collect()


def test_http_clients_of_ones_own_know_the_socket_themselves(socket_path: Path) -> None:
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket_path))) as own:
        with LlamaServerClient("http://localhost", http_client=own) as client:
            assert client.health().ready
        with pytest.raises(BadRequestError, match="uds=path"):
            LlamaServerClient(f"unix://{socket_path}", http_client=own).health()


# -- TLS


class Front:
    """Ends TLS in front of a server, and passes the bytes on."""

    def __init__(self, base_url: str, context: ssl.SSLContext) -> None:
        parts = urlsplit(base_url)
        self._server, self._context = (parts.hostname, parts.port), context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.base_url = f"https://localhost:{self._listener.getsockname()[1]}"
        self.names: list[Any] = []
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> "Front":
        self._threads[0].start()
        return self

    def __exit__(self, *error: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                thread = threading.Thread(target=self._serve, args=(self._listener.accept()[0],))
                self._threads.append(thread)
                thread.start()

    def _serve(self, raw: socket.socket) -> None:
        with raw, contextlib.suppress(OSError), self._context.wrap_socket(raw, server_side=True) as near:
            self.names.append(near.getpeercert())
            with socket.create_connection(self._server) as far:
                back = threading.Thread(target=self._pump, args=(far, near))
                back.start()
                self._pump(near, far)
                back.join()

    @staticmethod
    def _pump(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError):
            while data := source.recv(65536):
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def front(chat_server: LocalServer, authority: trustme.CA) -> Iterator[Front]:
    """TLS with a certificate of an authority that no system knows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with Front(chat_server.base_url, context) as front:
        yield front


@pytest.fixture
def strict_front(chat_server: LocalServer, authority: trustme.CA) -> Iterator[Front]:
    """The same, and it wants a certificate of the client as well."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.issue_cert("localhost").configure_cert(context)
    authority.configure_trust(context)
    with Front(chat_server.base_url, context) as front:
        yield front


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    return context


@ways
def test_a_certificate_of_an_unknown_authority_is_refused_and_the_way_out_named(front: Front, way: str) -> None:
    with pytest.raises(ConnectionFailedError, match="verify=ssl_context") as caught:
        asked(front.base_url, way, max_retries=0)
    assert caught.value.reason == "tls"


@ways
def test_an_authority_of_ones_own(front: Front, authority: trustme.CA, way: str) -> None:
    assert asked(front.base_url, way, verify=trusting(authority)) == 3


@ways
def test_the_check_can_be_switched_off(front: Front, way: str) -> None:
    assert asked(front.base_url, way, verify=False) == 3


@ways
def test_a_changed_check_of_certificates_holds_from_the_next_request_on(front: Front, way: str) -> None:
    changes = [False, True, False]

    async def ask() -> None:
        async with AsyncLlamaServerClient(front.base_url, max_retries=0) as client:
            for verify in changes:
                changed = client.with_settings(verify=verify)
                if verify:
                    with pytest.raises(ConnectionFailedError):
                        await changed.health()
                else:
                    assert (await changed.health()).ready

    if way != "blocking":
        return asyncio.run(ask()) if way == "asyncio" else trio.run(ask)
    with LlamaServerClient(front.base_url, max_retries=0) as client:
        for verify in changes:
            changed = client.with_settings(verify=verify)
            if verify:
                with pytest.raises(ConnectionFailedError):
                    changed.health()
            else:
                assert changed.health().ready


@pytest.mark.parametrize("model", [ChatLlamaServer, LlamaServer])
def test_a_models_changed_check_of_certificates_holds_for_it_and_its_copies(
    front: Front, authority: trustme.CA, model: Any
) -> None:
    llm = model(base_url=front.base_url, max_tokens=1, max_retries=0)
    for _ in range(2):
        with pytest.raises(ConnectionFailedError):
            llm.client.health()
        copied = llm.model_copy(update={"verify": False})
        assert copied.client.health().ready
        with pytest.raises(ConnectionFailedError):
            llm.client.health()
        llm.verify = False
        assert llm.client.health().ready
        llm.verify = trusting(authority)
        assert llm.client.health().ready
        assert llm.client.with_settings(verify=False).health().ready
        llm.verify = True
    llm.close()


# What is dropped may still be used by a stream, so it is left to the collector to close.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_ever_new_certificates_do_not_fill_the_memory(chat_server: LocalServer) -> None:
    with LlamaServerClient(chat_server.base_url) as client:
        for _ in range(50):
            assert client.with_settings(verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)).health().ready
        assert len(client.transport._clients) <= 32
        gc.collect()


def test_a_changed_client_of_ones_own_is_used_from_the_next_request_on(chat_server: LocalServer) -> None:
    llm = ChatLlamaServer(base_url=chat_server.base_url, max_tokens=1)
    assert llm.client.health().ready
    with httpx.Client(trust_env=False) as mine:
        llm.http_client = mine
        assert llm.client.transport._given is mine
    llm.http_client = None
    assert llm.client.health().ready
    llm.close()


@ways
def test_each_host_of_the_web_shows_its_own_certificate_at_one_address(
    chat_server: LocalServer, authority: trustme.CA, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two names of one address, whose certificate is that of the first: the second must not get its connection."""
    monkeypatch.setattr(behind_doors.TLS_CONTEXT, lambda: trusting(authority))
    monkeypatch.setattr(behind_doors.ADDRESSES_OF_A_HOST, lambda *_: ["127.0.0.1"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("first.example").configure_cert(context)
    with web_server() as web, Front(web.url, context) as front:
        web.files["/a.txt"] = ("text/plain", b"The code is 4711.")
        port = front.base_url.rpartition(":")[2]
        policy = MediaPolicy(fetch_urls=["*.example"])

        def fetching(host: str) -> ChatRequest:
            part = {"type": "file", "file": {"url": f"https://{host}.example:{port}/a.txt"}}
            message: Any = {"role": "user", "content": [part]}
            return ChatRequest(messages=[message], media=policy, params={"max_tokens": 1})

        def rendered(*requests: ChatRequest) -> list[str]:
            if way == "blocking":
                with LlamaServerClient(chat_server.base_url) as client:
                    return [client.apply_template(request) for request in requests]

            async def ask() -> list[str]:
                async with AsyncLlamaServerClient(chat_server.base_url) as client:
                    return [await client.apply_template(request) for request in requests]

            return asyncio.run(ask())

        assert "4711" in rendered(fetching("first"))[0]
        with pytest.raises(ConnectionFailedError, match="can't be fetched"):
            rendered(fetching("first"), fetching("second"))


@ways
def test_cookies_come_back_with_the_same_key_only(way: str) -> None:
    answer = reply(b'{"data": []}', headers=["Set-Cookie: session=first; Path=/"])
    with ScriptedServer(answer) as server:
        keys = ["one", "one", "two", None, "one"]
        if way == "blocking":
            with LlamaServerClient(server.url) as client:
                for key in keys:
                    client.with_settings(api_key=key).models()
        else:

            async def ask() -> None:
                async with AsyncLlamaServerClient(server.url) as client:
                    for key in keys:
                        await client.with_settings(api_key=key).models()

            asyncio.run(ask())
        assert [request.headers.get("cookie") for request in server.requests] == [
            None, "session=first", None, None, "session=first",
        ]  # fmt: skip


def test_the_name_in_the_certificate_must_be_the_servers(front: Front, authority: trustme.CA) -> None:
    with pytest.raises(ConnectionFailedError) as caught:
        asked(front.base_url.replace("localhost", "127.0.0.1"), "blocking", verify=trusting(authority), max_retries=0)
    assert caught.value.reason == "tls"


@ways
def test_a_certificate_of_the_client(strict_front: Front, authority: trustme.CA, way: str) -> None:
    context = trusting(authority)
    authority.issue_cert("me@example.org", common_name="me").configure_cert(context)
    assert asked(strict_front.base_url, way, verify=context) == 3
    assert ("email", "me@example.org") in strict_front.names[0]["subjectAltName"]


# Where the server hangs up while the request is written, httpcore leaves httpx's generator of its body to the
# collector, which trio complains of.
@pytest.mark.filterwarnings("ignore:Exception ignored in.*ByteStream:pytest.PytestUnraisableExceptionWarning")
@ways
def test_a_server_that_wants_a_certificate_and_gets_none(strict_front: Front, authority: trustme.CA, way: str) -> None:
    with pytest.raises(ConnectionFailedError) as caught:
        asked(strict_front.base_url, way, verify=trusting(authority), max_retries=0)
    # Whether the server's alert is read depends on who is faster: it closes the connection behind it.
    assert caught.value.reason == "closed" or "load_cert_chain" in str(caught.value)


def test_certificates_in_both_frameworks(strict_front: Front, authority: trustme.CA) -> None:
    context = trusting(authority)
    authority.issue_cert("me@example.org").configure_cert(context)
    llm = ChatLlamaServer(base_url=f"{strict_front.base_url}/v1", verify=context, max_tokens=3)
    assert llm.invoke("Hello").usage_metadata["output_tokens"] <= 3
    llm.close()
    index = LlamaServer(base_url=strict_front.base_url, verify=context, max_tokens=3)
    assert index.chat([ChatMessage("Hello")]).raw is not None
    index.close()


def test_an_ssl_context_can_not_be_pickled_and_that_is_said(authority: trustme.CA) -> None:
    with pytest.raises(TypeError, match="SSLContext"):
        pickle.dumps(LlamaServerClient("https://localhost", verify=trusting(authority)))


# -- proxies


def test_a_proxy_of_the_environment_tunnels_tls_and_no_proxy_is_honoured(
    front: Front, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = urlsplit(front.base_url).port
    with Tunnel(("127.0.0.1", port)) as tunnel:
        monkeypatch.setenv("HTTPS_PROXY", tunnel.address)  # type: ignore[attr-defined]
        context = trusting(authority)
        context.check_hostname = False
        for way in ("blocking", "asyncio"):
            assert asked("https://llama.example", way, verify=context) == 3
        assert tunnel.asked == [b"CONNECT llama.example:443 HTTP/1.1"] * 2  # type: ignore[attr-defined]
        monkeypatch.setenv("NO_PROXY", "llama.example")
        with pytest.raises(ConnectionFailedError):
            asked("https://llama.example", "blocking", verify=context, max_retries=0)
        assert len(tunnel.asked) == 2  # type: ignore[attr-defined]


class Tunnel(Front):
    """A proxy that takes CONNECT, and leads to one place whatever it is asked for."""

    def __init__(self, target: tuple[str, int | None]) -> None:
        self._server = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.asked: list[bytes] = []
        self._threads = [threading.Thread(target=self._accept)]

    def _serve(self, raw: socket.socket) -> None:
        with raw, contextlib.suppress(OSError):
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += raw.recv(1)
            self.asked.append(head.partition(b"\r\n")[0])
            raw.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            with socket.create_connection(self._server) as far:
                back = threading.Thread(target=self._pump, args=(far, raw))
                back.start()
                self._pump(raw, far)
                back.join()


def test_embeddings_over_tls(embedding_server: LocalServer, authority: trustme.CA) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with Front(embedding_server.base_url, context) as front:
        embeddings = LlamaServerEmbeddings(base_url=front.base_url, verify=trusting(authority))
        assert len(embeddings.embed_query("Hello")) == 64
        embeddings.close()
