"""Tool calls held to what the request allows: names, ids, one call, and a call that was demanded."""

import pytest

from llamacpp_server import MissingToolCallError, fold_chat
from llamacpp_server._replies import (
    ChatStreamDecoder,
    Pipeline,
)
from llamacpp_server._tools import (
    CallRules,
    ToolCallFilter,
    ids_of,
    is_limited,
)
from tests.unit.events import DONE, call, chunk, role, text, usage


def checked(*events, answers=1, **rules):
    """The reply that events become under rules, and the decoder."""
    checked = ToolCallFilter(CallRules(**{"names": frozenset({"add", "get_weather"}), **rules}), answers)
    decoder = Pipeline(ChatStreamDecoder(), [checked])
    deltas = [delta for event in events for delta in decoder.feed(event)]
    return fold_chat([*deltas, *decoder.close()])


def ends(reason="tool_calls"):
    return chunk(finish=reason), usage(5, 3), DONE


def names(reply):
    return [repair.name for repair in reply.start.repairs]


def test_calls_that_are_allowed_pass_as_they_are():
    reply = checked(role(), call(0, "{", id="A", name="add"), call(0, "}"), call(1, "{}", id="B", name="add"), *ends())
    assert [(c.id, c.name, c.arguments) for c in reply.tool_calls] == [("A", "add", "{}"), ("B", "add", "{}")]
    assert names(reply) == []
    assert (reply.finish_reason, reply.usage.completion_tokens) == ("tool_calls", 3)


def test_one_call_where_one_is_allowed():
    events = role(), call(0, "{}", id="A", name="add"), call(1, "{", id="B", name="add"), call(1, "}"), *ends()
    reply = checked(*events, one_call=True)
    assert [c.id for c in reply.tool_calls] == ["A"]
    assert names(reply) == ["one_call"]
    assert reply.usage.completion_tokens == 3


# -- names


@pytest.mark.parametrize("name", ["functions.get_weather", "get-weather", "GetWeather", "default_api:get_weather"])
def test_a_name_that_can_only_mean_one_tool_is_that_tool(name):
    reply = checked(role(), call(0, "", id="A", name=name), call(0, "{}"), *ends())
    assert [(c.id, c.name, c.arguments) for c in reply.tool_calls] == [("A", "get_weather", "{}")]
    assert names(reply) == ["tool_name"]


def test_a_name_that_grows_is_waited_for():
    reply = checked(role(), call(0, "", id="A", name="get"), call(0, "", name="get_weather"), call(0, "{}"), *ends())
    assert [c.name for c in reply.tool_calls] == ["get_weather"]
    assert names(reply) == []


def test_an_unknown_tool_is_reported_and_left_for_the_agent():
    reply = checked(role(), call(0, "", id="A", name="rm"), *ends())
    assert [c.name for c in reply.tool_calls] == ["rm"]
    assert names(reply) == ["unknown_tool"]


def test_another_tool_than_the_required_one_does_not_count():
    rules = {"names": frozenset({"add"}), "forced": "add"}
    reply = checked(
        role(), call(0, "{}", id="A", name="rm"), call(1, "{}", id="B", name="add"), *ends(), one_call=True, **rules
    )
    assert [(c.id, c.name) for c in reply.tool_calls] == [("B", "add")]
    with pytest.raises(MissingToolCallError, match="a call of 'add' was required"):
        checked(role(), call(0, "{}", id="A", name="rm"), *ends(), **rules)


# -- ids


def test_an_id_that_the_conversation_has_is_replaced():
    events = role(), call(0, "{}", id="A", name="add"), call(1, "{}", id="A", name="add"), *ends()
    taken = ids_of([{"role": "user"}, {"role": "assistant", "tool_calls": [{"id": "A"}, {}]}])
    reply = checked(*events, taken=taken)
    ids = [c.id for c in reply.tool_calls]
    assert len({"A", *ids}) == 3
    assert all(len(call_id) == 9 and call_id.isalnum() for call_id in ids), "legal in every template"
    assert names(reply) == ["call_id", "call_id"]
    assert [c.id for c in checked(*events, taken=taken).tool_calls] == ids, "the same bytes give the same ids"


@pytest.mark.parametrize("given", ["", None])
def test_a_call_without_an_id_has_one_that_is_legal_everywhere(given):
    (made,) = checked(role(), call(0, "{}", id=given, name="add"), *ends()).tool_calls
    assert len(made.id) == 9
    assert made.id.isalnum()
    (again,) = checked(role(), call(0, "{}", id=given, name="add"), *ends(), taken=frozenset({made.id})).tool_calls
    assert again.id != made.id, "though the server gives every reply the same id"


