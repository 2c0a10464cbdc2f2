"""A local server's address is its own: what a model file writes into the log sends prompts and keys nowhere."""

import os
import socket
import struct
import subprocess
import sys

import pytest

from llamacpp_server import ChatRequest, LocalServer, LocalServerError
from llamacpp_server.local import address_in, clear_socket, listens
from tests.wire.scripted_server import ScriptedServer, reply

MODEL = "models/tiny-chat.gguf"
BACKENDS = pytest.mark.parametrize("backend", [pytest.param("binary", marks=pytest.mark.binary), "embedded"])


def evil_model(path, name):
    """A file whose architecture, which the server prints as unknown, is `name`."""
    key, value = b"general.architecture", name.encode()
    header = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", len(key)) + key + struct.pack("<I", 8)
    path.write_bytes(header + struct.pack("<Q", len(value)) + value)
    return path


@pytest.mark.parametrize("line", ["listening on {}/ ", "x\n0.00.1 I srv  llama_server: listening on {}\n"])
@BACKENDS
def test_a_model_file_does_not_choose_where_the_key_goes(tmp_path, line, backend):
    with ScriptedServer(reply({"status": "ok"})) as stranger:
        model = evil_model(tmp_path / "evil.gguf", line.format(stranger.url))
        with pytest.raises(LocalServerError, match="before it was ready"):
            LocalServer(model, backend=backend, api_key="SECRET", load_timeout=60).start()
        assert stranger.requests == []
        assert stranger.probes == []


OURS = b"0.01.376.396 I srv  llama_server: listening on "


@pytest.mark.parametrize(
    ("log", "host", "port", "address"),
    [
        (OURS + b"http://127.0.0.1:80\n", "127.0.0.1", 80, "http://127.0.0.1:80"),
        (OURS + b"http://0.0.0.0:80 - starting the main loop\n", "0.0.0.0", 80, "http://127.0.0.1:80"),
        (b"main: server is listening on http://127.0.0.1:80\r\n", "127.0.0.1", 80, "http://127.0.0.1:80"),
        (OURS + b"http://[::1]:80\n", "127.0.0.1,::1", 80, "http://[::1]:80"),
        (OURS + b"unix:///run/x.sock\n", "/run/x.sock", 0, "unix:///run/x.sock"),
        (OURS + b"http://127.0.0.1:81\n", "127.0.0.1", 80, None),
        (OURS + b"http://evil.test:80\n", "127.0.0.1", 80, None),
        (OURS + b"http://127.0.0.1:80@evil.test:80\n", "127.0.0.1", 80, None),
        (OURS + b"unix:///run/other.sock\n", "/run/x.sock", 0, None),
        (OURS + b"http://127.0.0.1:80/path and more\n", "127.0.0.1", 80, None),
        (b"unknown architecture: 'listening on http://127.0.0.1:80'\n", "127.0.0.1", 80, None),
        (OURS + b"http://127.0.0.1:8", "127.0.0.1", 80, None),
    ],
)
def test_only_a_complete_line_with_the_requested_host_and_port_counts(log, host, port, address):
    assert address_in(log, host, port, None) == address


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who listens where, in /proc")
def test_a_port_that_the_server_chose_must_be_one_that_it_listens_at():
    program = "import socket, time; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True)"
    waits = f"{program}; time.sleep(60)"
    with (
        subprocess.Popen([sys.executable, "-c", waits], stdout=subprocess.PIPE, process_group=0) as process,
        socket.create_server(("127.0.0.1", 0)) as other,
    ):
        try:
            port, strange = int(process.stdout.readline()), other.getsockname()[1]
            assert listens(process.pid, port)
            assert not listens(process.pid, strange)
            log = OURS + b"http://127.0.0.1:%d\n" % strange + OURS + b"http://127.0.0.1:%d\n" % port
            assert address_in(log, "127.0.0.1", 0, process.pid) == f"http://127.0.0.1:{port}"
        finally:
            process.kill()


@BACKENDS
def test_a_unix_socket_path_can_be_used_again_after_a_stop(tmp_path, backend):
    server = LocalServer(MODEL, backend=backend, host=str(tmp_path / "s.sock"))
    for _ in range(2):
        with server:
            request = ChatRequest(messages=[{"role": "user", "content": "Hi"}], params={"max_tokens": 2})
            assert server.client().chat(request).finish_reason == "length"


def test_the_socket_of_another_server_is_left_alone(tmp_path):
    path = str(tmp_path / "s.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        with pytest.raises(LocalServerError, match="another server listens at"):
            clear_socket(path)
    assert os.path.exists(path)
    clear_socket(path)
    assert not os.path.exists(path)


@BACKENDS
def test_two_hosts_work_with_a_port_and_are_refused_without(backend):
    with pytest.raises(LocalServerError, match="can't share one automatically chosen port"):
        LocalServer(MODEL, backend=backend, host="127.0.0.1,::1").start()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with LocalServer(MODEL, backend=backend, host="127.0.0.1,::1", port=port) as server:
        assert server.base_url in (f"http://127.0.0.1:{port}", f"http://[::1]:{port}")
        assert server.client().health().ready
