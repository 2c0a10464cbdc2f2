"""Clients of real servers, and files of jobs.

- `connect`: makes a client of a real server, blocking or awaiting by turns, and closes it after the test.
- `client`: a blocking one of `chat_server`, for all tests of a file.
- `thinker`: a server whose model thinks, and answers.
- `source`, `output`: where the requests and the answers of a job with many requests are.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llamacpp_server import LlamaServerClient, LocalServer
from tests.models import Script
from tests.wire.shells import SHELLS


@pytest.fixture(params=SHELLS, ids=lambda shell: shell.kind)
def connect(request):
    """Takes a `LocalServer` or an address; every test that uses it runs blocking and awaiting."""
    made = []

    def make(server, **fields):
        made.append(request.param(getattr(server, "base_url", server), **fields))
        return made[-1]

    yield make
    for shell in made:
        shell.shut()


@pytest.fixture(scope="module")
def client(chat_server: LocalServer) -> Iterator[LlamaServerClient]:
    with chat_server.client() as client:
        yield client


@pytest.fixture(scope="session")
def thinker(scripted_server: Any) -> LocalServer:
    server: LocalServer = scripted_server(Script(thinks="Let me think.", says="Hello there."))
    return server


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "in.jsonl"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"
