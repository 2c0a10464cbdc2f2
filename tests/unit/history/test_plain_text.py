"""Conversations of nothing but texts, which pass a chat's checks and repairs in one step."""

from __future__ import annotations

from itertools import product
from typing import Any, cast

import pytest

from llamacpp_server import BadRequestError, ChatRequest
from llamacpp_server._endpoints import adapt_request, chat_body
from llamacpp_server._history import (
    PlainMessages,
    holds_broken,
    holds_candidates,
    is_plain_answer,
    plain_text,
    repair_history,
)
from llamacpp_server.settings import ServerSettings
from llamacpp_server.wire import MessageDict

ROLES = ("system", "user", "assistant", "function")
CONTENTS: tuple[Any, ...] = ("", "text", None, ["a part"])


def conversations() -> list[list[dict[str, Any]]]:
    said = [{"role": role, "content": content} for role, content in product(ROLES, CONTENTS)]
    said += [{"role": "user"}, {"content": "text"}, {"role": "user", "content": "text", "name": None}]
    return [[one] for one in said] + [[one, other] for one, other in product(said, said)]


def test_what_is_not_looked_at_would_come_out_of_all_repairs_as_it_is() -> None:
    settings = ServerSettings(base_url="http://of-plain-texts")
    passed = 0
    for messages in conversations():
        request = ChatRequest(messages=cast(list[MessageDict], messages))
        fitted, repairs = adapt_request(settings, request)
        assert (list(fitted.messages), repairs) == repair_history(request.messages)
        passed += fitted is request
    assert passed > 20


@pytest.mark.parametrize("before", [(), ({"role": "user", "content": "Hello"},)])
@pytest.mark.parametrize("role", ["user", "assistant", "system"])
def test_special_tokens_are_found_in_texts_as_in_other_messages(before: tuple[Any, ...], role: str) -> None:
    for text in ("<|im_end|>", "ends with <|im_", "[INST]", ">>TITLE<<", "nothing", "a < b"):
        plain: Any = [*before, {"role": role, "content": text}, {"role": "user", "content": "So?"}]
        other: Any = [*plain, {"role": "user", "content": [{"type": "text", "text": "So?"}]}]
        assert plain_text(plain) is not None
        assert plain_text(other) is None
        assert holds_candidates(plain) == holds_candidates(other)


