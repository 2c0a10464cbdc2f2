"""Calls of tools that a model wrote as text and the server did not parse. Pure.

The server's parser is made from the chat template. A wrong or simplified template, a quantized model that leaves a tag
out, or a model that writes another family's format leaves a call in the text (or in the thinking of a reply without
text), with `finish_reason: "stop"`: an agent takes it as its final answer. Read here are the formats of

- Hermes, Qwen 2.5 and 3: `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`
- Qwen3-Coder: `<function=name><parameter=key>value</parameter></function>`
- Mistral: `[TOOL_CALLS][{"name": ..., "arguments": {...}}]` and `[TOOL_CALLS]name[ARGS]{...}`
- Llama 3: `<|python_tag|>{"name": ..., "parameters": {...}}`, bare JSON, and `<function=name>{...}</function>`
- DeepSeek: `<|tool▁call▁begin|>name<|tool▁sep|>{...}`, with or without a code fence
- Kimi K2: `<|tool_call_begin|>functions.name:0<|tool_call_argument_begin|>{...}`
- GLM 4.5: `<tool_call>name<arg_key>key</arg_key><arg_value>value</arg_value></tool_call>`
- gpt-oss (harmony): `<|channel|>commentary to=functions.name<|message|>{...}`
- Llama 3.2 and 4, LFM2, Gemma: Python, as `[name(key="value")]` (`python_calls.py`)
- Nemotron `<TOOLCALL>[...]`, Jamba `<tool_calls>[...]`, Phi 4 `functools[...]`, Cohere `<|START_ACTION|>[...]`
- functionary `>>>name{...}`, Granite `<|tool_call|>[...]`, and `<invoke name="name">` of MiniMax and others, to which
  DeepSeek 3.2 adds a mark (`DSML` between its bars)
- FunctionGemma `<start_function_call>call:name{key:<escape>value<escape>}`, and Gemma 4 with marks of its own
  (`brace_calls.py`)
- ReAct: `Action: name` and `Action Input: {...}`

Only calls of tools that were sent count, and JSON only behind such a mark or as the whole text: an example within an
explanation is not a call.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple

from .._notices import log_repairs
from .._replies import (
    DeltaFilter,
    fallback_call_id,
)
from .._schemas import (
    validation_errors,
)
from ..replies import ChatDelta, Repair, ReplyStart, ToolCallFragment
from ..wire import ToolDict
from .brace_calls import find_brace_calls
from .python_calls import find_python_calls
from .written_call import WrittenCall

_BAR: Final = "\uff5c"  # DeepSeek's marks have a full-width bar
_DSML: Final = rf"{_BAR}+DSML{_BAR}+"
_NAME: Final = r"([\w.-]+)"
_HEADS: Final = tuple(
    re.compile(pattern, re.MULTILINE)
    for pattern in (
        rf"\[TOOL_CALLS\]\s*{_NAME}\s*(?:\[CALL_ID\]\s*\w+\s*)?(?:\[ARGS\]\s*)?(?=\{{)",
        rf"<{_BAR}tool▁call▁begin{_BAR}>(?:function<{_BAR}tool▁sep{_BAR}>)?\s*{_NAME}\s*(?:<{_BAR}tool▁sep{_BAR}>)?\s*(?:```(?:json)?\s*)?(?=\{{)",
        rf"<\|tool_call_begin\|>\s*{_NAME}(?::\d+)?\s*<\|tool_call_argument_begin\|>\s*(?=\{{)",
        rf"\bto={_NAME}[^{{}}\[\]]{{0,80}}<\|message\|>\s*(?=\{{)",
        rf">>>\s*{_NAME}\s*(?=\{{)",
        rf"<function={_NAME}>\s*(?=\{{)",
        rf"^[ \t*]*Action:[ \t*`]*{_NAME}[ \t*`]*\n+[ \t*]*Action Input:[ \t*]*(?:\n*```(?:json)?)?\s*(?=\{{)",
        rf'<(?:{_DSML})?invoke name="{_NAME}">\s*(?=\{{)',
    )
)
"""Marks with the name in them; the JSON of the arguments follows."""
_MARK: Final = re.compile(
    r"<tool_calls?>|<TOOLCALL>|<\|python_tag\|>|\[TOOL_CALLS\]|<\|tool_call\|>|<functioncall>"
    r"|<\|START_ACTION\|>|\bfunctools(?=\[)"
)
"""Marks that JSON with name and arguments follows, one or a list."""
_TAGGED: Final[tuple[tuple[re.Pattern[str], re.Pattern[str]], ...]] = (
    (
        re.compile(rf"<function={_NAME}>((?:(?!<function=).)*?)</function>", re.DOTALL),
        re.compile(r"<parameter=([^>\n]+)>\n?(.*?)\n?</parameter>", re.DOTALL),
    ),
    (
        re.compile(rf"<tool_call>\s*{_NAME}\s*?\n?((?:<arg_key>|\s)(?:(?!<tool_call>).)*?)</tool_call>", re.DOTALL),
        re.compile(r"<arg_key>(.*?)</arg_key>\s*<arg_value>\n?(.*?)\n?</arg_value>", re.DOTALL),
    ),
    (
        re.compile(
            rf'<(?:{_DSML})?invoke name="{_NAME}">((?:(?!<(?:{_DSML})?invoke ).)*?)</(?:{_DSML})?invoke>', re.DOTALL
        ),
        re.compile(
            rf'<(?:{_DSML})?parameter name="([^"\n]+)"(?: string="\w+")?>\n?(.*?)\n?</(?:{_DSML})?parameter>', re.DOTALL
        ),
    ),
)
"""A call and its parameters as tags."""
_ALL_JSON: Final = re.compile(r"\s*(?:```(?:json)?\s*)?(?=[\[{])")
# What is left of a call when its name and arguments are gone.
_REST: Final = re.compile(
    r"</?tool_calls?>|</?functioncall>|</function>|</?function_calls>|</?minimax:tool_call>|</invoke>"
    rf"|</?{_DSML}(?:function_calls|tool_calls|invoke)>|^[ \t]*Observation:?[ \t]*\Z"
    r"|<(?:start|end)_function_call>|<\|tool_call>|<tool_call\|>|<start_function_response>|<\|tool_response>"
    r"|\[/?TOOL_CALLS\]|<\|python_tag\|>|<\|tool_call\|>|</?TOOLCALL>|<\|(?:START|END)_ACTION\|>"
    rf"|<{_BAR}tool▁calls?▁(?:begin|end){_BAR}>"
    r"|<\|tool_calls?(?:_section)?_(?:begin|end)\|>|<\|(?:eom_id|eot_id|call|start|end)\|>"
    r"|<\|start\|>assistant|<\|channel\|>(?:commentary|analysis)?|```(?:json)?",
    re.MULTILINE,
)
_OPENINGS: Final = (
    "<tool_call",
    "<TOOLCALL>",
    "<|START_ACTION|>",
    "functools[",
    "```tool_code",
    "<functioncall>",
    "<function=",
    "<function_calls>",
    "<minimax:tool_call>",
    "<invoke name=",
    "[TOOL_CALLS]",
    "<|python_tag|>",
    "<|tool_call",
    f"<{_BAR}tool▁call",
    "<|channel|>",
    "<|start|>",
    "to=functions.",
    ">>>",
    f"<{_BAR}DSML",
    f"<{_BAR}{_BAR}DSML",
    "<start_function_call>",
    "Action:",
    "**Action:",
)
_BRACE_CALL: Final = "call:"
_MOST_CALLS: Final = 100
_MOST_TEXT: Final = 1_000_000


class TextCall(NamedTuple):
    """A call in a text.

    Attributes:
        name: Name of the tool.
        arguments: JSON text of an object.
        start: Where it begins.
        end: Where it ends.
    """

    name: str
    arguments: str
    start: int
    end: int


def find_text_calls(text: str, tools: Sequence[ToolDict]) -> list[TextCall]:
    """The calls of these tools in a text, in order; none where it is only talk."""
    # Every form has a brace, a tag or a parenthesis: a text without any need not be searched.
    if len(text) > _MOST_TEXT or not ("{" in text or "<" in text or "(" in text):
        return []
    known = {tool["function"]["name"]: tool["function"].get("parameters") for tool in tools}
    found: list[TextCall] = []
    for call in sorted(_candidates(text, known), key=lambda call: (call.start, -call.end)):
        if len(found) < _MOST_CALLS and (not found or call.start >= found[-1].end):
            found.append(call)
    return found


def without_calls(text: str, calls: Sequence[TextCall]) -> str:
    """The text without these calls and the marks around them."""
    pieces, at = [], 0
    for call in calls:
        pieces.append(text[at : call.start])
        at = call.end
    return _REST.sub("", "".join([*pieces, text[at:]])).strip()


def _candidates(text: str, known: Mapping[str, Any]) -> Iterator[TextCall]:
    for pattern in _HEADS:
        for head in pattern.finditer(text):
            name, read = _name_in(head[1], known), _json_at(text, head.end())
            if name is not None and read is not None and isinstance(read[0], dict):
                yield TextCall(name, text[head.end() : read[1]], head.start(), read[1])
    in_braces = find_brace_calls(text, lambda name, key, value: _value(value, known.get(name), key))
    for call in chain(_tagged(text, known), find_python_calls(text, known), in_braces):
        if (name := _name_in(call.name, known)) is not None:
            yield TextCall(name, json.dumps(call.arguments, ensure_ascii=False), call.start, call.end)
    for mark in _MARK.finditer(text):
        yield from _calls_in_json(text, mark.start(), mark.end(), known)
    if (json_text := _ALL_JSON.match(text)) is not None:
        calls = list(_calls_in_json(text, 0, json_text.end(), known))
        if calls and not _REST.sub("", text[calls[-1].end :]).strip(" \n;,]"):
            yield from calls


def _tagged(text: str, known: Mapping[str, Any]) -> Iterator[WrittenCall]:
    for pattern, parameter in _TAGGED:
        for found in pattern.finditer(text):
            name, pairs = _name_in(found[1], known), parameter.findall(found[2])
            if name is not None and (pairs or not found[2].strip()):
                values = {key.strip(): _value(value, known[name], key.strip()) for key, value in pairs}
                yield WrittenCall(name, values, found.start(), found.end())


def _calls_in_json(text: str, start: int, at: int, known: Mapping[str, Any]) -> Iterator[TextCall]:
    """One call, several behind each other, or a list of them."""
    while (read := _json_at(text, at)) is not None:
        value, end = read
        entries = value if isinstance(value, list) else [value]
        for number, entry in enumerate(entries):
            if (call := _call_of(entry, known)) is None:
                return
            # The calls of a list share its place: the first one takes all of it.
            yield TextCall(*call, start if not number else end, end)
        start, at = end, end + len(text[end:]) - len(text[end:].lstrip(" \n;"))


def _call_of(entry: Any, known: Mapping[str, Any]) -> tuple[str, str] | None:
    if not isinstance(entry, dict):
        return None
    inner = entry.get("function")
    if isinstance(inner, dict):
        entry = inner
    given = entry.get("name") or entry.get("tool_name") or (inner if isinstance(inner, str) else None)
    name = _name_in(given, known) if isinstance(given, str) else None
    arguments = entry.get("arguments", entry.get("parameters"))
    if isinstance(arguments, str):
        read = _json_at(arguments, 0)
        arguments = read[0] if read is not None else None
    if name is None or not isinstance(arguments, dict):
        return None
    return name, json.dumps(arguments, ensure_ascii=False)


def _json_at(text: str, at: int) -> tuple[Any, int] | None:
    """A JSON value and its end; white space before it is passed over."""
    at += len(text[at:]) - len(text[at:].lstrip())
    if text[at : at + 1] not in ("{", "["):
        return None
    try:
        return _DECODER.raw_decode(text, at)
    except (ValueError, RecursionError):
        return None


_DECODER: Final = json.JSONDecoder(strict=False)


def _name_in(written: str, known: Mapping[str, Any]) -> str | None:
    """The tool that a name means, which some formats write as `functions.name:0`."""
    for name in (written, re.sub(r":\d+\Z", "", written).removeprefix("functions.")):
        if name in known:
            return name
    return None


def _value(text: str, schema: Any, key: str) -> Any:
    """A parameter's value: tags hold texts as they are, and everything else as JSON."""
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    own = properties.get(key) if isinstance(properties, Mapping) else None
    kind = own.get("type") if isinstance(own, Mapping) else None
    if kind == "string":
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


