"""The LLM on real servers, with what it sends on the record."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from llamacpp_server import LocalServer
from llamaindex_llamacpp_server import LlamaServer
from tests.models import Script, tool_call
from tests.wiretap import PLAIN

ADD = tool_call("add", '{"a": 1, "b": 2}')
WEATHER = tool_call("weather", '{"city": "Oslo"}')


# The random model would open a thought now and then even where thinking is off.
SOBER: dict[str, Any] = {"thinking": False, "logit_bias": {"<think>": False, "<": False}}


@pytest.fixture
def make_llm() -> Iterator[Callable[..., LlamaServer]]:
    """Makes an LLM on a server, or on any address."""
    made: list[LlamaServer] = []

    def make(server: LocalServer | str, **fields: Any) -> LlamaServer:
        made.append(LlamaServer(base_url=server if isinstance(server, str) else server.base_url, **fields))
        return made[-1]

    yield make
    for llm in made:
        llm.close()


@pytest.fixture
def llm(make_llm: Callable[..., LlamaServer], chat_server: LocalServer) -> LlamaServer:
    """On the random model: what it says is nonsense, and constraints, counts and errors are real."""
    return make_llm(chat_server, max_tokens=16, **SOBER)


@pytest.fixture
def recorded() -> Iterator[Callable[..., tuple[LlamaServer, list[Any]]]]:
    """Makes an LLM and the list of the bodies that it posts."""
    clients: list[httpx.Client] = []

    def make(server: LocalServer, **fields: Any) -> tuple[LlamaServer, list[Any]]:
        bodies: list[Any] = []

        def note(request: httpx.Request) -> None:
            if request.method == "POST":
                bodies.append(json.loads(request.content))

        client = httpx.Client(event_hooks={"request": [note]}, **PLAIN)
        clients.append(client)
        return LlamaServer(base_url=server.base_url, http_client=client, **fields), bodies

    yield make
    for client in clients:
        client.close()


@pytest.fixture(scope="session")
def thinker(scripted_server: Any) -> LocalServer:
    """Thinks, and answers."""
    return scripted_server(Script(thinks="Let me think.", says="The answer is 42."))


@pytest.fixture(scope="session")
def caller(scripted_server: Any) -> LocalServer:
    """Thinks, calls two tools at once, and answers once it has a result. "chat" makes it only talk."""
    return scripted_server(
        {
            "just chat": "I would rather talk.",
            "only weather": WEATHER,
            "broken": tool_call("add", '{"a": 1, "b": '),
            "user": Script(thinks="Two things to do.", says=f"{ADD}\n{WEATHER}"),
            "tool": Script(says="It is 3 and sunny.", thinks="Now I know."),
        }
    )
