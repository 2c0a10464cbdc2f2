"""Expressions and lists of texts as grammars, and which of several constraints holds."""

import pytest

from llamacpp_server import BadRequestError, ChatRequest, CompletionRequest
from llamacpp_server._endpoints import (
    adapt_request,
    chat_body,
    completion_body,
)
from llamacpp_server._schemas import (
    choices_grammar,
    regex_grammar,
    rules_thinking,
)
from llamacpp_server.sampling import SamplingFields, check_params, merged_params
from llamacpp_server.settings import ServerSettings

MESSAGES = [{"role": "user", "content": "Hello"}]


@pytest.mark.parametrize(
    ("pattern", "rule"),
    [
        ("abc", '"a" "b" "c"'),
        ("^a$", '"a"'),
        ("", '""'),
        ("(a|b|)c{2,3}", '("a" | "b")? ("c"){2,3}'),
        (r"\d+\.\d", '([0-9])+ "." [0-9]'),
        (r"\s", r"[\x09-\x0D ]"),
        (r'"\\', r'"\x22" "\x5C"'),
        (r"[\]\^-]", r"[\x2D\x5D-\x5E]"),
        ("[^a]", r"[\x01-`b-\uD7FF\uE000-\U0010FFFF]"),
        ("(?:a)*?", '(("a"))*'),
        ("(?P<year>é)", '("é")'),
    ],
)
def test_an_expression_is_written_as_a_grammar(pattern, rule):
    assert regex_grammar(pattern) == f"root ::= {rule}"


@pytest.mark.parametrize(
    ("pattern", "named"),
    [
        ("(?=a)b", r"\(\?="),
        ("(?<!a)b", r"\(\?<!"),
        ("(?i)a", r"\(\?i"),
        (r"(a)\1", r"\\1"),
        (r"(?P<x>a)(?P=x)", r"\(\?P="),
        (r"\bword\b", r"\\b"),
        ("a(^b)", r"\^ is not expected"),
        ("(a*)*", "repeat a group that may be empty"),
        ("a{1,5000}", "too many repetitions"),
        ("[]a]", "opens a class"),
        ("[^]a]", "opens a class"),
        (r"\012", "octal"),
        (r"a\0", r"U\+0000"),
        ("(a", "not a valid regular expression"),
        ("a**", "not a valid regular expression"),
        ("a++", "two quantifiers"),
    ],
)
def test_what_no_grammar_can_say_is_named(pattern, named):
    with pytest.raises(BadRequestError, match=named) as caught:
        regex_grammar(pattern)
    assert repr(pattern) in str(caught.value)


def test_choices_are_quoted():
    assert choices_grammar(["yes", "no", "yes"]) == 'root ::= "yes" | "no"'
    assert choices_grammar(['"\\\n', "", "é😀\u2028"]) == r'root ::= "\x22\x5C\x0A" | "" | "é😀\u2028"'


@pytest.mark.parametrize(("choices", "words"), [([], "must not be empty"), (["a\0"], r"U\+0000"), (["\ud800"], "D800")])
def test_choices_that_can_not_be_meant(choices, words):
    with pytest.raises(BadRequestError, match=words):
        choices_grammar(choices)


def test_a_grammar_may_be_a_file(tmp_path):
    path = tmp_path / "answer.gbnf"
    path.write_text('root ::= "é"', encoding="utf-8")
    assert SamplingFields(grammar=path).given() == {"grammar": 'root ::= "é"'}
    assert check_params({"grammar": path}) == {"grammar": 'root ::= "é"'}
    with pytest.raises(BadRequestError, match=r"can't read the grammar.*missing\.gbnf"):
        check_params({"grammar": tmp_path / "missing.gbnf"})


@pytest.mark.parametrize(
    "params",
    [
        {"regex": "a", "choices": ["a"]},
        {"grammar": 'root ::= "a"', "json_schema": {}},
        {"choices": ["a"], "response_format": {"type": "json_object"}},
    ],
)
def test_two_constraints_at_once_are_refused(params):
    for body in (
        lambda: chat_body(ChatRequest(messages=MESSAGES, params=params)),
        lambda: completion_body(CompletionRequest(prompt="x", params=params)),
    ):
        with pytest.raises(BadRequestError, match=" and ".join(name for name in params)):
            body()


def test_a_format_of_plain_text_is_not_a_constraint():
    params = {"choices": ["a"], "response_format": {"type": "text"}}
    assert chat_body(ChatRequest(messages=MESSAGES, params=params))["grammar"] == 'root ::= "a"'


def test_a_constraint_and_tools_are_refused():
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    with pytest.raises(BadRequestError, match=r"tools.*choices"):
        chat_body(ChatRequest(messages=MESSAGES, tools=[tool], params={"choices": ["a"]}))


def test_a_constraint_of_a_call_replaces_that_of_the_model():
    assert merged_params({"grammar": "g", "top_k": 1}, {"choices": ["a"]}) == {"top_k": 1, "choices": ["a"]}
    assert merged_params({"grammar": "g"}, {"grammar": None}) == {"grammar": None}
    assert merged_params({"grammar": "g"}, {"choices": None}) == {"grammar": "g", "choices": None}


@pytest.mark.parametrize(
    ("grammar", "rules"),
    [
        ('root ::= "a"', True),
        ('root ::= [^<]+ "</think>" "a"', False),
        ('root ::= "<|channel|>"', False),
        (None, False),
    ],
)
def test_reasoning_is_turned_off_for_grammars_without_reasoning_tags(grammar, rules):
    assert rules_thinking(grammar) is rules


@pytest.mark.parametrize(
    ("params", "kwargs"),
    [
        ({"choices": ["a"]}, {"enable_thinking": False}),
        ({"regex": "a", "chat_template_kwargs": {"x": 1}}, {"x": 1, "enable_thinking": False}),
        ({"regex": "a", "chat_template_kwargs": {"enable_thinking": True}}, {"enable_thinking": True}),
        ({"regex": "a", "reasoning_effort": "low"}, None),
        ({"json_schema": {}}, None),
    ],
)
def test_thinking_is_turned_off_where_a_grammar_leaves_no_room_for_it(params, kwargs):
    fitted, repairs = adapt_request(ServerSettings(), ChatRequest(messages=MESSAGES, params=params))
    assert fitted.params.get("chat_template_kwargs") == kwargs
    assert ("thinking_off" in [repair.name for repair in repairs]) is (kwargs != params.get("chat_template_kwargs"))
