"""How a conversation ends: in an answer that somebody else gave, in one to be continued, in calls without results."""

from typing import Any

import pytest

from llamacpp_server import ChatRequest, LlamaServerClient, LocalServer, fold_chat

USER: Any = {"role": "user", "content": "Tell me about the river."}
BEGUN: Any = {"role": "assistant", "content": "The quiet"}
FEW: dict[str, Any] = {"max_tokens": 6, "temperature": 0, "ignore_eos": True}
CALL: Any = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TOOL: Any = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture
def client(chat_server: LocalServer) -> LlamaServerClient:
    return chat_server.client()


def names(reply: Any) -> list[str]:
    return [repair.name for repair in reply.start.repairs]


def test_another_ones_answer_is_answered_and_not_continued(client: LlamaServerClient) -> None:
    request = ChatRequest(messages=[USER, BEGUN], params=FEW)
    prompt = client.apply_template(request)
    assert not prompt.endswith("The quiet")
    assert names(client.chat(request)) == ["own_turn"]
    continued = ChatRequest(messages=[USER, BEGUN], params=FEW, history_repair=["-own_turn"])
    assert client.apply_template(continued).endswith("The quiet")
    assert names(client.chat(continued)) == []


@pytest.mark.parametrize(
    "asked", [{"continue_final_message": True}, {"add_generation_prompt": False}, {"continue_final_message": "content"}]
)
def test_a_continued_answer_is_the_same_streamed_or_not(client: LlamaServerClient, asked: dict[str, Any]) -> None:
    request = ChatRequest(messages=[USER, BEGUN], params={**FEW, **asked})
    full, streamed = client.chat(request), fold_chat(client.stream_chat(request))
    in_one_piece = client.chat(
        ChatRequest(messages=[USER, BEGUN], tools=[TOOL], params={**FEW, **asked, "logprobs": True})
    )
    assert names(full) == []
    assert full.content == streamed.content
    assert not full.content.startswith("The quiet")
    assert not in_one_piece.content.startswith("The quiet")
    echoed = client.chat(ChatRequest(messages=[USER, BEGUN], params={**FEW, **asked, "echo": True}))
    assert echoed.content == "The quiet" + full.content


def test_an_unanswered_call_is_left_alone_unless_it_ends_the_history(client: LlamaServerClient) -> None:
    calls: Any = {"role": "assistant", "content": "", "tool_calls": [CALL]}
    assert names(client.chat(ChatRequest(messages=[USER, calls, USER], tools=[TOOL], params=FEW))) == []
    assert names(client.chat(ChatRequest(messages=[USER, calls], tools=[TOOL], params=FEW))) == ["unanswered_calls"]


def test_a_template_that_demands_results_gets_them(serve: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    from tests.models import build_random

    template = (
        "{%- for m in messages -%}"
        "{%- if m.tool_calls and not loop.last and messages[loop.index0 + 1].role != 'tool' -%}"
        "{{ raise_exception('Not the same number of function calls and responses') }}{%- endif -%}"
        "{{ m.role + ': ' + (m.content or '') + '\\n' }}{%- endfor -%}assistant: "
    )
    path = tmp_path_factory.mktemp("demands") / "demands.gguf"
    server = serve(build_random(path, chat_template=template), parallel=1, ctx_size=1024)
    calls: Any = {"role": "assistant", "content": "", "tool_calls": [CALL]}
    with server.client() as client:
        assert names(client.chat(ChatRequest(messages=[USER, calls, USER], params=FEW))) == ["unanswered_calls"]
