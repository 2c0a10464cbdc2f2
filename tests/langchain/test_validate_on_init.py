"""`validate_model_on_init=True` on real servers."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from langchain_llamacpp_server import ChatLlamaServer, LlamaServerEmbeddings, LlamaServerLLM
from llamacpp_server import ConnectionFailedError, LocalServer, NotFoundError

CLASSES = [ChatLlamaServer, LlamaServerLLM, LlamaServerEmbeddings]


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that nothing listens at and nobody else gets."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.mark.parametrize("cls", CLASSES)
def test_a_server_that_answers_is_known_once_the_model_is_made(cls: Any, chat_server: LocalServer) -> None:
    for name in (None, "any"):
        made = cls(base_url=chat_server.base_url, model=name, validate_model_on_init=True)
        assert made.known_server_info() is not None
    assert cls(base_url=chat_server.base_url).known_server_info() is None


@pytest.mark.parametrize("cls", CLASSES)
def test_where_nothing_listens_no_model_is_made(cls: Any, closed_port: int) -> None:
    address = f"http://127.0.0.1:{closed_port}"
    with pytest.raises(ConnectionFailedError, match="connection refused"):
        cls(base_url=address, max_retries=0, validate_model_on_init=True)
    assert cls(base_url=address)


async def test_on_an_event_loop_nothing_is_asked(closed_port: int) -> None:
    assert ChatLlamaServer(base_url=f"http://127.0.0.1:{closed_port}", validate_model_on_init=True)


@pytest.mark.binary
@pytest.mark.parametrize("cls", CLASSES)
def test_a_model_that_a_router_lacks_is_not_made(cls: Any, family_router: LocalServer) -> None:
    with pytest.raises(NotFoundError, match=r"no model 'gone'.*it has: .*one"):
        cls(base_url=family_router.base_url, model="gone", validate_model_on_init=True)
    assert cls(base_url=family_router.base_url, model="one", validate_model_on_init=True)
