"""The Responses, Messages and transcription APIs on the real server, blocking and awaiting."""

import io
import json
import wave

import pytest

from llamacpp_server import (
    BadRequestError,
    ContextOverflowError,
    MessagesRequest,
    NotSupportedError,
    Progress,
    ResponsesRequest,
    ToolCall,
)
from llamacpp_server.testing import tool_call

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"name": "get_weather", "description": "Weather", "parameters": PARAMETERS}
CLOCK = {"name": "get_time", "description": "Time", "parameters": {"type": "object", "properties": {}}}
ARGUMENTS = {"city": "Köln"}
HELLO = [{"role": "user", "content": "Hello"}]


def anthropic(tool):
    return {"name": tool["name"], "description": tool["description"], "input_schema": tool["parameters"]}


@pytest.fixture(scope="module")
def caller(scripted_server):
    return scripted_server(tool_call("get_weather", ARGUMENTS))


def joined(events, name):
    return "".join(getattr(event, name) for event in events)


# -- Responses


def test_a_response_has_text_reasoning_and_usage(connect, thinker):
    reply = connect(thinker).create_response(ResponsesRequest(input="Hello", instructions="Be brief."))
    assert (reply.text, reply.reasoning.strip(), reply.status) == ("Hello there.", "Let me think.", "completed")
    assert reply.id.startswith("resp_")
    assert reply.usage.completion_tokens > 4
    assert reply.timings.first_token_ms >= reply.timings.prompt_ms > 0
    assert reply.raw["object"] == "response"


def test_the_events_of_a_response_add_up_to_it(connect, thinker):
    events = connect(thinker).read("stream_response", ResponsesRequest(input="Hello"))
    reply = events[-1].reply
    assert events[-1].type == "response.completed"
    assert (joined(events, "text"), joined(events, "reasoning")) == (reply.text, reply.reasoning)
    assert reply.timings.predicted_n == reply.usage.completion_tokens


def test_a_response_calls_the_one_function_that_is_named(connect, caller):
    request = ResponsesRequest(
        input="Weather?", tools=[{"type": "function", **CLOCK}, {"type": "function", **WEATHER}],
        tool_choice={"type": "function", "name": "get_weather"},
    )  # fmt: skip
    client = connect(caller)
    (call,) = client.create_response(request).tool_calls
    assert (call.name, json.loads(call.arguments)) == ("get_weather", ARGUMENTS)
    assert call.id.startswith("call_")
    events = client.read("stream_response", request)
    assert json.loads(joined(events, "arguments")) == ARGUMENTS


def test_a_function_call_and_its_output_go_back_into_a_response(connect, thinker):
    client = connect(thinker)
    items = [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": "One moment."},
        {"type": "function_call", "call_id": "c1", "name": "get_weather", "arguments": json.dumps(ARGUMENTS)},
        {"type": "function_call_output", "call_id": "c1", "output": "rain"},
    ]
    assert client.create_response(ResponsesRequest(input=items)).text == "Hello there."


def test_the_form_that_a_response_asks_for_is_enforced(connect, chat_server):
    answer = {"type": "json_schema", "name": "answer", "schema": {"enum": ["yes"]}}
    request = ResponsesRequest(
        input="Is it?", text={"format": answer}, max_output_tokens=20,
        params={"chat_template_kwargs": {"enable_thinking": False}},
    )  # fmt: skip
    assert json.loads(connect(chat_server).create_response(request).text) == "yes"


def test_tokens_of_a_response_are_counted_as_they_are_read(connect, thinker):
    client, request = connect(thinker), ResponsesRequest(input="Hello", instructions="Be brief.")
    assert client.count_response_tokens(request) == client.create_response(request).usage.prompt_tokens


def test_a_response_refused_by_the_server_is_a_typed_error(connect, chat_server):
    client = connect(chat_server)
    with pytest.raises(BadRequestError, match="previous_response_id"):
        client.create_response(ResponsesRequest(input="Hello", extra_body={"previous_response_id": "resp_1"}))
    with pytest.raises(ContextOverflowError):
        client.create_response(ResponsesRequest(input="Hello " * 3000))


def test_the_prompt_of_a_response_reports_its_progress(connect, chat_server):
    heard = []
    client = connect(chat_server, on_progress=heard.append)
    client.create_response(ResponsesRequest(input="Hello", max_output_tokens=2))
    assert heard and all(isinstance(step, Progress) and step.stage == "reading" for step in heard)


def test_leaving_a_response_frees_its_slot(connect, slow_server, idle):
    client = connect(slow_server)
    stream = client.start("stream_response", ResponsesRequest(input="Hello"))
    for _ in range(6):
        client.next(stream)
    client.leave(stream)
    idle(slow_server)


# -- Messages


