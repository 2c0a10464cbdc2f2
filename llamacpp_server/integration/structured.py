"""Answers that are objects of a schema: how they are asked for, what counts as one, and what is asked next. Pure.

There are three ways to have one: the server's own JSON schema, a grammar written here, and one forced tool. A server
may refuse the first, or take it and not keep to it; so what comes is always checked against the caller's own schema.
JSON beside words, or in the thinking of an answer that is nothing else, is found. What does not fit is asked for once
more, with what is wrong with it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, TypeVar

from pydantic_core import from_json

from .._endpoints import ServerMemory, memory_of
from .._notices import log_repairs
from .._schemas import (
    CONSTRAINTS,
    SchemaError,
    known_names,
    require_all,
    says_thinking,
    schema_grammar,
    validation_errors,
)
from ..errors import (
    BadRequestError,
    ContextOverflowError,
    LlamaServerError,
    NotSupportedError,
    UnfitAnswerError,
)
from ..replies import ChatChoice, Repair
from ..settings import normalize_base_url
from ..wire import MessageDict
from .arguments import as_json

if TYPE_CHECKING:
    from .chat_fields import ChatFields

__all__ = [
    "CONSTRAINTS",
    "LADDER",
    "Ask",
    "PartialReader",
    "StructuredAttempts",
    "Way",
    "attempts_of",
    "find_json",
    "json_checker",
    "object_steps",
    "require_all",
    "says_thinking",
    "schema_grammar",
    "schema_of",
    "with_schema",
]

T = TypeVar("T")
A = TypeVar("A")
Way = Literal["json_schema", "json_object", "grammar", "tool"]
LADDER: Final[tuple[Way, ...]] = ("json_schema", "grammar", "tool")
"""The ways, best first."""

# What a grammar made of the schema would have prevented, on any build.
_HELD: Final = frozenset({"type", "required", "enum", "const"})
_MOST_STARTS: Final = 200
_REQUIRE: Final = "make a field required, or use strict=True, which requires all of them"


@dataclass(frozen=True, slots=True)
class Ask:
    """The request.

    Attributes:
        way: How to enforce the answer's schema.
        correction: The previous answer and a message about it; None for the first request.
        thinking: False turns reasoning off; None leaves it unchanged.
        schema_in_prompt: Whether the model is shown the schema (`with_schema`).
    """

    way: Way
    correction: tuple[str, str] | None = None
    thinking: Literal[False] | None = None
    schema_in_prompt: bool = False


def _memory(key: tuple[str, str | None, str]) -> ServerMemory:
    return memory_of(normalize_base_url(key[0]), key[1])


def json_checker(schema: Any) -> Callable[[str], Any]:
    """Return a parser of JSON texts that raises a ValueError if the value does not match `schema`."""

    def check(text: str) -> Any:
        value = from_json(text)
        if wrong := validation_errors(schema, value):
            raise SchemaMismatchError(wrong)
        return value

    return check


def with_schema(messages: Sequence[MessageDict], schema: Mapping[str, Any] | None) -> list[MessageDict]:
    """Add the schema of the answer to the system message of a conversation.

    A grammar enforces the format of an answer, but the model does not see the schema. Small models answer worse with it
    (SmolLM2-135M: 0 of 10 valid, 9 without), so it is off by default.
    """
    if not schema:
        return list(messages)
    text = f"Answer with a JSON object that follows this schema:\n{as_json(schema, 'the schema')}"
    first: MessageDict = messages[0] if messages else {}
    said = first.get("content")
    if first.get("role") != "system" or not isinstance(said, str):
        return [{"role": "system", "content": text}, *messages]
    return [{**first, "content": f"{said}\n\n{text}"}, *messages[1:]]


def schema_of(response_format: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The schema in a `response_format`."""
    inner = response_format.get("json_schema") or response_format
    return inner.get("schema") if isinstance(inner, Mapping) else None


def attempts_of(
    model: ChatFields,
    name: str,
    ways: Sequence[Way],
    check: Callable[[str], T],
    *,
    call: Mapping[str, Any],
    schema: Mapping[str, Any] | None = None,
    repair_rounds: int = 1,
    schema_in_prompt: bool = False,
) -> StructuredAttempts[T]:
    """The attempts of a chat model; the arguments are those of `StructuredAttempts`, and `call` those of the call."""
    given = {**model.given(), **call}
    return StructuredAttempts(
        name,
        ways,
        check,
        schema=schema,
        repair_rounds=repair_rounds,
        thinking_is_given=given.get("thinking", model.thinking) is not None or says_thinking(given),
        key=(model.base_url, model.model, as_json(schema, "schema")),
        schema_in_prompt=schema_in_prompt,
    )


