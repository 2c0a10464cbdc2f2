"""Demanded calls on the real server: what its grammar takes, what it lets through, and what we make of that."""

import json
from dataclasses import replace

import pytest

from llamacpp_server import (
    ChatRequest,
    CompletionRequest,
    LocalServer,
    MissingToolCallError,
    UnfitAnswerError,
    fold_chat,
)
from tests.models import Script, tool_call

# So the nonsense of the random model ends soon.
TERSE = {"logit_bias": {'"': 8.0, "}": 4.0, "<think>": False}, "chat_template_kwargs": {"enable_thinking": False}}


def tool(name, **schema):
    parameters = {"type": "object", **(schema or {"properties": {"a": {"type": "integer"}}, "required": ["a"]})}
    return {"type": "function", "function": {"name": name, "description": name, "parameters": parameters}}


NODE = {"type": "object", "properties": {"v": {"type": "boolean"}, "next": {"$ref": "#/$defs/Node"}}, "required": ["v"]}
TOOLS = [
    tool("add"),
    tool("walk", properties={"from": {"$ref": "#/$defs/Node"}}, required=["from"], **{"$defs": {"Node": NODE}}),
    tool("mark", properties={"kind": {"enum": ["x", "y"]}, "at": {"type": ["integer", "null"]}}, required=["kind"]),
    tool("stop", properties={}),
]


def demand(text, choice="any", tools=TOOLS, **more):
    params = {"chat_template_kwargs": {"enable_thinking": False}, **more.pop("params", {})}
    return ChatRequest(
        messages=[{"role": "user", "content": text}], tools=tools, tool_choice=choice, params=params, **more
    )


@pytest.fixture(scope="module")
def rambler(scripted_server):
    """Talks without end where it should call, and does what the forced round asks for."""
    says = {"Call the tool": '{"a": 1}', "user": Script(says=["Well, ", "so "], endless=True)}
    return scripted_server(says, parallel=1)


@pytest.fixture(scope="module")
def plain(serve):
    return serve("plain.gguf", parallel=1, ctx_size=2048)


@pytest.mark.parametrize("choice", [tool_["function"]["name"] for tool_ in TOOLS] + ["any"])
async def test_required_calls_work_with_a_template_without_tools(plain: LocalServer, choice: str):
    for seed in range(2):
        request = demand("Go.", choice, params={**TERSE, "seed": seed})
        with plain.client() as client:
            (made,) = client.chat(request).tool_calls
        async with plain.async_client() as async_client:
            deltas = [delta async for delta in async_client.stream_chat(request)]
        (streamed,) = fold_chat(deltas).tool_calls
        for found in (made, streamed):
            assert found.name == choice or choice == "any"
            arguments = json.loads(found.arguments)
            required = {"add": "a", "walk": "from", "mark": "kind"}.get(found.name)
            assert required is None or required in arguments


def test_a_reply_without_a_call_is_stopped_and_the_call_obtained_with_its_schema(rambler: LocalServer, idle):
    """The server itself would let it talk to the end of its context."""
    with rambler.client() as client:
        reply = client.chat(demand("Go.", "add", forced_call_within=20))
        assert reply.content == "", "what ran on is not the answer"
        assert reply.usage.completion_tokens > 21, "but its tokens count"
        assert [made.name for made in reply.tool_calls] == ["add"]
        assert json.loads(reply.tool_calls[0].arguments) == {"a": 1}
        assert reply.finish_reason == "tool_calls"
        assert reply.start.repairs[-1].name == "forced_round"
        with pytest.raises(MissingToolCallError, match="stopped after 21 tokens"):
            client.chat(demand("Go.", "add", forced_call_within=20, forced_round=False))
        with pytest.raises(MissingToolCallError, match="max_tokens") as caught:
            client.chat(demand("Go.", "add", forced_call_within=20, params={"max_tokens": 30}))
    assert caught.value.finish_reason == "length"
    idle(rambler)


