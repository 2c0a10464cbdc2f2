"""Trained decision models, of which none is small enough to be made for a test: their limits and errors (b11549)."""

import pytest

from llamacpp_server import Choice, ContextOverflowError, LlamaServerClient, MalformedReplyError, Noul
from tests.wire.scripted_server import ScriptedServer, error, reply

CARD = {"id": "clef", "architecture": {"output_modalities": ["decisions"]}}
MODELS = [reply({"object": "list", "data": [CARD]})]
TOO_LONG = error(
    500, "input (702 tokens) is too large to process. increase the physical batch size (current batch size: 512)"
)


def served(answer):
    return ScriptedServer(answer, routes={"/v1/models": MODELS})


@pytest.mark.parametrize("engine", ["auto", "native"])
def test_a_prompt_longer_than_the_physical_batch_of_such_a_model_is_a_context_overflow(engine):
    with served(TOO_LONG) as server, pytest.raises(ContextOverflowError, match="-ub") as caught:
        LlamaServerClient(server.url, max_retries=0).decide("word " * 700, {"q": Noul("?")}, engine=engine)
    assert (caught.value.n_prompt_tokens, caught.value.n_ctx) == (702, 512)


def test_options_beyond_those_of_letters_are_left_to_the_model_to_refuse():
    keys = [f"option {n}" for n in range(60)]
    answer = {"type": "choice", "choice": keys[0], "confidence": 0.0, "probabilities": dict.fromkeys(keys, 1 / 60)}
    body = {"model": "clef", "answers": {"q": answer}, "usage": {"input_tokens": 9, "output_tokens": 0}}
    with served(reply(body)) as server, LlamaServerClient(server.url) as client:
        found = client.decide("x", {"q": Choice("?", keys)})
    assert found.engine == "native"
    assert list(found.choices["q"].probabilities) == keys


@pytest.mark.parametrize("share", ["x", None, -0.5, 7.0, [1]])
def test_a_number_outside_0_to_1_is_a_malformed_reply(share):
    body = {"model": "clef", "answers": {"q": {"type": "noul", "noul": share}}, "usage": {"input_tokens": 9}}
    with served(reply(body)) as server, LlamaServerClient(server.url) as client, pytest.raises(MalformedReplyError):
        client.decide("x", {"q": Noul("?")})