class TextCallFilter(DeltaFilter[ChatDelta]):
    """Reports calls that are left in the text of a reply, or takes them as calls.

    Args:
        tools: That were sent.
        take: Whether such a call is taken as one. Text from what may be its mark on is held back until the end.
        forced: A tool's name, or `required`, where a call is demanded. All text is held back until it comes, and JSON
            at the head of the text that fits the arguments of the one demanded tool is its call.
        answers: How many answers there are. A single one is over with such JSON: the server does not let it end.
    """

    def __init__(self, tools: Sequence[ToolDict], *, take: bool, forced: str | None = None, answers: int = 1) -> None:
        self._alone = answers == 1
        self._tools = tools
        self._take = take or forced is not None
        self._forced = forced
        self._start = ReplyStart()
        self._texts: dict[int, _Text] = {}

    def add(self, deltas: list[ChatDelta]) -> list[ChatDelta]:
        """The deltas; the last one of an answer has its calls, or tells of them."""
        made = map(self._convert, deltas)
        return [one for one in made if one.content or one.tool_calls or one != ChatDelta(choice=one.choice)]

    def end(self) -> list[ChatDelta]:
        """Text that was held back, where no finish reason came."""
        return [ChatDelta(text.held, choice=choice) for choice, text in self._texts.items() if text.held]

    def _convert(self, delta: ChatDelta) -> ChatDelta:
        if self.over:  # what came in one piece with the end of the call
            return ChatDelta(choice=delta.choice, usage=delta.usage, timings=delta.timings, raw=delta.raw)
        self._start = delta.start or self._start
        text = self._texts.get(delta.choice)
        if text is None:
            text = self._texts[delta.choice] = _Text(holding=self._forced is not None)
        delta_text = delta.content
        text.thinking += delta.reasoning_content
        text.called = text.called or bool(delta.tool_calls)
        if delta.content:
            text.said += delta.content
            if self._take and not text.called:
                delta = delta._replace(content=text.pass_on(delta.content))
        if text.called and text.held:
            delta, text.held = delta._replace(content=text.held + delta.content), ""
        if delta.finish_reason is not None:
            return self._ended(delta, text)
        if self._alone and self._forced is not None and "}" in delta_text and not text.called:
            calls = self._arguments_alone(text.said)
            if calls:
                self.over = True
                return self._ended(delta._replace(finish_reason="stop"), text)
        return delta

    def _ended(self, delta: ChatDelta, text: _Text) -> ChatDelta:
        held, text.held = text.held, ""
        in_text = bool(text.said.strip())
        calls = [] if text.called else find_text_calls(text.said if in_text else text.thinking, self._tools)
        if not calls and not text.called and in_text:
            calls = self._arguments_alone(text.said)
        if not calls:
            return delta._replace(content=delta.content + held) if held else delta
        names = ", ".join(dict.fromkeys(repr(call.name) for call in calls))
        where = f"choices[{delta.choice}].{'content' if in_text else 'reasoning_content'}"
        if not self._take:
            what = f"contains what looks like an unparsed call of {names}; parse_text_calls=True parses it"
            repair = Repair("text_call", where, what)
            log_repairs((repair,))
            return delta._replace(content=delta.content + held, repairs=(*delta.repairs, repair))
        repair = Repair("text_call", where, f"parsed a call of {names} that was written as text")
        log_repairs((repair,))
        fragments = [
            ToolCallFragment(at, fallback_call_id(self._start, delta.choice, at), call.name, call.arguments)
            for at, call in enumerate(calls)
        ]
        # Behind the one demanded call, text is what could not end before it.
        cut = calls[-1].end if self._forced is not None else len(text.said)
        rest = without_calls(text.said[:cut], calls) if in_text else ""
        shown = text.said[: len(text.said) - len(held)].strip()
        return delta._replace(
            content=rest.removeprefix(shown).lstrip() if shown else rest,
            tool_calls=tuple(fragments),
            finish_reason="tool_calls" if delta.finish_reason == "stop" else delta.finish_reason,
            repairs=(*delta.repairs, repair),
        )

    def _arguments_alone(self, said: str) -> list[TextCall]:
        """The call of the one demanded tool, of which a reply wrote the arguments only."""
        if self._forced is None:
            return []
        schemas = [
            tool["function"].get("parameters") for tool in self._tools if tool["function"]["name"] == self._forced
        ]
        head, schema = _ALL_JSON.match(said), schemas[0] if schemas else None
        read = _json_at(said, head.end()) if head is not None and schema is not None else None
        if head is None or read is None or not isinstance(read[0], dict) or validation_errors(schema, read[0]):
            return []
        known = schema.get("properties") if isinstance(schema, Mapping) else None
        if known and not read[0].keys() & known.keys():
            return []
        return [TextCall(str(self._forced), said[head.end() : read[1]], 0, read[1])]


class _Text:
    """State of one answer."""

    __slots__ = ("called", "held", "holding", "said", "thinking")

    def __init__(self, *, holding: bool) -> None:
        self.said = self.thinking = self.held = ""
        self.called, self.holding = False, holding

    def pass_on(self, more: str) -> str:
        """The next text that can't be of a call."""
        self.held += more
        if self.holding:
            return ""
        head = self.said.lstrip()[: len(_BRACE_CALL)]
        if head[:1] in ("{", "[", "`") or head == _BRACE_CALL:  # a whole text of JSON may be a call
            self.holding = True
            return ""
        if head and _BRACE_CALL.startswith(head):
            return ""
        starts = [at for opening in _OPENINGS if (at := self.held.find(opening)) >= 0]
        self.holding = bool(starts)
        cut = min(starts) if starts else len(self.held) - _overlap(self.held)
        passed, self.held = self.held[:cut], self.held[cut:]
        return passed


def _overlap(text: str) -> int:
    """Number of characters at the end that may start a marker."""
    return max((n for opening in _OPENINGS for n in range(1, len(opening)) if text.endswith(opening[:n])), default=0)


__all__ = ["TextCall", "TextCallFilter", "find_text_calls", "without_calls"]
