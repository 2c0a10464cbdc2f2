"""What is asked after what was answered, until there is an object or nothing left to try."""

import pytest

from llamacpp_server import (
    BadRequestError,
    ChatChoice,
    ContextOverflowError,
    NotSupportedError,
    ToolCall,
    UnfitAnswerError,
)
from llamacpp_server.integration import (
    LADDER,
    StructuredAttempts,
    find_json,
    json_checker,
)

SCHEMA = {
    "type": "object",
    "properties": {"age": {"type": "integer", "minimum": 18}},
    "required": ["age"],
}
REFUSED = BadRequestError("the server says: failed to parse grammar", status=400)


def attempts(ways=("json_schema",), **options):
    return StructuredAttempts("Person", ways, json_checker(SCHEMA), schema=SCHEMA, **options)


def said(text, finish="stop", thinking=""):
    return ChatChoice(text, thinking, (), finish)


def test_an_answer_that_fits_is_taken():
    asked = attempts()
    assert asked.ask.way == "json_schema"
    asked.answered(said(' {"age": 20}\n'))
    assert (asked.done, asked.value, asked.repairs) == (True, {"age": 20}, [])


@pytest.mark.parametrize(
    ("choice", "where"),
    [
        (said('Sure!\n```json\n{"age": 20}\n``` {"a": {}}'), "text"),
        (said("", thinking='I say {"age": 20}.'), "reasoning"),
    ],
)
def test_json_in_another_place_is_found(choice, where):
    asked = attempts()
    asked.answered(choice)
    assert asked.value == {"age": 20}
    (repair,) = asked.repairs
    assert repair.name == "found_json"
    assert where in repair.what


def test_what_does_not_fit_is_asked_for_once_more_with_what_is_wrong():
    asked = attempts()
    asked.answered(said('{"age": 7}'))
    before, words = asked.ask.correction
    assert before == '{"age": 7}'
    assert "age: 7 violates minimum 18" in words
    assert '"minimum": 18' in words
    with pytest.raises(
        UnfitAnswerError, match=r"schema 'Person': age: 7 violates minimum 18; got '\{\"age\": 7\}'"
    ) as caught:
        asked.answered(said('{"age": 7}'))
    assert caught.value.reason == "invalid"
    assert [repair.name for repair in asked.repairs] == ["repair_round"]


def test_no_round_of_repair():
    with pytest.raises(UnfitAnswerError, match="minimum"):
        attempts(repair_rounds=0).answered(said('{"age": 7}'))


@pytest.mark.parametrize("text", ["no", '{"age": "x"}', "{}", "[]"])
def test_a_schema_that_was_not_kept_to_is_named(text):
    with pytest.raises(UnfitAnswerError, match="server did not enforce the schema") as caught:
        attempts(repair_rounds=0).answered(said(text))
    assert caught.value.reason == "not_held"
    assert caught.value.text == text


def test_a_cut_off_answer_is_named_and_not_asked_for_again():
    with pytest.raises(UnfitAnswerError, match="schema 'Person': it was cut off after 3 tokens") as caught:
        attempts().answered(said('{"age"', "length"), tokens=3)
    assert caught.value.reason == "cut_off"
    assert "max_tokens" in caught.value.remedy


def test_an_answer_that_was_complete_before_it_was_cut_off_is_used():
    asked = attempts()
    asked.answered(said('{"age": 20} ', "length"))
    assert asked.done


def test_where_all_was_thinking_it_is_asked_for_without():
    asked = attempts()
    asked.answered(said("", "length", "Hm"))
    assert (asked.ask.thinking, asked.ask.correction) == (False, None)
    asked.answered(said('{"age": 20}'))
    assert asked.value == {"age": 20}
    with pytest.raises(UnfitAnswerError, match="all of them reasoning") as caught:
        attempts(thinking_is_given=True).answered(said("", "length", "Hm"))
    assert caught.value.reason == "thinking"


def test_the_ladder_is_climbed_down_when_the_server_refuses():
    asked = attempts(LADDER)
    asked.refused(REFUSED)
    assert asked.ask.way == "grammar"
    asked.refused(NotSupportedError("no"))
    assert asked.ask.way == "tool"
    with pytest.raises(BadRequestError) as caught:
        asked.refused(NotSupportedError("no"))
    assert caught.value is REFUSED


def test_the_ladder_is_climbed_down_when_the_schema_was_ignored():
    asked = attempts(LADDER)
    asked.answered(said("Sure, a person."))
    assert asked.ask.way == "grammar"
    asked.answered(said('{"age": "x"}'))
    assert asked.ask.way == "tool"
    asked.answered(ChatChoice("", "", (ToolCall("1", "Person", '{"age": 20}'),), "tool_calls"))
    assert asked.value == {"age": 20}
    assert [repair.name for repair in asked.repairs] == ["structured_way", "structured_way"]


def test_the_way_that_worked_is_remembered():
    key = ("http://ways.test", None, "form")
    asked = attempts(LADDER, key=key)
    asked.refused(REFUSED)
    asked.answered(said('{"age": 20}'))
    assert attempts(LADDER, key=key).ask.way == "grammar"
    assert attempts(LADDER, key=("http://ways.test", None, "another")).ask.way == "json_schema"
    assert attempts(("tool",), key=key).ask.way == "tool"


