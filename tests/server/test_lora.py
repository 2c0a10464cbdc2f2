"""LoRA adapters by name, for one request and for all, on a server that has two."""

from collections.abc import Iterator
from typing import Any

import pytest

from llamacpp_server import BadRequestError, ChatRequest, CompletionRequest, LocalServer
from tests.wire.scripted_server import ScriptedServer, reply
from tests.wire.shells import SHELLS


@pytest.fixture(params=SHELLS, ids=lambda shell: shell.kind)
def client(request: pytest.FixtureRequest, lora_server: LocalServer) -> Iterator[Any]:
    shell = request.param(lora_server.base_url)
    yield shell
    shell.set_lora_adapters({})
    shell.shut()


# The cache holds what another adapter read.
PLAIN: dict[str, Any] = {"temperature": 0, "max_tokens": 12, "ignore_eos": True, "cache_prompt": False}


def said(client: Any, lora: Any = None) -> str:
    params = PLAIN if lora is None else {**PLAIN, "lora": lora}
    return client.complete(CompletionRequest(prompt="Once upon a time", params=params)).choices[0].text  # type: ignore[no-any-return]


def test_names_are_those_of_the_files(client: Any) -> None:
    adapters = client.lora_adapters()
    assert [(adapter.id, adapter.name, adapter.scale) for adapter in adapters] == [(0, "poet", 0.0), (1, "pirate", 0.0)]


def test_a_request_names_what_it_wants(client: Any) -> None:
    plain, poet, pirate = said(client), said(client, {"poet": 1.0}), said(client, {"pirate": 1.0})
    assert len({plain, poet, pirate}) == 3
    assert poet == said(client, [{"id": 0, "scale": 1.0}]) == said(client, {0: 1.0})
    assert said(client, {"poet": 0.0}) == said(client) == plain
    assert said(client, {"poet": 1.0, "pirate": 1.0}) not in (plain, poet, pirate)


def test_a_chat_names_it_too(client: Any) -> None:
    def chat(**lora: Any) -> Any:
        messages: Any = [{"role": "user", "content": "Hi"}]
        return client.chat(ChatRequest(messages=messages, params={**PLAIN, "logprobs": True, **lora})).logprobs

    assert chat() != chat(lora={"poet": 1.0}) == chat(lora={0: 1.0})
    request = ChatRequest(messages=[{"role": "user", "content": "Hi"}], params={"lora": {"poet": 1.0}})
    assert client.count_tokens(request) > 5


def test_scales_of_all_requests(client: Any) -> None:
    plain, poet = said(client), said(client, {"poet": 1.0})
    client.set_lora_adapters({"poet": 1.0})
    assert [adapter.scale for adapter in client.lora_adapters()] == [1.0, 0.0]
    assert said(client) == poet != plain
    assert said(client, {"pirate": 0.0}) == plain  # what is not named is off
    client.set_lora_adapters({})
    assert said(client) == plain


def test_an_unknown_name_is_an_error_that_lists_them(client: Any) -> None:
    for ask in (lambda: said(client, {"poett": 1.0}), lambda: client.set_lora_adapters({"poett": 1.0})):
        with pytest.raises(BadRequestError, match=r"'poett'; it has: poet \(0\), pirate \(1\)"):
            ask()


def test_two_files_of_one_name_are_distinguished_by_number() -> None:
    adapters = reply([{"id": 0, "path": "/a/x.gguf", "scale": 1}, {"id": 1, "path": "b\\x.gguf", "scale": 1}])
    with ScriptedServer(adapters) as server:
        shell = SHELLS[0](server.url)
        with pytest.raises(BadRequestError, match="several"):
            said(shell, {"x": 1.0})
        assert [adapter.name for adapter in shell.lora_adapters()] == ["x", "x"]
        shell.shut()
