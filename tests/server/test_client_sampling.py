"""The table of request parameters against the real server: no name is missing, and each is taken and understood."""

import pytest

from llamacpp_server import ChatRequest, CompletionRequest, InfillRequest, LlamaServerClient
from llamacpp_server.sampling import SAMPLING_FIELDS
from tests.unit.values.test_sampling import VALUES

MESSAGES = [{"role": "user", "content": "Hello"}]

# What the server lists among its defaults and is no parameter of a request: what it made of one, or set by others.
NOT_ASKED_FOR = {
    "chat_format", "generation_prompt", "reasoning_in_content", "speculative.types", "stream",
    "parse_tool_calls", "grammar_lazy", "grammar_triggers", "preserved_tokens", "thinking_forced_open",
}  # fmt: skip

# Fields whose effect `/slots` shows, and the name under which it does.
SHOWN = {
    name: {"max_tokens": "n_predict"}.get(name, name)
    for name in (
        "max_tokens", "n_predict", "ignore_eos", "temperature", "dynatemp_range", "dynatemp_exponent", "top_k", "top_p",
        "min_p", "top_n_sigma", "typical_p", "xtc_probability", "xtc_threshold", "mirostat", "mirostat_tau",
        "mirostat_eta", "adaptive_target", "adaptive_decay", "samplers", "seed", "min_keep", "repeat_penalty",
        "repeat_last_n", "presence_penalty", "frequency_penalty", "dry_multiplier", "dry_base", "dry_allowed_length",
        "dry_penalty_last_n", "n_probs", "post_sampling_probs", "timings_per_token", "n_keep", "n_discard",
    )
}  # fmt: skip


@pytest.fixture(scope="module")
def client(serve):
    with LlamaServerClient(serve("fim.gguf", parallel=2, ctx_size=4096).base_url) as client:
        yield client


def test_the_table_has_every_parameter_that_the_server_lists(client):
    listed = set(client.props().default_params)
    assert len(listed) > 30
    assert listed - NOT_ASKED_FOR <= set(SAMPLING_FIELDS)


@pytest.mark.parametrize("name", SAMPLING_FIELDS)
def test_a_chat_with_the_field_alone_is_taken(client, name):
    params = {name: VALUES[name], **({} if name in ("max_tokens", "n_predict") else {"max_tokens": 2})}
    if name == "continue_final_message":
        params["add_generation_prompt"] = True
    reply = client.chat(ChatRequest(messages=MESSAGES, params=params))
    assert len(reply.choices) == VALUES["n"] if name == "n" else len(reply.choices) == 1
    assert {choice.finish_reason for choice in reply.choices} <= {"stop", "length"}


@pytest.mark.parametrize("name", sorted(SHOWN))
def test_the_server_understood_the_value(client, name):
    value = VALUES[name]
    params = {name: value, "id_slot": 1, **({} if name in ("max_tokens", "n_predict") else {"max_tokens": 2})}
    client.chat(ChatRequest(messages=MESSAGES, params=params))
    understood = client.slots()[1].raw["params"]
    assert understood[SHOWN[name]] == (pytest.approx(value) if isinstance(value, float) else value)
    assert client.props().default_params[SHOWN[name]] != understood[SHOWN[name]]


@pytest.mark.parametrize("name", ["n_indent", "t_max_predict_ms", "return_tokens", "min_keep", "logit_bias"])
def test_native_fields_are_taken_by_the_native_endpoint(client, name):
    # Letters only: a stream keeps half a character at its end to itself.
    params = {name: VALUES[name], "max_tokens": 2, "ignore_eos": True, "grammar": "root ::= [a-z]+"}
    reply = client.infill(InfillRequest(prefix="a", suffix="b", params=params))
    assert (len(reply.choices[0].tokens), reply.finish_reason) == (2, "length")


def test_a_bias_bans_a_token_and_forces_another(client):
    params = {"max_tokens": 5, "ignore_eos": True, "logit_bias": {"a": 100.0, "b": False}}
    assert client.complete(CompletionRequest(prompt="x", params=params)).text == "aaaaa"
    (token,) = client.tokenize("c")
    by_id = {**params, "logit_bias": {token: 100}}
    assert client.complete(CompletionRequest(prompt="x", params=by_id)).text == "ccccc"
    pairs = {**params, "logit_bias": [[token, False], ["d", 100]]}
    assert client.complete(CompletionRequest(prompt="x", params=pairs)).text == "ddddd"


def test_a_seed_makes_an_answer_repeatable(client):
    def said(seed):
        params = {"max_tokens": 12, "seed": seed, "temperature": 1, "cache_prompt": False, "grammar": "root ::= [a-z]+"}
        return client.complete(CompletionRequest(prompt="x", params=params)).text

    assert said(1) == said(1)
    assert len({said(seed) for seed in range(4)}) > 1


def test_zero_is_not_left_out_on_the_way(client):
    params = {"max_tokens": 2, "temperature": 0, "top_k": 0, "seed": 0, "repeat_last_n": 0, "id_slot": 0}
    client.chat(ChatRequest(messages=MESSAGES, params=params))
    understood = client.slots()[0].raw["params"]
    assert {name: understood[name] for name in ("temperature", "top_k", "seed", "repeat_last_n")} == {
        "temperature": 0, "top_k": 0, "seed": 0, "repeat_last_n": 0
    }  # fmt: skip
