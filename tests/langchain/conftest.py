"""The chat model on real servers, with what it sends on the record."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from langchain_llamacpp_server import ChatLlamaServer
from llamacpp_server import LocalServer
from tests.models import Script, tool_call
from tests.wiretap import PLAIN

OSLO = tool_call("get_weather", '{"city": "Oslo"}')
ROME = tool_call("get_weather", '{"city": "Rome"}')


def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


@pytest.fixture(scope="session")
def talker(scripted_server: Any) -> LocalServer:
    """Thinks where it may, calls two tools at once when asked for the weather, and answers once it has a result."""
    return scripted_server(
        {
            "weather": Script(thinks="Two cities.", says=f"Let me look.{OSLO}\n{ROME}"),
            "broken": tool_call("get_weather", '{"city": '),
            "person": '{"name": "Ann", "age": 7}',
            "odd": ["a\u2028b", "c\u0085d", " 🎈"],
            "tool": Script(thinks="Now I know.", says="It is sunny."),
            "user": Script(thinks="A greeting.", says="Hello there, friend!"),
        }
    )


@pytest.fixture
def llm(talker: LocalServer) -> ChatLlamaServer:
    return ChatLlamaServer(base_url=talker.base_url)


@pytest.fixture
def nonsense(chat_server: LocalServer) -> ChatLlamaServer:
    """A random model, that says the same again: what it obeys and counts is real."""
    return ChatLlamaServer(base_url=chat_server.base_url, max_tokens=16, thinking=False, temperature=0)


@pytest.fixture
def recorded() -> Iterator[Callable[..., tuple[ChatLlamaServer, list[Any]]]]:
    """Makes a model and the list of the requests that it posts."""
    clients: list[httpx.Client] = []

    def make(server: LocalServer, **fields: Any) -> tuple[ChatLlamaServer, list[Any]]:
        requests: list[Any] = []

        def note(request: httpx.Request) -> None:
            if request.method == "POST":
                requests.append({"headers": request.headers, "url": request.url, **json.loads(request.content)})

        client = httpx.Client(event_hooks={"request": [note]}, **PLAIN)
        clients.append(client)
        return ChatLlamaServer(base_url=server.base_url, http_client=client, **fields), requests

    yield make
    for client in clients:
        client.close()
