"""Tool calls held to what the request allows: names, ids, one call, and a call that was demanded."""

import pytest

from llamacpp_server import ChatDelta, MissingToolCallError, ServerFaultError, Timings, Usage, fold_chat
from llamacpp_server._replies import (
    ChatStreamDecoder,
    Pipeline,
)
from llamacpp_server._tools import (
    CallRules,
    TextCallFilter,
    ToolCallFilter,
    ids_of,
    is_limited,
)
from tests.unit.events import DONE, call, chunk, event, role, text, usage


def checked(*events, answers=1, **rules):
    """The reply that events become under rules, and the decoder."""
    checked = ToolCallFilter(CallRules(**{"names": frozenset({"add", "get_weather"}), **rules}), answers)
    decoder = Pipeline(ChatStreamDecoder(), [checked])
    deltas = [delta for one in events for delta in decoder.feed(one)]
    return fold_chat([*deltas, *decoder.close()])


def decoder_with(*filter_arguments, **rules):
    """A decoder under rules, which is fed by the test."""
    full = CallRules(**{"names": frozenset({"add", "get_weather"}), **rules})
    return Pipeline(ChatStreamDecoder(), [ToolCallFilter(full, *filter_arguments)])


def failed(decoder, *events):
    """The error at the end of these events, with what came of the reply."""
    with pytest.raises(MissingToolCallError) as caught:
        for one in events:
            decoder.feed(one)
        decoder.close()
    return decoder.with_partial(caught.value)


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


def test_each_repair_of_a_call_names_its_place_and_what_was_done():
    events = [
        call(0, "{}", id="A", name="add"),
        call(1, "{}", id="A", name="functions.add"),
        call(2, "{}", id="C", name="rm"),
    ]
    reply = checked(role(), *events, *ends())
    assert [(one.name, one.where) for one in reply.start.repairs] == [
        ("tool_name", "tool_calls[1]"),
        ("call_id", "tool_calls[1]"),
        ("unknown_tool", "tool_calls[2]"),
    ]
    whats = [one.what for one in reply.start.repairs]
    parts = ["'functions.add' as a call of 'add'", "which an earlier call already has", "unknown tool 'rm'"]
    assert [part for part, what in zip(parts, whats, strict=True) if part not in what] == []
    (extra,) = checked(role(), *events[:2], *ends(), one_call=True).start.repairs[1:]
    assert (extra.name, extra.where) == ("one_call", "tool_calls[1]")
    assert "only one was allowed" in extra.what


def test_pieces_of_several_calls_in_one_event_all_count():
    def both(first, second):
        pieces = [{"index": 0, "function": {"arguments": first}}, {"index": 1, "function": {"arguments": second}}]
        return chunk({"tool_calls": pieces})

    starts = call(0, "{", id="A", name="add"), call(1, "[", id="B", name="add")
    assert [c.arguments for c in checked(*starts, both("}", "]"), *ends()).tool_calls] == ["{}", "[]"]
    dropped = checked(call(1, "[", id="B", name="add"), call(0, "{", id="A", name="add"), both("}", "]"), *ends(),
                      one_call=True)  # fmt: skip
    assert [(c.id, c.arguments) for c in dropped.tool_calls] == [("B", "[]")]


def test_text_that_comes_in_one_piece_all_passes():
    decoder = decoder_with()
    assert [delta.content for delta in decoder.feed(text("a") + text("b") + text("c"))] == ["a", "b", "c"]


# -- names


def test_a_known_name_is_passed_on_at_once():
    (delta,) = decoder_with().feed(call(0, "", id="A", name="add"))
    assert delta.tool_calls[0].name == "add"


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


def test_an_id_that_comes_twice_in_a_reply_is_replaced_the_second_time():
    reply = checked(role(), call(0, "{}", id="A", name="add"), call(1, "{}", id="A", name="add"), *ends())
    first, second = (c.id for c in reply.tool_calls)
    assert first == "A"
    assert second not in ("A", "")


