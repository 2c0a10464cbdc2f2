"""No line of any log, httpx's and httpcore's own included, holds control characters of a server."""

import logging
import unicodedata

import pytest

from llamacpp_server import ChatRequest, LlamaServerClient, LlamaServerError
from tests.wire.scripted_server import Answer, ScriptedServer, error, reply, stream

ESCAPES = "\x1b]0;title\x07\x1b[2J\x9b31m\nFAKE \u202etxt\r\u2028"
TWO = b"Content-Length: 2\r\n\r\n{}"
EVENT = b'data: {"id":"\\u001b[31m","model":"\\u202e\\n","choices":[{"index":0,"delta":{"content":"\\u001b"}}]}\n\n'
ANSWERS = {
    "an error": error(400, ESCAPES, ESCAPES),
    "a page": reply(f"<html>{ESCAPES}".encode(), 200, "text/html"),
    "no JSON": reply(f"{{{ESCAPES}".encode()),
    "a reason": Answer((b"HTTP/1.1 200 OK\x9b31m\xe2\x80\xae\r\n" + TWO,)),
    "a reason with an escape": Answer((b"HTTP/1.1 200 \x1b[31m\r\n" + TWO,)),
    "a header": Answer((b"HTTP/1.1 200 OK\r\nX-A: \x9b31m\xe2\x80\xa8\r\n" + TWO,)),
    "a header with an escape": Answer((b"HTTP/1.1 200 OK\r\nX-A: \x1b[31m\r\n" + TWO,)),
    "a place": Answer((b"HTTP/1.1 302 Found\r\nLocation: http://evil/\x9b\r\n" + TWO,)),
    "no HTTP": Answer((ESCAPES.encode(),), "close"),
    "a stream": stream(EVENT, b"data: [DONE]\n\n"),
    "a broken stream": stream(EVENT, b"data: \x1b[31m{\n\n"),
}


def unsafe(text):
    return [hex(ord(one)) for one in text if unicodedata.category(one) in ("Cc", "Cf", "Zl", "Zp")]


@pytest.mark.parametrize("name", ANSWERS)
def test_no_log_line_holds_control_characters_of_a_server(name, caplog):
    caplog.set_level(logging.DEBUG)
    with ScriptedServer(ANSWERS[name]) as server, LlamaServerClient(server.url, max_retries=0) as client:
        try:
            client.chat(ChatRequest(messages=[{"role": "user", "content": "hi"}], model="m"))
        except LlamaServerError as failed:
            assert not unsafe(str(failed))
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) > 4
    assert [line for line in lines if unsafe(line)] == []
