"""Clients of our own send what httpx would send, where tools that watch httpx see it."""

import asyncio
import logging

import httpx
import pytest

from llamacpp_server.transport import OwnAsyncClient, OwnClient, plain_request

URL = "http://127.0.0.1:8080/v1/chat/completions"
HEADERS = {"Content-Type": "application/json", "Authorization": "Bearer x", "Accept-Encoding": "gzip, deflate"}
TIMEOUT = {"connect": 5.0, "read": 600.0, "write": 600.0, "pool": None}


def answer(request):
    return httpx.Response(200, headers={"X-Path": request.url.path}, content=request.content)


def client_of(handler=answer):
    return OwnClient(transport=httpx.MockTransport(handler))


def sent(client, method="POST", headers=HEADERS, content=b"{}", url=URL):
    return plain_request(client, method, url, headers, content, {"timeout": TIMEOUT})


@pytest.mark.parametrize("content", [b'{"messages": []}', b"", None])
@pytest.mark.parametrize("method", ["POST", "GET", "PUT", "DELETE"])
@pytest.mark.parametrize(
    "headers",
    [{}, HEADERS, {"user-agent": "mine", "HOST": "gateway"}, {"Content-Length": "2"}],
)
def test_a_request_is_the_one_that_httpx_builds(method, headers, content):
    client = client_of()
    timeout = httpx.Timeout(connect=5, read=600, write=600, pool=None)
    theirs = client.build_request(method, URL, headers=headers, content=content, timeout=timeout)
    for _ in range(2):  # made anew, and of kept parts
        ours = sent(client, method, headers, content)
        assert sorted(ours.headers.raw) == sorted(theirs.headers.raw)
        assert (ours.method, ours.url, ours.content) == (theirs.method, theirs.url, theirs.content)
        assert ours.extensions == theirs.extensions


def test_changed_headers_are_sent_with_the_next_request():
    client = client_of()
    assert sent(client).headers["Authorization"] == "Bearer x"
    assert sent(client, headers={"Authorization": "Bearer y"}).headers["Authorization"] == "Bearer y"


def test_headers_that_were_changed_in_place_are_sent_too():
    client, headers = client_of(), {"X-User": "a"}
    sent(client, headers=headers)
    headers["X-User"] = "b"
    assert sent(client, headers=headers).headers["X-User"] == "b"


def test_a_request_that_was_changed_leaves_the_next_one_alone():
    client = client_of()
    sent(client).headers["X-Trace"] = "1"
    assert "X-Trace" not in sent(client).headers


def test_parts_of_few_addresses_are_kept():
    client = client_of()
    for number in range(100):
        sent(client, url=f"{URL}/{number}")
    assert len(client._parts) <= 16


def test_a_tool_that_replaces_a_method_of_the_client_sees_each_request(monkeypatch):
    seen, original = [], httpx.Client.send

    def send(self, request, **options):
        seen.append(request.url.path)
        return original(self, request, **options)

    monkeypatch.setattr(httpx.Client, "send", send)
    client = client_of()
    assert client.send(sent(client), stream=True, follow_redirects=False).status_code == 200
    assert seen == ["/v1/chat/completions"]


@pytest.mark.parametrize("name", ["_send_single_request", "_send_handling_auth"])
def test_a_recorder_that_replaces_an_inner_step_sees_each_request(monkeypatch, name):
    seen, original = [], getattr(httpx.AsyncClient, name)

    async def step(self, request, *args, **options):
        seen.append(request.url.path)
        return await original(self, request, *args, **options)

    monkeypatch.setattr(httpx.AsyncClient, name, step)

    async def main():
        async with OwnAsyncClient(transport=httpx.MockTransport(answer)) as client:
            return await client.send(sent(client), stream=True, follow_redirects=False)

    assert asyncio.run(main()).status_code == 200
    assert seen == ["/v1/chat/completions"]


def test_the_log_of_httpx_has_each_request(caplog):
    caplog.set_level(logging.INFO, logger="httpx")
    ours, theirs = client_of(), httpx.Client(transport=httpx.MockTransport(answer))
    reply = ours.send(sent(ours), stream=True, follow_redirects=False)
    theirs.send(sent(ours), stream=True, follow_redirects=False)
    first, second = caplog.messages
    assert first == second
    assert reply.request.url == URL


def test_an_error_knows_its_request():
    def fail(request):
        raise httpx.ConnectError("refused")

    client = client_of(fail)
    request = sent(client)
    with pytest.raises(httpx.ConnectError) as error:
        client.send(request, stream=True, follow_redirects=False)
    assert error.value.request is request


def test_a_closed_client_sends_nothing():
    client = client_of()
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        client.send(sent(client), stream=True, follow_redirects=False)
