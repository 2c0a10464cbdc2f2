"""The table of request parameters: each field alone changes its own key of the body, and no other."""

import math

import pytest

from llamacpp_server import (
    BadRequestError,
    ChatRequest,
    CompletionRequest,
    InfillRequest,
    SamplingFields,
)
from llamacpp_server._endpoints import (
    chat_body,
    completion_body,
    infill_body,
)
from llamacpp_server.sampling import ALIASES, ELSEWHERE, SAMPLING_FIELDS, check_params, merged_params
from llamacpp_server.transport import (
    encode,
)
from tests.rules.tables import field_docs

# A value for each field that is not the server's default. `tests/server` sends the same ones to a real server.
VALUES = {
    "max_tokens": 3, "n_predict": 3, "stop": ["END"], "ignore_eos": True, "n_indent": 2, "t_max_predict_ms": 5000,
    "reasoning_budget_start_tag": "<think>", "reasoning_budget_end_tags": ["</think>"],
    "temperature": 0.0, "dynatemp_range": 0.5, "dynatemp_exponent": 1.5, "top_k": 7, "top_p": 0.5, "min_p": 0.1,
    "top_n_sigma": 2.0, "typical_p": 0.9, "xtc_probability": 0.2, "xtc_threshold": 0.3, "mirostat": 2,
    "mirostat_tau": 4.0, "mirostat_eta": 0.2, "adaptive_target": 0.5, "adaptive_decay": 0.5,
    "samplers": ["top_k", "temperature"], "seed": 42, "min_keep": 2, "backend_sampling": False,
    "repeat_penalty": 1.1, "repeat_last_n": 0, "presence_penalty": 0.2, "frequency_penalty": 0.3,
    "dry_multiplier": 0.8, "dry_base": 2.0, "dry_allowed_length": 3, "dry_penalty_last_n": 32,
    "dry_sequence_breakers": ["\n", "#"], "logit_bias": {"65": -1.5, "66": False},
    "grammar": 'root ::= "a"+', "regex": "[a-z]+", "choices": ["a", "b"],
    "json_schema": {"type": "integer"}, "response_format": {"type": "json_object"},
    "chat_template_kwargs": {"enable_thinking": False}, "reasoning_format": "none", "reasoning_effort": "none",
    "reasoning_budget_tokens": 8, "reasoning_budget_message": "Enough.", "reasoning_control": True,
    "add_generation_prompt": False, "continue_final_message": False, "echo": True, "parse_tool_calls": False,
    "n": 2, "logprobs": True, "top_logprobs": 2, "n_probs": 2, "post_sampling_probs": True,
    "timings_per_token": True, "return_progress": True, "return_tokens": True, "response_fields": ["content"],
    "sse_ping_interval": 5, "cache_prompt": False, "n_cache_reuse": 16, "n_keep": 4, "n_discard": 8, "id_slot": 0,
    "lora": [],
}  # fmt: skip

# The only keys that come along: the server answers 400 to `top_logprobs` without `logprobs`.
BROUGHT_ALONG = {"top_logprobs": {"logprobs": True}}

# The server knows one of three ways to hold an answer to a form that is no JSON.
WRITTEN_AS = {
    "regex": {"grammar": "root ::= ([a-z])+"},
    "choices": {"grammar": 'root ::= "a" | "b"'},
}

# Under the names that the endpoints of completions know.
COMPLETIONS = {
    "response_format": {"json_schema": {"type": "object"}},
    "top_logprobs": {"n_probs": VALUES["top_logprobs"]},
}

MESSAGES = [{"role": "user", "content": "Hello"}]


def test_there_is_a_value_for_each_field_and_no_other():
    assert set(VALUES) == set(SAMPLING_FIELDS)
    assert tuple(SamplingFields.model_fields) == SAMPLING_FIELDS


@pytest.mark.parametrize("name", SAMPLING_FIELDS)
def test_a_field_alone_changes_its_own_key_of_a_chat_body(name):
    plain = chat_body(ChatRequest(messages=MESSAGES))
    body = chat_body(ChatRequest(messages=MESSAGES, params={name: VALUES[name]}))
    written = WRITTEN_AS.get(name, {name: VALUES[name]})
    assert body == {**plain, **written, **BROUGHT_ALONG.get(name, {})}
    for key, value in written.items():
        assert type(body[key]) is type(value)
        assert key not in plain


