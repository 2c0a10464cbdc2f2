"""What changed between two requests of a session, and how sessions are told apart; no server."""

from typing import Any

import pytest

from llamacpp_server import CacheReport, ChatReply, ChatRequest, NotFoundError, Timings, Usage
from llamacpp_server.diagnostics import (
    compare,
)
from llamacpp_server.replies import ChatChoice

SYSTEM: Any = {"role": "system", "content": "Be brief, and never say more than is needed for an answer."}


def user(text: str) -> Any:
    return {"role": "user", "content": text}


def assistant(text: str, **more: Any) -> Any:
    return {"role": "assistant", "content": text, **more}


def tool(name: str, description: str = "") -> Any:
    return {"type": "function", "function": {"name": name, "description": description, "parameters": {}}}


TALK = [SYSTEM, user("one"), assistant("uno"), user("two"), assistant("due"), user("three")]


def change(before: Any, now: Any, render: Any = lambda request: None, others: int = 0) -> Any:
    requests = [
        ChatRequest(**given) if isinstance(given, dict) else ChatRequest(messages=given) for given in (before, now)
    ]
    return compare(*requests, render, others)  # type: ignore[call-arg]


def edited(at: int, message: Any) -> list[Any]:
    return [*TALK[:at], message, *TALK[at + 1 :]]


@pytest.mark.parametrize(
    ("now", "kind", "where", "what"),
    [
        (edited(0, {**SYSTEM, "content": SYSTEM["content"] + " Or else."}), "system", "messages[0]", "character 58"),
        (edited(2, assistant("un")), "message", "messages[2]", "assistant's content, character 2: 'uno' is now 'un'"),
        (edited(2, assistant("uno", reasoning_content="hm")), "message", "messages[2]", "reasoning_content"),
        ([SYSTEM, *TALK[3:], assistant("tre")], "trimmed", "messages[1]", "2 messages were removed from here on"),
        ([SYSTEM, user("A summary."), *TALK[4:]], "trimmed", "messages[1]", "3 messages were removed"),
        ([SYSTEM, user("So far."), *TALK[1:]], "inserted", "messages[1]", "a message was inserted before it"),
        (TALK[:3], "trimmed", "messages[3]", "3 messages were removed at the end"),
        (TALK, "cache", "the server", "the same prompt, but no longer cached"),
        ([*TALK, assistant("tre"), user("four")], "cache", "the server", "the same prompt"),
    ],
)
def test_what_changed_first_in_the_messages(now: Any, kind: str, where: str, what: str) -> None:
    found = change(TALK, now)
    assert (found.kind, found.where) == (kind, where)
    assert what in found.what
    assert str(found) == f"{where}: {found.what} -- {found.hint}"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("It is 12:01.", "It is 12:02."),
        ("Today is Monday, 3 March 2026, 9 am", "Today is Tuesday, 14 Apr 2026, 11 pm"),
        ("2026-11-25T21:43:19Z", "2026-11-25T21:43:20Z"),
    ],
)
@pytest.mark.parametrize("role", ["system", "user"])
def test_clocks(one: str, other: str, role: str) -> None:
    found = change([{"role": role, "content": one}], [{"role": role, "content": other}])
    assert found.kind == "clock"
    assert ("the system prompt" in found.hint) == (role == "system")


def test_changing_words_are_not_reported_as_a_clock() -> None:
    assert change([user("It is warm.")], [user("It is cold.")]).kind == "message"


A, B, C = tool("a"), tool("b"), tool("c")


@pytest.mark.parametrize(
    ("now", "kind", "what"),
    [
        ([B, A], "tools_order", "in another order, from 'b' on"),
        ([A, B, C], "tools", "'c' added"),
        ([A], "tools", "'b' removed"),
        ([C, B], "tools", "'c' added; 'a' removed"),
        ([A, tool("b", "It is 12:01.")], "tools", "'b': character"),
    ],
)
def test_what_changed_first_in_the_tools(now: Any, kind: str, what: str) -> None:
    found = change({"messages": TALK, "tools": [A, B]}, {"messages": edited(2, assistant("un")), "tools": now})
    assert (found.kind, found.where) == (kind, "tools"), "they come before the messages behind the system's"
    assert what in found.what


def test_a_changed_system_message_comes_before_the_tools() -> None:
    now = {"messages": edited(0, user("x")), "tools": [B, A]}
    assert change({"messages": TALK, "tools": [A, B]}, now).where == "messages[0]"


def forgetful(request: ChatRequest) -> str:
    """A template that leaves out all thinking but the last."""
    last = len(request.messages) - 2
    return "".join(
        f"<{message['role']}>{message.get('reasoning_content', '') if at >= last else ''}{message['content']}"
        for at, message in enumerate(request.messages)
    )


def test_a_template_that_writes_an_old_message_otherwise() -> None:
    thought = assistant("uno", reasoning_content="I think long and hard about what one may be. " * 3)
    talk = [SYSTEM, user("one"), thought, user("two")]
    found = change(talk, [*talk, assistant("due"), user("three")], forgetful)
    assert (found.kind, found.where) == ("template", "messages[2]")
    assert "drops old reasoning" in found.hint