def test_a_reply_that_ran_on_to_the_end_of_the_context_leaves_room_for_the_call(scripted_server):
    says = {"Call the tool": '{"a": 1}', "user": Script(says=["Well, ", "so "], endless=True)}
    with scripted_server(says, parallel=1, ctx_size=512).client() as client:
        reply = client.chat(demand("Go.", "add", TOOLS[:1]))
    assert reply.usage.completion_tokens > 100
    assert [made.arguments for made in reply.tool_calls] == ['{"a": 1}']


def test_the_second_round_reuses_the_cached_prompt(rambler: LocalServer):
    with rambler.client() as client:
        reply = client.chat(demand("Go. " + "word " * 300, "add", forced_call_within=5))
    assert reply.timings.cache_n > 10 * reply.timings.prompt_n


def test_one_call_though_the_server_makes_two(scripted_server):
    two = tool_call("add", '{"a": 1}') + "\n" + tool_call("mark", '{"kind": "x"}')
    with scripted_server(two).client() as client:
        assert len(client.chat(demand("Go.", "auto")).tool_calls) == 2
        request = demand("Go.", "auto", parallel_tool_calls=False)
        assert [made.name for made in client.chat(request).tool_calls] == ["add"]


def test_ids_stay_apart_over_a_conversation(scripted_server):
    """The server makes new ones each time; all of them are taken back as they are."""
    with scripted_server(tool_call("add", '{"a": 1}')).client() as client:
        messages = [{"role": "user", "content": "Go."}]
        for _ in range(3):
            reply = client.chat(ChatRequest(messages=messages, tools=TOOLS))
            (made,) = reply.tool_calls
            function = {"name": made.name, "arguments": made.arguments}
            messages += [
                {"role": "assistant", "tool_calls": [{"id": made.id, "type": "function", "function": function}]},
                {"role": "tool", "tool_call_id": made.id, "content": "1"},
            ]
    assert len({message["tool_call_id"] for message in messages if message["role"] == "tool"}) == 3


FORM = {"type": "json_schema", "json_schema": {"name": "Total", "schema": tool("x")["function"]["parameters"]}}


async def test_tools_and_a_form_for_the_answer_go_together(scripted_server):
    """The server alone holds the answer to the form and never calls."""
    answer = "Done. " + tool_call("Total", '{"a": 3}')
    server = scripted_server({"tool": answer, "user": tool_call("add", '{"a": 1}')}, parallel=1)
    request = demand("Add.", None, [TOOLS[0]], params={"response_format": FORM})
    with server.client() as client:
        reply = client.chat(request)
        (made,) = reply.tool_calls
        assert (made.name, json.loads(made.arguments), reply.content) == ("add", {"a": 1}, "")
        assert [repair.name for repair in reply.start.repairs] == ["answer_tool"]
        history = [*request.messages, {"role": "assistant", "content": "", "tool_calls": [wire_call(made)]},
                   {"role": "tool", "tool_call_id": made.id, "content": "3"}]  # fmt: skip
        ended = replace(request, messages=history)
        final = client.chat(ended)
        assert client.count_tokens(ended) > client.count_tokens(replace(ended, tools=[]))
    assert (json.loads(final.content), final.tool_calls, final.finish_reason) == ({"a": 3}, (), "stop")
    async with server.async_client() as client:
        streamed = fold_chat([delta async for delta in client.stream_chat(ended)])
    assert (streamed.content, streamed.tool_calls, streamed.finish_reason) == (final.content, (), "stop")


def wire_call(call):
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


MISTRAL = '[TOOL_CALLS][{"name": "add", "arguments": {"a": 1}}]'
CODER = "<function=add>\n<parameter=a>\n1\n</parameter>\n</function>"


BRACES = "<start_function_call>call:add{a:1}<end_function_call>"
REACT = '\nAction: add\nAction Input: {"a": 1}'


