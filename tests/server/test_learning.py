"""What a server teaches: only its template's refusals, only while it runs, and with the right one to blame."""

import socket
from pathlib import Path
from typing import Any

import pytest

from llamacpp_server import BadRequestError, ChatRequest, LlamaServerClient, LlamaServerError, LocalServer
from llamacpp_server._endpoints import memory_of
from tests import behind_doors

USER: Any = {"role": "user", "content": "What is the weather in Paris?"}
FEW: dict[str, Any] = {"max_tokens": 2, "temperature": 0}
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CALL = {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}}
NO_TOOLS = "{% for m in messages %}{{ m.content }}\n{% endfor %}"


@pytest.mark.parametrize(
    "bad",
    [
        {"role": "user", "content": {"a": 1}},
        {"role": "user", "content": 7},
        {"role": "user", "content": [{"type": "nonsense"}]},
        {"role": "assistant", "content": {"a": 1}},
    ],
)
def test_a_message_that_no_template_renders_teaches_nothing(chat_server: LocalServer, bad: Any) -> None:
    talk: list[Any] = [USER, {"role": "assistant", "content": "", "tool_calls": [CALL]}]
    talk += [{"role": "tool", "tool_call_id": "c1", "content": "20"}]
    with chat_server.client() as client:
        before = client.apply_template(ChatRequest(messages=talk, tools=[TOOL]))
        with pytest.raises(LlamaServerError):
            client.chat(ChatRequest(messages=[*talk, bad, USER], tools=[TOOL], params=FEW))
        assert memory_of(client.settings.base_url, None).needs == frozenset()
        assert client.apply_template(ChatRequest(messages=talk, tools=[TOOL])) == before


def test_tools_are_named_only_if_they_caused_the_refusal(chat_server: LocalServer) -> None:
    request = ChatRequest(messages=[USER], tools=[TOOL], params={**FEW, "reasoning_format": "weird"})
    with chat_server.client() as client, pytest.raises(BadRequestError) as caught:
        client.chat(request)
    assert "get_weather" not in str(caught.value)
    assert "weird" in str(caught.value)


TRAINED = Path(__file__).parents[2] / "models" / "tiny-chat.gguf"


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_another_server_at_the_address_is_not_treated_as_the_first(port: int) -> None:
    ask = ChatRequest(messages=[USER], tools=[TOOL], tool_choice="required", params={**FEW, "max_tokens": 60})
    seen = []
    with LlamaServerClient(f"http://127.0.0.1:{port}") as client:
        for template in (NO_TOOLS, None):
            with LocalServer(TRAINED, port=port, chat_template=template):
                reply = client.chat(ask)
                seen.append([repair.name for repair in reply.start.repairs])
    assert seen == [["forced_round"], []]
    assert reply.tool_calls[0].arguments == '{"city": "Paris"}'


def test_a_server_that_was_exchanged_unseen_is_known_by_its_props(
    chat_server: LocalServer, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(behind_doors.NOTE_REFUSAL, lambda base_url: None)
    ask = ChatRequest(messages=[USER], tools=[TOOL], params=FEW)
    seen = []
    with LlamaServerClient(f"http://127.0.0.1:{port}") as client:
        for template in (NO_TOOLS, None):
            with LocalServer(chat_server.model, port=port, chat_template=template):
                memory_of(client.settings.base_url, None).confirmed -= 60
                seen.append([repair.name for repair in client.chat(ask).start.repairs])
    assert seen == [["no_tools"], []]