def test_calls_that_all_have_the_number_0_are_separated_by_their_ids():
    events = [
        role(), call(0, '{"a"', id="A", name="add"), call(0, ":1}"), call(0, '{"b"', id="B", name="get_weather"),
        call(0, ":2}"), call(0, "{}", id="C", name="add"), *ends(),
    ]  # fmt: skip
    assert [(c.id, c.name, c.arguments) for c in checked(*events).tool_calls] == [
        ("A", "add", '{"a":1}'),
        ("B", "get_weather", '{"b":2}'),
        ("C", "add", "{}"),
    ]


# -- a call that was demanded


@pytest.mark.parametrize("forced", ["required", "add"])
def test_a_required_call_that_did_not_come_is_an_error_with_the_text_and_the_reason(forced):
    wanted = "a tool call" if forced == "required" else "a call of 'add'"
    decoder = Pipeline(ChatStreamDecoder(), [ToolCallFilter(CallRules(names=frozenset({"add"}), forced=forced))])
    for event in (role(), text("I would "), text("rather talk."), *ends("stop")):
        decoder.feed(event)
    with pytest.raises(MissingToolCallError, match=wanted) as caught:
        decoder.close()
    error = decoder.with_partial(caught.value)
    assert error.finish_reason == "stop"  # type: ignore[attr-defined]
    assert error.partial.content == "I would rather talk."
    assert "its text is 'I would rather talk.'" in str(error)
    assert isinstance(error, ValueError)


def test_the_finish_reason_is_held_back_until_it_is_known_to_be_the_end():
    """Another round may follow, and its end is the end of the reply."""
    decoder = Pipeline(ChatStreamDecoder(), [ToolCallFilter(CallRules(names=frozenset(), forced="required"))])
    deltas = [delta for event in (role(), text("Hm."), *ends("stop")) for delta in decoder.feed(event)]
    assert "".join(delta.content for delta in deltas) == "Hm."
    assert [delta for delta in deltas if delta.finish_reason or delta.usage] == []


def test_a_missing_call_can_be_taken_as_it_is():
    loose = {"missing_is_error": False, "round_follows": True}
    reply = checked(role(), text("Hm."), *ends("length"), forced="required", limited=True, **loose)
    assert (reply.content, reply.finish_reason, reply.usage.completion_tokens) == ("Hm.", "length", 3)
    with pytest.raises(MissingToolCallError):
        checked(role(), text("Hm."), *ends("stop"), forced="required", limited=True, **loose)


def test_every_answer_needs_the_required_call():
    both = (call(0, "{}", id="A", name="add"), call(0, "{}", id="B", name="add", choice=1))
    ended = (chunk(finish="tool_calls"), chunk(finish="tool_calls", index=1), DONE)
    assert len(checked(role(), *both, *ended, forced="required", answers=2).choices) == 2
    with pytest.raises(MissingToolCallError):
        checked(role(), both[0], *ended, forced="required", answers=2)


def test_a_reply_that_runs_on_is_stopped_after_what_came():
    decoder = Pipeline(
        ChatStreamDecoder(), [ToolCallFilter(CallRules(names=frozenset({"add"}), forced="required", within=3))]
    )
    assert decoder.feed(role()) != []
    thinking = chunk({"reasoning_content": "hm "})
    passed = [*decoder.feed(thinking), *decoder.feed(text("a") + text("b") + text("c"))]
    assert "".join(delta.content for delta in passed) == "abc"
    with pytest.raises(MissingToolCallError, match="stopped after 4 tokens") as caught:
        decoder.feed(text("d"))
    assert caught.value.finish_reason is None
    assert "forced_call_within" in caught.value.remedy


def test_a_call_that_has_begun_may_be_as_long_as_it_likes():
    long = [call(0, "x") for _ in range(9)]
    reply = checked(role(), call(0, "", id="A", name="add"), *long, *ends(), forced="add", within=3)
    assert reply.tool_calls[0].arguments == "x" * 9


def test_a_limit_of_the_request_takes_the_place_of_ours():
    assert is_limited({"max_tokens": 5})
    assert is_limited({"n_predict": 5})
    assert not is_limited({"max_tokens": -1, "n_predict": None})