def object_steps(
    attempts: StructuredAttempts[Any],
    record: Callable[[A], None],
    refused: Callable[[LlamaServerError], None] | None = None,
) -> Generator[Ask, A, A | None]:
    """Program (`steps.py`) that yields requests until it has the object; returns the last answer.

    Args:
        attempts: State of the answer.
        record: Passes an answer to `attempts`.
        refused: Passes an error to it; None uses `attempts.refused`.
    """
    answer: A | None = None
    while not attempts.done:
        try:
            answer = yield attempts.ask
        except LlamaServerError as error:
            (refused or attempts.refused)(error)
        else:
            record(answer)
    return answer


class PartialReader(Generic[T]):
    """Parse incomplete JSON into an object whenever it has changed.

    Args:
        make: Creates the object from the data; raises ValueError if they are not sufficient yet.
    """

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make = make
        self._last: T | None = None

    def read(self, text: str) -> T | None:
        """Return the object in the JSON so far; None if it is unchanged, or there is none yet."""
        try:
            found = self._make(from_json(text, allow_partial="trailing-strings"))
        except ValueError:
            return None
        if self.gave(found):
            return None
        self._last = found
        return found

    def gave(self, found: T) -> bool:
        """Whether this object was the last one returned."""
        return bool(self._last == found)


class DefaultsOnlyError(ValueError):
    """An object that shares no key with the one that was asked for, or has none."""

    def __init__(self, value: Mapping[str, Any], known: Collection[str]) -> None:
        given, wanted = (", ".join(map(repr, sorted(names)[:10])) for names in (value, known))
        if value:
            super().__init__(f"none of its keys ({given}) are in the schema ({wanted})")
        else:
            super().__init__(f"it is empty, so all of its fields ({wanted}) would be defaults")


class SchemaMismatchError(ValueError):
    """JSON that does not fit its schema."""

    def __init__(self, wrong: Sequence[SchemaError]) -> None:
        super().__init__("; ".join(map(str, wrong[:5])))


