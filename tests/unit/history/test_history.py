"""Conversations before a server sees them: what is repaired, what is not, and what is tried on a refusal."""

import copy
import json
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamacpp_server import BadRequestError
from llamacpp_server._history import (
    ALWAYS,
    REPAIRS,
    TEMPLATE_REPAIRS,
    PlainMessages,
    find_needs,
    repair_history,
)
from tests.corpus.histories import ANSWER, HISTORIES, ONE, SYSTEM, TWO, USER, call, calls, result

ALL = tuple(TEMPLATE_REPAIRS)


def repaired(messages, *needs, **options):
    return repair_history(messages, needs, **options)[0]


def names(messages, *needs):
    return [repair.name for repair in repair_history(messages, needs)[1]]


def arguments_of(message):
    return [json.loads(one["function"]["arguments"]) for one in message["tool_calls"]]


def test_nothing_is_done_to_a_good_conversation():
    assert repair_history(HISTORIES["nothing wrong"]) == (HISTORIES["nothing wrong"], ())


@pytest.mark.parametrize("name", HISTORIES)
def test_the_messages_given_are_never_changed(name):
    before = copy.deepcopy(HISTORIES[name])
    repair_history(HISTORIES[name], ALL)
    assert HISTORIES[name] == before


@pytest.mark.parametrize("name", HISTORIES)
def test_a_repaired_conversation_needs_no_repair(name):
    for needs in ((), ALL):
        once = repaired(HISTORIES[name], *needs)
        assert repaired(once, *needs) == once


# -- always


_BARE = {"function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("messages", "places"),
    [
        (HISTORIES["functions of old"],
         [("fields", "messages[1]", "`function_call`"), ("fields", "messages[2]", "role `function`"),
          ("missing_ids", "messages[1]", "missing tool call id"), ("missing_ids", "messages[2]", "preceding call")]),
        ([USER, calls(call(ONE), call(TWO, "{")), result(ONE), result(TWO)],
         [("invalid_arguments", "messages[1].tool_calls[1]", "not a JSON object")]),
        ([USER, ANSWER], [("own_turn", "messages[2]", "would otherwise continue")]),
    ],
)  # fmt: skip
def test_each_repair_names_its_place_and_reason(messages, places):
    repairs = repair_history(messages)[1]
    assert [(repair.name, repair.where) for repair in repairs] == [(name, where) for name, where, _ in places]
    assert [what for (_, _, what), repair in zip(places, repairs, strict=True) if what not in repair.what] == []


def test_answers_that_are_merged_are_named_from_the_last():
    repairs = repair_history([USER, ANSWER, ANSWER, ANSWER], continues=True)[1]
    assert [(repair.name, repair.where) for repair in repairs] == [
        ("two_endings", "messages[3]"),
        ("two_endings", "messages[2]"),
    ]
    assert "the server continues only one" in repairs[0].what


def test_messages_that_are_known_to_be_complete_are_repaired_where_they_need_it():
    plain = PlainMessages([USER, USER], "hi\nhi")
    assert repair_history(plain) == (plain, ())
    assert [message["role"] for message in repaired(plain, "same_role")] == ["user"]
    assert names(PlainMessages([USER, ANSWER], "hi\nhello")) == ["own_turn"]
    assert names(PlainMessages([USER, USER, ANSWER], "hi\nhi\nhello")) == ["own_turn"]
    assert names(PlainMessages([USER], "hi")) == []
    assert repair_history(PlainMessages([], "")) == ([], ())


@pytest.mark.parametrize(
    "raw", ['{"x": "un', "[1]", '{"x": NaN}', '"text"', "null", "not json", '{"x": "\\ud800"}', "{}}"]
)
def test_arguments_that_are_not_an_object_are_shown_to_the_model_in_one(raw):
    messages = repaired([USER, calls(call(ONE, raw)), result(ONE), USER])
    assert arguments_of(messages[1]) == [{"invalid_arguments": raw}]


