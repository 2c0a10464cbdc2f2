"""Faults in streams of the Responses, Messages and transcription APIs, and what a real speech model would answer."""

import json

import pytest

from llamacpp_server import (
    MalformedReplyError,
    MessagesRequest,
    ResponsesRequest,
    ServerFaultError,
    StreamCutOffError,
)
from tests.wire.scripted_server import ScriptedServer, reply, stream

HELLO = [{"role": "user", "content": "Hello"}]
RESPONSES = ResponsesRequest(input="Hello")
MESSAGES = MessagesRequest(messages=HELLO)
FAULT = {"code": 500, "message": "the slot is gone", "type": "server_error"}


def named(event, data):
    return f"event: {event}\ndata: {json.dumps(data)}\n\n".encode()


def said(kind, **fields):
    return named(kind, {"type": kind, **fields})


RESPONSES_BEGUN = (said("response.created", response={"id": "resp_1", "status": "in_progress"}),
                   said("response.output_text.delta", item_id="msg_1", delta="Hel"))  # fmt: skip
MESSAGES_BEGUN = (
    said("message_start", message={"id": "m1", "model": "a", "usage": {"input_tokens": 3, "output_tokens": 0}}),
    said("content_block_start", index=0, content_block={"type": "text", "text": ""}),
    said("content_block_delta", index=0, delta={"type": "text_delta", "text": "Hel"}),
)


@pytest.mark.parametrize(
    ("name", "request_", "begun"),
    [("create_response", RESPONSES, RESPONSES_BEGUN), ("create_message", MESSAGES, MESSAGES_BEGUN)],
)
def test_a_stream_that_is_cut_off_is_an_error_with_the_partial_reply(connect, name, request_, begun):
    with ScriptedServer(stream(*begun)) as server:
        client = connect(server.url)
        with pytest.raises(StreamCutOffError) as caught:
            getattr(client, name)(request_)
    assert caught.value.partial.text == "Hel"


@pytest.mark.parametrize(
    ("name", "request_", "events"),
    [
        ("create_response", RESPONSES, (*RESPONSES_BEGUN, b"data: " + json.dumps({"error": FAULT}).encode() + b"\n\n")),
        ("create_message", MESSAGES, (*MESSAGES_BEGUN, named("error", FAULT))),
        ("create_message", MESSAGES, (*MESSAGES_BEGUN, said("error", error=FAULT))),
    ],
)
def test_an_error_in_the_middle_is_raised_with_the_partial_reply(connect, name, request_, events):
    with ScriptedServer(stream(*events)) as server:
        client = connect(server.url, max_retries=0)
        with pytest.raises(ServerFaultError, match="the slot is gone") as caught:
            getattr(client, name)(request_)
    assert caught.value.partial.text == "Hel"


def test_events_of_another_api_are_refused(connect):
    with ScriptedServer(stream(b'data: {"choices": []}\n\n')) as server, pytest.raises(MalformedReplyError):
        connect(server.url).create_response(RESPONSES)


def test_an_unstreamed_answer_where_a_stream_belongs_is_refused(connect):
    with ScriptedServer(reply({"id": "resp_1", "object": "response"})) as server:
        client = connect(server.url)
        with pytest.raises(MalformedReplyError):
            client.create_response(RESPONSES)


def test_what_a_speech_model_writes_is_put_together(connect):
    done = said("transcript.text.done", text="Hello world.", usage={"input_tokens": 90, "output_tokens": 3})
    events = (said("transcript.text.delta", delta="Hello"), said("transcript.text.delta", delta=" world."), done)
    with ScriptedServer(stream(*events, b"data: [DONE]\n\n")) as server:
        result = connect(server.url).transcribe(b"RIFF", language="de", model="whisper")
        (request,) = [one for one in server.requests if one.method == "POST"]
    assert (result.text, result.usage.prompt_tokens) == ("Hello world.", 90)
    assert b'name="language"\r\n\r\nde\r\n' in request.body
    assert b'name="model"\r\n\r\nwhisper\r\n' in request.body
    assert b"\r\n\r\nRIFF\r\n--" in request.body