def test_a_template_that_writes_another_end_is_not_reported() -> None:
    def render(request: ChatRequest) -> str:
        return "x" * 500 + ("<think>" if len(request.messages) == 6 else "an answer and more")

    assert change(TALK, [*TALK, assistant("tre")], render).kind == "cache"


def test_sessions_in_between_are_counted() -> None:
    assert "3 turns of other sessions" in change(TALK, TALK, others=3).what
    assert "no other session" in change(TALK, TALK).what


# -- the report


def reply(tokens: int, reused: int) -> ChatReply:
    timings = Timings(prompt_n=tokens - reused, cache_n=reused)
    return ChatReply(choices=(ChatChoice(),), usage=Usage(tokens, 1, reused), timings=timings)


def test_sessions_are_distinguished_by_name_and_by_what_they_say() -> None:
    report = CacheReport()
    for session, words in (("a", "one"), ("b", "one"), ("a", "title"), (None, "one"), (None, "else"), ("a", "one")):
        report.add(ChatRequest(messages=[SYSTEM, user(words)]), reply(100, 90), session)
    assert [turn.session for turn in report.turns] == ["a", "b", "a (2)", "#1", "#2", "a"]
    assert [turn.read for turn in report.turns] == [10] * 6


def test_a_trimmed_session_is_the_same_session() -> None:
    report = CacheReport()
    report.add(ChatRequest(messages=TALK), reply(100, 0))
    report.add(ChatRequest(messages=[SYSTEM, *TALK[3:]]), reply(60, 20))
    _, turn = report.turns
    assert (turn.session, turn.again) == ("#1", 40)
    assert turn.change is not None
    assert turn.change.kind == "trimmed"


def test_the_tokens_that_open_an_answer_are_not_counted_as_lost() -> None:
    report = CacheReport()
    report.add(ChatRequest(messages=TALK), reply(100, 0))
    report.add(ChatRequest(messages=TALK), reply(100, 84))
    report.add(ChatRequest(messages=TALK), reply(100, 83))
    assert [turn.again for turn in report.turns] == [0, 16, 17]
    assert [turn.change is None for turn in report.turns] == [True, True, False]


def test_a_server_that_has_gone_is_not_needed_for_the_rest() -> None:
    def gone(request: ChatRequest) -> str:
        raise NotFoundError("gone")

    report = CacheReport(gone)
    report.add(ChatRequest(messages=TALK), reply(100, 0))
    report.add(ChatRequest(messages=TALK), reply(100, 0))
    assert report.turns[1].change is not None
    assert report.turns[1].change.kind == "cache"


def test_a_reply_without_counts_is_left_out_and_one_with_usage_alone_is_read() -> None:
    report = CacheReport()
    report.add(ChatRequest(messages=TALK), ChatReply(choices=(ChatChoice(),)))
    assert report.turns == []
    report.add(ChatRequest(messages=TALK), ChatReply(choices=(ChatChoice(),), usage=Usage(100, 1, 70)))
    report.add(ChatRequest(messages=TALK), ChatReply(choices=(ChatChoice(),), timings=Timings(prompt_n=10, cache_n=90)))
    assert [(turn.tokens, turn.reused) for turn in report.turns] == [(100, 70), (100, 90)]


def test_the_table() -> None:
    report = CacheReport()
    report.add(ChatRequest(messages=[SYSTEM, user("one")]), reply(100, 0), "a")
    report.add(ChatRequest(messages=[user("one")]), reply(80, 3), "a")
    assert str(report).splitlines() == [
        "turn  session  prompt  reused  read  again  what changed first",
        "   1  a           100       0   100      0",
        "   2  a            80       3    77     77  messages[0]: a message was removed from here on",
        "177 tokens were read, 77 of them again",
        "turn 2: history trimmed: trim rarely and in large steps, or see n_cache_reuse",
    ]
    assert str(CacheReport()).endswith("0 tokens were read, 0 of them again")


def test_turns_with_the_same_hint_share_a_line() -> None:
    report = CacheReport()
    for session, tokens in (("a", 100), ("b", 100), ("a", 80), ("b", 80)):
        report.add(ChatRequest(messages=TALK if tokens == 100 else [SYSTEM, *TALK[3:]]), reply(tokens, 0), session)
    assert str(report).splitlines()[-1].startswith("turn 3, 4: history trimmed")


def test_a_recording_receives_each_turn_that_has_counts() -> None:
    class Kept:
        def __init__(self) -> None:
            self.turns: list[Any] = []

        def chat(self, *turn: Any) -> None:
            self.turns.append(turn)

    kept, request, answer = Kept(), ChatRequest(messages=TALK), reply(100, 90)
    report = CacheReport(recording=kept)
    report.add(request, answer, "a")
    report.add(request, ChatReply(choices=(ChatChoice(),)), "a")
    assert kept.turns == [(request, answer.usage, answer.timings, "a")]


def test_the_prompts_of_both_turns_are_rendered_and_sessions_in_between_are_counted() -> None:
    seen = []

    def render(request: ChatRequest) -> str:
        seen.append(request.messages)
        return "the same prompt for both"

    report = CacheReport(render)
    for session in ("a", "b", "c", "a"):
        report.add(ChatRequest(messages=TALK), reply(100, 0), session)
    change = report.turns[3].change
    assert change is not None
    assert "2 turns of other sessions" in change.what
    assert seen == [TALK, TALK]
