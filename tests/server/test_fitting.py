"""Requests are made ones that this very server takes, and the reply tells what was done to them."""

from collections.abc import Iterator
from typing import Any

import pytest

from llamacpp_server import BadRequestError, ChatRequest, LlamaServerClient, LocalServer
from llamacpp_server._endpoints import memory_of
from tests.models import build_random

USER = {"role": "user", "content": "Hello"}
FEW: dict[str, Any] = {"max_tokens": 2, "temperature": 0, "ignore_eos": True}
STRICT = (
    "{%- for m in messages -%}"
    "{%- if (m.role == 'user') != (loop.index0 % 2 == 0) -%}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user') }}{%- endif -%}"
    "{{ m.role + ': ' + (m.content or '') + '\\n' }}{%- endfor -%}assistant: "
)


def tool(name: str, **properties: Any) -> Any:
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": properties}}}


@pytest.fixture
def strict(serve: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaServerClient]:
    path = tmp_path_factory.mktemp("strict") / "strict.gguf"
    server: LocalServer = serve(build_random(path, chat_template=STRICT), parallel=1, ctx_size=1024)
    with server.client() as client:
        yield client


def names(client: LlamaServerClient, *messages: Any, **request: Any) -> list[str]:
    reply = client.chat(ChatRequest(messages=list(messages), params=FEW, **request))
    return [repair.name for repair in reply.start.repairs]


def test_what_the_template_refuses_is_found_out_once_and_remembered(strict: LlamaServerClient) -> None:
    assert names(strict, USER) == []
    assert names(strict, USER, USER, USER) == ["same_role", "same_role"]
    known = memory_of(strict.settings.base_url, None)
    assert known.needs == {"same_role"}
    assert names(strict, USER, USER) == ["same_role"]
    assert strict.count_tokens(ChatRequest(messages=[USER, USER])) > 0


def test_repairs_can_be_switched_off(strict: LlamaServerClient) -> None:
    for wanted in (False, ["-same_role", "-same_role_again", "-alternate", "-tools_to_text", "-first_user"]):
        with pytest.raises(BadRequestError, match="must alternate") as caught:
            names(strict, USER, USER, history_repair=wanted)
        assert "chat template rejects" in (caught.value.remedy or "")
    with pytest.raises(BadRequestError, match="unknown repair: nonsense"):
        names(strict, USER, history_repair=["nonsense"])


def test_a_broken_call_in_the_history_is_sent_as_json(chat_server: LocalServer) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "ok", "arguments": '{"q": '}}
    history = [USER, {"role": "assistant", "content": "", "tool_calls": [call]}]
    answered = [*history, {"role": "tool", "tool_call_id": "1", "content": "no JSON"}]
    with chat_server.client() as client:
        assert names(client, *answered, tools=[tool("ok")]) == ["invalid_arguments"]
        assert names(client, *history, USER, tools=[tool("ok")]) == ["invalid_arguments"]
        assert names(client, *history, tools=[tool("ok")]) == ["invalid_arguments", "unanswered_calls"]
        with pytest.raises(BadRequestError, match="arguments"):
            names(client, *answered, tools=[tool("ok")], history_repair=False)


def test_schemas_are_cleaned_and_the_tool_at_fault_is_named_where_they_are_not(chat_server: LocalServer) -> None:
    bad = tool("bad", q={"type": "wat"})
    with chat_server.client() as client:
        assert names(client, USER, tools=[tool("ok", q={"type": "string"}), bad]) == ["type", "untyped"]
        with pytest.raises(BadRequestError, match="rejects the tools 'bad'"):
            names(client, USER, tools=[tool("ok", q={"type": "string"}), bad], clean_schemas=False)


def test_the_schema_of_the_answer_is_cleaned_too(chat_server: LocalServer) -> None:
    schema = {"type": "object", "properties": {"q": {"type": "string", "pattern": "no anchors"}}}
    given = {"type": "json_schema", "json_schema": {"schema": schema}}
    with chat_server.client() as client:
        for params in ({"json_schema": schema}, {"response_format": given}):
            request = ChatRequest(messages=[USER], params={**FEW, **params})
            assert [repair.name for repair in client.chat(request).start.repairs] == ["pattern"]
            assert schema["properties"]["q"]["pattern"] == "no anchors"


def test_other_refusals_stay_what_they_are(chat_server: LocalServer) -> None:
    with chat_server.client() as client, pytest.raises(BadRequestError, match="grammar"):
        client.chat(ChatRequest(messages=[USER], params={"grammar": "root ::= ["}))


def test_langchain_and_llamaindex_report_repairs(chat_server: LocalServer) -> None:
    from llama_index.core.llms import ChatMessage

    from langchain_llamacpp_server import ChatLlamaServer
    from llamaindex_llamacpp_server import LlamaServer

    bad = tool("bad", q={"type": "string", "pattern": "no anchors"})
    chat = ChatLlamaServer(base_url=chat_server.base_url, max_tokens=2).bind_tools([bad])
    assert chat.invoke("Hello").response_metadata["llamacpp"]["repairs"][0]["name"] == "pattern"
    last = list(chat.stream("Hello"))
    reported = [chunk for chunk in last if "llamacpp" in chunk.response_metadata]
    assert len(reported) == 1
    llm = LlamaServer(base_url=chat_server.base_url, max_tokens=2)
    reply = llm.chat([ChatMessage(role="user", content="Hello")], tools=[bad])
    assert reply.additional_kwargs["llamacpp"]["repairs"][0]["name"] == "pattern"