@pytest.mark.parametrize("name", [name for name in SAMPLING_FIELDS if name != "response_fields"])
def test_a_field_alone_changes_its_own_key_of_the_other_bodies(name):
    params = {name: VALUES[name]}
    also = {**WRITTEN_AS.get(name, {name: VALUES[name]}), **BROUGHT_ALONG.get(name, {})}
    also = COMPLETIONS.get(name, also)  # type: ignore[assignment]
    plain = completion_body(CompletionRequest(prompt="x"))
    assert completion_body(CompletionRequest(prompt="x", params=params)) == {**plain, **also}
    plain = infill_body(InfillRequest(prefix="a", suffix="b"))
    assert infill_body(InfillRequest(prefix="a", suffix="b", params=params)) == {**plain, **also}


@pytest.mark.parametrize("name", SAMPLING_FIELDS)
def test_each_field_is_documented_and_not_given_by_default(name):
    assert SamplingFields.model_fields[name].default is None
    assert field_docs(SamplingFields)[name].endswith(".")


@pytest.mark.parametrize(
    ("name", "value"),
    [("temperature", 0), ("max_tokens", 0), ("seed", 0), ("top_k", 0), ("cache_prompt", False), ("ignore_eos", False),
     ("grammar", ""), ("json_schema", {}), ("samplers", []), ("stop", []), ("lora", []), ("reasoning_effort", ""),
     ("logit_bias", {}), ("chat_template_kwargs", {})],
)  # fmt: skip
def test_falsy_values_are_values_and_are_sent(name, value):
    assert check_params({name: value}) == {name: value}
    assert chat_body(ChatRequest(messages=MESSAGES, params={name: value}))[name] == value
    assert SamplingFields(**{name: value}).given() == {name: value}


def test_none_means_not_given():
    assert check_params(dict.fromkeys(SAMPLING_FIELDS)) == {}
    assert SamplingFields().given() == {}


def test_given_lists_the_tables_own_fields_only():
    class Model(SamplingFields):
        flavour: str = "sweet"

    assert Model(temperature=0, flavour="sour").given() == {"temperature": 0}


@pytest.mark.parametrize(
    ("typo", "near"),
    [("temprature", "temperature"), ("max_token", "max_tokens"), ("topk", "top_k"), ("logit_biases", "logit_bias"),
     ("repetition_penalty", "repeat_penalty"), ("grammer", "grammar")],
)  # fmt: skip
def test_a_typing_error_gets_the_nearest_name_and_the_way_around(typo, near):
    with pytest.raises(BadRequestError, match=f"unknown parameter '{typo}'.*did you mean '{near}'.*extra_body"):
        check_params({typo: 1})


@pytest.mark.parametrize("value", [{"key": "sk-verysecret-4711"}, ["sk-verysecret-4711"], "sk-verysecret-4711"])
def test_a_value_of_the_wrong_type_that_may_be_secret_is_not_shown(value):
    with pytest.raises(BadRequestError, match="parameter 'temperature'") as caught:
        check_params({"temperature": value})
    assert "4711" not in str(caught.value)


def test_an_unknown_name_that_is_near_to_none_gets_no_guess():
    with pytest.raises(BadRequestError) as caught:
        check_params({"zzzzqqqq": 1})
    assert caught.value.remedy == "Fields of a newer server go into extra_body."


@pytest.mark.parametrize(
    ("name", "value"),
    [("temperature", "hot"), ("max_tokens", "many"), ("max_tokens", -2), ("max_tokens", 1.5), ("mirostat", 3),
     ("stop", 5), ("stop", [1]), ("samplers", {"a": 1}), ("repeat_last_n", -1), ("dry_penalty_last_n", -1),
     ("dry_sequence_breakers", []), ("adaptive_decay", 1.0), ("reasoning_format", "xml"), ("n", 0), ("lora", 1),
     ("json_schema", "{}"), ("response_format", "json"), ("cache_prompt", "perhaps"), ("id_slot", -2)],
)  # fmt: skip
def test_a_value_of_the_wrong_type_or_size_is_refused_by_name(name, value):
    with pytest.raises(BadRequestError, match=f"parameter '{name}") as caught:
        check_params({name: value})
    plain = value[0] if value == [1] else value
    assert (type(plain).__name__ if isinstance(plain, list | dict) else repr(plain)) in str(caught.value)
    assert caught.value.status is None


