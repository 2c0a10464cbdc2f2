"""Calls that can wait: by the model's field, a call's argument or a tag of the run."""

from typing import Any

import pytest

from langchain_llamacpp_server import ChatLlamaServer, LlamaServerEmbeddings
from llamacpp_server.transport import Gate, Place


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> list[Place]:
    """Each place that enters a gate."""
    found, enter = list[Place](), Gate.enter

    def note(gate: Gate, place: Place) -> None:
        found.append(place)
        enter(gate, place)

    monkeypatch.setattr(Gate, "enter", note)
    return found


@pytest.mark.parametrize(
    ("fields", "call", "config", "background"),
    [
        ({}, {}, {}, False),
        ({"priority": "background"}, {}, {}, True),
        ({}, {"priority": "background"}, {}, True),
        ({}, {}, {"tags": ["background"]}, True),
        ({"tags": ["background"]}, {}, {}, True),
        ({"priority": "background"}, {"priority": "normal"}, {}, False),
        ({}, {"priority": "normal"}, {"tags": ["background"]}, False),
    ],
)
async def test_a_call_says_whether_it_can_wait(
    talker: Any, places: list[Place], fields: Any, call: Any, config: Any, background: bool
) -> None:
    llm = ChatLlamaServer(base_url=talker.base_url, max_tokens=1, **fields)
    llm.invoke("Hi", config, **call)
    await llm.ainvoke("Hi", config, **call)
    assert list(llm.stream("Hi", config, **call))
    assert [chunk async for chunk in llm.astream("Hi", config, **call)]
    assert [place.background for place in places if place.counted and place.gate and not place.limit] == [
        background
    ] * 4
    assert len({place.session for place in places if place.session is not None}) == 1


def test_a_model_that_always_can_wait_says_so_in_its_settings(embedding_server: Any, places: list[Place]) -> None:
    LlamaServerEmbeddings(base_url=embedding_server.base_url, priority="background").embed_query("Hi")
    assert [place.background for place in places if not place.limit] == [True]
