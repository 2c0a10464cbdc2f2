"""A stream that is cut at any byte at all is an error with what came before it, never a short answer."""

import asyncio
import json
from urllib.parse import urlsplit

from llamacpp_server import (
    AsyncLlamaServerClient,
    ChatRequest,
    ConnectionFailedError,
    LlamaServerClient,
    LlamaServerError,
    LocalServer,
    StreamCutOffError,
)

from .proxy import Fault, Pieces, Proxy, ask

BODY = {
    "messages": [{"role": "user", "content": "Hello"}],
    "stream": True,
    "stream_options": {"include_usage": True},
    "max_tokens": 3,
    "temperature": 0,
    "ignore_eos": True,
}
REQUEST = ChatRequest(messages=BODY["messages"])


def recorded(server: LocalServer) -> bytes:
    """A real stream, as it came over the socket."""
    parts = urlsplit(server.base_url)
    body = json.dumps(BODY).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    return ask((parts.hostname, parts.port), head + body)


class Cuts:
    """Answers with the recorded bytes up to `offset`."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.offset = 0

    def __call__(self, answer: bytes) -> Pieces:
        yield self.answer[: self.offset]


def test_a_cut_at_every_byte_is_noticed(chat_server: LocalServer) -> None:
    answer = recorded(chat_server)
    done = answer.index(b"data: [DONE]")
    cuts = Cuts(answer)
    partials = set()
    fault = Fault("cut", cuts, asks=False)
    with Proxy(chat_server.base_url, fault) as proxy, LlamaServerClient(proxy.base_url) as client:
        for cuts.offset in range(done):
            try:
                client.chat(REQUEST)
            except (StreamCutOffError, ConnectionFailedError) as error:
                partials.add(error.partial.content + error.partial.reasoning_content if error.partial else None)
            else:
                raise AssertionError(f"a stream cut after {cuts.offset} of {len(answer)} bytes passed for whole")
    assert len(partials) >= 3, "what had arrived is attached"


def test_an_awaited_cut_is_noticed_as_well(chat_server: LocalServer) -> None:
    answer = recorded(chat_server)
    done = answer.index(b"data: [DONE]")
    cuts = Cuts(answer)
    errors: list[LlamaServerError] = []

    async def main() -> int:
        async with AsyncLlamaServerClient(proxy.base_url) as client:
            offsets = range(0, done, 13)
            for cuts.offset in offsets:
                try:
                    await client.chat(REQUEST)
                except (StreamCutOffError, ConnectionFailedError) as error:
                    errors.append(error)
        return len(offsets)

    with Proxy(chat_server.base_url, Fault("cut", cuts, asks=False)) as proxy:
        assert asyncio.run(main()) == len(errors)