@pytest.mark.parametrize("field", ["content", "reasoning_content", "name"])
def test_special_tokens_are_found_in_every_text_of_an_answer_with_calls(field: str) -> None:
    call = {"id": "a1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    answer: Any = {"role": "assistant", "content": "", "tool_calls": [call], field: "<|im_end|>"}
    said = plain_text([answer, {"role": "tool", "tool_call_id": "a1", "content": "1"}])
    assert said is not None
    assert holds_candidates(PlainMessages([answer, {"role": "user", "content": "So?"}], said))


def test_broken_tokens_are_found_in_texts_as_in_other_messages() -> None:
    for text in ("<\u200d|im_end|>", "a\u200db", "nothing"):
        plain: Any = [{"role": "user", "content": text}]
        other: Any = [{"role": "user", "content": [{"type": "text", "text": text}]}]
        assert holds_broken(plain) == holds_broken(other)


def answers() -> list[dict[str, Any]]:
    """An answer with one complete call, and others that differ from it in one place."""
    call = {"id": "a1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    complete = {"role": "assistant", "content": "Let me see.", "tool_calls": [call]}
    changed = [{**complete, name: value} for name in ("content", "name", "reasoning_content", "other") for value in ODD]
    changed += [{**complete, "tool_calls": value} for value in ([], [call, call])]
    changed += [
        {**complete, "tool_calls": [{**call, name: value}]} for name in ("id", "type", "index") for value in ODD
    ]
    for name, value in product(("name", "arguments", "more"), ODD):
        changed.append({**complete, "tool_calls": [{**call, "function": {**call["function"], name: value}}]})  # type: ignore[dict-item]
    return [complete, *changed]


ODD: tuple[Any, ...] = (None, "", "{}", "no JSON", 5, {"a": None}, [None])


class Odd(dict[str, Any]):
    """An object that is looked at closely, since it is no plain dict."""


def sent(answer: dict[str, Any]) -> object:
    asked, result = {"role": "user", "content": "Hello"}, {"role": "tool", "tool_call_id": "a1", "content": "1"}
    request = ChatRequest(messages=cast(list[MessageDict], [asked, answer, result]))
    try:
        fitted, repairs = adapt_request(ServerSettings(base_url="http://of-plain-answers"), request)
        return chat_body(fitted), repairs
    except BadRequestError as error:
        return str(error)


def test_answers_that_are_not_looked_at_are_sent_as_others_are() -> None:
    plain = [answer for answer in answers() if is_plain_answer(answer)]
    assert 10 < len(plain) < len(answers()) - 10
    for answer in plain:
        assert not is_plain_answer(closely := {**answer, "tool_calls": [Odd(call) for call in answer["tool_calls"]]})
        assert sent(answer) == sent(closely)


def histories() -> list[list[dict[str, Any]]]:
    """A question, an answer of many kinds and a result of many kinds, with a next turn or without one."""
    results = [{"role": "tool", "content": "1", "tool_call_id": "a1"}]
    results += [{**results[0], name: value} for name in ("content", "tool_call_id", "name", "other") for value in ODD]
    asked, turn = {"role": "user", "content": "Hello", "name": "Ann"}, {"role": "user", "content": "And?"}
    of_answers = [[asked, answer, results[0]] for answer in answers()]
    return of_answers + [[asked, answers()[0], result, *more] for result, more in product(results, ([], [turn]))]


def test_histories_of_complete_messages_would_come_out_of_all_repairs_as_they_are() -> None:
    passed = 0
    for messages in histories():
        text = plain_text(messages)
        if text is None:
            continue
        plain = cast(list[MessageDict], PlainMessages(messages, text))
        assert repair_history(plain) == repair_history(cast(list[MessageDict], messages)) == (messages, ())
        assert holds_candidates(plain) == holds_candidates(cast(list[MessageDict], messages))
        passed += 1
    assert 10 < passed < len(histories()) - 10


def test_a_history_that_ends_in_an_answer_or_needs_more_is_repaired_as_ever() -> None:
    asked, call = {"role": "user", "content": "Hello"}, answers()[0]
    for messages in ([asked, call], [asked, {"role": "assistant", "content": "a"}], [asked, asked]):
        text = plain_text(messages)
        assert text is not None
        plain = cast(list[MessageDict], PlainMessages(messages, text))
        for needs in ((), ("alternate",)):
            assert repair_history(plain, needs) == repair_history(cast(list[MessageDict], messages), needs)


@pytest.mark.parametrize("written", ["<|im_end|>", "\\u003c|im_end|>", "<\\u200d|im_end|>"])
def test_arguments_with_escapes_are_searched_as_what_they_mean(written: str) -> None:
    function = {"name": "add", "arguments": f'{{"a": "{written}"}}'}
    said = {"role": "assistant", "content": "", "tool_calls": [{"id": "a1", "type": "function", "function": function}]}
    messages: Any = [said, {"role": "tool", "content": "1", "tool_call_id": "a1"}]
    text = plain_text(messages)
    assert text is not None
    assert holds_candidates(cast(list[MessageDict], PlainMessages(messages, text)))
    assert holds_broken(PlainMessages(messages, text)) == ("200d" in written)


def test_complete_messages_are_copies_that_a_caller_does_not_change() -> None:
    messages = [{"role": "user", "content": "Hello"}]
    plain = PlainMessages(messages, "Hello")
    messages[0]["content"] = "<|im_end|>"
    assert plain == [{"role": "user", "content": "Hello"}]
    assert plain_text(plain) == "Hello"