class StructuredAttempts(Generic[T]):
    """State of one answer over all its requests: send `ask`, report the outcome, repeat until `done`.

    Attributes:
        ask: What to ask next.
        done: Whether `value` is there.
        value: The object.
        text: Its JSON.
        repairs: Repairs that were needed.

    Args:
        name: Of what is asked for.
        ways: What to try, in order.
        check: Creates the object from a JSON text, or raises a ValueError that describes the problem.
        schema: Schema that was requested, to detect whether the server enforced it; None if there is none.
        repair_rounds: Maximum retries for an answer that does not match.
        thinking_is_given: Whether the caller has set a reasoning option, which is then not changed.
        key: Address, model and a key of the schema, to remember the method that worked; None remembers nothing.
        schema_in_prompt: Whether the schema is in the prompt. An answer that was cut off with it is retried once
            without it.
    """

    value: T
    text: str

    def __init__(
        self,
        name: str,
        ways: Sequence[Way],
        check: Callable[[str], T],
        *,
        schema: Mapping[str, Any] | None = None,
        repair_rounds: int = 1,
        thinking_is_given: bool = False,
        key: tuple[str, str | None, str] | None = None,
        schema_in_prompt: bool = False,
    ) -> None:
        known = _memory(key).ways.get(key[2]) if key is not None else None
        self._ways = [*ways][max((at for at, way in enumerate(ways) if way == known), default=0) :]
        self._name, self._check, self._schema, self._key = name, check, schema, key
        self._rounds = repair_rounds
        self._may_stop_thinking = not thinking_is_given
        self._first_refusal: LlamaServerError | None = None
        self._unfit_answer: UnfitAnswerError | None = None
        self.ask = Ask(self._ways[0], schema_in_prompt=schema_in_prompt)
        self.done = False
        self.repairs: list[Repair] = []

    def refused(self, error: LlamaServerError) -> None:
        """The server gave an error.

        Raises:
            UnfitAnswerError: The previous answer, if the error was about another one.
            LlamaServerError: The first refusal, if no other method is left.
        """
        if self._unfit_answer is not None and not isinstance(error, UnfitAnswerError):
            raise self._unfit_answer from error
        self._first_refusal = self._first_refusal or error
        if not _is_about_the_form(error):
            raise error
        if len(self._ways) == 1:
            raise self._first_refusal
        self._move_down(f"the server rejected it: {error.server_message or error.message}")

    def answered(self, choice: ChatChoice, *, complete: bool = True, tokens: int | None = None) -> None:
        """The server gave an answer.

        Args:
            choice: The answer.
            complete: False for a streamed answer: it was already shown, so it is not retried, and JSON within text is
                not extracted.
            tokens: Tokens of the answer, if known.

        Raises:
            UnfitAnswerError: If it contains no such object and nothing is left to try.
        """
        text, place = self._json_of(choice, complete=complete)
        shown = text if text is not None else choice.content
        try:
            shown, place = self._unwrapped(shown, place) if complete else (shown, place)
            self._refuse_defaults_only(shown)
            self.value = self._check(shown)
        except ValueError as schema_error:
            error = self._error(choice, text, schema_error, tokens)
            if not complete or not self._ask_anew(choice, error, schema_error):
                raise error from schema_error
        else:
            self._take(shown, place)

    def _take(self, text: str, place: str | None) -> None:
        self.done, self.text = True, text
        if place is not None:
            self._repaired(Repair("found_json", self._name, f"extracted the JSON {place}"))
        if self._key is not None and self._first_refusal is not None:
            _memory(self._key).remember_way(self._key[2], self.ask.way)

    def _unwrapped(self, text: str, place: str | None) -> tuple[str, str | None]:
        """The object that an answer has under the name of what was asked for, as some models write it."""
        known, value = known_names(self._schema), _object_of(text)
        names = {self._name, self._schema.get("title") if self._schema is not None else None}
        if not known or value is None or len(value) != 1 or known & value.keys():
            return text, place
        ((name, inner),) = value.items()
        if name not in names or not isinstance(inner, dict):
            return text, place
        return json.dumps(inner, ensure_ascii=False), place or "from under the schema's own name"

    def _refuse_defaults_only(self, text: str) -> None:
        """Refuses an object of other keys or none, which a class whose fields all have defaults would accept."""
        value = _object_of(text)
        known = known_names(self._schema, closed=bool(value))
        if known and value is not None and not known & value.keys():
            raise DefaultsOnlyError(value, known)

    def _json_of(self, choice: ChatChoice, *, complete: bool) -> tuple[str | None, str | None]:
        """The JSON of an answer, and where it stood if that is not its place."""
        if self.ask.way == "tool" and choice.tool_calls:
            return choice.tool_calls[0].arguments, None
        if choice.content.strip():
            text = choice.content.strip()
            if self.ask.way != "tool" and _is_json(text):
                return text, None
            found = find_json(text) if complete else None
            return found, None if found is None else "from the surrounding text"
        if choice.reasoning_content and not choice.tool_calls:
            found = find_json(choice.reasoning_content)
            return found, None if found is None else "from the reasoning, as the answer had no text"
        return None, None

    def _error(self, choice: ChatChoice, text: str | None, problem: ValueError, tokens: int | None) -> UnfitAnswerError:
        what = f"the answer does not match schema {self._name!r}"
        said = choice.content.strip() or "".join(call.arguments for call in choice.tool_calls)
        if choice.finish_reason == "length" and not (said and self.ask.way != "tool" and not _begins_json(said)):
            after = f"it was cut off after {tokens or 'all available'} tokens"
            if not said and choice.reasoning_content:
                return UnfitAnswerError(
                    f"{what}: {after}, all of them reasoning",
                    reason="thinking",
                    remedy="raise max_tokens, disable reasoning (thinking=False) or limit it (thinking=512)",
                    text=choice.reasoning_content,
                )
            remedy = "raise max_tokens, or start the server with a larger context (-c)"
            return UnfitAnswerError(f"{what}: {after}", reason="cut_off", remedy=remedy, text=said)
        if self.ask.way == "tool" and not choice.tool_calls:
            error = UnfitAnswerError(
                f"{what}: the model did not make the required tool call", reason="no_call", text=said
            )
            error.remedy = "check that the model's chat template supports tools: run `llamacpp-server check`"
            return error
        if text is None:
            words = "it contains no JSON, so the server did not enforce the schema"
            return UnfitAnswerError(f"{what}: {words}; got {said[:500]!r}", reason="not_held", text=said)
        held = self._was_held(text)
        words = ("" if held else "the server did not enforce the schema: ") + _problem_text(problem)
        reason: Literal["invalid", "not_held"] = "invalid" if held else "not_held"
        about = _REQUIRE if isinstance(problem, DefaultsOnlyError) else None
        return UnfitAnswerError(f"{what}: {words}; got {text[:500]!r}", reason=reason, remedy=about, text=text)

    def _was_held(self, text: str) -> bool:
        """Whether JSON fits its schema as far as any grammar sees to."""
        if self._schema is None:
            return _is_json(text)
        return _is_json(text) and not any(
            wrong.keyword in _HELD for wrong in validation_errors(self._schema, from_json(text))
        )

    def _ask_anew(self, choice: ChatChoice, error: UnfitAnswerError, problem: ValueError) -> bool:
        """Whether there is something left to try."""
        if error.reason in ("not_held", "no_call") and len(self._ways) > 1:
            self._first_refusal = self._first_refusal or error
            self._move_down("the server accepted but did not enforce it")
            return True
        if self._rounds <= 0 or (error.reason == "cut_off" and not self.ask.schema_in_prompt):
            return False
        if error.reason == "cut_off":
            self.ask = replace(self.ask, schema_in_prompt=False)
            what = logged = "the answer was cut off with the schema in the prompt; retried without it"
        elif error.reason == "thinking":
            if not self._may_stop_thinking:
                return False
            self._may_stop_thinking = False
            self.ask = replace(self.ask, thinking=False)
            what = logged = "reasoning used all of max_tokens; retried with reasoning off"
        else:
            said = error.text[:4000] or "(nothing)"
            self.ask = replace(self.ask, correction=(said, self._correction(problem)))
            what = f"the answer did not match the schema; retried: {_problem_text(problem)}"
            logged = "the answer did not match the schema; retried"
        self._rounds -= 1
        self._unfit_answer = error
        self._repaired(Repair("repair_round", self._name, what), logged)
        return True

    def _correction(self, problem: ValueError) -> str:
        schema = (
            ""
            if self._schema is None
            else f" It has to follow this JSON schema:\n{as_json(self._schema, 'the schema')}"
        )
        again = "Give the whole answer again, corrected, as JSON and nothing else."
        if self.ask.way == "tool":  # words that ask for text would speak against the forced call
            again = f"Call {self._name} again, with all of its arguments, corrected."
        return f"That answer does not fit:\n{_problem_text(problem)}\n{again}{schema}"

    def _move_down(self, why: str) -> None:
        before = self._ways.pop(0)
        self.ask = replace(self.ask, way=self._ways[0])
        words = f"used {_WORDS[self._ways[0]]} instead of {_WORDS[before]}: {why}"
        self._repaired(Repair("structured_way", self._name, words))

    def _repaired(self, repair: Repair, logged: str | None = None) -> None:
        """Notes a repair; its words may hold what the model said, so the log gets `logged` in their place."""
        self.repairs.append(repair)
        log_repairs([repair if logged is None else replace(repair, what=logged)])