def test_a_message_has_text_thinking_and_usage(connect, thinker):
    reply = connect(thinker).create_message(MessagesRequest(messages=HELLO, system="Be brief.", max_tokens=40))
    assert (reply.text, reply.thinking.strip(), reply.stop_reason) == ("Hello there.", "Let me think.", "end_turn")
    assert reply.usage.prompt_tokens > 10
    assert reply.usage.completion_tokens > 4


def test_the_usage_of_a_message_counts_cached_tokens_once(connect, thinker):
    client, request = connect(thinker), MessagesRequest(messages=HELLO, max_tokens=4)
    first, second = client.create_message(request), client.create_message(request)
    assert first.raw["type"] == "message" and first.raw["stop_reason"] == first.stop_reason
    assert first.raw["usage"]["output_tokens"] == first.usage.completion_tokens
    assert first.usage.prompt_tokens == second.usage.prompt_tokens == client.count_message_tokens(request)
    assert second.usage.cached_tokens > 0


def test_the_events_of_a_message_add_up_to_it(connect, thinker):
    client, request = connect(thinker), MessagesRequest(messages=HELLO)
    events = client.read("stream_message", request)
    assert [event.type for event in (events[0], events[-1])] == ["message_start", "message_stop"]
    assert joined(events, "text") == "Hello there."
    assert joined(events, "thinking").strip() == "Let me think."


def test_a_message_calls_the_one_tool_that_is_named(connect, caller):
    request = MessagesRequest(
        messages=[{"role": "user", "content": "Weather?"}], tools=[anthropic(CLOCK), anthropic(WEATHER)],
        tool_choice={"type": "tool", "name": "get_weather"},
    )  # fmt: skip
    reply = connect(caller).create_message(request)
    (call,) = reply.tool_calls
    assert (call.name, json.loads(call.arguments)) == ("get_weather", ARGUMENTS)
    assert reply.content[-1]["input"] == ARGUMENTS
    assert reply.stop_reason == "tool_use"


def test_a_choice_of_none_sends_no_tools(connect, caller):
    plain = MessagesRequest(messages=HELLO)
    without = MessagesRequest(messages=HELLO, tools=[anthropic(WEATHER)], tool_choice="none")
    client = connect(caller)
    assert client.count_message_tokens(without) == client.count_message_tokens(plain)


def test_a_call_that_was_cut_off_keeps_what_was_written(connect, caller):
    request = MessagesRequest(messages=HELLO, tools=[anthropic(WEATHER)], tool_choice="any", max_tokens=4)
    reply = connect(caller).create_message(request)
    assert reply.stop_reason == "max_tokens"
    assert all(isinstance(call, ToolCall) for call in reply.tool_calls)


def test_a_message_that_does_not_fit_says_by_how_much(connect, chat_server):
    with pytest.raises(ContextOverflowError) as caught:
        connect(chat_server).create_message(MessagesRequest(messages=[{"role": "user", "content": "Hello " * 3000}]))
    assert caught.value.n_ctx == 2048


def test_leaving_a_message_frees_its_slot(connect, slow_server, idle):
    client = connect(slow_server)
    stream = client.start("stream_message", MessagesRequest(messages=HELLO, max_tokens=-1))
    for _ in range(6):
        client.next(stream)
    client.leave(stream)
    idle(slow_server)


# -- transcriptions: the random model hears, and writes nonsense


@pytest.fixture(scope="module")
def recording():
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(b"\0\0" * 16000)
    return buffer.getvalue()


def test_a_recording_is_sent_as_a_file_and_its_tokens_are_counted(connect, vision_server, recording):
    client = connect(vision_server)
    short = client.transcribe(recording, max_tokens=4, language="en")
    assert short.usage.completion_tokens == 4
    assert short.raw["type"] == "transcript.text.done"
    assert client.transcribe(recording, max_tokens=4, prompt="Write it down, " * 9).usage.prompt_tokens > (
        short.usage.prompt_tokens
    )


def test_a_recording_is_read_from_its_path(connect, vision_server, recording, tmp_path):
    path = tmp_path / "speech.wav"
    path.write_bytes(recording)
    client = connect(vision_server)
    assert client.transcribe(path, max_tokens=2).usage.completion_tokens == 2
    with pytest.raises(BadRequestError, match=r"missing\.wav"):
        client.transcribe(tmp_path / "missing.wav")


def test_a_transcription_is_read_while_it_is_written(connect, vision_server, recording):
    events = connect(vision_server, total_timeout=60.0).read("stream_transcription", recording)
    assert {event.type for event in events[:-1]} <= {"transcript.text.delta"}
    assert events[-1].result is not None


def test_audio_for_a_model_without_audio_is_an_error(connect, chat_server, recording):
    with pytest.raises(NotSupportedError, match="--mmproj"):
        connect(chat_server).transcribe(recording)


def test_a_form_of_transcription_that_the_server_lacks_is_refused(connect, vision_server, recording):
    with pytest.raises(BadRequestError, match="json"):
        connect(vision_server).transcribe(recording, response_format="verbose_json")