@pytest.mark.parametrize("raw", ['{"x": 1}', "{}", ' {"a": {"b": [null, "\\u00e9"]}} ', {"x": 1}])
def test_good_arguments_stay_to_the_byte(raw):
    assert (
        repaired([USER, calls(call(ONE, raw)), result(ONE), USER])[1]["tool_calls"][0]["function"]["arguments"] == raw
    )


@pytest.mark.parametrize(
    ("given", "shown"), [([1], "[1]"), (5, "5"), ([{"a"}], "[\"{'a'}\"]"), ("bad \ud800 half", "bad ? half")]
)
def test_arguments_of_another_type_are_shown_as_json(given, shown):
    messages = repaired([USER, calls(call(ONE, given)), result(ONE), USER])
    assert arguments_of(messages[1]) == [{"invalid_arguments": shown}]


def test_letters_of_bad_arguments_stay_as_they_are():
    (one,) = repaired([USER, calls(call(ONE, "Zürich")), result(ONE), USER])[1]["tool_calls"]
    assert one["function"]["arguments"] == '{"invalid_arguments": "Zürich"}'


def test_good_arguments_before_bad_ones_end_nothing():
    good, bad = [calls(call(ONE)), result(ONE)], [calls(call(TWO, "{")), result(TWO)]
    messages, repairs = repair_history([USER, *good, *bad, *good, *bad, USER])
    assert [repair.where for repair in repairs] == ["messages[3].tool_calls[0]", "messages[7].tool_calls[0]"]
    assert arguments_of(messages[3]) == arguments_of(messages[7]) == [{"invalid_arguments": "{"}]


def test_no_arguments_are_an_empty_object_without_a_word():
    messages, repairs = repair_history([USER, calls(call(ONE, "")), result(ONE), USER])
    assert arguments_of(messages[1]) == [{}]
    assert repairs == ()


def test_a_call_without_a_result_stays_so_where_the_server_takes_it():
    history = [USER, calls(call(ONE), call(TWO)), result(TWO), USER]
    assert repair_history(history)[1] == ()
    assert repair_history(history[:3])[1] == ()
    assert repair_history([USER, calls(call(ONE)), USER])[1] == ()


def test_calls_at_the_end_get_results():
    messages, repairs = repair_history([USER, calls(call(ONE), call(TWO))])
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "tool"]
    assert [repair.name for repair in repairs] == ["unanswered_calls"] * 2