def test_token_ids_may_be_numbers_as_keys_of_a_bias():
    body = chat_body(ChatRequest(messages=MESSAGES, params={"logit_bias": {15043: -100, "Hello": False}}))
    assert b'"logit_bias":{"15043":-100.0,"Hello":false}' in encode(body)


def test_biases_keep_false_apart_from_zero():
    biases = check_params({"logit_bias": {"1": False, "2": 0, "3": 0.0, "4": True}})["logit_bias"]
    assert [type(bias) for bias in biases.values()] == [bool, float, float, bool]
    pairs = check_params({"logit_bias": [[1, False], ["text", -2.5]]})
    assert pairs == {"logit_bias": [[1, False], ["text", -2.5]]}


def test_a_boolean_logprobs_stays_boolean_and_a_number_a_number():
    assert check_params({"logprobs": True})["logprobs"] is True
    assert check_params({"logprobs": 3})["logprobs"] == 3
    assert check_params({"logprobs": 1})["logprobs"] is not True


def test_the_callers_values_are_not_changed():
    given = {"stop": ["a", "", "b"], "response_format": {"type": "json_schema", "schema": {}}}
    chat_body(ChatRequest(messages=MESSAGES, params=given))
    assert given == {"stop": ["a", "", "b"], "response_format": {"type": "json_schema", "schema": {}}}


def test_not_a_number_is_refused_before_it_reaches_the_server():
    with pytest.raises(BadRequestError):
        check_params({"max_tokens": math.nan})


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"max_completion_tokens": 5}, {"max_tokens": 5}),
        ({"max_completion_tokens": 5, "max_tokens": 4}, {"max_tokens": 4}),
        ({"thinking_budget_tokens": 0}, {"reasoning_budget_tokens": 0}),
        ({"reasoning_budget_end_tag": "</t>"}, {"reasoning_budget_end_tags": ["</t>"]}),
        ({"n_cmpl": 2}, {"n": 2}),
    ],
)
def test_the_servers_other_names_of_a_field_are_that_field(given, sent):
    assert check_params(given) == sent


@pytest.mark.parametrize("name", sorted(ELSEWHERE))
def test_a_field_that_is_not_a_parameter_is_an_error_that_says_where_it_belongs(name):
    with pytest.raises(BadRequestError) as caught:
        check_params({name: 1})
    assert ELSEWHERE[name] in str(caught.value)
    assert f"{name!r} is not a parameter" in str(caught.value)


def test_a_wrong_value_within_a_list_is_named_with_its_place():
    with pytest.raises(BadRequestError, match=r"parameter 'dry_sequence_breakers\.1'"):
        check_params({"dry_sequence_breakers": ["a", 1]})


def test_a_grammar_may_be_a_file(tmp_path):
    file = tmp_path / "answer.gbnf"
    file.write_text('root ::= "ä"', encoding="utf-8")
    assert check_params({"grammar": file}) == {"grammar": 'root ::= "ä"'}
    with pytest.raises(BadRequestError, match=r"parameter 'grammar': .*can't read the grammar"):
        check_params({"grammar": tmp_path / "missing.gbnf"})


def test_parameters_of_a_call_win_over_those_of_the_model():
    model = {"temperature": 0.5, "top_k": 3, "grammar": "root ::= [a]"}
    assert merged_params(model, {}) == model
    assert merged_params(model, {}) is not model
    assert merged_params(model, {"temperature": 1, "seed": 4}) == {**model, "temperature": 1, "seed": 4}
    assert merged_params(model, {"temperature": None}) == {**model, "temperature": None}


def test_a_constraint_of_a_call_replaces_every_constraint_of_the_model():
    model = {"temperature": 0.5, "grammar": "root ::= [a]", "regex": "a"}
    assert merged_params(model, {"json_schema": {}}) == {"temperature": 0.5, "json_schema": {}}
    assert merged_params(model, {"json_schema": None}) == {**model, "json_schema": None}


def test_no_field_is_listed_twice():
    assert not (ALIASES.keys() | ELSEWHERE.keys()) & set(SAMPLING_FIELDS)
    assert set(ALIASES.values()) <= set(SAMPLING_FIELDS)