def test_ids_are_made_of_the_replys_own_id_or_time():
    def made(**top):
        start = event({"choices": [{"index": 0, "delta": {"role": "assistant"}}], **top})
        return checked(start, call(0, "{}", id="A", name="add"), *ends(), taken=frozenset({"A"})).tool_calls[0].id

    ids = [made(id="x"), made(id="y"), made(created=7), made(created=8)]
    assert len(set(ids)) == 4


# -- a call that was demanded


@pytest.mark.parametrize("forced", ["required", "add"])
def test_a_required_call_that_did_not_come_is_an_error_with_the_text_and_the_reason(forced):
    wanted = "a tool call" if forced == "required" else "a call of 'add'"
    decoder = Pipeline(ChatStreamDecoder(), [ToolCallFilter(CallRules(names=frozenset({"add"}), forced=forced))])
    for one in (role(), text("I would "), text("rather talk."), *ends("stop")):
        decoder.feed(one)
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
    deltas = [delta for one in (role(), text("Hm."), *ends("stop")) for delta in decoder.feed(one)]
    assert "".join(delta.content for delta in deltas) == "Hm."
    assert [delta for delta in deltas if delta.finish_reason or delta.usage] == []


def test_a_missing_call_can_be_taken_as_it_is():
    loose = {"missing_is_error": False, "round_follows": True}
    reply = checked(role(), text("Hm."), *ends("length"), forced="required", limited=True, **loose)
    assert (reply.content, reply.finish_reason, reply.usage.completion_tokens) == ("Hm.", "length", 3)
    with pytest.raises(MissingToolCallError):
        checked(role(), text("Hm."), *ends("stop"), forced="required", limited=True, **loose)


@pytest.mark.parametrize(
    ("reason", "why", "remedy"),
    [("length", "it was cut off by max_tokens", "raise max_tokens"),
     ("stop", "it ended with finish_reason='stop'", "run `llamacpp-server check`")],
)  # fmt: skip
def test_a_missing_call_says_why_and_what_helps(reason, why, remedy):
    error = failed(decoder_with(forced="add"), text("Hm."), *ends(reason))
    assert (error.finish_reason, error.tokens) == (reason, None)
    assert f"a call of 'add' was required, but the reply has none: {why}" in str(error)
    assert remedy in error.remedy


def test_an_error_for_a_missing_call_has_the_repairs_and_the_text_once():
    decoder = decoder_with(forced="required")
    error = failed(decoder, text("Hm."), call(0, "{}", id="A", name="rm"), *ends("stop"))
    assert [(one.name, one.where) for one in error.partial.start.repairs] == [("unknown_tool", "tool_calls[0]")]
    assert "dropped a call of 'rm'" in error.partial.start.repairs[0].what
    assert str(decoder.with_partial(error)).count("its text is 'Hm.'") == 1


def test_other_errors_keep_their_message():
    decoder = decoder_with(forced="required")
    decoder.feed(text("Hm."))
    assert decoder.with_partial(ServerFaultError("boom")).message == "boom"


def test_the_end_is_held_back_without_what_was_passed_on():
    loose = {"forced": "required", "missing_is_error": False}
    decoder = decoder_with(**loose)
    tokens = {"content": [{"token": "Hm.", "logprob": -1.0}]}
    counts = {"usage": {"prompt_tokens": 1}, "timings": {"cache_n": 1}}
    said = [*decoder.feed(role()), *decoder.feed(call(0, "{}", name="rm")), *decoder.feed(text("H"))]
    last = {"content": "m.", "reasoning_content": "hm"}
    said += decoder.feed(chunk(last, finish="stop", logprobs=tokens, **counts) + chunk() + DONE)
    assert [(delta.content, delta.reasoning_content) for delta in said[1:]] == [("H", ""), ("m.", "hm")]
    assert said[-1] == ChatDelta("m.", "hm", logprobs=tokens)
    (held,) = decoder.close()
    (repair,) = held.repairs
    assert repair.name == "unknown_tool"
    ended = ChatDelta(finish_reason="stop", usage=Usage(1, 0, 1), timings=Timings(cache_n=1), repairs=(repair,))
    assert held == ended
    nothing_said = decoder_with(**loose)
    assert nothing_said.feed(role() + chunk(finish="stop", **counts) + DONE)[1:] == []
    assert nothing_said.close() == [ended._replace(repairs=())]
    at_once = decoder_with(**loose)
    (first,) = at_once.feed(text("Hm.", **counts) + DONE)
    assert (first.start is not None, first.usage, at_once.close()[0].start) == (True, None, None)


