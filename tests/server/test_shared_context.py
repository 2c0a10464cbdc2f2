"""Slots that share one context: long prompts at once crowd each other out, and each is answered all the same."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from llamacpp_server import ChatRequest, CompletionRequest, LlamaServerClient, LocalServer

MODEL = Path(__file__).parents[2] / "models" / "tiny-chat.gguf"
FEW = {"max_tokens": 4, "temperature": 0}


@pytest.fixture(scope="module")
def shared() -> Iterator[LlamaServerClient]:
    with LocalServer(MODEL, ctx_size=512) as server, server.client() as client:
        assert (client.props().total_slots, client.props().n_ctx) == (4, 512)
        yield client


@pytest.fixture(scope="module")
def texts(shared: LlamaServerClient) -> list[str]:
    each = len(shared.tokenize("the quiet river "))
    return [f"{number} " + "the quiet river " * (400 // each) for number in range(6)]


@pytest.mark.parametrize("at_once", [2, 6])
def test_whole_replies_to_long_prompts_all_come(shared: LlamaServerClient, texts: list[str], at_once: int) -> None:
    def chat(text: str) -> object:
        return shared.chat(ChatRequest(messages=[{"role": "user", "content": text}], params=FEW)).finish_reason

    def complete(text: str) -> object:
        return shared.complete(CompletionRequest(prompt=text, params=FEW)).finish_reason

    for ask in (chat, complete):
        with ThreadPoolExecutor(at_once) as threads:
            assert None not in list(threads.map(ask, texts))
