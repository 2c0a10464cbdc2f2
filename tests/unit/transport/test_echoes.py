"""A server, gateway or debugging page that repeats a request: no error of ours shows the secrets that were sent."""

import asyncio
import json
import pickle

import httpx
import pytest

from llamacpp_server import AsyncLlamaServerClient, ChatRequest, LlamaServerClient, LlamaServerError

KEY, PASSWORD, TICKET, SIGNATURE = "sk-verysecret-4711", "p4ss word/4711", "ticket-4711-abcdef", "sig/4711+abcdef"
ADDRESS = "http://user:p4ss%20word%2F4711@127.0.0.1:1"
GIVEN = {
    "api_key": KEY,
    "headers": {"Cookie": f"theme=dark; session={TICKET}", "X-Note": "a plain note"},
    "query": {"sig": SIGNATURE},
    "max_retries": 0,
}
CHAT = ChatRequest(messages=[{"role": "user", "content": "Hello"}])


def repeated(request):
    """All that a request holds, as a page for debugging shows it."""
    return f"{request.url} {dict(request.headers)} a plain note, user {PASSWORD!r} p4ss%20word%2F4711"


def refused(request):
    return httpx.Response(418, json={"error": {"message": repeated(request)}})


def broken(request):
    return httpx.Response(200, text=repeated(request), headers={"Content-Type": "application/json"})


def page(request):
    return httpx.Response(200, text=f"<html>{repeated(request)}", headers={"Content-Type": "text/html"})


def stream(request):
    event = f"data: {json.dumps({'error': {'message': repeated(request), 'code': 500}})}\n\n"
    return httpx.Response(200, text=event, headers={"Content-Type": "text/event-stream"})


def cut(request):
    """The server's words are cut where they are long, here within the key."""
    return httpx.Response(400, json={"error": {"message": "x" * 590 + KEY}})


CALLS = {
    "chat": lambda client: client.chat(CHAT),
    "models": lambda client: client.models(),
    "tokenize": lambda client: client.tokenize("x"),
}


def shown(error):
    held = [str(error), repr(error), str(vars(error)), str(pickle.loads(pickle.dumps(error)))]
    return "".join(held + [str(vars(one)) for one in error.earlier])


@pytest.mark.parametrize("answer", [refused, broken, page, stream, cut])
@pytest.mark.parametrize("call", CALLS)
def test_what_a_server_repeats_of_a_request_is_shown_without_its_secrets(answer, call):
    async def awaited():
        given = httpx.AsyncClient(transport=httpx.MockTransport(answer))
        async with given, AsyncLlamaServerClient(ADDRESS, http_client=given, **GIVEN) as client:
            await CALLS[call](client)

    with httpx.Client(transport=httpx.MockTransport(answer)) as given:
        client = LlamaServerClient(ADDRESS, http_client=given, **GIVEN)
        for ask in (lambda: CALLS[call](client), lambda: asyncio.run(awaited())):
            with pytest.raises(LlamaServerError) as caught:
                ask()
            text = shown(caught.value)
            secrets = (KEY, KEY[:9], PASSWORD, "p4ss%20word", TICKET, SIGNATURE, "sig%2F4711", "dXNlcjpw")
            assert not [secret for secret in secrets if secret in text]
            assert "**********" in text or "plain note" not in text


def test_a_short_key_is_left_in_the_words_of_the_server():
    def answer(request):
        return httpx.Response(404, json={"error": {"message": "model not found"}})

    with httpx.Client(transport=httpx.MockTransport(answer)) as given:
        client = LlamaServerClient("http://127.0.0.1:1", http_client=given, api_key="model", max_retries=0)
        with pytest.raises(LlamaServerError, match="model not found"):
            client.models()


def test_a_redirect_is_shown_without_what_signs_it():
    def answer(request):
        return httpx.Response(302, headers={"Location": f"https://u:{KEY}@login.example/in?ticket={TICKET}"})

    with httpx.Client(transport=httpx.MockTransport(answer)) as given:
        client = LlamaServerClient("http://127.0.0.1:1", http_client=given, max_retries=0)
        with pytest.raises(LlamaServerError, match=r"use https://login\.example/in as base_url") as caught:
            client.models()
    assert KEY not in shown(caught.value)
    assert TICKET not in shown(caught.value)


def refusal(text, address="http://127.0.0.1:1", **given):
    """The error for a refusal in these words."""
    answer = httpx.MockTransport(lambda request: httpx.Response(400, text=text))
    with httpx.Client(transport=answer) as http:
        client = LlamaServerClient(address, http_client=http, max_retries=0, **given)
        with pytest.raises(LlamaServerError) as caught:
            client.models()
    return caught.value


def test_the_words_around_a_secret_stay():
    error = refusal(f"{KEY} is not {KEY}; ask for another", api_key=KEY)
    assert error.body == error.server_message == "********** is not **********; ask for another"
    assert error.args == (error.message,)


def test_of_two_keys_that_begin_with_the_same_letters_both_are_hidden():
    given = {"api_key": "sk-proj-one-4711", "headers": {"X-Other-Key": "sk-proj-second-4711"}}
    error = refusal("sk-proj-one-4711, sk-proj-second-4711, sk-proj-sec", **given)
    assert error.body == "**********, **********, **********"


@pytest.mark.parametrize("header", ["Token {}", "theme=dark; session={}", "a=1,b={}"])
def test_a_secret_is_hidden_without_the_words_that_stood_beside_it(header):
    error = refusal(f"no {TICKET} here", headers={"X-Auth": header.format(TICKET)})
    assert error.body == "no ********** here"


def test_a_key_of_eight_characters_is_hidden():
    assert refusal("no eight-ch here", api_key="eight-ch").body == "no ********** here"


def test_a_password_of_short_words_is_hidden_as_it_is_and_as_an_address_has_it():
    error = refusal("no blue sky at one, no blue%20sky%20at%20one", "http://user:blue%20sky%20at%20one@127.0.0.1:1")
    assert error.body == "no **********, no **********"


def test_a_secret_with_a_quote_is_hidden_in_json():
    words = json.dumps({"error": {"message": 'no s"x\\4711-abcd here'}})
    error = refusal(words, api_key='s"x\\4711-abcd')
    assert error.server_message == "no ********** here"
    assert error.body == words.replace('s\\"x\\\\4711-abcd', "**********")