@pytest.mark.parametrize("written", [MISTRAL, CODER, BRACES, REACT], ids=["Mistral", "Coder", "FunctionGemma", "ReAct"])
async def test_a_call_in_a_format_that_the_server_does_not_parse_is_reported_or_used(scripted_server, written: str):
    server = scripted_server("Let me add. " + written, parallel=1)
    with server.client() as client:
        left = client.chat(demand("Add.", None, TOOLS[:1]))
        assert (left.tool_calls, left.finish_reason) == ((), "stop"), "the server did not parse it"
        assert written in left.content
        assert [repair.name for repair in left.start.repairs] == ["text_call"]
        taken = client.chat(demand("Add.", None, TOOLS[:1], parse_text_calls=True))
        assert not client.chat(demand("Add.", None, TOOLS[:1], check_calls=False)).start.repairs
        assert not client.chat(demand("Add.", "none", TOOLS[:1])).start.repairs
    async with server.async_client() as client:
        streamed = fold_chat(
            [d async for d in client.stream_chat(demand("Add.", None, TOOLS[:1], parse_text_calls=True))]
        )
    for reply in (taken, streamed):
        assert [(made.name, json.loads(made.arguments)) for made in reply.tool_calls] == [("add", {"a": 1})]
        assert (reply.content.strip(), reply.finish_reason) == ("Let me add.", "tool_calls")


def test_a_first_answer_that_is_the_arguments_of_the_required_tool_is_its_call(scripted_server):
    server = scripted_server({"Call the tool": "never", "user": '{"a": 1}'}, parallel=1)
    with server.client() as client:
        reply = client.chat(demand("Add.", "add", TOOLS[:1]))
    assert [(made.name, json.loads(made.arguments)) for made in reply.tool_calls] == [("add", {"a": 1})]
    assert [repair.name for repair in reply.start.repairs] == ["text_call"], "and no second round"


def test_structured_output_that_repeats_itself_is_stopped(scripted_server, idle):
    server = scripted_server(Script(says=["[", *["0, "] * 3], endless=True), parallel=1, ctx_size=8192)
    schema = {"type": "array", "items": {"type": "integer"}}
    request = ChatRequest(
        messages=[{"role": "user", "content": "Zeros."}], params={"json_schema": schema}, loop_limit=128
    )
    with server.client() as client:
        with pytest.raises(UnfitAnswerError, match="repetitive answer"):
            client.chat(request)
        idle(server)
        limited = client.chat(replace(request, params={**request.params, "max_tokens": 300}))
    assert limited.finish_reason == "length"


@pytest.mark.parametrize(
    "constraint", [{"json_schema": {"type": "array", "items": {"type": "integer"}}}, {"grammar": 'root ::= "[" "0, "*'}]
)
def test_a_constrained_completion_that_repeats_itself_is_stopped(scripted_server, idle, constraint):
    server = scripted_server(Script(says=["[", *["0, "] * 3], endless=True), parallel=1, ctx_size=8192)
    request = CompletionRequest(prompt="Zeros", params=constraint, loop_limit=128)
    with server.client() as client:
        with pytest.raises(UnfitAnswerError, match="repeated '0, ' for 128 tokens"):
            client.complete(request)
        idle(server)
        limited = client.complete(replace(request, params={**constraint, "max_tokens": 300}))
        free = client.complete(replace(request, params={"max_tokens": 300, "ignore_eos": True}))
    assert [reply.choices[0].finish_reason for reply in (limited, free)] == ["length"] * 2


def test_a_call_whose_arguments_repeat_themselves_is_stopped(scripted_server, idle):
    says = ['<tool_call>\n{"name": "add", "arguments": {"a": "', *["x1 "] * 3]
    server = scripted_server(Script(says=says, endless=True), parallel=1, ctx_size=8192)
    tool = {"type": "function", "function": {"name": "add", "parameters": {"properties": {"a": {"type": "string"}}}}}
    request = ChatRequest(messages=[{"role": "user", "content": "Zeros."}], tools=[tool], loop_limit=128)
    with server.client() as client:
        with pytest.raises(UnfitAnswerError, match="repetitive answer"):
            client.chat(request)
        idle(server)