def test_an_answer_at_the_end_is_followed_by_a_turn_of_the_user_unless_it_is_to_be_continued():
    history = [USER, {"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}]
    messages, repairs = repair_history(history)
    assert [message["role"] for message in messages] == ["user", "assistant", "assistant", "user"]
    assert [repair.name for repair in repairs] == ["own_turn"]
    for asked in ({"continues": True}, {"wanted": ["-own_turn"]}):
        messages, repairs = repair_history(history, **asked)
        assert (messages[-1]["content"], [repair.name for repair in repairs]) == ("a\n\nb", ["two_endings"])


def test_a_call_without_a_result_gets_one_where_it_is():
    messages, repairs = repair_history([USER, calls(call(ONE), call(TWO)), result(TWO), USER], {"unanswered_calls"})
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "tool", "user"]
    assert messages[3] == {"role": "tool", "tool_call_id": ONE, "name": "f", "content": messages[3]["content"]}
    assert "not carried out" in messages[3]["content"]
    assert [repair.name for repair in repairs] == ["unanswered_calls"]


def test_calls_and_results_without_ids_find_each_other():
    bare = {"type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = repaired(
        [
            USER,
            {"role": "assistant", "tool_calls": [bare, bare]},
            {"role": "tool", "content": "1"},
            {"role": "tool", "content": "2"},
            USER,
        ]
    )
    ids = [one["id"] for one in messages[1]["tool_calls"]]
    assert len(set(ids)) == 2
    assert [messages[2]["tool_call_id"], messages[3]["tool_call_id"]] == ids
    assert all(len(one) == 9 and one.isalnum() for one in ids)


def test_a_result_without_an_id_belongs_to_the_first_call_that_has_none_yet():
    bare = {"role": "tool", "content": "1"}
    messages = repaired([USER, calls(call(ONE), call(TWO)), result(ONE), bare, bare, USER])
    assert [message.get("tool_call_id") for message in messages[2:5]] == [ONE, TWO, None]
    messages = repaired([USER, calls(call(ONE), call(TWO)), result(TWO), bare, USER])
    assert [message["tool_call_id"] for message in messages[2:4]] == [TWO, ONE]
    assert repaired([USER, bare, USER]) == [USER, bare, USER]


def test_calls_get_the_type_that_the_server_demands():
    old = {"role": "assistant", "function_call": _BARE["function"]}
    for old_or_new in ({"role": "assistant", "tool_calls": [_BARE]}, old):
        (made,) = repaired([USER, old_or_new, {"role": "tool", "content": "1"}])[1]["tool_calls"]
        assert {**made, "id": ""} == {**_BARE, "type": "function", "id": ""}
    later = repaired([USER, {**old, "tool_calls": [call(ONE)]}, result(ONE)])[1]
    assert later == calls(call(ONE)), "a call of old beside calls of today is left out"
    assert repaired([USER, {**ANSWER, "function_call": "f"}, USER])[1] == ANSWER


def test_calls_may_be_any_sequence_of_mappings():
    mapping = MappingProxyType(call(ONE))
    for some in ((call(ONE),), [mapping], (mapping,)):
        message = repaired([USER, {**calls(), "tool_calls": some}, result(ONE)])[1]
        assert message == calls(call(ONE))
    assert repaired([USER, {**ANSWER, "tool_calls": []}, USER])[1] == ANSWER


def test_roles_and_fields_of_the_past_are_todays():
    messages = repaired(HISTORIES["functions of old"])
    assert messages[1]["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}
    assert messages[2]["role"] == "tool"
    assert messages[2]["tool_call_id"] == messages[1]["tool_calls"][0]["id"]


def test_nulls_are_left_out_and_content_is_there():
    assert repaired(HISTORIES["nulls"])[:2] == [{"role": "user", "content": ""}, {"role": "assistant", "content": ""}]


def test_two_answers_at_the_end_are_one_that_the_server_continues():
    full = {"role": "assistant", "content": "hello\n\nhello"}
    assert repaired([USER, ANSWER, ANSWER], continues=True) == [USER, full]
    assert repaired([ANSWER, ANSWER], continues=True) == [full]


def test_one_answer_at_the_end_is_left_to_be_continued():
    assert repaired([USER, ANSWER], continues=True) == [USER, ANSWER]
    assert repaired([ANSWER], continues=True) == [ANSWER]


def test_an_answer_at_the_end_of_an_agents_history_gets_its_turn_too():
    assert repaired([USER, calls(call(ONE)), result(ONE), ANSWER])[-1]["role"] == "user"


# -- when a template needs it


def test_neighbours_of_one_role_become_one_with_all_they_have():
    messages = [
        USER,
        {"role": "user", "content": [{"type": "text", "text": "look"}]},
        {"role": "assistant", "content": "a", "reasoning_content": "r"},
        calls(call(ONE), content="b", reasoning_content="s"),
        result(ONE),
        USER,
    ]
    assert repaired(messages, "same_role") == [
        {"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "text", "text": "look"}]},
        {"role": "assistant", "content": "a\n\nb", "reasoning_content": "r\n\ns", "tool_calls": [call(ONE)]},
        result(ONE),
        USER,
    ]


@pytest.mark.parametrize(
    ("need", "messages", "becomes"),
    [
        ("roles", [{"role": "developer", "content": "d"}, USER], [{"role": "system", "content": "d"}, USER]),
        ("late_system", [SYSTEM, SYSTEM, USER], [{"role": "system", "content": "be brief\n\nbe brief"}, USER]),
        ("late_system", [USER, SYSTEM], [USER, {"role": "user", "content": "[System note] be brief"}]),
        ("orphan_results", [USER, result(ONE), USER], [USER, {"role": "user", "content": "[Result] 1"}, USER]),
        ("empty_content", [{"role": "user", "content": ""}], [{"role": "user", "content": "(empty)"}]),
        ("trailing_assistant", [USER, ANSWER], [USER, ANSWER, {"role": "user", "content": "Continue."}]),
        ("system_to_user", [SYSTEM, USER], [{"role": "user", "content": "be brief"}, USER]),
        ("first_user", [SYSTEM, ANSWER, USER], [SYSTEM, {"role": "user", "content": "(start)"}, ANSWER, USER]),
        (
            "alternate",
            [USER, calls(call(ONE)), result(ONE), USER],
            [USER, calls(call(ONE)), result(ONE), {"role": "assistant", "content": "(no answer)"}, USER],
        ),
        (
            "channel_tags",
            [USER, {"role": "assistant", "content": "a<|channel|>b"}, USER],
            [USER, {"role": "assistant", "content": "ab"}, USER],
        ),
        (
            "thinking_with_calls",
            [USER, calls(call(ONE), content="t", reasoning_content="r"), result(ONE)],
            [USER, calls(call(ONE), reasoning_content="r\n\nt"), result(ONE)],
        ),
        (
            "single_calls",
            [USER, calls(call(ONE), call(TWO), content="t"), result(TWO), result(ONE), USER],
            [USER, calls(call(ONE), content="t"), result(ONE), calls(call(TWO)), result(TWO), USER],
        ),
        (
            "tools_to_text",
            [USER, calls(call(ONE), content="t"), result(ONE), USER],
            [
                USER,
                {"role": "assistant", "content": 't\n\n[Call of f: {"x": 1}]'},
                {"role": "user", "content": "[Result] 1"},
                USER,
            ],
        ),
    ],
)
def test_each_repair_does_its_own_thing(need, messages, becomes):
    assert repaired(messages, need, continues=True) == becomes
    assert {repair.name for repair in repair_history(messages, {need}, continues=True)[1]} == {need}
    assert repaired(messages, continues=True) == messages


def test_ids_become_nine_letters_and_digits_and_stay_apart():
    messages = repaired(
        [USER, calls(call("call_1"), call("call_2")), result("call_1"), result("call_2"), USER], "call_ids"
    )
    ids = [one["id"] for one in messages[1]["tool_calls"]]
    assert len(set(ids)) == 2
    assert all(len(one) == 9 and one.isalnum() for one in ids)
    assert ids == [messages[2]["tool_call_id"], messages[3]["tool_call_id"]]
    assert repaired(HISTORIES["two calls"], "call_ids") == HISTORIES["two calls"]


# -- the start of the prompt stays as it was

_TURNS = st.lists(
    st.sampled_from(
        [
            [USER, ANSWER],
            [USER, calls(call("c1", "{"), call("c2")), result("c2"), ANSWER],
            [USER, USER, ANSWER],
            [USER, calls(call("c3")), result("zzz"), ANSWER],
            [{"role": "developer", "content": "d"}, USER, ANSWER],
            [USER, {"role": "assistant", "content": ""}],
            [SYSTEM, USER, calls(call(ONE)), USER, ANSWER],
        ]
    ),
    max_size=4,
)


@given(_TURNS, _TURNS, st.sets(st.sampled_from(sorted(set(ALL) - {"trailing_assistant"}))))
def test_an_old_message_comes_out_the_same_on_every_later_turn(turns, more, needs):
    before = [message for turn in turns for message in turn]
    after = [*before, USER, *(message for turn in more for message in turn)]
    old = repaired([*before, USER], *needs)
    assert repaired(after, *needs)[: len(old) - 1] == old[:-1]


# -- switching off


def test_repairs_can_be_switched_off_all_or_by_name():
    bad = [USER, calls(call(ONE, "{"))]
    assert repaired(bad, wanted=False) == bad
    assert len(repaired(bad, wanted=["-unanswered_calls"])) == 2
    assert repaired(bad, wanted=["unanswered_calls"])[1] == bad[1]
    with pytest.raises(ValueError, match="unknown repair: nonsense"):
        repaired(bad, wanted=["nonsense"])


def test_the_names_are_listed():
    assert set(REPAIRS) == {*ALWAYS, *TEMPLATE_REPAIRS}


# -- finding out what a template needs


def search(messages, takes, known=(), **options):
    """The needs, and how often a template was asked."""
    finding, asked = find_needs(messages, known, **options), 0
    try:
        tried = next(finding)
        while True:
            asked += 1
            tried = finding.send(takes(tried))
    except StopIteration as stop:
        return stop.value, asked


def alternating(messages):
    roles = [message["role"] for message in messages if message["role"] != "system"]
    return all(role == ("user", "assistant")[at % 2] for at, role in enumerate(roles))


def test_the_fewest_repairs_are_found():
    messages = [{"role": "developer", "content": "d"}, USER, USER, {"role": "assistant", "content": ""}, USER]
    needs, asked = search(messages, alternating)
    assert needs == {"roles", "same_role"}
    assert asked <= 2 * len(TEMPLATE_REPAIRS)


def test_what_is_known_stays_and_is_not_tried_again():
    needs, _ = search([USER, USER], alternating, known=["call_ids"])
    assert needs == {"call_ids", "same_role"}


def test_only_wanted_repairs_are_tried():
    assert search([USER, USER], alternating, wanted=["call_ids"]) == (None, 0)
    assert search([USER, USER], alternating, wanted=["same_role"])[0] == {"same_role"}


@pytest.mark.parametrize(("options", "ends"), [({"continues": True}, {"assistant", "user"}), ({}, {"user"})])
def test_an_answer_is_tried_at_the_end_only_when_it_is_to_be_continued(options, ends):
    last = set()

    def takes(messages):
        last.add(messages[-1]["role"])
        return alternating(messages)

    search([USER, USER, ANSWER], takes, **options)
    assert last == ends


def test_none_when_nothing_helps():
    needs, asked = search(HISTORIES["much at once"], lambda messages: False)
    assert needs is None
    assert asked <= len(TEMPLATE_REPAIRS)


def test_nothing_is_asked_when_no_repair_would_change_anything():
    assert search([USER], lambda messages: False) == (None, 0)


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": []}, {"role": "user"}],
        [{"role": "assistant", "tool_call_id": -13515}, {"role": "user"}],
        [{"role": "user"}, {"role": "user", "content": -42}],
    ],
)
def test_values_of_another_kind_are_repaired_like_texts(messages):
    """A fuzzer found these."""
    repaired, _ = repair_history(messages, TEMPLATE_REPAIRS)
    assert {message["role"] for message in repaired} <= {"system", "user", "assistant", "tool"}
    assert all(isinstance(message.get("content"), str | list) for message in repaired)


@pytest.mark.parametrize("calls", [True, "abc", [["a"]], [None]])
def test_calls_that_are_not_a_list_of_objects_are_refused_with_their_place(calls):
    """A fuzzer found these too."""
    with pytest.raises(BadRequestError, match=r"messages\[1\]: tool_calls"):
        repair_history([USER, {"role": "assistant", "tool_calls": calls}])


def test_a_call_whose_function_is_not_an_object_is_one_of_an_unknown_function():
    (_, message, *_), _ = repair_history([USER, {"role": "assistant", "tool_calls": [{"id": "x", "function": "f"}]}])
    assert message["tool_calls"][0]["function"] == {"name": "unknown", "arguments": "{}"}