@pytest.mark.parametrize(
    ("reason", "rules", "said"),
    [("length", {"round_follows": True}, ""), ("length", {"round_follows": True, "limited": True}, "Hm."),
     ("length", {}, "Hm."), ("stop", {"round_follows": True}, "Hm."), ("stop", {}, "Hm.")],
)  # fmt: skip
def test_the_end_of_a_text_that_filled_the_context_is_not_shown_before_another_round(reason, rules, said):
    decoder = decoder_with(forced="required", **rules)
    deltas = decoder.feed(role() + chunk({"content": "Hm."}, finish=reason) + DONE)
    assert "".join(delta.content for delta in deltas) == said


def test_calls_that_are_known_only_at_the_end_count_for_their_own_answer():
    late = [call(0, id=name, name="functions.add", choice=at) for at, name in enumerate("AB")]
    ended = (chunk(finish="tool_calls"), chunk(finish="tool_calls", index=1), DONE)
    reply = checked(role(), *late, *ended, forced="required", answers=2, one_call=True)
    assert [[(c.id, c.name) for c in choice.tool_calls] for choice in reply.choices] == [[("A", "add")], [("B", "add")]]


def test_one_call_is_enough_where_nothing_is_said_of_several_answers():
    decoder = decoder_with(forced="add")
    decoder.feed(role() + call(0, "{}", id="A", name="add") + b"".join(ends()))
    assert decoder.close() == []


def test_a_required_call_may_stand_in_the_text():
    tools = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
    call_text = '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>'
    with_texts = decoder_with(1, lambda: TextCallFilter(tools, take=False, forced="required"), forced="required")
    deltas = [delta for one in (role(), text(call_text), *ends("stop")) for delta in with_texts.feed(one)]
    reply = fold_chat([*deltas, *with_texts.close()])
    assert [(c.name, c.arguments) for c in reply.tool_calls] == [("add", '{"a": 1}')]


def test_text_that_might_have_become_a_call_comes_at_the_end():
    decoder = decoder_with(1, lambda: TextCallFilter([], take=True))
    assert decoder.feed(role() + text("<tool_call>no") + DONE)[1:] == []
    assert [delta.content for delta in decoder.close()] == ["<tool_call>no"]


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


def test_a_reply_that_runs_on_is_stopped_behind_the_last_token_that_is_allowed():
    decoder = decoder_with(forced="add", within=2)
    for word in "abc":
        assert decoder.feed(text(word)) != []
    with pytest.raises(MissingToolCallError, match=r"a call of 'add' was required.* stopped after 3 tokens") as caught:
        decoder.feed(text("d"))
    assert caught.value.tokens == 3


def test_a_call_that_has_begun_may_be_as_long_as_it_likes():
    long = [call(0, "x") for _ in range(9)]
    reply = checked(role(), call(0, "", id="A", name="add"), *long, *ends(), forced="add", within=3)
    assert reply.tool_calls[0].arguments == "x" * 9


def test_a_limit_of_the_request_takes_the_place_of_ours():
    assert is_limited({"max_tokens": 1})
    assert is_limited({"n_predict": 5})
    assert not is_limited({"max_tokens": -1, "n_predict": None})