@pytest.mark.parametrize(
    "error", [ContextOverflowError("too long", status=400), BadRequestError("a wrong parameter on our side"), OSError()]
)
def test_what_is_not_about_the_schema_is_an_error_at_once(error):
    with pytest.raises(type(error)) as caught:
        attempts(LADDER).refused(error)
    assert caught.value is error


def test_a_call_that_did_not_come():
    with pytest.raises(UnfitAnswerError, match="did not make the required tool call") as caught:
        attempts(("tool",), repair_rounds=0).answered(said("No."))
    assert caught.value.reason == "no_call"


def test_a_stream_is_not_retried():
    with pytest.raises(UnfitAnswerError, match="did not enforce"):
        attempts(LADDER).answered(said('Sure! {"age": 20}'), complete=False)


@pytest.mark.parametrize(
    ("text", "found"),
    [('a {b} {"c": {"d": 1}} {}', '{"c": {"d": 1}}'), ("{{{", None), ("", None), ("{" * 5000, None), ("[1]", None)],
)
def test_json_among_words(text, found):
    assert find_json(text) == found


LOOSE = {
    "type": "object",
    "title": "Person",
    "properties": {"age": {"type": "integer", "default": 1}, "name": {"type": "string", "default": ""}},
}


def loose(schema=LOOSE, **options):
    return StructuredAttempts("Person", ("json_schema",), json_checker(schema), schema=schema, **options)


OPTIONAL = {"type": "object", "properties": {"age": {"type": "integer", "default": 1}, "name": {"default": "x"}}}


@pytest.mark.parametrize(
    "schema",
    [
        OPTIONAL,
        {**OPTIONAL, "additionalProperties": True},
        {"$defs": {"P": OPTIONAL}, "$ref": "#/$defs/P"},
        {"$defs": {"P": OPTIONAL}, "anyOf": [{"$ref": "#/$defs/P"}, {"type": "null"}]},
        {"allOf": [OPTIONAL, {"type": "object"}]},
    ],
)
@pytest.mark.parametrize("way", ["json_schema", "tool"])
def test_an_empty_object_is_not_an_object_made_of_defaults(schema, way):
    def empty():
        asked.answered(said("{}") if way != "tool" else ChatChoice("", "", (ToolCall("1", "P", " {} "),), "tool_calls"))

    asked = StructuredAttempts("P", [way], json_checker(schema), schema=schema)
    empty()
    assert not asked.done
    assert "it is empty, so all of its fields ('age', 'name') would be defaults" in asked.ask.correction[1]
    with pytest.raises(UnfitAnswerError, match="would be defaults") as caught:
        empty()
    assert "strict=True" in caught.value.remedy


@pytest.mark.parametrize("schema", [{"type": "object"}, {}, {"anyOf": [{"type": "object"}, {"type": "null"}]}])
def test_an_empty_object_is_an_answer_where_no_property_is_known(schema):
    asked = StructuredAttempts("P", ["json_schema"], json_checker(schema), schema=schema)
    asked.answered(said("{}"))
    assert asked.value == {}


def test_an_answer_of_other_keys_is_not_an_object_made_of_defaults():
    asked = loose(repair_rounds=0)
    with pytest.raises(
        UnfitAnswerError, match=r"none of its keys \('alter', 'vorname'\) are in the schema \('age', 'name'\)"
    ):
        asked.answered(said('{"vorname": "Ann", "alter": 7}'))
    asked = loose(repair_rounds=0)
    asked.answered(said('{"age": 7, "other": 1}'))
    assert asked.done


@pytest.mark.parametrize(
    "more",
    [
        {"additionalProperties": True},
        {"additionalProperties": {}},
        {"patternProperties": {"^x": {}}},
        {"properties": {}},
    ],
)
def test_where_other_keys_are_allowed_they_are_taken(more):
    asked = loose({**LOOSE, **more})
    asked.answered(said('{"x": 7}'))
    assert asked.value == {"x": 7}


@pytest.mark.parametrize("root", [LOOSE, {"$defs": {"Person": LOOSE}, "$ref": "#/$defs/Person"}])
def test_an_object_under_its_own_name_is_unwrapped(root):
    asked = loose(root)
    asked.answered(said('{"Person": {"age": 7}}'))
    assert (asked.value, [repair.name for repair in asked.repairs]) == ({"age": 7}, ["found_json"])
    streamed = loose(root)
    with pytest.raises(UnfitAnswerError, match=r"none of its keys \('Person'\)"):
        streamed.answered(said('{"Person": {"age": 7}}'), complete=False)


def test_an_answer_that_was_cut_off_with_the_schema_in_the_prompt_is_asked_for_without_it():
    asked = loose(schema_in_prompt=True)
    assert asked.ask.schema_in_prompt
    asked.answered(said('{"age": ', "length"))
    assert (asked.ask.schema_in_prompt, asked.ask.correction, asked.done) == (False, None, False)
    asked.answered(said('{"age": 7}'))
    assert [repair.name for repair in asked.repairs] == ["repair_round"]
    without = loose()
    with pytest.raises(UnfitAnswerError, match="cut off"):
        without.answered(said('{"age": ', "length"))
