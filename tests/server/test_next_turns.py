"""Where two conversations share one slot, the next turn of one goes before the other, which would push it out."""

import asyncio
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from llamacpp_server import AsyncLlamaServerClient, ChatRequest, LlamaServerClient, LocalServer
from llamacpp_server.transport import Gate, Transport, gate_for
from tests.waiting import LONG, wait_until_queued

shells = sys.modules[Transport.__module__]


@pytest.fixture
def one_slot(scripted_server: Any) -> LocalServer:
    server: LocalServer = scripted_server("It stands on the third shelf.", parallel=1, cache_ram=0)
    gate_for(server.base_url).resize(1, 8192)
    return server


@pytest.fixture
def keep(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets for how long slots are kept: on a busy machine, an agent may need longer than they really are."""

    def set_to(seconds: float) -> None:
        monkeypatch.setattr(sys.modules[Gate.__module__], "_KEPT", seconds)
        monkeypatch.setattr(sys.modules[Gate.__module__], "_KEPT_SHARE", 1e6)

    return set_to


class Conversation:
    def __init__(self, name: str) -> None:
        self.history: list[Any] = [{"role": "system", "content": f"You are agent {name} of a library. " * 20}]

    def asks(self) -> ChatRequest:
        self.history += [{"role": "user", "content": "Where is it?"}]
        return ChatRequest(messages=list(self.history), params={"max_tokens": 12, "temperature": 0})

    def hears(self, reply: Any) -> int:
        """The prompt tokens that were read for a reply."""
        self.history.append({"role": "assistant", "content": reply.content})
        return int(reply.timings.prompt_n)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("comes_back", [True, False])
def test_the_next_turn_goes_before_another_conversation(
    one_slot: LocalServer, keep: Callable[[float], None], comes_back: bool
) -> None:
    keep(LONG if comes_back else 0.05)
    ours, other, order = Conversation("1"), Conversation("2"), list[str]()

    def ask_other() -> None:
        other.hears(client.chat(other.asks()))
        order.append("other")

    with LlamaServerClient(one_slot.base_url) as client:
        first = ours.hears(client.chat(ours.asks()))
        stream = client.stream_chat(ours.asks())
        next(stream)
        thread = threading.Thread(target=ask_other)
        thread.start()
        wait_until_queued(one_slot)
        list(stream)
        if comes_back:
            keep(0)
            ours.history.append({"role": "assistant", "content": "It stands on the third shelf."})
            read = ours.hears(client.chat(ours.asks()))
            order.append("ours")
            assert read < first / 4, "its prompt is still in the slot"
        thread.join(LONG)
    assert order == (["ours", "other"] if comes_back else ["other"])


def test_an_awaited_next_turn_goes_before_another_conversation(
    one_slot: LocalServer, keep: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(LONG)
    looks, order = list[float](), list[str]()
    next_look = shells._next_look

    def counted(*arguments: Any) -> float:
        looks.append(next_look(*arguments))
        return looks[-1]

    async def ask(client: AsyncLlamaServerClient, one: Conversation, name: str) -> int:
        read = one.hears(await client.chat(one.asks()))
        order.append(name)
        return read

    async def main() -> tuple[int, int]:
        ours, other = Conversation("1"), Conversation("2")
        async with AsyncLlamaServerClient(one_slot.base_url) as client:
            first = await ask(client, ours, "ours")
            second = asyncio.create_task(ask(client, ours, "ours"))
            await asyncio.sleep(0)
            waits = asyncio.create_task(ask(client, other, "other"))
            await second
            monkeypatch.setattr(shells, "_next_look", counted)
            await asyncio.sleep(0.3)
            assert not waits.done()
            keep(0)
            read = await ask(client, ours, "ours")
            await asyncio.wait_for(waits, LONG)
        return first, read

    first, read = asyncio.run(main())
    assert read < first / 4
    assert order == ["ours", "ours", "ours", "other"]
    assert len(looks) < 20, "it waits and does not spin"
