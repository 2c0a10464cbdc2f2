"""Grammars, expressions and choices on the real server: whatever a random model says keeps to them."""

import re

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from llamacpp_server import BadRequestError, ChatRequest, CompletionRequest
from tests.models import SECOND_SPELLINGS

REAL = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def said(client, params, *, rare=False):
    banned = [[byte, False] for byte in SECOND_SPELLINGS if not (rare and byte == 0xF0)]
    params = {"max_tokens": 300, "temperature": 2, "logit_bias": banned, **params}
    reply = client.complete(CompletionRequest(prompt="x", params=params))
    assume(reply.finish_reason == "stop")
    return reply.text


_ATOMS = st.sampled_from(
    [
        *"aé-/ ",
        r"\.",
        r"\d",
        r"\w",
        r"\s",
        r"\D",
        r"\S",
        r"\W",
        ".",
        "[a-f]",
        "[^x]",
        r"[\]\\^-]",
        "[一-鿿]",
        '"',
        r"\n",
    ]
)


def _expressions(inner):
    quantified = st.tuples(inner, st.sampled_from(["?", "{2}", "{1,3}", "{0,2}"])).map(
        lambda pair: f"(?:{pair[0]}x){pair[1]}"
    )
    either = st.lists(inner, min_size=2, max_size=3).map(lambda parts: f"({'|'.join(parts)})")
    return st.one_of(st.lists(inner, min_size=1, max_size=4).map("".join), quantified, either)


@REAL
@given(st.recursive(_ATOMS, _expressions, max_leaves=8), st.integers(0, 10**6))
def test_what_is_said_matches_the_expression(client, pattern, seed):
    assert re.fullmatch(pattern, said(client, {"regex": pattern, "seed": seed}))


def _texts(**characters):
    text = st.text(st.characters(exclude_categories=["Cs"], **characters), max_size=8)
    return st.lists(text, min_size=1)


# Not from U+0800 to U+0FFF: they begin with a byte that also begins second spellings.
COMMON = _texts(min_codepoint=1, max_codepoint=0x7FF) | _texts(min_codepoint=0x1000, max_codepoint=0xFFFF)
RARE = _texts(min_codepoint=0x10000)


@REAL
@given(COMMON, st.integers(0, 10**6))
def test_what_is_said_is_one_of_the_choices(client, choices, seed):
    assert said(client, {"choices": choices, "seed": seed}) in choices


@REAL
@given(RARE, st.integers(0, 10**6))
def test_choices_may_be_of_rare_characters(client, choices, seed):
    assert said(client, {"choices": choices, "seed": seed}, rare=True) in choices


@pytest.mark.parametrize("thinking", [None, True, False])
@pytest.mark.parametrize(
    ("params", "pattern"),
    [
        ({"regex": "[a-c]{3}!"}, "[a-c]{3}!"),
        ({"choices": ["yes", "no"]}, "yes|no"),
        ({"grammar": 'root ::= "x"+ "."'}, r"x+\."),
    ],
)
def test_the_answer_of_a_chat_is_not_reasoning(client, params, pattern, thinking):
    asked = {} if thinking is None else {"chat_template_kwargs": {"enable_thinking": thinking}}
    request = ChatRequest(messages=[{"role": "user", "content": "Hi"}], params={"max_tokens": 200, **params, **asked})
    reply = client.chat(request)
    assert re.fullmatch(pattern, reply.content)
    assert not reply.reasoning_content
    assert "".join(delta.content for delta in client.stream_chat(request)) != ""
    assert [repair.name for repair in reply.start.repairs] == (["thinking_off"] if thinking is None else [])


def test_a_grammar_of_the_callers_own_may_have_thinking(client):
    grammar = r'root ::= [a-f]{4} "</think>" [x-z]{3}'
    params = {"grammar": grammar, "chat_template_kwargs": {"enable_thinking": True}, "max_tokens": 100}
    reply = client.chat(ChatRequest(messages=[{"role": "user", "content": "Hi"}], params=params))
    assert re.fullmatch("[a-f]{4}", reply.reasoning_content)
    assert re.fullmatch("[x-z]{3}", reply.content)


async def test_the_async_client_takes_them_too(chat_server):
    async with chat_server.async_client() as client:
        request = ChatRequest(messages=[{"role": "user", "content": "Hi"}], params={"choices": ["é\n", '"']})
        assert (await client.chat(request)).content in ("é\n", '"')


def test_a_grammar_that_the_server_can_not_read_is_named(client):
    with pytest.raises(BadRequestError, match="grammar"):
        client.complete(CompletionRequest(prompt="x", params={"grammar": "root ::= ("}))