_WORDS: Final = {"json_schema": "a JSON schema", "json_object": "JSON", "grammar": "a grammar", "tool": "a tool call"}


def _problem_text(problem: ValueError) -> str:
    """Error text without pydantic's link to its documentation."""
    return re.sub(r"\n\s*For further information visit \S+", "", str(problem))


def _is_about_the_form(error: LlamaServerError) -> bool:
    """Whether a refusal may be of the schema, so that another way is worth a try."""
    if isinstance(error, NotSupportedError):
        return True
    return (
        isinstance(error, BadRequestError) and not isinstance(error, ContextOverflowError) and error.status is not None
    )


def _object_of(text: str) -> dict[str, Any] | None:
    try:
        value = from_json(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _begins_json(text: str) -> bool:
    try:
        from_json(text, allow_partial=True)
    except ValueError:
        return False
    return True


def _is_json(text: str) -> bool:
    try:
        from_json(text)
    except ValueError:
        return False
    return True


def find_json(text: str) -> str | None:
    """Find the longest JSON object in a text; None if there is none."""
    decoder, best, start = json.JSONDecoder(), "", text.find("{")
    for _ in range(_MOST_STARTS):
        if start < 0:
            break
        try:
            _, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            end = start + 1
        else:
            best = max(best, text[start:end], key=len)
        start = text.find("{", end)
    return best or None
