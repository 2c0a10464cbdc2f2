"""Holds the tool calls of a reply to what the request allows, which the server does not do by itself. Pure.

llama-server forbids a reply to *end* before a demanded call, and no more: text may run on until `max_tokens`, a
template without tools drops the demand, and `parallel_tool_calls: false` did not stop a second call (b11434). Builds
before and gateways repeat ids, or send none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from .._notices import log_repairs
from .._replies import (
    DeltaFilter,
)
from .._values import short_id
from ..errors import LlamaServerError, MissingToolCallError
from ..replies import ChatDelta, ChatReply, Repair, ToolCallFragment

_LIMITS: Final = ("max_tokens", "max_completion_tokens", "n_predict")
_TEXT_SHOWN: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRules:
    """Requirements on a reply's tool calls.

    Attributes:
        names: Names of the tools that were sent.
        forced: A tool's name, or `required` for any of them; None when no call is demanded.
        one_call: Whether calls after the first are left out.
        taken: Ids of calls that the conversation has already.
        within: Tokens of text and thinking after which a demanded call has to have begun; None sets no limit.
        limited: Whether the request says itself how long its reply may get.
        round_follows: Whether a demanded call that did not come is asked for once more.
        missing_is_error: Whether a demanded call that did not come in the end is an error.
    """

    names: frozenset[str]
    forced: str | None = None
    one_call: bool = False
    taken: frozenset[str] = frozenset()
    within: int | None = None
    limited: bool = False
    round_follows: bool = False
    missing_is_error: bool = True


def ids_of(messages: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """The ids of all calls in a conversation."""
    return frozenset([call.get("id") or "" for message in messages for call in message.get("tool_calls") or ()])


def is_limited(body: Mapping[str, Any]) -> bool:
    """Whether a request says itself how long its reply may get."""
    return bool([name for name in _LIMITS if (body.get(name) or -1) > 0])


@dataclass(slots=True)
class _Call:
    """One call while it comes. Its first pieces are held back until its name is known to be one of a tool."""

    known: bool = False
    dropped: bool = False
    held: ToolCallFragment = field(default_factory=lambda: ToolCallFragment(0))


class ToolCallFilter(DeltaFilter[ChatDelta]):
    """Holds tool calls to rules.

    Args:
        rules: What to hold them to.
        answers: How many answers there are. A demanded call is looked for in each.
        texts: Makes what looks for calls in the text; None looks for none.
    """

    def __init__(
        self, rules: CallRules, answers: int = 1, texts: Callable[[], DeltaFilter[ChatDelta]] | None = None
    ) -> None:
        self._texts = texts() if texts is not None else None
        self._rules = rules
        self._answers = answers
        self._calls: dict[tuple[int, int], _Call] = {}
        self._kept: set[int] = set()
        self._ids = set(rules.taken)
        self._start_id = ""
        self._repairs: list[Repair] = []
        self._reported = 0
        self._waiting = rules.forced is not None
        self._said = 0
        self._ran_on = False
        self._finish: str | None = None
        self._held: list[ChatDelta] = []

    def add(self, deltas: list[ChatDelta]) -> list[ChatDelta]:
        """The deltas, with the calls that may be passed on.

        Raises:
            MissingToolCallError: When a demanded call has not begun within its limit.
        """
        if self._ran_on and self._waiting:
            raise missing_call(self._rules.forced, None, self._said)
        if self._waiting:
            self._count(deltas)
        if self._texts is not None:
            deltas = self._texts.add(deltas)
            # The demanded call is complete, and the rest is text that could not end before it.
            self.over = self._texts.over
        return self._checked(deltas)

    def end(self) -> list[ChatDelta]:
        """Return the deltas that were held back.

        Raises:
            MissingToolCallError: When a demanded call did not come.
        """
        rest = [] if self._texts is None else self._checked(self._texts.end())
        if not self._waiting:
            return rest
        room = self._finish != "length" or not self._rules.limited
        if self._rules.missing_is_error or (self._rules.round_follows and room):
            raise missing_call(self._rules.forced, self._finish)
        return [*rest, *self._held]

    def with_partial(self, error: LlamaServerError) -> LlamaServerError:
        """`error`, with what had arrived attached; for a missing call the text is told in its message, too."""
        if not isinstance(error.partial, ChatReply):
            return error
        start = error.partial.start
        error.partial = replace(error.partial, start=replace(start, repairs=(*start.repairs, *self._repairs)))
        if isinstance(error, MissingToolCallError) and "its text" not in error.message:
            error.message += f"; its text is {error.partial.content[:_TEXT_SHOWN]!r}"
        return error

    def _checked(self, deltas: list[ChatDelta]) -> list[ChatDelta]:
        checked: list[ChatDelta] = []
        for delta in deltas:
            if delta.start is not None:
                self._start_id = delta.start.id or str(delta.start.created)
            if delta.tool_calls:
                fragments = tuple(self._fragments(delta.choice, delta.tool_calls))
                if fragments != delta.tool_calls:  # most are passed on as they are
                    delta = delta._replace(tool_calls=fragments)
            elif not self._waiting and delta.finish_reason is None:
                checked.append(delta)
                continue
            if delta.finish_reason is not None:
                delta = self._ended(delta)
            self._pass(delta, checked)
        return checked

    def _pass(self, delta: ChatDelta, checked: list[ChatDelta]) -> None:
        """Passes a delta on, or holds back what must not be said while another round may follow."""
        if self._waiting and (self._finish is not None or delta.usage is not None):
            said = delta._replace(finish_reason=None, usage=None, timings=None, repairs=())
            if self._finish == "length" and self._rules.round_follows and not self._rules.limited:
                said = said._replace(content="")  # it ran on to the end of the context, and another round follows
            self._held.append(delta._replace(content="", reasoning_content="", start=None, logprobs=None))
            delta = said
        if delta.content or delta.tool_calls or delta != ChatDelta(choice=delta.choice):
            checked.append(delta)

    def _count(self, deltas: Iterable[ChatDelta]) -> None:
        """Stops a reply that runs on. The server sends about one event for each token."""
        self._said += sum(bool(delta.content or delta.reasoning_content) for delta in deltas)
        if self._rules.within is not None and self._said > self._rules.within:
            self._ran_on = True  # what came of it until now is passed on first

    def _ended(self, delta: ChatDelta) -> ChatDelta:
        """The last delta of an answer: with calls that were held back, and the word about what was repaired."""
        late = [
            fragment
            for (choice, _), call in self._calls.items()
            if choice == delta.choice and not call.known
            for fragment in self._decided(choice, call)
        ]
        self._finish = delta.finish_reason
        repairs, self._reported = tuple(self._repairs[self._reported :]), len(self._repairs)
        log_repairs(repairs)
        return delta._replace(tool_calls=(*delta.tool_calls, *late), repairs=(*delta.repairs, *repairs))

    def _fragments(self, choice: int, fragments: Iterable[ToolCallFragment]) -> Iterable[ToolCallFragment]:
        for fragment in fragments:
            call = self._calls.get((choice, fragment.call_index))
            if call is None:
                call = self._calls[choice, fragment.call_index] = _Call()
                call.held = ToolCallFragment(fragment.call_index)
            if call.known:
                if not call.dropped:
                    yield fragment
                continue
            held = call.held
            call.held = ToolCallFragment(
                held.call_index, held.id + fragment.id, held.name + fragment.name, held.arguments + fragment.arguments
            )
            # A name is whole when it is one of ours, or when arguments follow it.
            if call.held.name in self._rules.names or call.held.arguments:
                yield from self._decided(choice, call)

    def _decided(self, choice: int, call: _Call) -> Iterable[ToolCallFragment]:
        """Return the held-back deltas of a call once its name is known; none for a dropped call."""
        call.known = True
        held, rules = call.held, self._rules
        name = self._name_of(held)
        if name is None or (rules.one_call and choice in self._kept):
            call.dropped = True
            if name is not None:
                where = f"tool_calls[{held.call_index}]"
                self._note(
                    "one_call",
                    where,
                    "dropped an extra tool call: only one was allowed, and the server does not enforce that",
                )
            return
        self._kept.add(choice)
        self._waiting = self._waiting and len(self._kept) < self._answers
        yield held._replace(name=name, id=self._unique(held, choice))

    def _name_of(self, held: ToolCallFragment) -> str | None:
        """The tool that a call means; None for a call that does not count."""
        rules, where = self._rules, f"tool_calls[{held.call_index}]"
        if held.name in rules.names:
            return held.name
        similar = [name for name in rules.names if _bare(name) == _bare(held.name)]
        if len(similar) == 1:
            self._note("tool_name", where, f"treated the call of {held.name!r} as a call of {similar[0]!r}")
            return similar[0]
        if rules.forced is None:
            self._note("unknown_tool", where, f"kept a call of the unknown tool {held.name!r} for the agent to answer")
            return held.name
        self._note(
            "unknown_tool", where, f"dropped a call of {held.name!r}: it was not offered, and a tool call is required"
        )
        return None

    def _unique(self, held: ToolCallFragment, choice: int) -> str:
        """The call's id, unless the conversation has it already: results would be told apart no more."""
        call_id, tries = held.id, 0
        while not call_id or call_id in self._ids:
            tries += 1
            call_id = short_id(f"{self._start_id} {choice} {held.call_index} {tries} {len(self._ids)}")
        if tries:
            where = f"tool_calls[{held.call_index}]"
            self._note("call_id", where, "replaced its id, which an earlier call already has")
        self._ids.add(call_id)
        return call_id

    def _note(self, name: str, where: str, what: str) -> None:
        self._repairs.append(Repair(name, where, what))


def _bare(name: str) -> str:
    """A name without what models put around it: `functions.get-Weather` is `get_weather`."""
    return re.sub(r"[\W_]", "", re.split(r"[./:]", name)[-1]).casefold()


def missing_call(forced: str | None, finish_reason: str | None, said: int | None = None) -> MissingToolCallError:
    """The error for a demanded call that did not come.

    Args:
        forced: As in `CallRules`.
        finish_reason: Why the reply ended; None when it was stopped.
        said: Tokens of a reply that was stopped.
    """
    wanted = "a tool call" if forced in (None, "required") else f"a call of {forced!r}"
    if finish_reason == "length":
        why = "it was cut off by max_tokens or the end of the context"
        remedy = "raise max_tokens, or disable or limit reasoning"
    elif said is not None:
        why = f"it was stopped after {said} tokens of text and reasoning"
        remedy = "disable or limit reasoning, set max_tokens, or raise forced_call_within"
    else:
        why = f"it ended with finish_reason={finish_reason!r}"
        remedy = "check that the model's chat template supports tools: run `llamacpp-server check`"
    message = f"{wanted} was required, but the reply has none: {why}"
    return MissingToolCallError(message, finish_reason=finish_reason, tokens=said, remedy=remedy)
